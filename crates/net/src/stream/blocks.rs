//! Send blocks, allocated only while a connection has bytes to send.
//!
//! Method: small blocks are cut from slabs that are added when they run out and never moved or freed. A message that
//! does not fit has a large block, which is freed after use. Two sends at once on one stream may interleave, so a
//! connection has at most one submitted block, which is the kernel's, and one that is being filled.

use crate::memory::{ANYWHERE, Memory};

/// Small messages share a block of this size.
pub(crate) const BLOCK: usize = 2048;
/// No block.
pub(crate) const NONE: u32 = u32::MAX;

const PER_SLAB: usize = 64;
/// Marks the ids of big blocks.
const BIG: u32 = 1 << 31;
/// A big block is at least this long, so that the next big message fits too: 64 KiB with what frames it.
const BIG_BYTES: usize = 66 << 10;
/// Free big blocks that are kept for reuse.
const BIG_KEPT: usize = 16;

/// All blocks of one backend.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    slabs: Vec<Memory>,
    spare: Vec<u32>,
    big: Vec<Option<Memory>>,
    big_spare: Vec<u32>,
    big_unused: Vec<u32>,
}

impl Blocks {
    /// A block with room for `need` bytes.
    fn take(&mut self, need: usize) -> u32 {
        if need > BLOCK {
            return self.take_big(need);
        }
        if let Some(block) = self.spare.pop() {
            return block;
        }
        let first = (self.slabs.len() * PER_SLAB) as u32;
        self.slabs.push(Memory::new(PER_SLAB * BLOCK, ANYWHERE));
        self.spare.extend((first + 1..first + PER_SLAB as u32).rev());
        first
    }

    fn take_big(&mut self, need: usize) -> u32 {
        let kept = self.big_spare.pop().or_else(|| self.big_unused.pop());
        let at = kept.unwrap_or_else(|| {
            self.big.push(None);
            self.big.len() as u32 - 1
        });
        if let Some(place) = self.big.get_mut(at as usize)
            && place.as_ref().is_none_or(|memory| memory.len() < need)
        {
            *place = Some(Memory::new(need.max(BIG_BYTES), ANYWHERE));
        }
        at | BIG
    }

    fn give_back(&mut self, block: u32) {
        if block & BIG == 0 {
            self.spare.push(block);
        } else if self.big_spare.len() < BIG_KEPT {
            self.big_spare.push(block & !BIG);
        } else if let Some(place) = self.big.get_mut((block & !BIG) as usize) {
            *place = None;
            self.big_unused.push(block & !BIG);
        }
    }

    /// Where a block begins, and how long it is.
    pub(crate) fn at(&self, block: u32) -> (*mut u8, usize) {
        if block & BIG == 0 {
            let (slab, within) = (block as usize / PER_SLAB, block as usize % PER_SLAB);
            self.slabs.get(slab).map_or((std::ptr::null_mut(), 0), |slab| (slab.at(within * BLOCK), BLOCK))
        } else {
            let place = self.big.get((block & !BIG) as usize).and_then(Option::as_ref);
            place.map_or((std::ptr::null_mut(), 0), |memory| (memory.at(0), memory.len()))
        }
    }

    /// Memory held, in bytes.
    pub(crate) fn held(&self) -> usize {
        let big: usize = self.big.iter().flatten().map(Memory::len).sum();
        let lists = (self.spare.capacity() + self.big_spare.capacity() + self.big_unused.capacity()) * 4;
        let slots = self.big.capacity() * size_of::<Option<Memory>>();
        self.slabs.len() * PER_SLAB * BLOCK + big + slots + lists
    }
}

/// The send blocks of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    filling: u32,
    /// Bytes in the filling block.
    pub(crate) filled: u32,
    submitted: u32,
    /// Bytes in the submitted block.
    pub(crate) submitted_len: u32,
}

/// Whether more bytes can be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserve {
    /// There is room.
    Ready,
    /// The filling block must be submitted first, and can be.
    MustSubmit,
    /// It must be submitted first, but another one still is.
    Full,
}

impl Outgoing {
    /// No blocks.
    pub(crate) const EMPTY: Self = Self { filling: NONE, filled: 0, submitted: NONE, submitted_len: 0 };

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0 && self.submitted == NONE
    }

    /// Whether a block is submitted.
    pub(crate) fn is_submitted(&self) -> bool {
        self.submitted != NONE
    }

    /// Makes room for `need` bytes if possible.
    pub(crate) fn reserve(&mut self, blocks: &mut Blocks, need: usize) -> Reserve {
        if self.filling != NONE {
            if blocks.at(self.filling).1 - self.filled as usize >= need {
                return Reserve::Ready;
            }
            match (self.filled, self.submitted) {
                (0, _) => blocks.give_back(self.filling),
                (_, NONE) => return Reserve::MustSubmit,
                _ => return Reserve::Full,
            }
        }
        self.filling = blocks.take(need);
        Reserve::Ready
    }

    /// The rest of the filling block, and the count of what is in it.
    pub(crate) fn room<'a>(&'a mut self, blocks: &'a mut Blocks) -> (&'a mut [u8], &'a mut u32) {
        let (start, length) = blocks.at(self.filling);
        let used = (self.filled as usize).min(length);
        if start.is_null() {
            return (&mut [], &mut self.filled);
        }
        // SAFETY: a filling block belongs to this connection alone, and both are borrowed for as long as the slice
        // lives.
        let room = unsafe { std::slice::from_raw_parts_mut(start.add(used), length - used) };
        (room, &mut self.filled)
    }

    /// Makes the filling block the submitted one; returns its address and length, if it has bytes.
    pub(crate) fn submit(&mut self, blocks: &mut Blocks) -> Option<(*const u8, u32)> {
        if self.submitted != NONE || self.filling == NONE {
            return None;
        }
        if self.filled == 0 {
            self.discard(blocks);
            return None;
        }
        (self.submitted, self.submitted_len) = (self.filling, self.filled);
        (self.filling, self.filled) = (NONE, 0);
        Some((blocks.at(self.submitted).0, self.submitted_len))
    }

    /// The submitted block from byte `from` on.
    pub(crate) fn rest(&self, blocks: &Blocks, from: u32) -> (*const u8, usize) {
        let (start, from) = (blocks.at(self.submitted).0, from.min(self.submitted_len) as usize);
        (start.wrapping_add(from), self.submitted_len as usize - from)
    }

    /// Frees the submitted block after its completion; returns its length.
    pub(crate) fn complete(&mut self, blocks: &mut Blocks) -> u32 {
        if self.submitted != NONE {
            blocks.give_back(self.submitted);
        }
        self.submitted = NONE;
        std::mem::take(&mut self.submitted_len)
    }

    /// Frees the filling block with what it holds.
    pub(crate) fn discard(&mut self, blocks: &mut Blocks) {
        if self.filling != NONE {
            blocks.give_back(self.filling);
        }
        (self.filling, self.filled) = (NONE, 0);
    }
}
