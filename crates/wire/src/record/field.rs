//! A place in a record: where a number stands, how wide, which end first.

/// A number's place. As a knob's value: offset, then from bit 16 on its width in bytes, bit 24 set for big endian,
/// bit 25 for a float.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    at: u16,
    width: u8,
    big: bool,
    float: bool,
}

impl Field {
    /// From a knob's value, if such a field fits into `size` bytes.
    #[must_use]
    pub fn of(packed: i64, size: usize) -> Option<Self> {
        let (at, width, kind) = (packed & 0xffff, packed >> 16 & 0xff, packed >> 24);
        let (big, float) = (kind & 1 == 1, kind & 2 == 2);
        let wide = matches!((width, float), (1 | 2 | 4 | 8, false) | (4 | 8, true));
        let fits = usize::try_from(at + width).is_ok_and(|end| end <= size);
        (wide && fits && (0..4).contains(&kind)).then_some(Self { at: at as u16, width: width as u8, big, float })
    }

    /// How many bits it has.
    #[must_use]
    pub fn bits(&self) -> u32 {
        8 * u32::from(self.width)
    }

    /// Whether it is a float.
    #[must_use]
    pub fn is_float(&self) -> bool {
        self.float
    }

    /// Its bits as a number; 0 where the record is too short.
    #[must_use]
    pub fn read(&self, record: &[u8]) -> u64 {
        let at = usize::from(self.at);
        let little = match self.width {
            1 => record.get(at).copied().map(u64::from),
            2 => chunk(record, at).map(|bytes| u64::from(u16::from_le_bytes(bytes))),
            4 => chunk(record, at).map(|bytes| u64::from(u32::from_le_bytes(bytes))),
            _ => chunk(record, at).map(u64::from_le_bytes),
        };
        let little = little.unwrap_or_default();
        if self.big { little.swap_bytes() >> (64 - self.bits()) } else { little }
    }

    /// Writes the low bits of a number.
    pub fn write(&self, bits: u64, record: &mut [u8]) {
        let (at, width) = (usize::from(self.at), usize::from(self.width));
        let little = if self.big { bits.swap_bytes() >> (64 - self.bits()) } else { bits };
        if let Some(place) = record.get_mut(at..at + width) {
            place.copy_from_slice(&little.to_le_bytes()[..width]);
        }
    }

    /// Writes a number as this field has it: a float, or the whole number below.
    pub fn write_number(&self, number: f64, record: &mut [u8]) {
        let bits = match (self.float, self.width) {
            (true, 4) => u64::from((number as f32).to_bits()),
            (true, _) => number.to_bits(),
            (false, _) if number < 0.0 => (number as i64) as u64,
            (false, _) => number as u64,
        };
        self.write(bits, record);
    }

    /// Its value where it is a float of 8 bytes, as times in seconds are.
    #[must_use]
    pub fn seconds(&self, record: &[u8]) -> f64 {
        f64::from_bits(self.read(record))
    }
}

fn chunk<const N: usize>(record: &[u8], at: usize) -> Option<[u8; N]> {
    record.get(at..at + N)?.try_into().ok()
}
