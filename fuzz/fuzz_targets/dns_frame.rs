//! DNS's framing of streams, given any bytes in any pieces.
//!
//! Invariant: client and responder frame alike; a message never reaches beyond its stream; what is short says how many
//! bytes it needs, more than there are, and with one less it is still short; bytes in pieces are cut where the whole
//! is; and what `prefix` wrote before a message comes out as that message.
#![no_main]

use flatout_wire::dns::Dns;
use flatout_wire::{Client, Frame, Protocol, Responder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (client, server) = (Dns::client(&[], 7).expect("no options"), Dns::responder(&[]).expect("no options"));
    let mut rest = bytes;
    loop {
        let frame = client.frame(rest);
        assert_eq!(frame, server.frame(rest));
        match frame {
            Frame::Whole { start, end } => {
                assert!(start == 2 && end >= 14 && end <= rest.len());
                for piece in [0, 1, 2, 13, end / 2, end - 1] {
                    let Frame::Short { need } = client.frame(&rest[..piece]) else { panic!("whole without its end") };
                    assert!(need > piece && need <= end);
                }
                rest = &rest[end..];
            }
            Frame::Short { need } => {
                assert!(need > rest.len());
                let mut longer = rest.to_vec();
                longer.resize(need - 1, 0);
                assert!(!matches!(client.frame(&longer), Frame::Whole { .. }));
                break;
            }
            Frame::Broken => {
                assert!(rest[0] == 0 && rest[1] < 12);
                break;
            }
        }
    }
    if bytes.len() >= 12 {
        let mut framed = vec![0; 2];
        Dns::prefix(bytes.len(), &mut framed);
        framed.extend_from_slice(bytes);
        framed.push(0xa5);
        assert_eq!(client.frame(&framed), Frame::Whole { start: 2, end: 2 + bytes.len() });
    }
});
