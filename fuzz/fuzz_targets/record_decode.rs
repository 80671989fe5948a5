//! Record's decoder, given any datagram, in layouts made of the same bytes.
//!
//! Invariant: it never panics; it accepts exactly the layout's size and constants, and says why others are malformed;
//! sender and sequence are the bytes of their fields; what the client writes in that layout is accepted, with the same
//! sender, sequence and delay.
#![no_main]

use flatout_wire::record::Record;
use flatout_wire::{Client, Decode, Decoded, Malformed, Protocol, ProtocolOption};
use libfuzzer_sys::fuzz_target;

const NOW: u64 = 1_800_000_000_123_456_789;
const NAMES: [&str; 9] = ["identity", "sequence", "sent", "unit", "counter", "random", "constant", "value", "high"];

fuzz_target!(|bytes: &[u8]| {
    usual(bytes);
    let options = options(bytes);
    let (Ok(decoder), Ok(client)) = (Record::decoder(&options), Record::client(&options, 7)) else { return };
    let size = decoder.size();
    match decoder.decode(bytes) {
        Ok(taken) => {
            assert_eq!(bytes.len(), size);
            let part = |name: &str| {
                options.iter().rfind(|option| option.name == name).map_or(0, |option| number(bytes, option))
            };
            assert_eq!(taken, Decoded { sender: part("identity"), sequence: part("sequence") });
        }
        Err(Malformed::Short) => assert!(bytes.len() < size),
        Err(Malformed::Long) => assert!(bytes.len() > size),
        Err(Malformed::Constant) => {
            assert!(bytes.len() == size && options.iter().any(|option| option.name == "constant"))
        }
    }
    let _ = decoder.delay_ns(bytes, NOW);
    let mut record = vec![0xa5; size];
    assert_eq!(client.fill_one_way(3, 9, &[], &mut record), size);
    client.stamp(NOW, &mut record);
    assert!(record.len() == client.longest() && decoder.decode(&record) != Err(Malformed::Short));
});

/// The usual layout, whose golden packets are seeds.
fn usual(datagram: &[u8]) {
    let list = [("size", 24), ("identity", 4 << 16), ("sequence", 4 | 4 << 16), ("sent", 8 | 8 << 16)];
    let options = list.map(|(name, value)| ProtocolOption { name, value });
    let decoder = Record::decoder(&options).expect("a layout");
    assert_eq!(decoder.decode(datagram).is_ok(), datagram.len() == 24);
    let Ok(taken) = decoder.decode(datagram) else { return };
    let client = Record::client(&options, 7).expect("a layout");
    let (mut record, sent) = (vec![0; 24], u64::from_le_bytes(datagram[8..16].try_into().expect("8 bytes")));
    client.fill_one_way(taken.sender as u32, taken.sequence, datagram, &mut record);
    client.stamp(sent, &mut record);
    assert_eq!(record, datagram, "the same record");
    assert_eq!(decoder.delay_ns(&record, sent.wrapping_add(5)), (sent != 0).then_some(5));
}

/// A size near the datagram's own, then an option for each six bytes from the end.
fn options(bytes: &[u8]) -> Vec<ProtocolOption<'static>> {
    let turn = bytes.last().map_or(0, |last| i64::from(last % 4 == 0));
    let mut options = vec![ProtocolOption { name: "size", value: bytes.len() as i64 + turn }];
    for chunk in bytes.rchunks_exact(6) {
        let name = NAMES[usize::from(chunk[0]) % NAMES.len()];
        let width = 1 << (chunk[3] % 4);
        let value = i64::from(chunk[1]) | width << 16 | i64::from(chunk[4] % 4) << 24;
        options.push(ProtocolOption { name, value });
    }
    options
}

fn number(bytes: &[u8], option: &ProtocolOption<'_>) -> u64 {
    let (at, width, big) =
        ((option.value & 0xffff) as usize, (option.value >> 16 & 0xff) as usize, option.value >> 24 & 1);
    let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    let place = &bytes[at..at + width];
    if big == 1 { place.iter().fold(0, fold) } else { place.iter().rev().fold(0, fold) }
}
