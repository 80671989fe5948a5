//! The NTP server: which datagrams are requests, and the 48 bytes of the answer.
//!
//! RFC 5905 figure 31: requests only are answered, with the version and poll that they have, and never with more than
//! 48 bytes. The client's other fields are not looked at: clients send random bytes there. What gets no answer is
//! counted by reason. Errors of the stamps have one direction: the receive stamp is never early, the transmit stamp
//! never late, so that a client's error stays below half of the delay that it measures.

use core::cell::Cell;

use super::interleaved::Departures;
use super::time_state::{Header, Leap, TimeState};
use super::{HEADER, ORIGIN, RECEIVE, SERVER, TRANSMIT, from_unix, put, stamp};
use crate::scramble::scramble;
use crate::{
    AnswerStamps, DRIVER_WORDS, DriverState, DropReason, InvalidOption, LiveState, ProtocolOption, RequestContext,
    Responder, Table,
};

/// NTS extension fields (RFC 8915, section 7.6).
const NTS_FIELDS: [u16; 4] = [0x0104, 0x0204, 0x0304, 0x0404];
/// The reference ID of a kiss-o'-death that asks for fewer requests.
const KISS: [u8; 4] = *b"RATE";
/// The server port, from which version 1's modeless packets may be answers.
const PORT: u16 = 123;
/// The reference stamp of a clock without one moves in steps of 2^4 s: never zero, never old, never later than the
/// answer.
const REFERENCE_STEP: u64 = !0xf_ffff_ffff;

/// A server: of the time state that it is given, or of a test clock that says what it is.
#[derive(Clone, Debug)]
pub struct NtpResponder {
    /// Answers nothing while it has no time to give; else it says so (leap 3, stratum 0).
    silent: bool,
    /// Answers mode 1 (symmetric active) with mode 2.
    symmetric: bool,
    /// Answers requests with MACs and NTS fields without authentication.
    authenticated: bool,
    leap: Leap,
    /// Answers interleaved clients with when the answer before left (RFC 9769).
    interleaved: bool,
    departures: Departures,
    stamps: Cell<AnswerStamps>,
    /// What answers say of the clock; `None`: nothing, they are not sent.
    header: Option<Header>,
    /// Added to CLOCK_REALTIME, ns: what the clock's daemon is still correcting, and the smear.
    offset_ns: i64,
    /// Of this worker, for the bits below the clock's precision; 0: those stay as they are.
    random: Cell<u64>,
}

