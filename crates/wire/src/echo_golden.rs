//! Bytes that a real echo server sent back; where they come from is in tests/packets/echo/README.md.
extern crate std;
use super::*;
use std::vec::Vec;

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")).collect()
}

#[test]
fn golden_packets_both_ways() {
    let asked = bytes(include_str!("../../../tests/packets/echo/tcpserver_request.hex"));
    let answered = bytes(include_str!("../../../tests/packets/echo/tcpserver_answer.hex"));
    let client = Echo::client(&[], 0x0123_4567_89ab_cdef).expect("no options");
    let mut message = [0; SIZE];
    assert_eq!(client.fill(5, 42, &[], &mut message), SIZE);
    assert_eq!(message[..], asked);
    assert_eq!(client.frame(&answered), Frame::Whole { start: 0, end: SIZE });
    assert_eq!(client.read(5, &answered), Reply::Valid { index: 42, tally: 0 });
    let context =
        RequestContext { client: Some(([192, 0, 2, 1], 40_000).into()), local_port: 4242, ..RequestContext::default() };
    assert_eq!(EchoResponder.answer(Table::default(), &context, &mut message, SIZE), Ok(SIZE));
    assert_eq!(message[..], answered);
}
