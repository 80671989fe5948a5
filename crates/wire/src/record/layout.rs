//! The layout of a record, parsed from options.

use super::{Field, LONGEST};
use crate::scramble::scramble;
use crate::{InvalidOption, ProtocolOption};

/// Most fields of one kind; constants have pieces of up to 8 bytes, so that they may fill a record.
const FIELDS: usize = 8;
const PIECES: usize = LONGEST / 8;
const EXPECTED: InvalidOption =
    InvalidOption { expected: "a record's layout: a size of 1 to 512 bytes, and fields that fit into it" };
const NO_ECHO: InvalidOption =
    InvalidOption { expected: "a sequence in the record and the field where the reply echoes it: answers match by it" };

/// A record's fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub size: usize,
    pub identity: Option<Field>,
    pub sequence: Option<Field>,
    pub sent: Option<SendResult>,
    counters: [Option<Field>; FIELDS],
    randoms: [Option<Random>; FIELDS],
    constants: [Option<Constant>; PIECES],
}

/// The layout of a reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyLayout {
    pub layout: Layout,
    pub echoed: Field,
    /// Whether more bytes may follow.
    pub longer: bool,
}

/// The send time: units of so many ns, or with 0 seconds as a float of 8 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendResult {
    field: Field,
    unit_ns: u64,
}

/// A uniform random value: a float between two floats, or an integer between two, both included. Limits as bits.
#[derive(Clone, Copy, Debug)]
struct Random {
    field: Field,
    low: u64,
    high: u64,
}

#[derive(Clone, Copy, Debug)]
struct Constant {
    field: Field,
    value: u64,
}

