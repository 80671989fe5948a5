//! The statistics protocol of receivers, given any datagram.
//!
//! Invariant: no panic; a datagram that is parsed as a request or a reply is exactly what this request or reply is
//! written as; no datagram is both; a reply is as long as its request, and matches that request only.
#![no_main]

use flatout_wire::receiver_stats::{LENGTH, StatsRequest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let nonce = datagram.get(16..24).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("8 bytes")));
    let reset_sequences = datagram.get(9) == Some(&1);
    let request = StatsRequest { reset_sequences, nonce };
    let parsed = StatsRequest::read(datagram);
    if let Some(parsed) = parsed {
        assert!(parsed == request && parsed.write() == datagram);
    }
    let stats = request.read_reply(datagram);
    if let Some(stats) = stats {
        assert_eq!(request.reply(&stats)[..], *datagram);
        assert_eq!(StatsRequest { nonce: nonce ^ 1, reset_sequences }.read_reply(datagram), None);
        assert_eq!(StatsRequest { nonce, reset_sequences: !reset_sequences }.read_reply(datagram), None);
    }
    assert!(parsed.is_none() || stats.is_none());
    let answer = request.reply(&stats.unwrap_or_default());
    assert!(answer.len() == LENGTH && request.write().len() == LENGTH && StatsRequest::read(&answer).is_none());
    assert_eq!(request.read_reply(&answer), Some(stats.unwrap_or_default()));
});
