//! Tests of the table: lookups and corrupt entries.
extern crate std;
use super::*;
use std::vec::Vec;

fn laid(entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    let head = |key: usize, value: usize| [&(key as u16).to_le_bytes()[..], &(value as u32).to_le_bytes()].concat();
    entries.iter().flat_map(|(key, value)| [&head(key.len(), value.len()), *key, *value].concat()).collect()
}

#[test]
fn what_was_laid_out_is_found() {
    let names: Vec<_> = (0_u16..1000).map(u16::to_be_bytes).collect();
    let entries: Vec<_> = names.iter().map(|name| (&name[..], &name[1..])).collect();
    let (bytes, mut slots) = (laid(&entries), std::vec![0; Table::slots(1000)]);
    let longest = Table::build(&mut slots, &bytes).expect("whole");
    let table = Table::new(&slots, &bytes, longest);
    assert!(entries.iter().all(|(key, value)| table.find(key) == Some(value)));
    assert_eq!((table.find(b"xyz"), table.find(&[]), table.longest()), (None, None, 1));
}

#[test]
fn an_empty_table_has_nothing() {
    assert_eq!((Table::default().find(b"a"), Table::slots(0)), (None, 0));
    assert_eq!(Table::build(&mut [], &[]), Some(0));
}

#[test]
fn damage_is_said_and_never_walked_into() {
    let bytes = laid(&[(b"a", b"1"), (b"b", b"2")]);
    for length in 1..bytes.len() {
        let built = Table::build(&mut [0; 4], &bytes[..length]);
        assert!(built.is_none() || length == 8, "cut after {length}");
    }
    assert_eq!(Table::build(&mut [0; 2], &bytes), None, "more entries than slots");
    assert_eq!(Table::build(&mut [], &bytes), None);
    for slots in [&[1_u32, 1, 1, 1][..], &[99; 4], &[u32::MAX; 4], &[1; 3]] {
        assert_eq!(Table::new(slots, &bytes, 1).find(b"c"), None, "full, or pointing nowhere");
    }
}
