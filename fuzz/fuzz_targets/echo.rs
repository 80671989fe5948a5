//! Echo's client and responder, given any bytes.
//!
//! Invariant: neither end panics; what comes is sent back as it came, but over UDP not to a port where another echo may
//! listen; the client accepts the message of that request, flow and run only; a message altered in its pattern alone is
//! reported as altered where enough of it is intact.
#![no_main]

use flatout_wire::echo::{Echo, EchoClient};
use flatout_wire::{Client, Frame, Link, Protocol, ProtocolOption, Reply, RequestContext, Responder, Table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let server = Echo::responder(&[]).expect("no options");
    for (peer_port, stream) in [(40_000, false), (40_000, true), (7, false), (4242, false), (4242, true)] {
        let context = RequestContext {
            client: Some(([192, 0, 2, 1], peer_port).into()),
            local_port: 4242,
            link: if stream { Link::Tcp } else { Link::Udp },
            ..RequestContext::default()
        };
        let mut packet = bytes.to_vec();
        let answered = server.answer(Table::default(), &context, &mut packet, bytes.len());
        assert_eq!(answered.is_ok(), stream || peer_port == 40_000);
        assert!(packet == bytes && answered.is_ok_and(|length| length == bytes.len()) || answered.is_err());
    }
    if !bytes.is_empty() {
        assert_eq!(server.frame(bytes), Frame::Whole { start: 0, end: bytes.len() });
    }
    for size in [1, 3, 4, 5, 12, 31, 100, bytes.len().clamp(1, 65_507)] {
        asked(size, bytes);
    }
});

fn asked(size: usize, bytes: &[u8]) {
    let client = Echo::client(&[ProtocolOption { name: "size", value: size as i64 }], 7).expect("1 to 65507");
    let flow = u32::from(bytes.first().copied().unwrap_or(0));
    if let Reply::Valid { index, .. } = client.read(flow, bytes) {
        assert_eq!(bytes, message(&client, flow, index));
    }
    let index = bytes.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    let named = index & u32::MAX >> (32 - client.index_bits());
    let mut ours = message(&client, flow, index);
    assert_eq!(client.read(flow, &ours), Reply::Valid { index: named, tally: 0 });
    for (byte, noise) in ours.iter_mut().skip(12).zip(bytes) {
        *byte ^= noise;
    }
    let same = ours == message(&client, flow, index);
    let expected =
        if same { Reply::Valid { index: named, tally: 0 } } else { Reply::Invalid { index: named, tally: 1 } };
    assert_eq!(client.read(flow, &ours), expected, "bytes 4 to 11 speak for the index");
}

fn message(client: &EchoClient, flow: u32, index: u32) -> Vec<u8> {
    let mut message = vec![0xa5; client.longest()];
    assert_eq!(client.fill(flow, index, &[], &mut message), client.longest());
    message
}
