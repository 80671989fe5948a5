//! Pools of receive buffers, which return to their pool on drop.
//!
//! Method: a buffer keeps its pool alive, so it may outlive the ring that filled it. With io_uring the free buffers are
//! in a provided buffer ring, from which the kernel takes them; with epoll they are in a list.

use std::cell::{Cell, RefCell};
use std::mem::size_of;
use std::rc::Rc;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::memory::{ANYWHERE, Memory, PAGE};

/// Most buffers of one pool: ids have 16 bits, and the kernel wants powers of two.
const MOST: usize = 1 << 15;

/// Where the free buffers are.
#[derive(Debug)]
enum Free {
    /// In a ring shared with the kernel; `tail` counts the buffers ever added.
    Ring { entries: Memory, tail: Cell<u16> },
    /// In a list, the last used first: it is still in the cache.
    List(RefCell<Vec<u16>>),
}

/// Buffers of one size. Used by one thread.
#[derive(Debug)]
pub(crate) struct Pool {
    bytes: Memory,
    size: usize,
    count: usize,
    in_use: Cell<usize>,
    free: Free,
}

impl Pool {
    /// About `count` buffers, chosen by the kernel.
    pub(crate) fn for_ring(size: usize, count: usize) -> Rc<Self> {
        let count = count.clamp(1, MOST).next_power_of_two();
        let entries = Memory::new(count * size_of::<BufRingEntry>(), PAGE);
        Self::new(size, count, Free::Ring { entries, tail: Cell::new(0) })
    }

    /// `count` buffers, chosen by [`Pool::choose`].
    pub(crate) fn for_list(size: usize, count: usize) -> Rc<Self> {
        let count = count.clamp(1, MOST);
        Self::new(size, count, Free::List(RefCell::new(Vec::with_capacity(count))))
    }

    fn new(size: usize, count: usize, free: Free) -> Rc<Self> {
        let pool = Self { bytes: Memory::new(size * count, ANYWHERE), size, count, in_use: Cell::new(count), free };
        (0..count as u16).rev().for_each(|buffer| pool.give_back(buffer));
        Rc::new(pool)
    }

    /// Where the kernel's ring of entries begins, and how many there are.
    pub(crate) fn ring(&self) -> (u64, u16) {
        match &self.free {
            Free::Ring { entries, .. } => (entries.at(0) as u64, self.count as u16),
            Free::List(_) => (0, 0),
        }
    }

    /// How many are free, or filled and not yet reported.
    pub(crate) fn available(&self) -> usize {
        self.count - self.in_use.get()
    }

    /// Memory held, in bytes.
    pub(crate) fn held(&self) -> usize {
        let beside = match &self.free {
            Free::Ring { entries, .. } => entries.len(),
            Free::List(_) => self.count * size_of::<u16>(),
        };
        self.bytes.len() + beside
    }

    /// A free buffer of the list: its number, where it is and how long.
    pub(crate) fn choose(&self) -> Option<(u16, *mut u8, usize)> {
        let Free::List(list) = &self.free else { return None };
        let buffer = list.borrow_mut().pop()?;
        self.in_use.set(self.in_use.get() + 1);
        Some((buffer, self.bytes.at(usize::from(buffer) * self.size), self.size))
    }

    /// Takes a buffer out of the pool: one from `choose`, or one that the kernel has filled.
    pub(crate) fn take(self: &Rc<Self>, buffer: u16, length: usize) -> PoolBuf {
        if let Free::Ring { .. } = self.free {
            self.in_use.set(self.in_use.get() + 1);
        }
        let length = length.min(self.size) as u32;
        PoolBuf::Pooled { pool: Rc::clone(self), buffer: buffer.min(self.count as u16 - 1), length }
    }

    fn give_back(&self, buffer: u16) {
        self.in_use.set(self.in_use.get().saturating_sub(1));
        match &self.free {
            Free::List(list) => list.borrow_mut().push(buffer),
            Free::Ring { entries, tail } => {
                let start = entries.at(0).cast::<BufRingEntry>();
                let at = usize::from(tail.get()) & (self.count - 1);
                // SAFETY: `at` is below the number of entries; only this thread writes them, and the kernel reads none
                // that the tail has not passed.
                let entry = unsafe { &mut *start.add(at) };
                entry.set_addr(self.bytes.at(usize::from(buffer) * self.size) as u64);
                entry.set_len(self.size as u32);
                entry.set_bid(buffer);
                tail.set(tail.get().wrapping_add(1));
                // SAFETY: `start` is the first entry, where the tail has its place; it is two bytes, aligned, and
                // shared with the kernel, so it is written atomically and after the entry.
                unsafe { (*BufRingEntry::tail(start).cast::<AtomicU16>()).store(tail.get(), Ordering::Release) };
            }
        }
    }
}

/// A buffer outside the pool.
#[derive(Debug)]
pub(crate) enum PoolBuf {
    /// Returns to its pool on drop.
    Pooled { pool: Rc<Pool>, buffer: u16, length: u32 },
    /// A buffer without a pool.
    Owned(Vec<u8>),
}

impl PoolBuf {
    /// A buffer without a pool.
    pub(crate) fn owned(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }

    /// What was received.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Pooled { pool, buffer, length } => {
                let start = pool.bytes.at(usize::from(*buffer) * pool.size);
                // SAFETY: the buffer is ours alone until it is given back on drop; `length` is at most its size.
                unsafe { slice::from_raw_parts(start, *length as usize) }
            }
        }
    }
}

impl Drop for PoolBuf {
    fn drop(&mut self) {
        if let Self::Pooled { pool, buffer, .. } = self {
            pool.give_back(*buffer);
        }
    }
}
