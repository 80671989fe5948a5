//! Question and answer about what has arrived.
use super::*;

const QUESTION: Question = Question { anew: true, nonce: 0x0102_0304_0506_0708 };

/// Counters that are all different, so that none can stand for another.
fn arrived() -> Arrived {
    Arrived::of(core::array::from_fn(|n| u64::MAX - n as u64))
}

#[test]
fn a_question_byte_by_byte() {
    let bytes = QUESTION.write();
    assert_eq!(bytes.len(), 176);
    assert_eq!(bytes[..16], *b"flatout?\x01\x01\0\0\0\0\0\0");
    assert_eq!(bytes[16..24], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(bytes[24..], [0; LENGTH - 24]);
    assert_eq!(Question::read(&bytes), Some(QUESTION));
}

#[test]
fn an_answer_byte_by_byte() {
    let counters = Arrived { received: 0x0102, parsed: 3, sequence_bits: 32, ..Arrived::default() };
    let bytes = QUESTION.answer(&counters);
    assert_eq!(bytes[..16], *b"flatout!\x01\x01\0\0\0\0\0\0");
    assert_eq!(bytes[16..24], QUESTION.write()[16..24]);
    assert_eq!(bytes[24..40], [2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[LENGTH - 8..], [32, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(QUESTION.answered(&bytes), Some(counters));
}

#[test]
fn all_counters_come_over() {
    assert_eq!(QUESTION.answered(&QUESTION.answer(&arrived())), Some(arrived()));
    let words = arrived().words();
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
    assert_eq!(Question::read(&QUESTION.answer(&arrived())), None, "two receivers never answer each other");
}

#[test]
fn answers_to_other_questions() {
    let bytes = QUESTION.answer(&arrived());
    assert_eq!(Question { nonce: 1, ..QUESTION }.answered(&bytes), None);
    assert_eq!(Question { anew: false, ..QUESTION }.answered(&bytes), None);
    assert_eq!(QUESTION.answered(&bytes[..LENGTH - 1]), None);
    assert_eq!(QUESTION.answered(&QUESTION.write()), None, "a question come back");
}
