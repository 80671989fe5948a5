//! NTP over UDP, versions 1 to 4 (RFC 5905, RFC 1059 for version 1): client and test server.
//!
//! Method: the client's transmit stamp is a keyed permutation of (flow, request number), which looks random and which
//! every server echoes as origin; so matching an answer is arithmetic. The responder follows RFC 5905 figure 31: it
//! answers requests only, with the version and poll that it was asked with, and never more than 48 bytes. It has no keys
//! and no interleaved mode; requests with authentication are dropped and counted. The client is in `ntp/client.rs`.

mod client;
mod mac;
mod options;

use crate::{DropReason, InvalidOption, Protocol, ProtocolOption, RequestContext, Responder, Table};

/// Bytes of the header: a request or answer without extension fields.
pub const HEADER: usize = 48;
/// Seconds from 1900 (NTP's era 0) to 1970.
const UNIX_EPOCH: u64 = 2_208_988_800;
const SERVER: u8 = 4;
const ORIGIN: usize = 24;
const RECEIVE: usize = 32;
const TRANSMIT: usize = 40;
/// The test clock's stratum and reference: a stratum far from any real one, and the reference "LOCL" of RFC 5905 figure
/// 12's style.
const STRATUM: u8 = 10;
const REFERENCE_ID: [u8; 4] = *b"LOCL";
/// 2^-25 s = 30 ns, what reading the clock takes.
const PRECISION: i8 = -25;
/// The reference stamp moves in steps of 2^4 s: never zero, never old, never later than the answer.
const REFERENCE_STEP: u64 = !0xf_ffff_ffff;
/// NTS extension fields (RFC 8915, section 7.6).
const NTS_FIELDS: [u16; 4] = [0x0104, 0x0204, 0x0304, 0x0404];

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

/// A server labelled as a test clock.
#[derive(Clone, Debug)]
pub struct NtpResponder;

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
        match options {
            [] => Ok(NtpResponder),
            _ => Err(InvalidOption { expected: "no option: the test clock has none" }),
        }
    }
}

impl Responder for NtpResponder {
    fn answer(
        &self,
        _shared: Table<'_>,
        context: &RequestContext,
        packet: &mut [u8],
        length: usize,
    ) -> Result<usize, DropReason> {
        let request = packet.get(..length).ok_or(DropReason::Malformed)?;
        let (header, rest) = request.split_first_chunk::<HEADER>().ok_or(DropReason::Short)?;
        let mode = answer_mode(header[0], context.client_port())?;
        let version = header[0] >> 3 & 7;
        trailer(version, rest)?;
        let origin = stamp(header, TRANSMIT);
        let poll = header[2];
        let Some(out) = packet.first_chunk_mut::<HEADER>() else { return Err(DropReason::Short) };
        write_answer(out, version << 3 | mode, poll, origin, context);
        Ok(HEADER)
    }
}

/// RFC 5905 figure 31's dispatch, with version 1's modeless client (RFC 1059) and mode 1 from an unknown peer.
fn answer_mode(first_byte: u8, client_port: u16) -> Result<u8, DropReason> {
    let (version, mode) = (first_byte >> 3 & 7, first_byte & 7);
    match (version, mode) {
        (0 | 5.., _) => Err(DropReason::Version),
        (_, 3) => Ok(SERVER),
        (_, 1) => Ok(2),
        (1, 0) if client_port != 123 => Ok(SERVER),
        _ => Err(DropReason::NotARequest),
    }
}

/// Checks the bytes behind the header (RFC 7822): unknown extension fields are skipped, authentication is rejected.
fn trailer(version: u8, mut rest: &[u8]) -> Result<(), DropReason> {
    if rest.is_empty() {
        return Ok(());
    }
    if version < 4 {
        return Err(DropReason::Authenticated);
    }
    while !rest.is_empty() {
        match rest.len() {
            4 | 20 | 24 => return Err(DropReason::Authenticated),
            0..16 => return Err(DropReason::Malformed),
            _ => rest = field(rest)?,
        }
    }
    Ok(())
}

fn field(rest: &[u8]) -> Result<&[u8], DropReason> {
    let &[a, b, c, d, ..] = rest else { return Err(DropReason::Malformed) };
    let (kind, length) = (u16::from_be_bytes([a, b]), usize::from(u16::from_be_bytes([c, d])));
    if NTS_FIELDS.contains(&kind) {
        return Err(DropReason::Authenticated);
    }
    if length < 16 || length % 4 != 0 {
        return Err(DropReason::Malformed);
    }
    rest.get(length..).ok_or(DropReason::Malformed)
}

fn write_answer(out: &mut [u8; HEADER], first_byte: u8, poll: u8, origin: u64, context: &RequestContext) {
    let receive = distinct(from_unix(context.received_unix_ns), origin);
    let transmit = later(from_unix(context.now_unix_ns), receive, origin);
    *out = [0; HEADER];
    out[0] = first_byte;
    out[1] = STRATUM;
    out[2] = poll;
    out[3] = PRECISION as u8;
    out[12..16].copy_from_slice(&REFERENCE_ID);
    put(out, 16, receive & REFERENCE_STEP);
    put(out, ORIGIN, origin);
    put(out, RECEIVE, receive);
    put(out, TRANSMIT, transmit);
}

/// With a receive stamp equal to its own a client would mistake the answer for an echo of its request.
fn distinct(stamp: u64, origin: u64) -> u64 {
    if stamp == origin { stamp.wrapping_sub(1) } else { stamp }
}

/// The transmit stamp, not before the receive stamp and different from both others.
fn later(transmit: u64, receive: u64, origin: u64) -> u64 {
    let mut transmit = if (transmit.wrapping_sub(receive) as i64) <= 0 { receive.wrapping_add(1) } else { transmit };
    if transmit == origin {
        transmit = transmit.wrapping_add(1);
    }
    transmit
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
