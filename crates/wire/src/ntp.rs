//! NTP over UDP, versions 1 to 4 (RFC 5905, RFC 1059 for version 1): client and server.
//!
//! Method: the client's transmit stamp is a keyed permutation of (flow, request number), which looks random and which
//! every server echoes as origin; so matching an answer is arithmetic. The server is in `ntp/responder.rs`, what it says
//! of its clock in `ntp/time_state.rs`. Key exchange and MACs are not supported.

mod interleaved;
mod responder;
mod time_state;

pub use responder::NtpResponder;

use crate::scramble::{scramble, unscramble};
use crate::{Client, InvalidOption, Protocol, ProtocolOption, Reply};

/// Bytes of the header: a request or answer without extension fields.
pub const HEADER: usize = 48;
/// Seconds from 1900 (NTP's era 0) to 1970.
const UNIX_EPOCH: u64 = 2_208_988_800;
const CLIENT: u8 = 3;
const SERVER: u8 = 4;
const ORIGIN: usize = 24;
const RECEIVE: usize = 32;
const TRANSMIT: usize = 40;

/// The protocol.
pub struct Ntp;

/// A basic-mode client whose requests carry a request number only.
#[derive(Clone, Debug)]
pub struct NtpClient {
    first_byte: u8,
    key: u64,
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
}

impl Protocol for Ntp {
    const NAME: &'static str = "ntp";
    const DATAGRAM_MAX: usize = 2048;
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
    ];
    type Client = NtpClient;
    type Responder = NtpResponder;
    type Decoder = crate::NoDecoder;

    fn client(options: &[ProtocolOption<'_>], secret: u64) -> Result<NtpClient, InvalidOption> {
        let mut version = 4;
        for option in options {
            match (option.name, option.value) {
                ("version", v @ 1..=4) => version = v as u8,
                _ => return Err(InvalidOption { expected: "version: 1 to 4" }),
            }
        }
        Ok(NtpClient { first_byte: version << 3 | CLIENT, key: secret })
    }

    fn responder(options: &[ProtocolOption<'_>]) -> Result<NtpResponder, InvalidOption> {
        NtpResponder::new(options)
    }
}

impl Client for NtpClient {
    fn longest(&self) -> usize {
        HEADER
    }

    fn fill(&self, flow: u32, index: u32, _subject: &[u8], out: &mut [u8]) -> usize {
        let Some(packet) = out.first_chunk_mut::<HEADER>() else { return 0 };
        *packet = [0; HEADER];
        packet[0] = self.first_byte;
        let stamp = scramble(u64::from(flow) << 32 | u64::from(index), self.key);
        put(packet, TRANSMIT, stamp);
        HEADER
    }

    fn read(&self, flow: u32, reply: &[u8]) -> Reply {
        let Some(packet) = reply.first_chunk::<HEADER>() else { return Reply::Unmatched };
        let Some(index) = self.index(flow, stamp(packet, ORIGIN)) else { return Reply::Unmatched };
        match self.classify(packet) {
            Tally::Basic => Reply::Valid { index, tally: Tally::Basic as usize },
            invalid => Reply::Invalid { index, tally: invalid as usize },
        }
    }

    fn recognise(&self, flow: u32, request: &[u8]) -> Option<u32> {
        let packet = request.first_chunk::<HEADER>()?;
        self.index(flow, stamp(packet, TRANSMIT))
    }
}

impl NtpClient {
    fn index(&self, flow: u32, echoed: u64) -> Option<u32> {
        let plain = unscramble(echoed, self.key);
        ((plain >> 32) as u32 == flow).then_some(plain as u32)
    }

    /// The NTP pool monitor's checks of an answer, in its order (ntppool/monitor, beevik/ntp `Validate`).
    fn classify(&self, packet: &[u8; HEADER]) -> Tally {
        let (leap, version, mode) = (packet[0] >> 6, packet[0] & 0x38, packet[0] & 7);
        let stratum = packet[1];
        let (receive, transmit) = (stamp(packet, RECEIVE), stamp(packet, TRANSMIT));
        match () {
            () if mode != SERVER => Tally::WrongMode,
            () if version != self.first_byte & 0x38 => Tally::WrongVersion,
            () if stratum == 0 => kiss(&packet[12..16]),
            () if leap == 3 || stratum > 15 => Tally::Unsynchronised,
            () if transmit == 0 => Tally::ZeroTransmit,
            () if (transmit.wrapping_sub(receive) as i64) < 0 => Tally::TickedBackwards,
            () => Tally::Basic,
        }
    }
}

fn kiss(code: &[u8]) -> Tally {
    match code {
        b"RATE" => Tally::KissRate,
        b"DENY" | b"RSTR" => Tally::KissDeny,
        [0, 0, 0, 0] => Tally::Unsynchronised,
        _ => Tally::KissOther,
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
