//! Records byte for byte; where they come from is in tests/packets/record/README.md.
extern crate std;
use super::*;
use std::vec::Vec;

const SENT: u64 = 1_800_000_000_123_456_789;

macro_rules! packet {
    ($name:literal) => {
        bytes(include_str!(concat!("../../../tests/packets/record/", $name, ".hex")))
    };
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")).collect()
}

/// id:u4 seq:u4 sent:u8 x:f4 y:f4
fn usual(big: i64) -> [ProtocolOption<'static>; 5] {
    let place = |at: i64, width: i64| at | width << 16 | big << 24;
    [("size", 24), ("identity", place(0, 4)), ("sequence", place(4, 4)), ("sent", place(8, 8)), ("unit", 1)]
        .map(|(name, value)| ProtocolOption { name, value })
}

#[track_caller]
fn both_ways(big: i64, sequence: u64, golden: &[u8]) {
    let (client, decoder) =
        (Record::client(&usual(big), 9).expect("a layout"), Record::decoder(&usual(big)).expect("one"));
    let mut record = [0xa5; 24];
    assert_eq!(client.fill_one_way(5, sequence, &[&[0; 16], &golden[16..]].concat(), &mut record), 24);
    client.stamp(SENT, &mut record);
    assert_eq!(record[..], *golden);
    assert_eq!(decoder.decode(golden), Ok(Decoded { sender: 5, sequence: sequence & 0xffff_ffff }));
    assert_eq!(decoder.delay_ns(golden, SENT + 1000), Some(1000));
    assert_eq!(decoder.delay_ns(golden, SENT - 1000), Some(-1000), "the clocks differ");
}

#[test]
fn usual_layout_little_endian() {
    both_ways(0, 77, &packet!("little"));
}

#[test]
fn usual_layout_big_endian() {
    both_ways(1, 77, &packet!("big"));
    let taken = Record::decoder(&usual(0)).expect("a layout").decode(&packet!("big"));
    assert_eq!(taken, Ok(Decoded { sender: 5 << 24, sequence: 77 << 24 }), "read in the wrong order");
}

#[test]
fn number_that_has_wrapped() {
    both_ways(0, (1 << 32) + 3, &packet!("wrapped"));
}

#[test]
fn message_of_the_tokio_server() {
    let golden = packet!("movement");
    let options =
        [("size", 4), ("constant", 4 << 16), ("value", 7)].map(|(name, value)| ProtocolOption { name, value });
    let client = Record::client(&options, 1).expect("a layout");
    let mut record = [0xa5; 4];
    assert_eq!(client.fill_one_way(3, 99, &[], &mut record), 4);
    assert_eq!((record[..].to_vec(), client.stamped(), client.one_way()), (golden.clone(), false, true));
    let decoder = Record::decoder(&options).expect("a layout");
    assert_eq!(decoder.decode(&golden), Ok(Decoded::default()));
    assert_eq!((decoder.sequence_bits(), decoder.carries_sender_id()), (0, false));
    assert_eq!(decoder.decode(&[0, 0, 0, 7]), Err(Malformed::Constant), "the other byte order");
}

#[test]
fn a_time_service_as_template_and_reply() {
    let asked = bytes(include_str!("../../../tests/packets/ntp/ntpdig_request.hex"));
    let answered = bytes(include_str!("../../../tests/packets/ntp/ntpdig_answer.hex"));
    let options = [
        ("size", 48),
        ("constant", 1 << 16),
        ("value", i64::from(asked[0])),
        ("sequence", 40 | 8 << 16 | 1 << 24),
        ("reply", 48),
        ("echoed", 24 | 8 << 16 | 1 << 24),
        ("constant", 1 << 16),
        ("value", i64::from(answered[0])),
    ];
    let client = Record::client(&options.map(|(name, value)| ProtocolOption { name, value }), 1).expect("a layout");
    let stamp = u64::from_be_bytes(asked[40..48].try_into().expect("8 bytes"));
    assert_eq!(client.read(0, &answered), Reply::Valid { index: stamp as u32, tally: 0 }, "the real answer");
    assert_eq!(client.recognise(0, &asked), Some(stamp as u32));
    let mut ours = [0xa5; 48];
    client.fill(0, 0xfeed, &[], &mut ours);
    assert_eq!((ours[0], ours[1..40].iter().all(|byte| *byte == 0)), (asked[0], true));
    assert_eq!(ours[40..], [0, 0, 0, 0, 0, 0, 0xfe, 0xed]);
}
