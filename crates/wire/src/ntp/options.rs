//! The options of NTP's client: what its requests look like, as whole numbers.
//!
//! Lists are options of one name, in order: `field` (an extension field's type in the high 16 bits, its length in the
//! low ones) and `key` (eight bytes of a key each, the last ones padded with zeros, the length in `key_length`).

use super::HEADER;
use super::mac::{KEY_MAX, Key};
use crate::{InvalidOption, ProtocolOption};

/// The most extension fields of a request.
const FIELDS: usize = 8;
/// Room for a request on an Ethernet without fragments.
pub(super) const REQUEST_MAX: usize = 1400;

/// What requests look like and what is measured of their answers.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// 1 to 4.
    pub(super) version: u8,
    /// 1 (symmetric active) or 3 (client).
    pub(super) mode: u8,
    /// Requests refer to the last answer (RFC 9769).
    pub(super) interleaved: bool,
    /// The offset of the server's clock is measured, this many ns subtracted.
    pub(super) offset: Option<i64>,
    pub(super) key: Option<Key>,
    fields: [(u16, u16); FIELDS],
    count: usize,
}

struct Secret {
    algorithm: i64,
    id: u32,
    length: usize,
    bytes: [u8; KEY_MAX],
    count: usize,
}

impl Options {
    pub(super) fn parse(options: &[ProtocolOption<'_>]) -> Result<Self, InvalidOption> {
        let mut made = Self {
            version: 4,
            mode: 3,
            interleaved: false,
            offset: None,
            key: None,
            fields: [(0, 0); FIELDS],
            count: 0,
        };
        let (mut secret, mut measured, mut correction) = (Secret::none(), false, 0);
        for option in options {
            match (option.name, option.value) {
                ("version", v @ 1..=4) => made.version = v as u8,
                ("mode", m @ (1 | 3)) => made.mode = m as u8,
                ("interleaved", on @ 0..=1) => made.interleaved = on == 1,
                ("offset", on @ 0..=1) => measured = on == 1,
                ("correction_ns", ns) => correction = ns,
                ("field", field @ 0..=0xffff_ffff) => made.add_field(field)?,
                _ => secret.note(option)?,
            }
        }
        made.offset = measured.then_some(correction);
        made.key = secret.key()?;
        made.check()?;
        Ok(made)
    }

    fn add_field(&mut self, field: i64) -> Result<(), InvalidOption> {
        let (kind, length) = ((field >> 16) as u16, field as u16);
        let place = self.fields.get_mut(self.count).filter(|_| length >= 16 && length % 4 == 0);
        *place.ok_or(InvalidOption { expected: "field: at most 8, each of 16 bytes or more, a multiple of 4" })? =
            (kind, length);
        self.count += 1;
        Ok(())
    }

    fn check(&self) -> Result<(), InvalidOption> {
        let expected = match self {
            _ if self.interleaved && (self.version, self.mode) != (4, 3) => "interleaved: version 4 and mode 3",
            _ if self.count > 0 && self.version != 4 => "field: version 4, others have none",
            _ if self.length() > REQUEST_MAX => "fields: at most 1400 bytes in all",
            _ => return Ok(()),
        };
        Err(InvalidOption { expected })
    }

    /// Bytes of a request.
    pub(super) fn length(&self) -> usize {
        let fields = self.fields().map(|(_, length)| usize::from(length));
        HEADER + fields.sum::<usize>() + self.key.as_ref().map_or(0, Key::length)
    }

    /// The extension fields: type and length with their own four bytes.
    pub(super) fn fields(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        self.fields.iter().copied().take(self.count)
    }
}

impl Secret {
    const fn none() -> Self {
        Self { algorithm: 0, id: 0, length: 0, bytes: [0; KEY_MAX], count: 0 }
    }

    fn note(&mut self, option: &ProtocolOption<'_>) -> Result<(), InvalidOption> {
        match (option.name, option.value) {
            ("key_type", kind @ 0..=3) => self.algorithm = kind,
            ("key_id", id @ 0..=0xffff_ffff) => self.id = id as u32,
            ("key_length", length @ 0..=64) => self.length = length as usize,
            ("key", bytes) => {
                let place = self.bytes.get_mut(self.count..self.count + 8);
                place.ok_or(InvalidOption { expected: "key: at most 64 bytes" })?.copy_from_slice(&bytes.to_be_bytes());
                self.count += 8;
            }
            _ => {
                return Err(InvalidOption {
                    expected: "version: 1 to 4, mode: 1 or 3, interleaved, offset, correction_ns, field, key_type, \
                               key_id, key_length, key",
                });
            }
        }
        Ok(())
    }

    fn key(&self) -> Result<Option<Key>, InvalidOption> {
        if self.algorithm == 0 {
            return Ok(None);
        }
        let secret = self.bytes.get(..self.length).unwrap_or_default();
        let made = Key::new(self.algorithm, self.id, secret);
        made.map(Some).ok_or(InvalidOption { expected: "key: 1 to 64 bytes, of AES-128 16" })
    }
}