impl NtpResponder {
    pub(super) fn new(options: &[ProtocolOption<'_>]) -> Result<Self, InvalidOption> {
        let mut made = Self {
            silent: false,
            symmetric: true,
            authenticated: false,
            leap: Leap::Announce,
            interleaved: false,
            departures: Departures::new(),
            stamps: Cell::default(),
            header: Some(Header::TEST_CLOCK),
            offset_ns: 0,
            random: Cell::new(0),
        };
        let mut stated = false;
        for option in options {
            let flag = || match option.value {
                0 => Ok(false),
                1 => Ok(true),
                _ => Err(InvalidOption { expected: "0 or 1" }),
            };
            match option.name {
                "stated" => stated = flag()?,
                "silent" => made.silent = flag()?,
                "symmetric" => made.symmetric = flag()?,
                "authenticated" => made.authenticated = flag()?,
                "interleaved" => made.interleaved = flag()?,
                "leap" => {
                    made.leap = Leap::from_option(option.value).ok_or(InvalidOption { expected: "leap: 0 to 2" })?
                }
                _ => {
                    return Err(InvalidOption {
                        expected: "stated, silent, symmetric, authenticated, interleaved or leap",
                    });
                }
            }
        }
        if stated {
            made.header = made.unsynchronised(0);
        }
        Ok(made)
    }

    fn unsynchronised(&self, reference: u64) -> Option<Header> {
        (!self.silent).then_some(Header::unsynchronised(reference))
    }

    /// Random bits below a precision of 2^`precision` s, as a part of a stamp.
    fn below(&self, precision: i8) -> u64 {
        let state = self.random.get();
        if state == 0 {
            return 0;
        }
        // xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators" (2016).
        let next = state ^ state >> 12;
        let next = next ^ next << 25;
        let next = next ^ next >> 27;
        self.random.set(next);
        // More than 1 µs would hide the clock that measured it.
        let bits = u32::try_from(32 + i32::from(precision).min(-20)).unwrap_or(0);
        next.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32 & ((1 << bits) - 1)
    }

    fn write(&self, out: &mut [u8; HEADER], first_byte: u8, poll: u8, origin: u64, says: &Header, times: (u64, u64)) {
        let (received, now) = times;
        let received = from_unix(received.saturating_add_signed(self.offset_ns));
        let receive = received.wrapping_add(self.below(says.precision));
        // Clients repeat one of the two stamps: an odd one is a receive stamp.
        let receive = distinct(if self.interleaved { receive | 1 } else { receive }, origin);
        *out = [0; HEADER];
        out[0] = says.leap << 6 | first_byte;
        out[1] = says.stratum;
        out[2] = poll;
        out[3] = says.precision as u8;
        out[4..8].copy_from_slice(&says.root_delay.to_be_bytes());
        out[8..12].copy_from_slice(&says.root_dispersion.to_be_bytes());
        out[12..16].copy_from_slice(&says.reference_id);
        put(out, 16, says.reference.map_or(receive & REFERENCE_STEP, |at| not_after(at, receive)));
        put(out, ORIGIN, origin);
        put(out, RECEIVE, receive);
        self.write_transmit(out, now, says.precision);
    }

    /// Turns a request into its answer in place; with `interleaves` an interleaved one where that can be.
    fn reply(
        &self,
        context: &RequestContext,
        packet: &mut [u8],
        length: usize,
        interleaves: bool,
    ) -> Result<usize, DropReason> {
        let request = packet.get(..length).ok_or(DropReason::Malformed)?;
        let (header, rest) = request.split_first_chunk::<HEADER>().ok_or(DropReason::Short)?;
        source(context)?;
        let mode = answer_mode(header[0], context.client_port(), self.symmetric)?;
        let version = header[0] >> 3 & 7;
        match trailer(version, rest) {
            Err(DropReason::Authenticated) if self.authenticated => {}
            checked => checked?,
        }
        let says = self.header.as_ref().ok_or(DropReason::Unsynchronised)?;
        let (origin, poll) = (stamp(header, TRANSMIT), header[2]);
        let Some(out) = packet.first_chunk_mut::<HEADER>() else { return Err(DropReason::Short) };
        let times = (context.received_unix_ns, context.now_unix_ns);
        let refers = interleaves && (version, mode, says.stratum > 0) == (4, SERVER, true);
        let before = refers.then(|| referred(out)).flatten();
        self.write(out, version << 3 | mode, poll, origin, says, times);
        self.stamps.set(AnswerStamps::default());
        if let Some((departed, received)) = before {
            self.interleave(out, departed, received);
        }
        Ok(HEADER)
    }

    /// Has this answer's departure told, and makes the answer an interleaved one if that of the one before is known.
    fn interleave(&self, out: &mut [u8; HEADER], departed: u64, received: u64) {
        let left = self.departures.take(departed);
        if let Some(left) = left {
            put(out, ORIGIN, received);
            put(out, TRANSMIT, left);
        }
        self.stamps.set(AnswerStamps { at_send: left.is_none(), tell: Some(stamp(out, RECEIVE)) });
    }

    fn write_transmit(&self, out: &mut [u8; HEADER], now_unix_ns: u64, precision: i8) {
        let now = from_unix(now_unix_ns.saturating_add_signed(self.offset_ns)).wrapping_sub(self.below(precision));
        let now = if self.interleaved { now & !1 } else { now };
        let (origin, receive) = (stamp(out, ORIGIN), stamp(out, RECEIVE));
        put(out, TRANSMIT, later(now, receive, origin));
    }
}

impl Responder for NtpResponder {
    const LIVE: bool = true;

    fn answer(
        &self,
        _shared: Table<'_>,
        context: &RequestContext,
        packet: &mut [u8],
        length: usize,
    ) -> Result<usize, DropReason> {
        self.reply(context, packet, length, self.interleaved)
    }

    fn stamps(&self) -> AnswerStamps {
        self.stamps.get()
    }

    fn left(&self, key: u64, unix_ns: u64) {
        self.departures.remember(key, from_unix(unix_ns.saturating_add_signed(self.offset_ns)) & !1);
    }

    const KISSES: bool = true;

    /// RATE (RFC 5905, section 7.4), without a usable time: receive and transmit repeat what the request has.
    fn kiss(
        &self,
        _shared: Table<'_>,
        context: &RequestContext,
        packet: &mut [u8],
        length: usize,
    ) -> Result<usize, DropReason> {
        // A basic answer: the departure that the request refers to is kept for its next one.
        let length = self.reply(context, packet, length, false)?;
        if let Some(out) = packet.first_chunk_mut::<HEADER>() {
            let origin = stamp(out, ORIGIN);
            (out[0], out[1]) = (out[0] | 0xc0, 0);
            out[4..24].fill(0);
            out[12..16].copy_from_slice(&KISS);
            put(out, RECEIVE, origin);
            put(out, TRANSMIT, origin);
        }
        Ok(length)
    }

