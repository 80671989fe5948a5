//! DNS's responder, given any request and any answer table.
//!
//! Invariant: for any bytes it does not panic; and what it answers
//! - was no response, and had a header;
//! - has the request's id, opcode and RD, is a response, and repeats the question byte for byte or has none;
//! - is no longer than what may be sent: over UDP 512 bytes, or what the request's EDNS allows up to 1232; and over a
//!   stream no longer than `room` said;
//! - says TC where it is cut, and then has no records but EDNS;
//! - is parsed by the client as complete, unless the values themselves are malformed.
//!
//! A dropped request is left unchanged, and nothing is written behind the buffer.
#![no_main]

use flatout_wire::dns::Dns;
use flatout_wire::{Client, DropReason, Link, Protocol, Reply, RequestContext, Responder, Table};
use libfuzzer_sys::fuzz_target;

const ADDRESS: &[u8] = b"\0\x01\0\0\x01\0\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";
const SOA: &[u8] = b"\0\0\0\x01\x01\x03\x07example\0\0\x06\0\x01\0\0\0\x3c\0\x01\0";
const MALFORMED: usize = 9;

fuzz_target!(|request: &[u8]| {
    let mut big = b"\0\x01\0\0\x01\0\xc0\x0c\0\x10\0\x01\0\0\0\x3c\x05\xdc".to_vec();
    big.resize(big.len() + 1500, 7);
    let name = request.get(12..).unwrap_or_default();
    let end = name.iter().position(|byte| *byte == 0).map_or(name.len(), |end| end + 1);
    let asked: Vec<u8> = name.iter().take(end + 2).map(u8::to_ascii_lowercase).collect();
    let zone: [(&[u8], &[u8]); 8] = [
        (b"\xfd", b""),
        (b"\xfe\x03com\0", SOA),
        (b"\x03com\0\0\0", &[0, 0, 0, 0, 1, 0]),
        (b"\x07example\x03com\0\0\x01", &big),
        (b"\x07example\x03com\0\0\0", &[0, 0, 0, 0, 1, 0]),
        (b"\x01*\x07example\x03com\0\0\x01", ADDRESS),
        (&asked, ADDRESS),
        (b"\xff\0\x10", &big),
    ];
    check(request, &zone, true);
    check(request, &[(b"\xff\0\x01", ADDRESS), (b"\xff\0\0", b"\0\0\0\0\x01\0")], true);
    check(request, &[], true);
    // Values come from zone files: malformed ones must not harm either.
    check(request, &[(b"\xff\0\0", request), (b"\xff\0\x01", &request[request.len() / 2..])], false);
});

fn check(request: &[u8], entries: &[(&[u8], &[u8])], sound: bool) {
    let mut bytes = Vec::new();
    for (key, value) in entries {
        bytes.extend((key.len() as u16).to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
        bytes.extend([*key, *value].concat());
    }
    let mut places = vec![0; Table::slots(entries.len())];
    let longest = Table::build(&mut places, &bytes).expect("laid out just now");
    let table = Table::new(&places, &bytes, longest);
    for stream in [false, true] {
        exchange(request, table, stream, sound);
    }
}

fn exchange(request: &[u8], table: Table<'_>, stream: bool, sound: bool) {
    let server = Dns::responder(&[]).expect("no options");
    let context = RequestContext {
        client: Some(([192, 0, 2, 1], 40_000).into()),
        link: if stream { Link::Tcp } else { Link::Udp },
        ..RequestContext::default()
    };
    let room = if stream { server.room(table, request) } else { Dns::DATAGRAM_MAX.max(request.len()) };
    assert!(room >= request.len());
    // Behind the room lie the bytes of others.
    let mut packet = vec![0xa5; room + 16];
    packet[..request.len()].copy_from_slice(request);
    match server.answer(table, &context, &mut packet[..room], request.len()) {
        Ok(length) => check_answer(request, &packet[..length], stream, sound),
        Err(refusal) => {
            assert_eq!(packet[..request.len()], *request);
            assert_eq!(refusal, if request.len() < 12 { DropReason::Short } else { DropReason::NotARequest });
            assert!(request.len() < 12 || request[2] & 0x80 != 0);
        }
    }
    assert!(packet[room..].iter().all(|byte| *byte == 0xa5), "written behind the room");
}

fn check_answer(request: &[u8], answer: &[u8], stream: bool, sound: bool) {
    assert_eq!((&answer[..2], answer[2] & 0xf9), (&request[..2], request[2] & 0x79 | 0x80));
    let question = match answer[4..6] {
        [0, 0] => 12,
        _ => 12 + answer[12..].iter().zip(&request[12..]).take_while(|(a, b)| a == b).count().min(259),
    };
    assert!(question == 12 || question >= 17, "the question is repeated");
    // A question may be longer than 512 bytes of answer only where the request was longer.
    assert!(stream || answer.len() <= 1232.max(request.len()), "{} bytes", answer.len());
    assert!(stream || answer[11] != 0 || answer.len() <= 512, "{} bytes without EDNS", answer.len());
    let cut = answer[2] & 2 != 0;
    assert!(!cut || answer[6..10] == [0; 4] && answer.len() <= request.len());
    if sound && answer[2] & 0x78 == 0 {
        let client = Dns::client(&[], 7).expect("no options");
        let (Reply::Valid { tally, .. } | Reply::Invalid { tally, .. }) = client.read(0, answer) else {
            panic!("an answer has an id")
        };
        assert_ne!(tally, MALFORMED, "{answer:x?}");
    }
}
