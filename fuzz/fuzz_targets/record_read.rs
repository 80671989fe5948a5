//! Record's client, given any answer, in layouts made of the same bytes.
//!
//! Invariant: it never panics; it matches a request only by the echoed sequence; an answer is valid only with the right
//! length and constants, stays valid when unchecked bytes change, and is invalid or unmatched with another length or
//! constant. A row of any text is its bytes, or rejected.
#![no_main]

use flatout_wire::record::{LONGEST, Record, RecordClient};
use flatout_wire::{Client, Protocol, ProtocolOption, Reply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    row(bytes);
    let part = |at: usize| bytes.get(at).copied().map_or(0, i64::from);
    // The layout of an answer: a size, an echoed field, one constant.
    let size = bytes.len() as i64;
    let place = |at: i64, width: i64, order: i64| at % 32 | 1 << (width % 4 + 16) | (order & 1) << 24;
    let echoed = place(part(0), part(1), part(2));
    let constant = place(part(3), 0, 0);
    let list = [
        ("size", 16),
        ("sequence", place(0, part(4), part(5))),
        ("reply", size),
        ("echoed", echoed),
        ("constant", constant),
        ("value", part(6)),
        ("longer", part(7) & 1),
    ];
    let Ok(client) = Record::client(&list.map(|(name, value)| ProtocolOption { name, value }), 7) else { return };
    judged(&client, bytes, number(bytes, echoed), number(bytes, constant) == part(6) as u64, part(7) & 1 == 1);
});

fn judged(client: &RecordClient, reply: &[u8], echoed: u64, constant: bool, longer: bool) {
    let index = (echoed & ((1_u64 << client.index_bits()) - 1)) as u32;
    let right = Reply::Valid { index, tally: 0 };
    let reading = client.read(1, reply);
    assert_eq!(reading, if constant { right } else { Reply::Invalid { index, tally: 1 } });
    let more = [reply, &[0]].concat();
    match client.read(1, &more) {
        Reply::Invalid { index: named, tally: 2 } => assert!(!longer && named == index),
        same => assert!(longer && same == reading),
    }
    let less = client.read(1, &reply[..reply.len() - 1]);
    assert!(less == Reply::Unmatched || less == Reply::Invalid { index, tally: 2 });
    let mut request = [0xa5; LONGEST];
    let length = client.fill(1, index, &[], &mut request);
    assert_eq!(client.recognise(1, &request[..length]), Some(index), "its own request");
    client.recognise(1, reply);
}

fn row(line: &[u8]) {
    let mut out = [0; LONGEST];
    if let Ok(length) = Record::compile(line, &mut out) {
        let text: String = out[..length].iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(line.trim_ascii().eq_ignore_ascii_case(text.as_bytes()));
    }
}

fn number(bytes: &[u8], place: i64) -> u64 {
    let (at, width) = ((place & 0xffff) as usize, (place >> 16 & 0xff) as usize);
    let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    let field = bytes.iter().skip(at).take(width);
    if place >> 24 & 1 == 1 { field.fold(0, fold) } else { field.rev().fold(0, fold) }
}
