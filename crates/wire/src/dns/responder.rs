//! The DNS responder: looks up the compiled answer and appends it to the question.

use super::message::{
    self, AUTHORITATIVE, CLASS_IN, DNSSEC_OK, Edns, HEADER, Header, NAME_MAX, OPCODE, OPT, RECURSION, RESPONSE,
    TRUNCATED,
};
use super::{UDP_LEAST, UDP_SIZE, frame, udp_size};
use crate::{
    DRIVER_WORDS, DriverState, DropReason, Frame, InvalidOption, ProtocolOption, RequestContext, Responder, Table,
};

const FORMERR: u8 = 1;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;
/// In OPT's upper bits: 16, an unsupported version.
const BADVERS: u8 = 1;
const TYPE_ANY: u16 = 255;
/// Transfers, keys and signatures of transactions: TKEY, TSIG, IXFR, AXFR, MAILB, MAILA.
const META: core::ops::RangeInclusive<u16> = 249..=254;
/// Bytes of a value before its records.
pub(super) const HEAD: usize = 6;
/// First bytes of keys that no name begins with.
pub(super) const APEX: u8 = 0xfe;
pub(super) const ANY_NAME: u8 = 0xff;
pub(super) const ZONES: &[u8] = &[0xfd];
/// RFC 8482: one small record instead of all; HINFO "RFC8482" "", for an hour.
const ANY: &[u8] = b"\0\x01\0\0\x01\0\xc0\x0c\0\x0d\0\x01\0\0\x0e\x10\0\x09\x07RFC8482\0";
/// Up to this length of the longest value an answer's own length is not looked up (bytes).
const PLAIN: usize = 2048;

/// The responder.
#[derive(Clone, Debug)]
pub struct DnsResponder {
    /// The longest answer over UDP.
    udp_size: u16,
}

impl DnsResponder {
    pub(super) fn new(options: &[ProtocolOption<'_>]) -> Result<Self, InvalidOption> {
        let mut size = UDP_SIZE;
        for option in options {
            match option.name {
                "udp_size" => size = udp_size(option)?,
                _ => return Err(InvalidOption { expected: "udp_size: 512 to 4096 bytes" }),
            }
        }
        Ok(Self { udp_size: size })
    }

    /// The maximum length of an answer.
    fn limit(&self, edns: Option<Edns>, context: &RequestContext, room: usize) -> usize {
        let limit = if context.is_stream() {
            u16::MAX
        } else {
            edns.map_or(UDP_LEAST, |edns| edns.size.max(UDP_LEAST).min(self.udp_size))
        };
        room.min(limit.into())
    }
}

impl Responder for DnsResponder {
    fn answer(
        &self,
        shared: Table<'_>,
        context: &RequestContext,
        packet: &mut [u8],
        length: usize,
    ) -> Result<usize, DropReason> {
        let request = packet.get(..length).ok_or(DropReason::Malformed)?;
        let header = Header::read(request).ok_or(DropReason::Short)?;
        if header.flags & RESPONSE != 0 {
            return Err(DropReason::NotARequest);
        }
        let asked = Question::read(request, &header);
        let found = match asked {
            _ if header.flags & OPCODE != 0 => Found::code(NOTIMP),
            None => Found::code(FORMERR),
            Some(Question { edns: Some(edns), .. }) if edns.version != 0 => {
                Found { edns_code: BADVERS, ..Found::code(0) }
            }
            Some(Question { kind, .. }) if META.contains(&kind) => Found::code(NOTIMP),
            Some(Question { class, .. }) if class != CLASS_IN => Found::code(REFUSED),
            Some(asked) => Found::look_up(shared, request, &asked),
        };
        // A question of another opcode is not repeated.
        let asked = if header.flags & OPCODE == 0 { asked } else { None };
        let limit = self.limit(asked.and_then(|asked| asked.edns), context, packet.len());
        Ok(self.write(packet, limit, header, asked, found))
    }

    fn room(&self, shared: Table<'_>, request: &[u8]) -> usize {
        let longest = shared.longest().max(ANY.len());
        let value = if longest <= PLAIN {
            longest
        } else {
            let asked = Header::read(request).and_then(|header| Question::read(request, &header));
            asked.map_or(0, |asked| Found::look_up(shared, request, &asked).records.len())
        };
        request.len() + value + OPT
    }

    fn frame(&self, bytes: &[u8]) -> Frame {
        frame(bytes)
    }

