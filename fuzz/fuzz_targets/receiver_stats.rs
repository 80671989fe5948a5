//! The question how much has arrived, and its answer, given any datagram.
//!
//! Invariant: neither end panics; what is taken for a question is the very bytes that such a question has, and what is
//! taken for an answer those of such an answer; no datagram is both; an answer is as long as its question, and only the
//! one who asked takes it.
#![no_main]

use flatout_wire::receiver_stats::{LENGTH, StatsRequest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let nonce = datagram.get(16..24).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("8 bytes")));
    let reset_sequences = datagram.get(9) == Some(&1);
    let asked = StatsRequest { reset_sequences, nonce };
    let question = StatsRequest::read(datagram);
    if let Some(question) = question {
        assert!(question == asked && question.write() == datagram);
    }
    let told = asked.read_reply(datagram);
    if let Some(told) = told {
        assert_eq!(asked.reply(&told)[..], *datagram);
        assert_eq!(StatsRequest { nonce: nonce ^ 1, reset_sequences }.read_reply(datagram), None);
        assert_eq!(StatsRequest { nonce, reset_sequences: !reset_sequences }.read_reply(datagram), None);
    }
    assert!(question.is_none() || told.is_none());
    let answer = asked.reply(&told.unwrap_or_default());
    assert!(answer.len() == LENGTH && asked.write().len() == LENGTH && StatsRequest::read(&answer).is_none());
    assert_eq!(asked.read_reply(&answer), Some(told.unwrap_or_default()));
});
