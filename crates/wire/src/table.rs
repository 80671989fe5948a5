//! A read-only hash table of answers by key: built once, looked up without allocation.
//!
//! Method: open addressing with linear probing over FNV-1a; entries lie one after another in one run of bytes, each
//! as key length (u16), value length (u32), key, value, little endian; a slot holds the offset of its entry, plus one.

/// Length of an entry before its key.
const HEAD: usize = 6;

/// A borrowed table. The default one is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Table<'a> {
    slots: &'a [u32],
    entries: &'a [u8],
    longest: usize,
}

impl<'a> Table<'a> {
    /// The table built by [`Table::build`]; `longest` is what it returned.
    #[must_use]
    pub fn new(slots: &'a [u32], entries: &'a [u8], longest: usize) -> Self {
        Self { slots, entries, longest }
    }

    /// The length of the longest value (bytes).
    #[must_use]
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The number of slots for so many entries: a power of two, at most half of them used.
    #[must_use]
    pub fn slots(entries: usize) -> usize {
        if entries == 0 { 0 } else { (entries * 2).next_power_of_two() }
    }

    /// Fills `slots` (zeroed, as many as [`Table::slots`] says) so that `entries` can be looked up.
    ///
    /// Of several entries with one key the first is found. Returns the length of the longest value, or `None` where the
    /// entries are corrupt, more than `slots` can hold, or longer than 4 GiB.
    pub fn build(slots: &mut [u32], entries: &[u8]) -> Option<usize> {
        let (mut at, mut longest) = (0, 0);
        u32::try_from(entries.len()).ok()?;
        let mut free = slots.len() / 2;
        while at < entries.len() {
            let (key, value) = entry(entries, at)?;
            free = free.checked_sub(1)?;
            let mask = slots.len() - 1;
            let mut slot = hash(key) as usize & mask;
            while slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            slots[slot] = at as u32 + 1;
            longest = longest.max(value.len());
            at += HEAD + key.len() + value.len();
        }
        Some(longest)
    }

    /// The value of `key`.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<&'a [u8]> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut slot = hash(key) as usize & mask;
        // At most one round, also without a free slot.
        for _ in 0..self.slots.len() {
            let at = (*self.slots.get(slot)?).checked_sub(1)?;
            let (found, value) = entry(self.entries, at as usize)?;
            if found == key {
                return Some(value);
            }
            slot = (slot + 1) & mask;
        }
        None
    }
}

fn entry(entries: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    let rest = entries.get(at..)?;
    let (head, rest) = rest.split_at_checked(HEAD)?;
    let key = u16::from_le_bytes([head[0], head[1]]) as usize;
    let value = u32::from_le_bytes([head[2], head[3], head[4], head[5]]) as usize;
    let (key, rest) = rest.split_at_checked(key)?;
    Some((key, rest.get(..value)?))
}

/// FNV-1a, 64 bits, folded.
fn hash(key: &[u8]) -> u32 {
    let long = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    (long ^ long >> 32) as u32
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
