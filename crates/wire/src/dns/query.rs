//! The compiler of query files in dnsperf's format: a name and a type a line.

use super::message::{CLASS_IN, NAME_MAX, QUESTION_MAX};
use super::types;
use crate::InvalidLine;

const LABEL_MAX: usize = 63;
const EMPTY_LABEL: InvalidLine = InvalidLine { expected: "a name without empty labels" };
const LONG_LABEL: InvalidLine = InvalidLine { expected: "labels of at most 63 bytes" };
const LONG_NAME: InvalidLine = InvalidLine { expected: "a name of at most 255 bytes" };
const ESCAPE: InvalidLine = InvalidLine { expected: "a character, or three digits from 000 to 255, after a backslash" };

/// Writes the line's question into `out`; returns its length, or 0 for a blank line or a comment.
pub(super) fn compile(line: &[u8], out: &mut [u8]) -> Result<usize, InvalidLine> {
    let bad = |expected| InvalidLine { expected };
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let Some(name) = words.next().filter(|word| !is_comment(word)) else { return Ok(0) };
    let kind = words.next().filter(|word| !is_comment(word)).ok_or(bad("a name and a type"))?;
    if words.next().is_some_and(|word| !is_comment(word)) {
        return Err(bad("a name and a type, and nothing behind"));
    }
    let kind = types::by_name(kind).ok_or(bad("a type such as A, AAAA, TXT or TYPE65"))?;
    let question = out.first_chunk_mut::<QUESTION_MAX>().ok_or(bad("room for a question"))?;
    let length = wire(name, question)?;
    if let Some(rest) = question.get_mut(length..).and_then(|rest| rest.first_chunk_mut()) {
        let ([a, b], [c, d]) = (kind.to_be_bytes(), CLASS_IN.to_be_bytes());
        *rest = [a, b, c, d];
    }
    Ok(length + 4)
}

fn is_comment(word: &[u8]) -> bool {
    word.starts_with(b";") || word.starts_with(b"#")
}

/// Writes a name in wire format into `out`, with or without a dot at its end; returns its length.
fn wire(name: &[u8], out: &mut [u8; QUESTION_MAX]) -> Result<usize, InvalidLine> {
    if name == b"." {
        out[0] = 0;
        return Ok(1);
    }
    let (mut start, mut end) = (0, 1);
    let mut rest = name;
    while let [byte, after @ ..] = rest {
        rest = after;
        let mut byte = *byte;
        if byte == b'.' {
            close(out, start, end)?;
            (start, end) = (end, end + 1);
            continue;
        }
        if byte == b'\\' {
            (byte, rest) = escaped(after)?;
        }
        // One byte is reserved for the root label.
        let target = out.get_mut(..NAME_MAX - 1).and_then(|out| out.get_mut(end)).ok_or(LONG_NAME)?;
        *target = byte;
        end += 1;
    }
    if end > start + 1 {
        close(out, start, end)?;
        start = end;
    } else if start == 0 {
        return Err(EMPTY_LABEL);
    }
    *out.get_mut(start).ok_or(LONG_NAME)? = 0;
    Ok(start + 1)
}

/// Writes the length of the label whose length byte is at `start`.
fn close(out: &mut [u8; QUESTION_MAX], start: usize, end: usize) -> Result<(), InvalidLine> {
    match end - start - 1 {
        0 => Err(EMPTY_LABEL),
        length if length > LABEL_MAX => Err(LONG_LABEL),
        length => {
            *out.get_mut(start).ok_or(LONG_NAME)? = length as u8;
            Ok(())
        }
    }
}

/// Parses an escape behind a backslash: a byte in decimal, or a literal character.
fn escaped(after: &[u8]) -> Result<(u8, &[u8]), InvalidLine> {
    match after {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] => {
            let value = [a, b, c].iter().fold(0, |sum, digit| sum * 10 + u16::from(**digit - b'0'));
            u8::try_from(value).map(|byte| (byte, rest)).map_err(|_| ESCAPE)
        }
        [b'0'..=b'9', ..] | [] => Err(ESCAPE),
        [byte, rest @ ..] => Ok((*byte, rest)),
    }
}
