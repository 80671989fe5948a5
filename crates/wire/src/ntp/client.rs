//! NTP's client: basic and interleaved requests (RFC 5905, RFC 9769), extension fields, symmetric keys; their answers.
//!
//! Method: the transmit stamp is a keyed permutation of (flow, request number), which every server echoes as origin; a
//! request that refers to the last answer carries a second one as receive stamp, which only an interleaved answer
//! echoes. So matching is arithmetic, and the origin tells the mode of an answer.

use super::options::Options;
use super::{HEADER, NtpClient, ORIGIN, RECEIVE, SERVER, TRANSMIT, Tally, from_unix, put, stamp};
use crate::scramble::{scramble, unscramble};
use crate::{Client, Exchange, InvalidOption, ProtocolOption, Reply, Timing};

/// What makes the receive stamp of a request another permutation than its transmit stamp.
const SECOND: u64 = 0x9e37_79b9_7f4a_7c15;
const REFERENCE: usize = 16;
/// An answer's reference stamp may be this old: the longest poll, 2^17 s (beevik/ntp `Validate`, the pool's monitor).
const FRESH: u64 = 1 << (17 + 32);
/// The longest root distance, 16 s (RFC 5905, MAXDISP), in 2^-16 s.
const DISTANCE_MAX: u64 = 16 << 16;
const SYMMETRIC_PASSIVE: u8 = 2;

impl NtpClient {
    pub(super) fn new(options: &[ProtocolOption<'_>], secret: u64) -> Result<Self, InvalidOption> {
        let options = Options::parse(options)?;
        let first_byte = options.version << 3 | options.mode;
        Ok(Self { first_byte, key: secret, length: options.length(), options })
    }

    fn index(&self, flow: u32, echoed: u64) -> Option<u32> {
        named(flow, unscramble(echoed, self.key))
    }

    /// The request whose receive stamp was echoed: the answer is interleaved.
    fn interleaved_index(&self, flow: u32, echoed: u64) -> Option<u32> {
        if !self.options.interleaved {
            return None;
        }
        named(flow, unscramble(echoed, self.key ^ SECOND))
    }

    /// The NTP pool monitor's checks of an answer, in its order (ntppool/monitor, beevik/ntp `Validate`).
    fn classify(&self, packet: &[u8; HEADER], reply: &[u8], right: Tally) -> Tally {
        let (leap, version, mode) = (packet[0] >> 6, packet[0] & 0x38, packet[0] & 7);
        let stratum = packet[1];
        let (receive, transmit) = (stamp(packet, RECEIVE), stamp(packet, TRANSMIT));
        // An interleaved answer's transmit stamp is that of the answer before it.
        let interleaved = matches!(right, Tally::Interleaved);
        let last = if interleaved { receive } else { transmit };
        match () {
            () if mode != self.expected_mode() => Tally::WrongMode,
            () if version != self.first_byte & 0x38 => Tally::WrongVersion,
            () if stratum == 0 => kiss(&packet[12..16]),
            () if leap == 3 || stratum > 15 => Tally::Unsynchronised,
            () if is_crypto_nak(reply) => Tally::CryptoNak,
            () if !self.is_authentic(reply) => Tally::Unauthenticated,
            () if transmit == 0 => Tally::ZeroTransmit,
            () if !interleaved && is_before(transmit, receive) => Tally::TickedBackwards,
            () if last.wrapping_sub(stamp(packet, REFERENCE)) > FRESH => Tally::StaleReference,
            () if root_distance(packet) > DISTANCE_MAX => Tally::RootDistance,
            () => right,
        }
    }

    fn expected_mode(&self) -> u8 {
        if self.options.mode == 1 { SYMMETRIC_PASSIVE } else { SERVER }
    }

    fn is_authentic(&self, reply: &[u8]) -> bool {
        let Some(key) = &self.options.key else { return true };
        let from = reply.len().saturating_sub(key.length());
        from >= HEADER && reply.split_at_checked(from).is_some_and(|(message, mac)| key.verify(message, mac))
    }

    /// Writes the extension fields and the code behind the header; returns the whole length.
    fn finish(&self, out: &mut [u8]) -> usize {
        let mut at = HEADER;
        for (kind, length) in self.options.fields() {
            let Some(field) = out.get_mut(at..at + usize::from(length)) else { return 0 };
            field.fill(0);
            for (to, from) in field.iter_mut().zip(kind.to_be_bytes().into_iter().chain(length.to_be_bytes())) {
                *to = from;
            }
            at += usize::from(length);
        }
        self.options.key.as_ref().map_or(at, |key| key.seal(out, at))
    }
}

impl Client for NtpClient {
    fn longest(&self) -> usize {
        self.length
    }

