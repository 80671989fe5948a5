//! A field of a record: offset, width, byte order and type.

/// A field. As an option's value: offset, from bit 16 on the width in bytes, bit 24 for big endian, bit 25 for a float.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Field {
    at: u16,
    width: u8,
    big: bool,
    float: bool,
}

impl Field {
    /// From an option's value, if such a field fits into `size` bytes.
    #[must_use]
    pub fn of(packed: i64, size: usize) -> Option<Self> {
        let (at, width, kind) = (packed & 0xffff, packed >> 16 & 0xff, packed >> 24);
        let (big, float) = (kind & 1 == 1, kind & 2 == 2);
        let wide = matches!((width, float), (1 | 2 | 4 | 8, false) | (4 | 8, true));
        let fits = usize::try_from(at + width).is_ok_and(|end| end <= size);
        (wide && fits && (0..4).contains(&kind)).then_some(Self { at: at as u16, width: width as u8, big, float })
    }

    /// As an option's value.
    #[must_use]
    pub fn packed(&self) -> u64 {
        let kind = u64::from(self.big) | u64::from(self.float) << 1;
        u64::from(self.at) | u64::from(self.width) << 16 | kind << 24
    }

    /// How many bits it has.
    #[must_use]
    #[inline]
    pub fn bits(&self) -> u32 {
        8 * u32::from(self.width)
    }

    /// Whether it is a float.
    #[must_use]
    #[inline]
    pub fn is_float(&self) -> bool {
        self.float
    }

    /// Its end offset: the least size of a record with it.
    #[must_use]
    #[inline]
    pub fn end(&self) -> usize {
        usize::from(self.at) + usize::from(self.width)
    }

    /// A number truncated to the field's bits.
    #[must_use]
    #[inline]
    pub fn held(&self, number: u64) -> u64 {
        number & u64::MAX >> (64 - self.bits())
    }

    /// Its bits as a number; 0 where the record is too short.
    #[must_use]
    #[inline]
    pub fn read(&self, record: &[u8]) -> u64 {
        let at = usize::from(self.at);
        // One width a run, so these branches are predicted; each is one load.
        let little = match self.width {
            1 => record.get(at).copied().map(u64::from),
            2 => chunk(record, at).map(|bytes| u64::from(u16::from_le_bytes(bytes))),
            4 => chunk(record, at).map(|bytes| u64::from(u32::from_le_bytes(bytes))),
            _ => chunk(record, at).map(u64::from_le_bytes),
        };
        self.swapped(little.unwrap_or_default())
    }

    /// Its offset, if it has the common format: 4 bytes, little endian.
    #[must_use]
    pub fn fast_offset(&self) -> Option<usize> {
        (self.width == 4 && !self.big).then_some(usize::from(self.at))
    }

    /// Writes the low bits of a number.
    #[inline]
    pub fn write(&self, bits: u64, record: &mut [u8]) {
        let at = usize::from(self.at);
        let little = self.swapped(bits);
        match self.width {
            1 => put(record, at, (little as u8).to_le_bytes()),
            2 => put(record, at, (little as u16).to_le_bytes()),
            4 => put(record, at, (little as u32).to_le_bytes()),
            _ => put(record, at, little.to_le_bytes()),
        }
    }

    /// Writes a number into a float.
    #[inline]
    pub fn write_float(&self, number: f64, record: &mut [u8]) {
        let bits = if self.width == 4 { u64::from((number as f32).to_bits()) } else { number.to_bits() };
        self.write(bits, record);
    }

    /// Swaps the bytes of a big-endian field.
    #[inline]
    fn swapped(&self, bits: u64) -> u64 {
        if self.big { bits.swap_bytes() >> (64 - self.bits()) } else { bits }
    }
}

#[inline]
fn chunk<const N: usize>(record: &[u8], at: usize) -> Option<[u8; N]> {
    record.get(at..at + N)?.try_into().ok()
}

#[inline]
fn put<const N: usize>(record: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(target) = record.get_mut(at..at + N) {
        target.copy_from_slice(&bytes);
    }
}
