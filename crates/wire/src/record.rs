//! Records: small messages of one fixed layout, sent one way, such as a game's updates. The layout comes as knobs.
//!
//! ```text
//! size N                  bytes of every record
//! identity PLACE          who sends it            sequence PLACE   its number among that sender's
//! sent PLACE, unit NS     when it left: Unix time in units of so many ns; 0: seconds as a float of 8 bytes
//! counter PLACE           counts up with the sender's records
//! random PLACE, low BITS, high BITS               even between two floats (their bits)
//! constant PLACE, value BITS                      the same in all records: a receiver refuses others
//! reply N, echoed PLACE   answers come back, of N bytes, with the request's sequence there; constants that follow
//!                         are the answer's
//! ```
//!
//! Method: a record is first copied from a row, as [`Record::compile`] made it of a line of hexadecimal digits, and
//! then the fields are written that differ from record to record.

mod field;

use crate::scramble::scramble;
use crate::{
    Answer, Ask, BadKnob, BadLine, Knob, Link, Malformed, Moment, Protocol, Reading, Refusal, SUBJECT_MAX, Table, Take,
    Taken,
};
pub use field::Field;

/// The longest record.
pub const LONGEST: usize = SUBJECT_MAX;
/// Fields of one kind, at most.
const FIELDS: usize = 8;
const EXPECTED: BadKnob =
    BadKnob { expected: "a record's layout: a size of 1 to 512 bytes, and fields that fit into it" };

/// The protocol.
pub struct Record;

/// What is written into each record, and what must stand in it.
#[derive(Clone, Copy, Debug, Default)]
struct Layout {
    size: usize,
    identity: Option<Field>,
    sequence: Option<Field>,
    sent: Option<Field>,
    unit_ns: u64,
    counter: Option<Field>,
    randoms: [Option<Random>; FIELDS],
    constants: [Option<Constant>; FIELDS],
}

#[derive(Clone, Copy, Debug)]
struct Random {
    field: Field,
    low: f64,
    high: f64,
}

#[derive(Clone, Copy, Debug)]
struct Constant {
    field: Field,
    value: u64,
}

/// What comes back.
#[derive(Clone, Copy, Debug)]
struct Reply {
    layout: Layout,
    echoed: Field,
}

/// The sending end.
#[derive(Clone, Debug)]
pub struct RecordAsker {
    layout: Layout,
    reply: Option<Reply>,
    key: u64,
}

/// Records are received, not answered.
#[derive(Clone, Debug)]
pub struct RecordAnswerer;

/// The receiving end.
#[derive(Clone, Debug)]
pub struct RecordTaker {
    layout: Layout,
}

#[derive(Clone, Copy)]
#[repr(usize)]
enum Tally {
    Replied,
    WrongConstant,
}

impl Protocol for Record {
    const NAME: &'static str = "record";
    const DATAGRAM_MAX: usize = LONGEST + 1;
    const TALLIES: &'static [&'static str] = &["replied", "wrong_constant"];
    const LINKS: &'static [Link] = &[Link::Udp];
    type Asker = RecordAsker;
    type Answerer = RecordAnswerer;
    type Taker = RecordTaker;

    fn asker(knobs: &[Knob<'_>], secret: u64) -> Result<RecordAsker, BadKnob> {
        let (layout, reply) = read_knobs(knobs)?;
        Ok(RecordAsker { layout, reply, key: secret })
    }

    fn answerer(_: &[Knob<'_>]) -> Result<RecordAnswerer, BadKnob> {
        Err(BadKnob { expected: "another protocol: records are received, not answered" })
    }

    fn taker(knobs: &[Knob<'_>]) -> Result<RecordTaker, BadKnob> {
        Ok(RecordTaker { layout: read_knobs(knobs)?.0 })
    }

    /// A row: hexadecimal digits, two a byte.
    fn compile(line: &[u8], out: &mut [u8]) -> Result<usize, BadLine> {
        let line = line.trim_ascii();
        let (pairs, rest) = line.as_chunks::<2>();
        if !rest.is_empty() || pairs.len() > out.len() || pairs.len() > LONGEST {
            return Err(BadLine { expected: "a record of up to 512 bytes in hexadecimal digits" });
        }
        for (byte, pair) in out.iter_mut().zip(pairs) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                return Err(BadLine { expected: "hexadecimal digits" });
            };
            *byte = (high << 4 | low) as u8;
        }
        Ok(pairs.len())
    }
}

