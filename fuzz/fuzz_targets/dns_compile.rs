//! Lines of a DNS query file, given any bytes.
//!
//! Invariant: it does not panic; what it accepts is one question, which
//! - has labels of 1 to 63 bytes, a name of at most 255, a class that is IN, and no byte behind;
//! - the responder repeats, and the client matches;
//! - comes out the same after its name and type were written as digits.
#![no_main]

use flatout_wire::dns::{Dns, QUERY_MAX};
use flatout_wire::{Client, Protocol, QUERY_LEN_MAX, RequestContext, Responder, Table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let mut out = [0xa5; QUERY_LEN_MAX];
    let Ok(length) = Dns::compile(line, &mut out) else { return };
    assert!(out[length.max(259)..].iter().all(|byte| *byte == 0xa5), "written behind the longest question");
    if length == 0 {
        return;
    }
    let question = &out[..length];
    let written = spelled(question);
    let mut again = [0; QUERY_LEN_MAX];
    assert_eq!(Dns::compile(written.as_bytes(), &mut again), Ok(length), "{written}");
    assert_eq!(again[..length], *question, "{written}");
    answered(question);
});

/// The question as a line again.
fn spelled(question: &[u8]) -> String {
    let (name, rest) = question.split_at(question.len() - 4);
    assert!(name.len() <= 255 && rest[2..] == [0, 1]);
    let (mut text, mut at) = (String::new(), 0);
    while name[at] != 0 {
        let length = usize::from(name[at]);
        assert!(length <= 63);
        for byte in &name[at + 1..at + 1 + length] {
            text += &format!("\\{byte:03}");
        }
        text += ".";
        at += 1 + length;
    }
    assert_eq!(at + 1, name.len(), "nothing behind the root");
    format!("{} TYPE{}", if text.is_empty() { "." } else { &text }, u16::from_be_bytes([rest[0], rest[1]]))
}

fn answered(question: &[u8]) {
    let (client, server) = (Dns::client(&[], 7).expect("no options"), Dns::responder(&[]).expect("no options"));
    let mut packet = [0; QUERY_MAX];
    let length = client.fill(1, 2, question, &mut packet);
    assert_eq!(length, 12 + question.len());
    let context = RequestContext { client: Some(([192, 0, 2, 1], 40_000).into()), ..RequestContext::default() };
    let length = server.answer(Table::default(), &context, &mut packet, length).expect("a query is answered");
    assert!(client.matches_query(question, &packet[..length]));
}
