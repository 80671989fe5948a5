//! NTP over UDP, versions 1 to 4 (RFC 5905, RFC 1059 for version 1): client and server.
//!
//! Method: the client's transmit stamp is a keyed permutation of (flow, request number), which looks random and which
//! every server echoes as origin; so matching an answer is arithmetic. The client is in `ntp/client.rs`, the server in
//! `ntp/responder.rs`, what it says of its clock in `ntp/time_state.rs`. Key exchange is not supported.

mod client;
mod interleaved;
mod mac;
mod options;
mod responder;
mod time_state;

pub use responder::NtpResponder;

use crate::{Aligned, InvalidOption, Protocol, ProtocolOption};

/// Bytes of the header: a request or answer without extension fields.
pub const HEADER: usize = 48;
/// Seconds from 1900 (NTP's era 0) to 1970.
const UNIX_EPOCH: u64 = 2_208_988_800;
const SERVER: u8 = 4;
const ORIGIN: usize = 24;
const RECEIVE: usize = 32;
const TRANSMIT: usize = 40;

static DRIVER: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../bpf/ntp.bpf.o"));

/// The protocol.
pub struct Ntp;

/// A client whose requests carry a request number in place of the time.
#[derive(Clone, Debug)]
pub struct NtpClient {
    first_byte: u8,
    key: u64,
    length: usize,
    options: options::Options,
}

#[derive(Clone, Copy)]
#[repr(usize)]
enum Tally {
    Basic,
    KissRate,
    KissDeny,
    KissOther,
    Unsynchronised,
    WrongMode,
    WrongVersion,
    ZeroTransmit,
    TickedBackwards,
    Interleaved,
    CryptoNak,
    Unauthenticated,
    StaleReference,
    RootDistance,
}

impl Protocol for Ntp {
    const NAME: &'static str = "ntp";
    const DATAGRAM_MAX: usize = 2048;
    const DRIVER_PROGRAM: &'static [u8] = &DRIVER.0;
    const TALLIES: &'static [&'static str] = &[
        "basic",
        "kiss_rate",
        "kiss_deny",
        "kiss_other",
        "unsynchronised",
        "wrong_mode",
        "wrong_version",
        "zero_transmit",
        "ticked_backwards",
        "interleaved",
        "crypto_nak",
        "unauthenticated",
        "stale_reference",
        "root_distance",
    ];
    type Client = NtpClient;
    type Responder = NtpResponder;
    type Decoder = crate::NoDecoder;

    fn client(options: &[ProtocolOption<'_>], secret: u64) -> Result<NtpClient, InvalidOption> {
        NtpClient::new(options, secret)
    }

    fn responder(options: &[ProtocolOption<'_>]) -> Result<NtpResponder, InvalidOption> {
        NtpResponder::new(options)
    }
}

/// Unix time in ns as an NTP stamp: 32 bits of seconds modulo 2^32 (eras), 32 bits of fraction.
#[must_use]
pub fn from_unix(ns: u64) -> u64 {
    let seconds = (ns / 1_000_000_000).wrapping_add(UNIX_EPOCH) as u32;
    let fraction = ((ns % 1_000_000_000) << 32) / 1_000_000_000;
    u64::from(seconds) << 32 | fraction
}

fn stamp(packet: &[u8; HEADER], at: usize) -> u64 {
    packet.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn put(packet: &mut [u8; HEADER], at: usize, stamp: u64) {
    if let Some(field) = packet.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *field = stamp.to_be_bytes();
    }
}

#[cfg(test)]
#[path = "ntp_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "ntp_golden.rs"]
mod golden;

#[cfg(test)]
#[path = "ntp_client_tests.rs"]
mod client_tests;
