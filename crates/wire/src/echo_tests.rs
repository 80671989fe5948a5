//! Tests of echo.
extern crate std;
use super::*;
use std::vec::Vec;

const FLOW: u32 = 7;
const SIZES: [usize; 12] = [1, 2, 3, 4, 5, 11, 12, 20, 31, 64, 1472, LONGEST];

fn client(size: usize) -> EchoClient {
    let option = ProtocolOption { name: "size", value: size as i64 };
    Echo::client(&[option], 0x0123_4567_89ab_cdef).expect("a size from 1 to 65507")
}

fn message(size: usize, flow: u32, index: u32) -> Vec<u8> {
    let mut message = std::vec![0; size];
    assert_eq!(client(size).fill(flow, index, &[], &mut message), size);
    message
}

fn over(peer_port: u16, stream: bool) -> RequestContext {
    RequestContext {
        client: Some(([192, 0, 2, 1], peer_port).into()),
        local_port: 4242,
        link: if stream { Link::Tcp } else { Link::Udp },
        ..RequestContext::default()
    }
}

#[test]
fn what_came_back_names_its_request() {
    for size in SIZES {
        for index in [0, 1, 255, 256, 65_535, 16_777_216, u32::MAX] {
            let named = index & client(size).index_mask();
            let message = message(size, FLOW, index);
            assert_eq!(client(size).read(FLOW, &message), Reply::Valid { index: named, tally: 0 }, "{size}");
            assert_eq!(client(size).recognise(FLOW, &message), Some(named));
        }
    }
    assert_eq!(SIZES.map(|size| client(size).index_bits())[..5], [8, 16, 24, 32, 32]);
    assert_eq!(client(31).longest(), 31);
}

#[test]
fn another_flow_and_another_run_are_strangers() {
    let ours = message(31, FLOW, 9);
    assert_eq!(client(31).read(FLOW + 1, &ours), Reply::Unmatched);
    assert_eq!(client(31).recognise(FLOW + 1, &ours), None);
    assert_eq!(Echo::client(&[], 1).expect("no options").read(FLOW, &ours), Reply::Unmatched);
}

#[test]
fn every_changed_byte_is_seen() {
    for size in [1, 4, 5, 12, 20, 31, 64] {
        let whole = message(size, FLOW, 3);
        for at in 0..size {
            let mut spoiled = whole.clone();
            spoiled[at] ^= 0x10;
            let wrong = Reply::Invalid { index: 3, tally: Tally::Altered as usize };
            match client(size).read(FLOW, &spoiled) {
                Reply::Unmatched => assert!(at < INDEX && size > INDEX || size < 20, "byte {at} of {size}"),
                // Without room for a pattern the changed index is that of another request.
                Reply::Valid { index, .. } => assert!(size <= INDEX && index != 3, "byte {at} of {size}"),
                reading => assert_eq!(reading, wrong, "byte {at} of {size}"),
            }
        }
    }
}

#[test]
fn another_length_is_altered() {
    let mut longer = message(31, FLOW, 3);
    longer.push(0);
    let wrong = Reply::Invalid { index: 3, tally: Tally::Altered as usize };
    assert_eq!(client(31).read(FLOW, &longer), wrong);
    assert_eq!(client(31).read(FLOW, &longer[..30]), wrong);
    assert_eq!(client(31).read(FLOW, &longer[..11]), Reply::Unmatched, "too little to speak for the index");
    assert_eq!(client(31).read(FLOW, &[]), Reply::Unmatched);
    assert_eq!(client(31).recognise(FLOW, &longer[..14]), Some(3), "an ICMP error quotes the beginning");
    assert_eq!(client(31).recognise(FLOW, &longer), None);
}

#[test]
fn patterns_differ_from_request_to_request() {
    let mut seen: Vec<_> = (0..1000).map(|index| message(64, FLOW, index)[INDEX..].to_vec()).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 1000);
}

#[test]
fn messages_are_cut_at_their_length() {
    let bytes = [message(31, FLOW, 1), message(31, FLOW, 2)].concat();
    assert_eq!(client(31).frame(&bytes[..30]), Frame::Short { need: 31 });
    assert_eq!(client(31).frame(&bytes), Frame::Whole { start: 0, end: 31 });
}

#[test]
fn the_server_sends_back_what_came() {
    for length in [0, 1, 31, 500] {
        let mut packet = [7; 500];
        assert_eq!(EchoResponder.answer(Table::default(), &over(40_000, false), &mut packet, length), Ok(length));
        assert_eq!(packet, [7; 500]);
    }
    assert_eq!(EchoResponder.frame(b"abc"), Frame::Whole { start: 0, end: 3 });
    assert_eq!(EchoResponder.frame(b""), Frame::Short { need: 1 });
}

#[test]
fn the_server_is_in_no_loop() {
    let answer = |context: RequestContext| EchoResponder.answer(Table::default(), &context, &mut [0; 9], 9);
    assert_eq!(answer(over(4242, false)), Err(DropReason::NotARequest), "another one of its kind");
    assert_eq!(answer(over(7, false)), Err(DropReason::NotARequest), "the system's echo");
    assert_eq!(answer(over(4242, true)), Ok(9), "a stream has one asker");
    assert_eq!(answer(over(1024, false)), Ok(9));
}

#[test]
fn options() {
    let size = |value| Echo::client(&[ProtocolOption { name: "size", value }], 0).map(|client| client.size);
    assert_eq!((size(1), size(65_507)), (Ok(1), Ok(65_507)));
    assert!(size(0).is_err() && size(65_508).is_err() && size(-1).is_err());
    assert_eq!(Echo::client(&[], 0).map(|client| client.size), Ok(31));
    assert!(Echo::client(&[ProtocolOption { name: "bytes", value: 1 }], 0).is_err());
    assert!(Echo::responder(&[ProtocolOption { name: "size", value: 1 }]).is_err());
}