    /// The first 24 bytes of answers, and which requests are answered so: bit 0 mode 1, bit 1 interleaved ones not.
    fn driver_state(&self, _shared: Table<'_>) -> Option<DriverState> {
        let says = self.header.as_ref().filter(|says| says.stratum > 0)?;
        let mut words = [0; DRIVER_WORDS];
        let [a, b, c, d] = says.root_delay.to_be_bytes();
        words[0] = u64::from_ne_bytes([says.leap << 6, says.stratum, 0, says.precision as u8, a, b, c, d]);
        let ([a, b, c, d], [e, f, g, h]) = (says.root_dispersion.to_be_bytes(), says.reference_id);
        words[1] = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        words[2] = says.reference.unwrap_or(0).to_be();
        words[3] = u64::from(self.symmetric) | u64::from(self.interleaved) << 1;
        Some(DriverState { words, offset_ns: self.offset_ns })
    }

    fn seed(&mut self, seed: u64) {
        self.random.set(scramble(seed, 0x6e74_7020_7365_6564) | 1);
    }

    fn refresh(&mut self, live: &LiveState, now_unix_ns: u64) {
        let Some(state) = TimeState::read(&live.words) else {
            self.header = self.unsynchronised(0);
            return;
        };
        self.offset_ns = state.offset_ns(live, now_unix_ns, self.leap);
        let says = state.header(live, now_unix_ns, self.leap);
        self.header = says.or_else(|| self.unsynchronised(state.reference));
    }

    fn stamp(&self, now_unix_ns: u64, answer: &mut [u8]) {
        let precision = self.header.as_ref().map_or(0, |says| says.precision);
        if let Some(out) = answer.first_chunk_mut::<HEADER>()
            && (out[1] > 0 || out[12..16] != KISS)
        {
            self.write_transmit(out, now_unix_ns, precision);
        }
    }
}

/// Of a request that may be interleaved: the receive stamp of the answer that it refers to, and its own receive stamp.
fn referred(request: &[u8; HEADER]) -> Option<(u64, u64)> {
    let (origin, receive, transmit) = (stamp(request, ORIGIN), stamp(request, RECEIVE), stamp(request, TRANSMIT));
    (origin & 1 == 1 && receive != transmit).then_some((origin, receive))
}

/// Where requests cannot come from: their answers would loop, or reach many.
fn source(context: &RequestContext) -> Result<(), DropReason> {
    let Some(client) = context.client else { return Ok(()) };
    let ip = client.ip().to_canonical();
    let many = match ip {
        core::net::IpAddr::V4(v4) => v4.is_broadcast(),
        core::net::IpAddr::V6(_) => false,
    };
    let own = client.port() == context.local_port && context.local.is_some_and(|local| local.to_canonical() == ip);
    if client.port() == 0 || many || own || ip.is_multicast() || ip.is_unspecified() {
        return Err(DropReason::Source);
    }
    Ok(())
}

/// RFC 5905 figure 31's dispatch, with version 1's modeless client (RFC 1059) and mode 1 from an unknown peer.
fn answer_mode(first_byte: u8, client_port: u16, symmetric: bool) -> Result<u8, DropReason> {
    let (version, mode) = (first_byte >> 3 & 7, first_byte & 7);
    match (version, mode) {
        (0 | 5.., _) => Err(DropReason::Version),
        (_, 3) => Ok(SERVER),
        (_, 1) if symmetric => Ok(2),
        (1, 0) if client_port != PORT => Ok(SERVER),
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

/// With a receive stamp equal to its own a client would mistake the answer for an echo of its request.
fn distinct(receive: u64, origin: u64) -> u64 {
    if receive == origin { receive.wrapping_add(2) } else { receive }
}

/// The transmit stamp, not before the receive stamp and different from both others.
fn later(transmit: u64, receive: u64, origin: u64) -> u64 {
    let mut transmit = if (transmit.wrapping_sub(receive) as i64) <= 0 { receive.wrapping_add(1) } else { transmit };
    if transmit == origin {
        transmit = transmit.wrapping_add(2);
    }
    transmit
}

/// A clock that was set later than now, which clients take for a fault, was stepped back since.
fn not_after(reference: u64, receive: u64) -> u64 {
    if reference != 0 && (receive.wrapping_sub(reference) as i64) < 0 { receive } else { reference }
}

#[cfg(test)]
#[path = "responder_tests.rs"]
mod tests;