/// The record's layout and, if answers come back, the answer's.
pub(super) fn read_options(options: &[ProtocolOption<'_>]) -> Result<(Layout, Option<ReplyLayout>), InvalidOption> {
    let mut layout = Layout::EMPTY;
    let mut reply: Option<ReplyLayout> = None;
    for option in options {
        match (option.name, reply.as_mut()) {
            ("reply", None) => {
                let size = size(option.value)?;
                reply = Some(ReplyLayout {
                    layout: Layout { size, ..Layout::EMPTY },
                    echoed: Field::default(),
                    longer: false,
                });
            }
            ("echoed", Some(reply)) => reply.echoed = Field::of(option.value, reply.layout.size).ok_or(NO_ECHO)?,
            ("longer", Some(reply)) => reply.longer = option.value == 1,
            (_, Some(reply)) => reply.layout.add(option)?,
            (_, None) => layout.add(option)?,
        }
    }
    if reply.is_some_and(|reply| layout.sequence.is_none() || reply.echoed == Field::default()) {
        return Err(NO_ECHO);
    }
    if layout.size == 0 || !layout.sent.is_none_or(|sent| sent.is_sound()) {
        Err(EXPECTED)
    } else {
        Ok((layout, reply))
    }
}

fn size(value: i64) -> Result<usize, InvalidOption> {
    usize::try_from(value).ok().filter(|size| (1..=LONGEST).contains(size)).ok_or(EXPECTED)
}

fn push<T>(fields: &mut [Option<T>], field: T) -> Result<(), InvalidOption> {
    let free = fields.iter_mut().find(|slot| slot.is_none()).ok_or(EXPECTED)?;
    *free = Some(field);
    Ok(())
}

/// The last field.
fn last<T>(fields: &mut [Option<T>]) -> Result<&mut T, InvalidOption> {
    fields.iter_mut().flatten().next_back().ok_or(EXPECTED)
}

impl Layout {
    const EMPTY: Self = Self {
        size: 0,
        identity: None,
        sequence: None,
        sent: None,
        counters: [None; FIELDS],
        randoms: [None; FIELDS],
        constants: [None; PIECES],
    };

    fn add(&mut self, option: &ProtocolOption<'_>) -> Result<(), InvalidOption> {
        let bits = option.value as u64;
        match (option.name, Field::of(option.value, self.size)) {
            ("size", _) if self.size == 0 => self.size = size(option.value)?,
            ("unit", _) => self.sent.as_mut().ok_or(EXPECTED)?.unit_ns = bits,
            ("low", _) => last(&mut self.randoms)?.low = bits,
            ("high", _) => last(&mut self.randoms)?.high = bits,
            ("value", _) => {
                let constant = last(&mut self.constants)?;
                constant.value = constant.field.held(bits);
            }
            ("identity", Some(field)) if !field.is_float() => self.identity = Some(field),
            ("sequence", Some(field)) if !field.is_float() => self.sequence = Some(field),
            ("sent", Some(field)) => self.sent = Some(SendResult { field, unit_ns: u64::from(!field.is_float()) }),
            ("counter", Some(field)) if !field.is_float() => push(&mut self.counters, field)?,
            ("random", Some(field)) => {
                let high = if field.is_float() { 1_f64.to_bits() } else { u64::MAX };
                push(&mut self.randoms, Random { field, low: 0, high })?;
            }
            ("constant", Some(field)) => push(&mut self.constants, Constant { field, value: 0 })?,
            _ => return Err(EXPECTED),
        }
        Ok(())
    }

    /// A record with the constants, otherwise zero.
    pub fn template(&self) -> [u8; LONGEST] {
        let mut template = [0; LONGEST];
        for constant in self.constants.iter().map_while(|constant| *constant) {
            constant.field.write(constant.value, &mut template);
        }
        template
    }

    /// Whether there are constants.
    #[must_use]
    pub fn has_constants(&self) -> bool {
        self.constants[0].is_some()
    }

    #[inline]
    pub fn constants_hold(&self, record: &[u8]) -> bool {
        self.constants.iter().map_while(|constant| *constant).all(|c| c.field.read(record) == c.value)
    }

    /// Writes the fields that differ between records, except the time.
    #[inline]
    pub fn vary(&self, sender: u32, sequence: u64, key: u64, record: &mut [u8]) {
        if self.randoms[0].is_some() {
            let drawn = scramble((u64::from(sender) << 40) ^ sequence, key);
            for (n, random) in self.randoms.iter().map_while(|random| *random).enumerate() {
                random.write(scramble(drawn, key.rotate_left(n as u32 + 1)), record);
            }
        }
        for counter in self.counters.iter().map_while(|counter| *counter) {
            counter.write(sequence, record);
        }
        if let Some(field) = self.identity {
            field.write(sender.into(), record);
        }
        if let Some(field) = self.sequence {
            field.write(sequence, record);
        }
    }
}

impl Random {
    #[inline]
    fn write(&self, drawn: u64, record: &mut [u8]) {
        if self.field.is_float() {
            let share = (drawn >> 11) as f64 / (1_u64 << 53) as f64;
            // Not low plus a share of the difference, which may overflow.
            let number = f64::from_bits(self.low) * (1.0 - share) + f64::from_bits(self.high) * share;
            self.field.write_float(number, record);
        } else {
            let choices = u128::from(self.high.wrapping_sub(self.low)) + 1;
            let number = self.low.wrapping_add(((u128::from(drawn) * choices) >> 64) as u64);
            self.field.write(number, record);
        }
    }
}

impl SendResult {
    /// Whether unit and type agree.
    fn is_sound(&self) -> bool {
        let seconds = self.field.is_float() && self.field.bits() == 64;
        if self.unit_ns == 0 { seconds } else { !self.field.is_float() && i64::try_from(self.unit_ns).is_ok() }
    }

    #[inline]
    pub fn write(&self, unix_ns: u64, record: &mut [u8]) {
        match self.unit_ns {
            0 => self.field.write_float(unix_ns as f64 / 1e9, record),
            // Division is slow, and this is the common unit.
            1 => self.field.write(unix_ns, record),
            unit => self.field.write(unix_ns / unit, record),
        }
    }

    /// The delay at arrival (ns); `None` where the field is zero, which means not set.
    #[inline]
    pub fn delay_ns(&self, record: &[u8], arrived_unix_ns: u64) -> Option<i64> {
        let bits = self.field.read(record);
        let arrived = match self.unit_ns {
            _ if bits == 0 => return None,
            0 => {
                let delay = arrived_unix_ns as f64 - f64::from_bits(bits) * 1e9;
                return delay.is_finite().then_some(delay as i64);
            }
            1 => arrived_unix_ns,
            unit => arrived_unix_ns / unit,
        };
        // Narrow fields hold the low bits of the time: the difference wraps as they do.
        let unused = 64 - self.field.bits();
        let units = (arrived.wrapping_sub(bits) << unused) as i64 >> unused;
        Some(units.saturating_mul(self.unit_ns as i64))
    }
}