    fn fill(&self, flow: u32, index: u32, _query: &[u8], out: &mut [u8]) -> usize {
        let Some(packet) = out.first_chunk_mut::<HEADER>() else { return 0 };
        *packet = [0; HEADER];
        packet[0] = self.first_byte;
        put(packet, TRANSMIT, scramble(name(flow, index), self.key));
        if self.length == HEADER { HEADER } else { self.finish(out) }
    }

    fn read(&self, flow: u32, reply: &[u8]) -> Reply {
        let Some(packet) = reply.first_chunk::<HEADER>() else { return Reply::Unmatched };
        let origin = stamp(packet, ORIGIN);
        let (index, right) = match self.index(flow, origin) {
            Some(index) => (index, Tally::Basic),
            None => match self.interleaved_index(flow, origin) {
                Some(index) => (index, Tally::Interleaved),
                None => return Reply::Unmatched,
            },
        };
        match self.classify(packet, reply, right) {
            valid @ (Tally::Basic | Tally::Interleaved) => Reply::Valid { index, tally: valid as usize },
            invalid => Reply::Invalid { index, tally: invalid as usize },
        }
    }

    fn recognise(&self, flow: u32, request: &[u8]) -> Option<u32> {
        let packet = request.first_chunk::<HEADER>()?;
        self.index(flow, stamp(packet, TRANSMIT))
    }

    fn alone(&self) -> bool {
        self.options.interleaved || self.options.offset.is_some()
    }

    fn refers_back(&self) -> bool {
        self.options.interleaved
    }

    fn refer(&self, flow: u32, index: u32, last: &Exchange, request: &mut [u8]) {
        let Some(packet) = request.first_chunk_mut::<HEADER>() else { return };
        put(packet, ORIGIN, last.mark);
        put(packet, RECEIVE, scramble(name(flow, index), self.key ^ SECOND));
        if self.length != HEADER {
            self.finish(request);
        }
    }

    fn mark(&self, reply: &[u8]) -> u64 {
        reply.first_chunk().map_or(0, |packet| stamp(packet, RECEIVE))
    }

    fn timed(&self) -> bool {
        true
    }

    fn needs_unix_times(&self) -> bool {
        self.options.offset.is_some()
    }

    fn timing(&self, reply: &[u8], tally: usize, this: &Exchange, last: Option<&Exchange>) -> Option<Timing> {
        let packet = reply.first_chunk::<HEADER>()?;
        let transmit = stamp(packet, TRANSMIT);
        let (exchange, receive) = if tally == Tally::Interleaved as usize {
            // Its transmit stamp completes the exchange that its request referred to (RFC 9769, section 2).
            (last?, last?.mark)
        } else {
            (this, stamp(packet, RECEIVE))
        };
        let response_ns = u64::try_from(span_ns(receive, transmit)).unwrap_or(0);
        let offset_ns = self.options.offset.map(|correction| {
            let forth = span_ns(from_unix(exchange.sent_unix_ns), receive);
            let back = span_ns(from_unix(exchange.seen_unix_ns), transmit);
            ((forth + back) / 2).saturating_sub(correction)
        });
        Some(Timing { response_ns, offset_ns })
    }
}

/// Which request a stamp stands for.
fn name(flow: u32, index: u32) -> u64 {
    u64::from(flow) << 32 | u64::from(index)
}

fn named(flow: u32, plain: u64) -> Option<u32> {
    ((plain >> 32) as u32 == flow).then_some(plain as u32)
}

fn kiss(code: &[u8]) -> Tally {
    match code {
        b"RATE" => Tally::KissRate,
        b"DENY" | b"RSTR" => Tally::KissDeny,
        [0, 0, 0, 0] => Tally::Unsynchronised,
        _ => Tally::KissOther,
    }
}

/// Four zero bytes behind the header: the server does not accept the request's code (RFC 5905, section 9.2).
fn is_crypto_nak(reply: &[u8]) -> bool {
    reply.get(HEADER..) == Some(&[0; 4])
}

/// Half the root delay plus the root dispersion, in 2^-16 s.
fn root_distance(packet: &[u8; HEADER]) -> u64 {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    number(&packet[4..8]) / 2 + number(&packet[8..12])
}

/// In any era: a span of up to 68 years counts.
fn is_before(earlier: u64, later: u64) -> bool {
    (earlier.wrapping_sub(later) as i64) < 0
}

/// From one NTP stamp to the other in ns, at most 68 years either way; to 1 ns, towards the past.
fn span_ns(from: u64, to: u64) -> i64 {
    let span = i128::from(to.wrapping_sub(from) as i64);
    ((span * 1_000_000_000) >> 32) as i64
}
