//! Query files: what is taken, what is refused and how that is said, and how cursors share it out.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use flatout_wire::dns::Dns;
use flatout_wire::ntp::Ntp;

use crate::query_set::{Cursor, QuerySet};

/// A file that is removed in the end.
struct Queries(PathBuf);

impl Queries {
    fn new(name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = std::env::temp_dir().join(format!("flatout-corpus-{}-{name}", std::process::id()));
        fs::write(&path, text).expect("a file of one's own");
        Self(path)
    }

    fn compile(&self) -> Result<Arc<QuerySet>, String> {
        QuerySet::compile::<Dns>(&[], Some(&self.0)).map_err(|error| error.to_string())
    }

    fn named(&self, remaining: &str) -> String {
        format!("{}{remaining}", self.0.display())
    }
}

impl Drop for Queries {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("it was there");
    }
}

fn walked(cursor: &mut Cursor, steps: usize) -> Vec<Vec<u8>> {
    let offsets: Vec<_> = (0..steps).map(|_| cursor.next()).collect();
    offsets.into_iter().map(|offset| cursor.query(offset).to_vec()).collect()
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{n} A")).collect()
}

/// The question that line `n` of [`numbered`] is.
fn question(n: usize) -> Vec<u8> {
    let label = n.to_string();
    [&[label.len() as u8], label.as_bytes(), b"\0\0\x01\0\x01"].concat()
}

#[test]
fn a_mark_of_utf_8_is_no_part_of_a_name() {
    for text in ["\u{feff}0 A\n1 A", "\u{feff}# a remark\n0 A\n1 A", "\u{feff}\n0 A\n1 A"] {
        let query_set = Queries::new("mark", text).compile().expect("two queries");
        assert_eq!(walked(&mut Cursor::new(query_set, 0, 1), 3), [question(0), question(1), question(0)]);
    }
    let only = Queries::new("only-a-mark", "\u{feff}");
    assert_eq!(only.compile().unwrap_err(), only.named(": no queries in it"));
    let twice = Queries::new("two-marks", "0 A\n\u{feff}1 A").compile().expect("a name may hold any byte");
    assert_eq!(walked(&mut Cursor::new(twice, 1, 2), 1), [b"\x04\xef\xbb\xbf1\0\0\x01\0\x01".to_vec()]);
}

#[test]
fn other_encodings_are_named() {
    let wide = |text: &str, big: bool| -> Vec<u8> {
        text.encode_utf16().flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    let wider = |text: &str, big: bool| -> Vec<u8> {
        let units = text.chars().map(u32::from);
        units.flat_map(|unit| if big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    };
    for text in ["\u{feff}0 A\n", "0 A\n", "\u{feff}\u{444} A"] {
        for big in [false, true] {
            for (name, bytes) in [("UTF-16", wide(text, big)), ("UTF-32", wider(text, big))] {
                let file = Queries::new("wide", bytes);
                let why =
                    format!(": this is {name}, and flatout reads UTF-8: convert it with 'iconv -f {name} -t UTF-8'");
                assert_eq!(file.compile().unwrap_err(), file.named(&why), "{text:?}");
            }
        }
    }
}

#[test]
fn a_file_is_read_without_remarks_and_blank_lines() {
    let file = Queries::new("plain", "; head\n\n0 A\r\n  1   a ; first\n#2 A\n2 TYPE1");
    let query_set = file.compile().expect("three queries");
    assert_eq!(query_set.count(), 3);
    assert!(query_set.bytes() >= 3 * 9);
    let mut cursor = Cursor::new(query_set, 0, 1);
    assert_eq!(walked(&mut cursor, 5), [question(0), question(1), question(2), question(0), question(1)]);
}

#[test]
fn a_bad_line_is_named_by_its_number() {
    let file = Queries::new("bad", "; head\n0 A\n\nexample.com\n1 A\n");
    assert_eq!(file.compile().err(), Some(file.named(", line 4: expected a name and a type")));
    let lines = ["0 A".to_owned(), "0 NOTATYPE".to_owned()];
    let error = QuerySet::compile::<Dns>(&lines, None).expect_err("no such type");
    assert_eq!(error.to_string(), "query 2: expected a type such as A, AAAA, TXT or TYPE65");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn a_line_without_end_is_an_error_and_no_memory() {
    let file = Queries::new("long", format!("0 A\n; {}\n", "a".repeat(1 << 20)));
    assert_eq!(file.compile().err(), Some(file.named(", line 2: expected a shorter line")));
    let zeros = QuerySet::compile::<Dns>(&[], Some("/dev/zero".as_ref())).expect_err("it never ends");
    assert_eq!(zeros.to_string(), "/dev/zero, line 1: expected a shorter line");
}

#[test]
fn nothing_to_ask_is_an_error() {
    for text in ["", "\n\n", "; all remarks\n"] {
        let file = Queries::new("empty", text);
        assert_eq!(file.compile().err(), Some(file.named(": no queries in it")));
    }
    assert!(QuerySet::compile::<Dns>(&["; none".to_owned()], None).is_err());
    let missing = QuerySet::compile::<Dns>(&[], Some("/nowhere/queries.txt".as_ref())).expect_err("no such file");
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    assert!(missing.to_string().starts_with("/nowhere/queries.txt: "));
    let folder = QuerySet::compile::<Dns>(&[], Some("/".as_ref())).expect_err("a folder");
    assert!(folder.to_string().starts_with("/: "), "{folder}");
}

#[test]
fn a_protocol_without_subjects_has_an_empty_corpus() {
    let query_set = QuerySet::compile::<Ntp>(&[], None).expect("nothing to compile");
    let mut cursor = Cursor::new(Arc::clone(&query_set), 3, 4);
    assert_eq!((cursor.next(), cursor.next(), query_set.count()), (0, 0, 0));
    assert_eq!((cursor.query(0), cursor.query(77)), (&[][..], &[][..]));
    let error = QuerySet::compile::<Ntp>(&["0 A".to_owned()], None).expect_err("no query files");
    assert_eq!(error.to_string(), "query 1: expected nothing: this protocol has no query files");
}

#[test]
fn cursors_begin_at_their_share() {
    for count in [1, 7, 4095, 4096, 4097, 10_000] {
        let query_set = QuerySet::compile::<Dns>(&numbered(count), None).expect("names of digits");
        for of in [1, 2, 3, 64] {
            for share in 0..of {
                let begin = count * share / of;
                let mut cursor = Cursor::new(Arc::clone(&query_set), share, of);
                assert_eq!(walked(&mut cursor, 2), [question(begin), question((begin + 1) % count)]);
            }
        }
    }
}

#[test]
fn a_million_lines_are_read_in_little_memory() {
    let file = Queries::new("million", "");
    let mut out = BufWriter::new(File::create(&file.0).expect("writable"));
    for n in 0..1_000_000 {
        writeln!(out, "{n} A").expect("room for 9 MB");
    }
    out.into_inner().expect("room for 9 MB");
    let query_set = file.compile().expect("a million queries");
    assert_eq!(query_set.count(), 1_000_000);
    assert!(query_set.bytes() < 16 << 20, "{} bytes", query_set.bytes());
    let mut cursor = Cursor::new(Arc::clone(&query_set), 999_999, 1_000_000);
    assert_eq!(walked(&mut cursor, 2), [question(999_999), question(0)]);
    let mut cursor = Cursor::new(Arc::clone(&query_set), 0, 1);
    assert!((0..1_000_000).all(|n| query_set.query(cursor.next()) == question(n)));
}
