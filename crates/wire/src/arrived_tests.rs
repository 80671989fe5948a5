//! Question and answer about what has arrived.
use super::*;

const QUESTION: Question = Question { anew: true, nonce: 0x0102_0304_0506_0708 };

/// Numbers that are all different, so that none can stand for another.
fn told() -> Told {
    Told { instance: 7, places: 9, arrived: Arrived::of(core::array::from_fn(|n| u64::MAX - n as u64)) }
}

#[test]
fn a_question_byte_by_byte() {
    let bytes = QUESTION.write();
    assert_eq!(bytes.len(), 192);
    assert_eq!(bytes[..16], *b"flatout?\x02\x01\0\0\0\0\0\0");
    assert_eq!(bytes[16..24], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(bytes[24..], [0; LENGTH - 24]);
    assert_eq!(Question::read(&bytes), Some(QUESTION));
}

#[test]
fn an_answer_byte_by_byte() {
    let counters = Arrived { received: 0x0102, parsed: 3, sequence_bits: 32, ..Arrived::default() };
    let told = Told { instance: 0x0a0b_0c0d, places: 0x0e0f, arrived: counters };
    let bytes = QUESTION.answer(&told);
    assert_eq!(bytes[..16], *b"flatout!\x02\x01\0\0\0\0\0\0");
    assert_eq!(bytes[16..24], QUESTION.write()[16..24]);
    assert_eq!(bytes[24..32], [0x0d, 0x0c, 0x0b, 0x0a, 0, 0, 0, 0]);
    assert_eq!(bytes[32..40], [0x0f, 0x0e, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[40..56], [2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[LENGTH - 8..], [32, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(QUESTION.answered(&bytes), Some(told));
}

#[test]
fn all_counters_come_over() {
    assert_eq!(QUESTION.answered(&QUESTION.answer(&told())), Some(told()));
    let words = told().arrived.words();
    assert!(words.iter().enumerate().all(|(n, (_, count))| *count == u64::MAX - n as u64), "each in its own place");
    assert!(words.iter().enumerate().all(|(n, (word, _))| words[..n].iter().all(|(other, _)| other != word)));
}

#[test]
fn what_is_no_question() {
    let bytes = QUESTION.write();
    for at in (0..LENGTH).filter(|at| !(16..24).contains(at)) {
        let mut spoiled = bytes;
        spoiled[at] ^= 2;
        assert_eq!(Question::read(&spoiled), None, "byte {at}");
    }
    assert_eq!(Question::read(&bytes[..LENGTH - 1]), None);
    assert_eq!(Question::read(&[]), None);
    assert_eq!(Question::read(&QUESTION.answer(&told())), None, "two receivers never answer each other");
}

#[test]
fn answers_to_other_questions() {
    let bytes = QUESTION.answer(&told());
    assert_eq!(Question { nonce: 1, ..QUESTION }.answered(&bytes), None);
    assert_eq!(Question { anew: false, ..QUESTION }.answered(&bytes), None);
    assert_eq!(QUESTION.answered(&bytes[..LENGTH - 1]), None);
    assert_eq!(QUESTION.answered(&QUESTION.write()), None, "a question come back");
}

/// Written by another program (Python's `struct`), after the layout as it stands at the head of `arrived.rs`.
macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("../../../fuzz/seeds/arrived/", $name, ".bin"))
    };
}

#[test]
fn golden_question_and_answer() {
    assert_eq!(QUESTION.write(), *golden!("question"));
    let arrived = Arrived::of(core::array::from_fn(|n| n as u64 + 1));
    assert_eq!(QUESTION.answer(&Told { instance: 0x0a0b_0c0d, places: 0x0e0f, arrived }), *golden!("answer"));
}

#[test]
fn what_the_version_before_said_is_neither() {
    // It named no receiver, and so was 8 bytes shorter.
    let (question, answer) = (golden!("question_of_version_1"), golden!("answer_of_version_1"));
    let asked = Question { anew: answer[9] == 1, nonce: number(&answer[16..HEAD]) };
    for version in [1, VERSION] {
        let (mut question, mut answer) = (question.to_vec(), answer.to_vec());
        (question[8], answer[8]) = (version, version);
        for length in [176, LENGTH] {
            question.resize(length, 0);
            answer.resize(length, 0);
            let new = (version, length) == (VERSION, LENGTH);
            assert_eq!(Question::read(&question).is_some(), new, "version {version}, {length} bytes");
            assert_eq!(asked.answered(&answer).is_some(), new, "version {version}, {length} bytes");
        }
    }
}
