//! Symmetric authentication of NTP packets: the code behind the message (RFC 5905, section 7.3; RFC 8573).
//!
//! Method: the key is absorbed once, before the run; a packet's code then continues from a copy of that state.

use aes::Aes128;
use cmac::{Cmac, Mac as _};
use md5::{Digest as _, Md5};
use sha1::Sha1;

/// Bytes of a key's number before the code.
pub(super) const KEY_ID: usize = 4;
/// The longest code, of SHA-1.
const CODE_MAX: usize = 20;
/// The longest key (bytes).
pub(super) const KEY_MAX: usize = 64;

/// A key with its number.
#[derive(Clone, Debug)]
pub(super) struct Key {
    id: u32,
    state: State,
}

/// The key as absorbed by its algorithm.
#[derive(Clone, Debug)]
// This crate allocates nothing, and there is one for each client.
#[allow(clippy::large_enum_variant)]
enum State {
    /// MD5 of key and packet, 16 bytes.
    Md5(Md5),
    /// SHA-1 of key and packet, 20 bytes.
    Sha1(Sha1),
    /// AES-128-CMAC of the packet, 16 bytes.
    Cmac(Cmac<Aes128>),
}

impl Key {
    /// Algorithm 1: MD5, 2: SHA-1, 3: AES-128-CMAC (a key of 16 bytes). `None`: there is no such key.
    pub(super) fn new(algorithm: i64, id: u32, secret: &[u8]) -> Option<Self> {
        let state = match algorithm {
            _ if secret.is_empty() => return None,
            1 => State::Md5(Md5::new_with_prefix(secret)),
            2 => State::Sha1(Sha1::new_with_prefix(secret)),
            3 => State::Cmac(Cmac::new_from_slice(secret).ok()?),
            _ => return None,
        };
        Some(Self { id, state })
    }

    /// Bytes that a code takes behind a packet, with the key's number.
    pub(super) fn length(&self) -> usize {
        KEY_ID
            + match self.state {
                State::Md5(_) | State::Cmac(_) => 16,
                State::Sha1(_) => CODE_MAX,
            }
    }

    /// Writes number and code of `packet[..length]` behind it; returns the whole length, or `length` without room.
    pub(super) fn seal(&self, packet: &mut [u8], length: usize) -> usize {
        let Some((message, rest)) = packet.split_at_mut_checked(length) else { return length };
        let Some(out) = rest.get_mut(..self.length()) else { return length };
        let code = self.code(message);
        let (id, place) = out.split_at_mut(KEY_ID);
        id.copy_from_slice(&self.id.to_be_bytes());
        for (to, from) in place.iter_mut().zip(code) {
            *to = from;
        }
        length + self.length()
    }

    /// Whether `mac` is this key's number and the right code of `message`.
    pub(super) fn verify(&self, message: &[u8], mac: &[u8]) -> bool {
        let Some((id, code)) = mac.split_first_chunk::<KEY_ID>() else { return false };
        let right = self.code(message);
        u32::from_be_bytes(*id) == self.id
            && mac.len() == self.length()
            && code.iter().zip(right).fold(0, |differing, (one, other)| differing | (one ^ other)) == 0
    }

    fn code(&self, message: &[u8]) -> [u8; CODE_MAX] {
        let mut code = [0; CODE_MAX];
        let mut put = |bytes: &[u8]| code.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        match &self.state {
            State::Md5(state) => put(&state.clone().chain_update(message).finalize()),
            State::Sha1(state) => put(&state.clone().chain_update(message).finalize()),
            State::Cmac(state) => put(&state.clone().chain_update(message).finalize().into_bytes()),
        }
        code
    }
}
