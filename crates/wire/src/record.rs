//! Records: small one-way messages of one fixed layout, such as a game's updates.
//!
//! The layout comes as options:
//!
//! ```text
//! size N                  bytes of every record; comes first
//! identity FIELD          the sender's id         sequence FIELD   the sender's sequence number
//! sent FIELD, unit NS     the send time: Unix time in units of so many ns; 0: seconds as a float of 8 bytes
//! counter FIELD           counts up with the sender's records
//! random FIELD, low BITS, high BITS
//!                         uniform: floats between the two (their bits, of 8 bytes), whole numbers from the one up
//!                         to the other; without them from 0 to 1, and over the whole range
//! constant FIELD, value BITS
//!                         the same in all records: a receiver rejects others
//! reply N, echoed FIELD   answers of N bytes echo the request's sequence there; a following constant or identity is
//! the answer's longer 1                more bytes may follow those N
//! ```
//!
//! Method: a record is copied from a row, compiled from hexadecimal digits, or from a template with the constants; then
//! the fields that differ between records are written.

mod field;
mod layout;

use crate::{
    Client, Decode, Decoded, DropReason, InvalidLine, InvalidOption, Link, Malformed, Protocol, ProtocolOption,
    QUERY_LEN_MAX, Reply, RequestContext, Responder, Table,
};
pub use field::Field;
use layout::{Layout, ReplyLayout, read_options};

/// The longest record.
pub const LONGEST: usize = QUERY_LEN_MAX;

/// The protocol.
pub struct Record;

/// The client, or sender.
#[derive(Clone, Debug)]
pub struct RecordClient {
    layout: Layout,
    template: [u8; LONGEST],
    reply: Option<ReplyLayout>,
    key: u64,
}

/// There is no responder: records are received, not answered.
#[derive(Clone, Debug)]
pub struct RecordResponder;

/// The decoder.
#[derive(Clone, Debug)]
pub struct RecordDecoder {
    layout: Layout,
}

#[derive(Clone, Copy)]
#[repr(usize)]
enum Tally {
    Replied,
    WrongConstant,
    WrongSize,
}

impl Protocol for Record {
    const NAME: &'static str = "record";
    const DATAGRAM_MAX: usize = LONGEST + 1;
    const TALLIES: &'static [&'static str] = &["replied", "wrong_constant", "wrong_size"];
    const LINKS: &'static [Link] = &[Link::Udp];
    type Client = RecordClient;
    type Responder = RecordResponder;
    type Decoder = RecordDecoder;

    fn client(options: &[ProtocolOption<'_>], secret: u64) -> Result<RecordClient, InvalidOption> {
        let (layout, reply) = read_options(options)?;
        Ok(RecordClient { template: layout.template(), layout, reply, key: secret })
    }

    fn responder(_: &[ProtocolOption<'_>]) -> Result<RecordResponder, InvalidOption> {
        Err(InvalidOption { expected: "another protocol: records are received, not answered" })
    }

    fn decoder(options: &[ProtocolOption<'_>]) -> Result<RecordDecoder, InvalidOption> {
        Ok(RecordDecoder { layout: read_options(options)?.0 })
    }

    /// A row: hexadecimal digits, two a byte.
    fn compile(line: &[u8], out: &mut [u8]) -> Result<usize, InvalidLine> {
        let line = line.trim_ascii();
        let (pairs, rest) = line.as_chunks::<2>();
        if !rest.is_empty() || pairs.len() > out.len() || pairs.len() > LONGEST {
            return Err(InvalidLine { expected: "a record of up to 512 bytes in hexadecimal digits" });
        }
        for (byte, pair) in out.iter_mut().zip(pairs) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                return Err(InvalidLine { expected: "hexadecimal digits" });
            };
            *byte = (high << 4 | low) as u8;
        }
        Ok(pairs.len())
    }
}

impl Client for RecordClient {
    fn index_bits(&self) -> u32 {
        let bits = |field: Option<Field>| field.map_or(32, |field| field.bits());
        bits(self.layout.sequence).min(bits(self.reply.as_ref().map(|reply| reply.echoed))).min(32)
    }

    fn longest(&self) -> usize {
        self.layout.size
    }

    #[inline]
    fn fill(&self, flow: u32, index: u32, query: &[u8], out: &mut [u8]) -> usize {
        self.fill_one_way(flow, u64::from(index), query, out)
    }

    fn one_way(&self) -> bool {
        self.reply.is_none()
    }

    #[inline]
    fn fill_one_way(&self, sender: u32, sequence: u64, query: &[u8], out: &mut [u8]) -> usize {
        let size = self.layout.size;
        let Some(row) = query.get(..size).or_else(|| self.template.get(..size)) else { return 0 };
        let Some(record) = out.get_mut(..size) else { return 0 };
        record.copy_from_slice(row);
        self.layout.vary(sender, sequence, self.key, record);
        size
    }

    #[inline]
    fn stamped(&self) -> bool {
        self.layout.sent.is_some()
    }

