//! Text files that users name: their text behind a byte order mark; encodings other than UTF-8 are named.
//!
//! `python/flatout/text_files.py` does the same for the files that Python reads. Encodings are told apart by their marks
//! (Unicode, section 23.8), without one by where the zeros of two ASCII characters are (RFC 4627, section 3).

use std::io::{self, BufRead, Cursor, Read};

const MARK: &[u8] = b"\xef\xbb\xbf";
/// No more is looked at.
const HEAD: u64 = 4;

/// The text, without the mark of UTF-8. Errors: `InvalidInput` for UTF-16 and UTF-32, else those of reading.
pub fn unmarked<R: BufRead>(mut reader: R) -> io::Result<impl BufRead> {
    let mut head = Vec::new();
    reader.by_ref().take(HEAD).read_to_end(&mut head)?;
    if let Some(name) = encoding(&head) {
        let why = format!("this is {name}, and flatout reads UTF-8: convert it with 'iconv -f {name} -t UTF-8'");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let begins = if head.starts_with(MARK) { MARK.len() } else { 0 };
    let mut head = Cursor::new(head);
    head.set_position(begins as u64);
    Ok(head.chain(reader))
}

/// The encoding of what begins so, unless it may be UTF-8.
fn encoding(head: &[u8]) -> Option<&'static str> {
    match head {
        // The mark of UTF-32 in little endian begins like that of UTF-16.
        [0xff, 0xfe, 0, 0] | [0, 0, 0xfe, 0xff] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [1..=255, 0, 0, 0] | [0, 0, 0, 1..=255] => Some("UTF-32"),
        [1..=255, 0, 1..=255, 0] | [0, 1..=255, 0, 1..=255] | [1..=255, 0] | [0, 1..=255] => Some("UTF-16"),
        _ => None,
    }
}
