//! Tests of the statistics protocol.
use super::*;

const QUESTION: StatsRequest = StatsRequest { reset_sequences: true, nonce: 0x0102_0304_0506_0708 };

/// Numbers that are all different, so that none can stand for another.
fn reply() -> StatsReply {
    StatsReply {
        instance: 7,
        field_layout: 9,
        counters: ReceiverCounters::of(core::array::from_fn(|n| u64::MAX - n as u64)),
    }
}

#[test]
fn a_question_byte_by_byte() {
    let bytes = QUESTION.write();
    assert_eq!(bytes.len(), 192);
    assert_eq!(bytes[..16], *b"flatout?\x02\x01\0\0\0\0\0\0");
    assert_eq!(bytes[16..24], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(bytes[24..], [0; LENGTH - 24]);
    assert_eq!(StatsRequest::read(&bytes), Some(QUESTION));
}

#[test]
fn an_answer_byte_by_byte() {
    let counters = ReceiverCounters { received: 0x0102, parsed: 3, sequence_bits: 32, ..ReceiverCounters::default() };
    let reply = StatsReply { instance: 0x0a0b_0c0d, field_layout: 0x0e0f, counters };
    let bytes = QUESTION.reply(&reply);
    assert_eq!(bytes[..16], *b"flatout!\x02\x01\0\0\0\0\0\0");
    assert_eq!(bytes[16..24], QUESTION.write()[16..24]);
    assert_eq!(bytes[24..32], [0x0d, 0x0c, 0x0b, 0x0a, 0, 0, 0, 0]);
    assert_eq!(bytes[32..40], [0x0f, 0x0e, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[40..56], [2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[LENGTH - 8..], [32, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(QUESTION.read_reply(&bytes), Some(reply));
}

#[test]
fn all_counters_come_over() {
    assert_eq!(QUESTION.read_reply(&QUESTION.reply(&reply())), Some(reply()));
    let words = reply().counters.words();
    assert!(words.iter().enumerate().all(|(n, (_, count))| *count == u64::MAX - n as u64), "each in its own place");
    assert!(words.iter().enumerate().all(|(n, (word, _))| words[..n].iter().all(|(other, _)| other != word)));
}

#[test]
fn what_is_no_question() {
    let bytes = QUESTION.write();
    for at in (0..LENGTH).filter(|at| !(16..24).contains(at)) {
        let mut spoiled = bytes;
        spoiled[at] ^= 2;
        assert_eq!(StatsRequest::read(&spoiled), None, "byte {at}");
    }
    assert_eq!(StatsRequest::read(&bytes[..LENGTH - 1]), None);
    assert_eq!(StatsRequest::read(&[]), None);
    assert_eq!(StatsRequest::read(&QUESTION.reply(&reply())), None, "two receivers never answer each other");
}

#[test]
fn answers_to_other_questions() {
    let bytes = QUESTION.reply(&reply());
    assert_eq!(StatsRequest { nonce: 1, ..QUESTION }.read_reply(&bytes), None);
    assert_eq!(StatsRequest { reset_sequences: false, ..QUESTION }.read_reply(&bytes), None);
    assert_eq!(QUESTION.read_reply(&bytes[..LENGTH - 1]), None);
    assert_eq!(QUESTION.read_reply(&QUESTION.write()), None, "a question come back");
}

/// Written by another program (Python's `struct`), after the layout in `receiver_stats.rs`.
macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("../../../fuzz/seeds/receiver_stats/", $name, ".bin"))
    };
}

#[test]
fn golden_question_and_answer() {
    assert_eq!(QUESTION.write(), *golden!("question"));
    let arrived = ReceiverCounters::of(core::array::from_fn(|n| n as u64 + 1));
    assert_eq!(
        QUESTION.reply(&StatsReply { instance: 0x0a0b_0c0d, field_layout: 0x0e0f, counters: arrived }),
        *golden!("answer")
    );
}

#[test]
fn what_the_version_before_said_is_neither() {
    // It named no receiver, and so was 8 bytes shorter.
    let (question, answer) = (golden!("question_of_version_1"), golden!("answer_of_version_1"));
    let asked = StatsRequest { reset_sequences: answer[9] == 1, nonce: number(&answer[16..HEAD]) };
    for version in [1, VERSION] {
        let (mut question, mut answer) = (question.to_vec(), answer.to_vec());
        (question[8], answer[8]) = (version, version);
        for length in [176, LENGTH] {
            question.resize(length, 0);
            answer.resize(length, 0);
            let new = (version, length) == (VERSION, LENGTH);
            assert_eq!(StatsRequest::read(&question).is_some(), new, "version {version}, {length} bytes");
            assert_eq!(asked.read_reply(&answer).is_some(), new, "version {version}, {length} bytes");
        }
    }
}
