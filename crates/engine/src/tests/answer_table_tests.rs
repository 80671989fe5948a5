//! The table that servers answer from.

use crate::answer_table::AnswerTable;

fn entry(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> (Vec<u8>, Vec<u8>) {
    (key.into(), value.into())
}

#[test]
fn what_was_put_in_is_found() {
    let entries: Vec<_> = (0_u32..5000).map(|n| entry(n.to_be_bytes(), vec![n as u8; n as usize % 300])).collect();
    let answer_table = AnswerTable::build(&entries).expect("small");
    for (key, value) in &entries {
        assert_eq!(answer_table.table().find(key), Some(&value[..]));
    }
    assert_eq!(answer_table.table().find(&5000_u32.to_be_bytes()), None);
    assert_eq!(answer_table.table().longest(), 299);
    assert!(answer_table.bytes() > 5000 * 10);
}

#[test]
fn the_first_of_a_key_counts() {
    let answer_table = AnswerTable::build(&[entry("a", "1"), entry("a", "2"), entry("", "3")]).expect("small");
    assert_eq!((answer_table.table().find(b"a"), answer_table.table().find(b"")), (Some(&b"1"[..]), Some(&b"3"[..])));
}

#[test]
fn nothing_is_found_in_nothing() {
    let answer_table = AnswerTable::build(&[]).expect("empty");
    assert_eq!((answer_table.table().find(b"a"), answer_table.table().longest()), (None, 0));
}

#[test]
fn a_key_that_is_too_long_is_said() {
    let error = AnswerTable::build(&[entry(vec![0; 65_536], "")]).expect_err("too long");
    assert_eq!(error.to_string(), "a key is longer than 65535 bytes");
}