fn read_knobs(knobs: &[Knob<'_>]) -> Result<(Layout, Option<Reply>), BadKnob> {
    let mut layout = Layout { unit_ns: 1, ..Layout::default() };
    let mut reply: Option<(Layout, Option<Field>)> = None;
    for knob in knobs {
        let part = reply.as_mut().map_or(&mut layout, |(answer, _)| answer);
        let field = Field::of(knob.value, part.size);
        match (knob.name, field) {
            ("reply", _) => reply = Some((Layout { size: size(knob.value)?, unit_ns: 1, ..Layout::default() }, None)),
            ("echoed", Some(field)) => {
                let Some((_, echoed)) = reply.as_mut() else { return Err(EXPECTED) };
                *echoed = Some(field);
            }
            _ => part.note(knob, field)?,
        }
    }
    if layout.size == 0 {
        return Err(EXPECTED);
    }
    let reply = match reply {
        None => None,
        Some((layout, Some(echoed))) => Some(Reply { layout, echoed }),
        Some((_, None)) => return Err(EXPECTED),
    };
    let answered = reply.is_none() || layout.sequence.is_some();
    if answered { Ok((layout, reply)) } else { Err(EXPECTED) }
}

fn size(value: i64) -> Result<usize, BadKnob> {
    usize::try_from(value).ok().filter(|size| (1..=LONGEST).contains(size)).ok_or(EXPECTED)
}

impl Layout {
    fn note(&mut self, knob: &Knob<'_>, field: Option<Field>) -> Result<(), BadKnob> {
        let float = f64::from_bits(knob.value as u64);
        match (knob.name, field) {
            ("size", _) => self.size = size(knob.value)?,
            ("unit", _) => self.unit_ns = u64::try_from(knob.value).map_err(|_| EXPECTED)?,
            ("low", _) => self.randoms.iter_mut().flatten().next_back().ok_or(EXPECTED)?.low = float,
            ("high", _) => self.randoms.iter_mut().flatten().next_back().ok_or(EXPECTED)?.high = float,
            ("value", _) => {
                self.constants.iter_mut().flatten().next_back().ok_or(EXPECTED)?.value = knob.value as u64;
            }
            ("identity", Some(field)) => self.identity = Some(field),
            ("sequence", Some(field)) => self.sequence = Some(field),
            ("sent", Some(field)) => self.sent = Some(field),
            ("counter", Some(field)) => self.counter = Some(field),
            ("random", Some(field)) => push(&mut self.randoms, Random { field, low: 0.0, high: 1.0 })?,
            ("constant", Some(field)) => push(&mut self.constants, Constant { field, value: 0 })?,
            _ => return Err(EXPECTED),
        }
        Ok(())
    }

    fn constants_hold(&self, record: &[u8]) -> bool {
        self.constants.iter().map_while(|constant| *constant).all(|c| c.field.read(record) == c.value)
    }
}

fn push<T>(fields: &mut [Option<T>; FIELDS], field: T) -> Result<(), BadKnob> {
    let free = fields.iter_mut().find(|place| place.is_none()).ok_or(EXPECTED)?;
    *free = Some(field);
    Ok(())
}

impl Ask for RecordAsker {
    fn index_bits(&self) -> u32 {
        let bits = |field: Option<Field>| field.map_or(32, |field| field.bits());
        bits(self.layout.sequence).min(bits(self.reply.map(|reply| reply.echoed))).min(32)
    }

    fn longest(&self) -> usize {
        self.layout.size
    }

    fn fill(&self, flow: u32, index: u32, subject: &[u8], out: &mut [u8]) -> usize {
        self.cast(flow, u64::from(index), subject, out)
    }

    fn one_way(&self) -> bool {
        self.reply.is_none()
    }

    fn cast(&self, sender: u32, sequence: u64, subject: &[u8], out: &mut [u8]) -> usize {
        let size = self.layout.size;
        let Some(record) = out.get_mut(..size) else { return 0 };
        if let Some(row) = subject.get(..size) {
            record.copy_from_slice(row);
        }
        for random in self.layout.randoms.iter().map_while(|random| *random) {
            let bits = scramble(u64::from(sender) << 40 ^ sequence, self.key ^ u64::from(random.field.bits()));
            let share = (bits >> 11) as f64 / (1_u64 << 53) as f64;
            random.field.write_number(random.low + share * (random.high - random.low), record);
        }
        if let Some(field) = self.layout.counter {
            field.write(sequence, record);
        }
        if let Some(field) = self.layout.identity {
            field.write(sender.into(), record);
        }
        if let Some(field) = self.layout.sequence {
            field.write(sequence, record);
        }
        size
    }

    fn stamped(&self) -> bool {
        self.layout.sent.is_some()
    }

    fn stamp(&self, unix_ns: u64, request: &mut [u8]) {
        match (self.layout.sent, unix_ns.checked_div(self.layout.unit_ns)) {
            (Some(field), Some(units)) => field.write(units, request),
            (Some(field), None) => field.write_number(unix_ns as f64 / 1e9, request),
            (None, _) => {}
        }
    }

    fn read(&self, _: u32, reply: &[u8]) -> Reading {
        let Some(expected) = self.reply else { return Reading::Stranger };
        if reply.len() != expected.layout.size {
            return Reading::Stranger;
        }
        let index = expected.echoed.read(reply) as u32;
        if expected.layout.constants_hold(reply) {
            Reading::Answer { index, tally: Tally::Replied as usize }
        } else {
            Reading::Wrong { index, tally: Tally::WrongConstant as usize }
        }
    }

    fn recognise(&self, _: u32, request: &[u8]) -> Option<u32> {
        let sequence = self.layout.sequence?;
        (request.len() == self.layout.size).then(|| sequence.read(request) as u32)
    }
}

impl Answer for RecordAnswerer {
    fn answer(&self, _: Table<'_>, _: &Moment, _: &mut [u8], _: usize) -> Result<usize, Refusal> {
        Err(Refusal::NotARequest)
    }
}

impl Take for RecordTaker {
    fn size(&self) -> usize {
        self.layout.size
    }

    fn sequence_bits(&self) -> u32 {
        self.layout.sequence.map_or(0, |field| field.bits())
    }

    fn names_sender(&self) -> bool {
        self.layout.identity.is_some()
    }

    fn take(&self, message: &[u8]) -> Result<Taken, Malformed> {
        if message.len() != self.layout.size {
            return Err(if message.len() < self.layout.size { Malformed::Short } else { Malformed::Long });
        }
        if !self.layout.constants_hold(message) {
            return Err(Malformed::Constant);
        }
        let read = |field: Option<Field>| field.map_or(0, |field| field.read(message));
        Ok(Taken { sender: read(self.layout.identity), sequence: read(self.layout.sequence) })
    }

    fn delay_ns(&self, message: &[u8], arrived_unix_ns: u64) -> Option<i64> {
        let field = self.layout.sent?;
        let Some(arrived) = arrived_unix_ns.checked_div(self.layout.unit_ns) else {
            return Some(((arrived_unix_ns as f64 / 1e9 - field.seconds(message)) * 1e9) as i64);
        };
        // Narrow fields hold the low bits of the time: the difference wraps as they do.
        let unused = 64 - field.bits();
        let units = (arrived.wrapping_sub(field.read(message)) << unused) as i64 >> unused;
        Some(units.saturating_mul(i64::try_from(self.layout.unit_ns).unwrap_or(i64::MAX)))
    }
}