    #[inline]
    fn stamp(&self, unix_ns: u64, request: &mut [u8]) {
        if let Some(sent) = self.layout.sent {
            sent.write(unix_ns, request);
        }
    }

    fn read(&self, flow: u32, reply: &[u8]) -> Reply {
        let Some(expected) = &self.reply else { return Reply::Unmatched };
        let layout = &expected.layout;
        let foreign = layout.identity.is_some_and(|field| field.read(reply) != field.held(flow.into()));
        if foreign || reply.len() < expected.echoed.end() {
            return Reply::Unmatched;
        }
        let index = self.index_of(expected.echoed.read(reply));
        let too_long = reply.len() > layout.size && !expected.longer;
        if too_long || reply.len() < layout.size {
            Reply::Invalid { index, tally: Tally::WrongSize as usize }
        } else if layout.constants_hold(reply) {
            Reply::Valid { index, tally: Tally::Replied as usize }
        } else {
            Reply::Invalid { index, tally: Tally::WrongConstant as usize }
        }
    }

    fn recognise(&self, flow: u32, request: &[u8]) -> Option<u32> {
        let sequence = self.layout.sequence?;
        let matches = self.layout.identity.is_none_or(|field| field.read(request) == field.held(flow.into()));
        let quoted = sequence.end() <= request.len() && request.len() <= self.layout.size;
        (matches && quoted).then(|| self.index_of(sequence.read(request)))
    }
}

impl RecordClient {
    /// The part of a sequence number that request and reply have room for.
    fn index_of(&self, sequence: u64) -> u32 {
        sequence as u32 & u32::MAX >> (32 - self.index_bits())
    }
}

impl Responder for RecordResponder {
    fn answer(&self, _: Table<'_>, _: &RequestContext, _: &mut [u8], _: usize) -> Result<usize, DropReason> {
        Err(DropReason::NotARequest)
    }
}

impl Decode for RecordDecoder {
    fn size(&self) -> usize {
        self.layout.size
    }

    fn sequence_bits(&self) -> u32 {
        self.layout.sequence.map_or(0, |field| field.bits())
    }

    fn carries_sender_id(&self) -> bool {
        self.layout.identity.is_some()
    }

    fn field_layout(&self) -> u64 {
        let packed = |field: Option<Field>| field.map_or(0, |field| field.packed());
        packed(self.layout.identity) | packed(self.layout.sequence) << 32
    }

    #[inline]
    fn decode(&self, message: &[u8]) -> Result<Decoded, Malformed> {
        if message.len() != self.layout.size {
            return Err(if message.len() < self.layout.size { Malformed::Short } else { Malformed::Long });
        }
        if !self.layout.constants_hold(message) {
            return Err(Malformed::Constant);
        }
        let Layout { identity, sequence, .. } = self.layout;
        Ok(Decoded { sender: number(identity, message), sequence: number(sequence, message) })
    }

    /// Common fields have a fast path without per-message branches.
    #[inline]
    fn decode_all(&self, messages: &[u8], tell: impl FnMut(Decoded)) -> usize {
        match self.layout.identity.map(|field| field.fast_offset()) {
            Some(Some(at)) => self.decode_of(messages, |message| word(message, at), tell),
            _ => self.decode_of(messages, |message| number(self.layout.identity, message), tell),
        }
    }

    #[inline]
    fn delay_ns(&self, message: &[u8], arrived_unix_ns: u64) -> Option<i64> {
        self.layout.sent?.delay_ns(message, arrived_unix_ns)
    }
}

impl RecordDecoder {
    #[inline]
    fn decode_of(&self, messages: &[u8], sender: impl Fn(&[u8]) -> u64, tell: impl FnMut(Decoded)) -> usize {
        match self.layout.sequence.map(|field| field.fast_offset()) {
            Some(Some(at)) => self.decode_with(messages, (sender, |message: &[u8]| word(message, at)), tell),
            _ => self.decode_with(messages, (sender, |message: &[u8]| number(self.layout.sequence, message)), tell),
        }
    }

    #[inline]
    fn decode_with(
        &self,
        messages: &[u8],
        (sender, sequence): (impl Fn(&[u8]) -> u64, impl Fn(&[u8]) -> u64),
        mut tell: impl FnMut(Decoded),
    ) -> usize {
        let plain = !self.layout.has_constants();
        let mut count = 0;
        for message in messages.chunks_exact(self.layout.size.max(1)) {
            if !plain && !self.layout.constants_hold(message) {
                break;
            }
            tell(Decoded { sender: sender(message), sequence: sequence(message) });
            count += 1;
        }
        count
    }
}

/// A field's number; 0 where there is no such field.
#[inline]
fn number(field: Option<Field>, message: &[u8]) -> u64 {
    field.map_or(0, |field| field.read(message))
}

/// The 4-byte number at an offset.
#[inline]
fn word(message: &[u8], at: usize) -> u64 {
    let bytes = message.get(at..).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "record_golden.rs"]
mod golden;
