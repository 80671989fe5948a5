//! Tests of the query file compiler: questions and errors.
extern crate std;
use super::query::compile;
use crate::{InvalidLine, QUERY_LEN_MAX};
use std::string::String;
use std::vec::Vec;

fn compiled(line: impl AsRef<[u8]>) -> Result<Vec<u8>, &'static str> {
    let mut out = [0xa5; QUERY_LEN_MAX];
    let length = compile(line.as_ref(), &mut out).map_err(|InvalidLine { expected }| expected)?;
    Ok(out[..length].to_vec())
}

#[test]
fn a_name_and_a_type_become_a_question() {
    let www = b"\x03www\x07Example\x03com\0\0\x1c\0\x01";
    for line in
        ["www.Example.com AAAA", "www.Example.com. aaaa", "\twww.Example.com \t AAAA  \r\n", "www.Example.com TYPE28"]
    {
        assert_eq!(compiled(line), Ok(www.to_vec()), "{line:?}");
    }
    assert_eq!(compiled(". NS"), Ok(b"\0\0\x02\0\x01".to_vec()));
    assert_eq!(compiled("a TYPE65535"), Ok(b"\x01a\0\xff\xff\0\x01".to_vec()));
}

#[test]
fn blank_lines_and_remarks_are_passed_over() {
    for line in ["", "\n", " \t\r\n", "; www.example.com A", "#www.example.com A", ";"] {
        assert_eq!(compiled(line), Ok(Vec::new()), "{line:?}");
    }
    assert_eq!(compiled("a A ; why"), compiled("a A"));
    assert_eq!(compiled("a A #why"), compiled("a A"));
}

#[test]
fn types_by_name() {
    let kinds = [
        ("A", 1),
        ("NS", 2),
        ("CNAME", 5),
        ("SOA", 6),
        ("PTR", 12),
        ("MX", 15),
        ("TXT", 16),
        ("AAAA", 28),
        ("SRV", 33),
        ("NAPTR", 35),
        ("DNAME", 39),
        ("DS", 43),
        ("SSHFP", 44),
        ("RRSIG", 46),
        ("NSEC", 47),
        ("DNSKEY", 48),
        ("NSEC3", 50),
        ("NSEC3PARAM", 51),
        ("TLSA", 52),
        ("SMIMEA", 53),
        ("CDS", 59),
        ("OPENPGPKEY", 61),
        ("ZONEMD", 63),
        ("SVCB", 64),
        ("HTTPS", 65),
        ("AXFR", 252),
        ("ANY", 255),
        ("URI", 256),
        ("CAA", 257),
        ("type0", 0),
    ];
    for (name, number) in kinds {
        let [a, b] = u16::to_be_bytes(number);
        assert_eq!(compiled(std::format!("a {name}")), Ok([1, b'a', 0, a, b, 0, 1].to_vec()), "{name}");
    }
    for name in ["B", "TYPE", "TYPE65536", "TYPE123456", "TYPE-1", "TYPE1x", "TYPE\u{0661}", "AA"] {
        assert_eq!(compiled(std::format!("a {name}")), Err("a type such as A, AAAA, TXT or TYPE65"), "{name}");
    }
}

#[test]
fn escapes() {
    assert_eq!(compiled(r"a\.b.c A"), Ok(b"\x03a.b\x01c\0\0\x01\0\x01".to_vec()));
    assert_eq!(compiled(r"\000\255\\\; A"), Ok(b"\x04\0\xff\\;\0\0\x01\0\x01".to_vec()));
    assert_eq!(compiled(r"a\046 A"), Ok(b"\x02a.\0\0\x01\0\x01".to_vec()), "a dot that ends no label");
    for line in [r"\256 A", r"\25 A", r"\2x5 A", r"a\ A"] {
        assert_eq!(compiled(line), Err("a character, or three digits from 000 to 255, after a backslash"), "{line}");
    }
}

#[test]
fn lengths() {
    let label = |length: usize| "x".repeat(length);
    assert_eq!(compiled(std::format!("{} A", label(63))).map(|q| q.len()), Ok(63 + 2 + 4));
    assert_eq!(compiled(std::format!("{} A", label(64))), Err("labels of at most 63 bytes"));
    assert_eq!(compiled(std::format!("{}.b A", label(64))), Err("labels of at most 63 bytes"));
    let three = std::format!("{0}.{0}.{0}", label(63));
    assert_eq!(compiled(std::format!("{three}.{} A", label(61))).map(|q| q.len()), Ok(255 + 4));
    assert_eq!(compiled(std::format!("{three}.{}. A", label(61))).map(|q| q.len()), Ok(255 + 4));
    for name in
        [std::format!("{three}.{}", label(62)), std::format!("{three}.{}.a", label(60)), label(300), "a.".repeat(300)]
    {
        assert!(matches!(compiled(name + " A"), Err("a name of at most 255 bytes" | "labels of at most 63 bytes")));
    }
    assert_eq!(compiled(std::format!("{}a A", "a.".repeat(126))).map(|q| q.len()), Ok(255 + 4), "127 labels");
}

#[test]
fn what_is_wrong_is_said() {
    assert_eq!(compiled("example.com"), Err("a name and a type"));
    assert_eq!(compiled("example.com ; A"), Err("a name and a type"));
    assert_eq!(compiled("example.com A A"), Err("a name and a type, and nothing behind"));
    for name in ["..", "a..b", ".a", "a.."] {
        assert_eq!(compiled(std::format!("{name} A")), Err("a name without empty labels"), "{name}");
    }
}

#[test]
fn any_bytes_become_a_question_or_an_error() {
    let mut random = 1_u64;
    let mut byte = || {
        random = crate::scramble::scramble(random, 9);
        *br"ab.\019 ;A".get(random as usize % 12).unwrap_or(&(random >> 8 & 0xff).to_be_bytes()[7])
    };
    for _ in 0..20_000 {
        let line: Vec<u8> = (0..byte() % 40).map(|_| byte()).collect();
        let Ok(question) = compiled(&line) else { continue };
        let end = super::message::after_question(&question, 0);
        assert!(question.is_empty() || end == Some(question.len()), "{}", String::from_utf8_lossy(&line));
    }
}