    /// The longest answer; bit 16: there are zones.
    fn driver_state(&self, shared: Table<'_>) -> Option<DriverState> {
        let zones = u64::from(shared.find(ZONES).is_some());
        let mut words = [0; DRIVER_WORDS];
        if let Some(last) = words.last_mut() {
            *last = u64::from(self.udp_size) | zones << 16;
        }
        Some(DriverState { words, offset_ns: 0 })
    }
}

impl DnsResponder {
    /// Writes the answer behind the question, over the request's own EDNS record.
    fn write(
        &self,
        packet: &mut [u8],
        limit: usize,
        header: Header,
        asked: Option<Question>,
        found: Found<'_>,
    ) -> usize {
        let question = asked.map_or(HEADER, |asked| asked.end);
        let edns = asked.and_then(|asked| asked.edns).map(|edns| {
            Edns { size: self.udp_size, code: found.edns_code, version: 0, flags: edns.flags & DNSSEC_OK }.write()
        });
        let opt = edns.as_ref().map_or(&[][..], |opt| opt);
        let fits = question + found.records.len() + opt.len() <= limit;
        let (records, [answers, authority], cut) =
            if fits { (found.records, found.counts, 0) } else { (&[][..], [0, 0], TRUNCATED) };
        let flags = RESPONSE | header.flags & (OPCODE | RECURSION) | found.flags | cut;
        let records_of = [answers, authority, u16::from(edns.is_some())];
        let questions = u16::from(asked.is_some());
        let head = Header { id: header.id, flags, code: found.code, questions, records: records_of }.write();
        // A request that has a question is longer than its header, and one that has EDNS holds EDNS: all of it fits.
        let mut at = 0;
        for (part, start) in [(&head[..], 0), (records, question), (opt, question + records.len())] {
            if let Some(target) = packet.get_mut(start..start + part.len()) {
                target.copy_from_slice(part);
                at = start + part.len();
            }
        }
        at
    }
}

/// A parsed question.
#[derive(Clone, Copy, Debug)]
struct Question {
    kind: u16,
    class: u16,
    /// Where the question ends.
    end: usize,
    edns: Option<Edns>,
}

impl Question {
    /// `None` for a malformed request.
    fn read(request: &[u8], header: &Header) -> Option<Self> {
        let [0, 0, additional] = header.records else { return None };
        if header.questions != 1 {
            return None;
        }
        let end = message::after_question(request, HEADER)?;
        let edns = message::records(request, end, [0, 0, additional])?;
        Some(Self { kind: message::number(request, end - 4)?, class: message::number(request, end - 2)?, end, edns })
    }
}

/// The answer to send.
#[derive(Clone, Copy, Debug)]
struct Found<'a> {
    flags: u8,
    code: u8,
    edns_code: u8,
    counts: [u16; 2],
    records: &'a [u8],
}

impl<'a> Found<'a> {
    fn code(code: u8) -> Self {
        Self { flags: 0, code, edns_code: 0, counts: [0, 0], records: &[] }
    }

    fn value(value: &'a [u8]) -> Option<Self> {
        let (&[a, b, c, d, flags, code], records) = value.split_first_chunk::<HEAD>()?;
        let counts = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
        let flags = if flags & 1 == 0 { 0 } else { AUTHORITATIVE };
        Some(Self { flags, code, edns_code: 0, counts, records })
    }

    fn look_up(shared: Table<'a>, request: &[u8], asked: &Question) -> Self {
        let mut value = None;
        if shared.find(ZONES).is_some()
            && let Some(name) = request.get(HEADER..asked.end - 4)
        {
            value = Name::new(name).look_up(shared, asked.kind);
        }
        let anywhere = || {
            let [a, b] = asked.kind.to_be_bytes();
            existing(shared, asked.kind, &[ANY_NAME, a, b], &[ANY_NAME, 0, 0])
        };
        value.or_else(anywhere).and_then(Self::value).unwrap_or(Self::code(REFUSED))
    }
}

/// A name in lower case, with room for a wildcard label before it and a type behind.
struct Name {
    bytes: [u8; 2 + NAME_MAX + 2],
    end: usize,
}

impl Name {
    const START: usize = 2;

    fn new(name: &[u8]) -> Self {
        let mut bytes = [0; 2 + NAME_MAX + 2];
        for (target, byte) in bytes[Self::START..].iter_mut().zip(name) {
            // Length bytes are at most 63, below the capital letters.
            *target = byte.to_ascii_lowercase();
        }
        Self { bytes, end: Self::START + name.len() }
    }

    fn look_up<'a>(&mut self, shared: Table<'a>, kind: u16) -> Option<&'a [u8]> {
        let mut at = Self::START;
        if let Some(value) = self.existing(shared, kind, at) {
            return Some(value);
        }
        // RFC 4592: only a wildcard below the closest existing name matches.
        loop {
            at = self.parent(at)?;
            if self.find(shared, 0, at).is_some() {
                break;
            }
        }
        let star = at.checked_sub(2)?;
        let covered = self.bytes.get_mut(star..at).map(|label| label.copy_from_slice(b"\x01*"));
        if let Some(value) = covered.and_then(|()| self.existing(shared, kind, star)) {
            return Some(value);
        }
        loop {
            let mark = at.checked_sub(1)?;
            *self.bytes.get_mut(mark)? = APEX;
            if let Some(value) = shared.find(self.bytes.get(mark..self.end)?) {
                return Some(value);
            }
            at = self.parent(at)?;
        }
    }

    /// The offset of the parent of the name at `at`.
    fn parent(&self, at: usize) -> Option<usize> {
        let length = usize::from(*self.bytes.get(at)?);
        let next = at + 1 + length;
        (length != 0 && next < self.end).then_some(next)
    }

    fn find<'a>(&mut self, shared: Table<'a>, kind: u16, at: usize) -> Option<&'a [u8]> {
        *self.bytes.get_mut(self.end..)?.first_chunk_mut()? = kind.to_be_bytes();
        shared.find(self.bytes.get(at..self.end + 2)?)
    }

    fn existing<'a>(&mut self, shared: Table<'a>, kind: u16, at: usize) -> Option<&'a [u8]> {
        self.find(shared, kind, at).or_else(|| self.find(shared, 0, at).map(|value| other(kind, value)))
    }
}

/// The value for a type, or the one for all others.
fn existing<'a>(shared: Table<'a>, kind: u16, exact: &[u8], others: &[u8]) -> Option<&'a [u8]> {
    shared.find(exact).or_else(|| shared.find(others).map(|value| other(kind, value)))
}

fn other(kind: u16, value: &[u8]) -> &[u8] {
    if kind == TYPE_ANY { ANY } else { value }
}
