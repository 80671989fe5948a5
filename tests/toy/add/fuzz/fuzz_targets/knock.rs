//! knock, both ends, given any datagram.
//!
//! Invariant: neither end panics; only a request is answered, with as many bytes as a request has, which differ from
//! it in one bit; the client takes the answer to its own request and in its own flow only.
#![no_main]

use flatout_wire::knock::{Knock, LENGTH};
use flatout_wire::{Client, Link, Protocol, Reply, RequestContext, Responder};
use libfuzzer_sys::fuzz_target;

const CONTEXT: RequestContext = RequestContext::new(Link::Udp, None, 0);

fuzz_target!(|datagram: &[u8]| {
    let (Ok(client), Ok(responder)) = (Knock::client(&[], 7), Knock::responder(&[])) else { panic!("no options") };
    let mut packet = datagram.to_vec();
    match responder.answer(flatout_wire::Table::default(), &CONTEXT, &mut packet, datagram.len()) {
        Ok(length) => {
            assert!(length == LENGTH && datagram.starts_with(b"FOP\x01"));
            assert_eq!((packet[3], &packet[4..]), (0x81, &datagram[4..]));
        }
        Err(_) => assert_eq!(packet, datagram),
    }
    if let Reply::Valid { index, .. } = client.read(1, &packet) {
        let mut request = [0; LENGTH];
        client.fill(1, index, &[], &mut request);
        assert_eq!(packet[4..LENGTH], request[4..]);
        assert_eq!(client.read(2, &packet), Reply::Unmatched);
    }
});
