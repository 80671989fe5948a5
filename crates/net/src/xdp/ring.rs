//! One ring of an AF_XDP socket: entries between one producer and one consumer, one of which is the kernel.
//!
//! Method: both sides have a counter that only they write. Entries are written before the producer's counter is stored
//! (release) and read after it was loaded (acquire); the same holds for the consumer's when entries become free again.

use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use super::mapping::Mapping;

/// Which ring, as the kernel numbers them.
#[derive(Clone, Copy)]
pub(super) struct RingKind {
    /// The option that sets its size.
    pub(super) option: libc::c_int,
    /// Where it is mapped.
    pub(super) offset: libc::off_t,
}

/// A ring; `T` is the kernel's form of an entry.
pub(super) struct Ring<T> {
    mapping: Mapping,
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    mask: u32,
    /// The own counter, and the other side's as last seen.
    own: u32,
    other: u32,
    entry: PhantomData<T>,
}

impl<T: Copy> Ring<T> {
    /// Maps a ring of `size` entries, a power of two.
    pub(super) fn map(
        socket: &OwnedFd,
        kind: RingKind,
        offsets: &libc::xdp_ring_offset,
        size: u32,
    ) -> io::Result<Self> {
        let [producer, consumer, flags, entries] =
            [offsets.producer, offsets.consumer, offsets.flags, offsets.desc].map(|offset| offset as usize);
        let length = entries + size as usize * size_of::<T>();
        let mapping = Mapping::shared(length, socket, kind.offset)?;
        let entry = PhantomData;
        Ok(Self { mapping, producer, consumer, flags, entries, mask: size - 1, own: 0, other: 0, entry })
    }

    #[inline]
    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let at = self.mapping.at(offset, size_of::<u32>())?;
        // SAFETY: within the mapping, which lives as long as `self`; the kernel aligns its counters, and both sides
        // access them atomically.
        Some(unsafe { &*at.cast::<AtomicU32>() })
    }

    #[inline]
    fn load(&self, offset: usize) -> u32 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Acquire))
    }

    #[inline]
    fn store(&self, offset: usize, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::Release);
        }
    }

    #[inline]
    fn entry(&self, index: u32) -> Option<*mut T> {
        let offset = self.entries + (index & self.mask) as usize * size_of::<T>();
        self.mapping.at(offset, size_of::<T>()).map(<*mut u8>::cast)
    }

    /// Whether the kernel must be called before it looks at this ring.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.load(self.flags) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// As producer: whether another entry fits.
    #[inline]
    pub(super) fn has_room(&mut self) -> bool {
        if self.own.wrapping_sub(self.other) > self.mask {
            self.other = self.load(self.consumer);
        }
        self.own.wrapping_sub(self.other) <= self.mask
    }

    /// As producer: entries that the kernel has not taken yet, those not published included.
    #[inline]
    pub(super) fn pending(&mut self) -> u32 {
        self.other = self.load(self.consumer);
        self.own.wrapping_sub(self.other)
    }

    /// As producer: adds an entry, which the kernel sees after [`Ring::publish`]. False: it does not fit.
    #[inline]
    pub(super) fn push(&mut self, entry: T) -> bool {
        if !self.has_room() {
            return false;
        }
        let Some(at) = self.entry(self.own) else { return false };
        // SAFETY: within the mapping; the kernel has consumed what was here, and reads it again only once it is published.
        unsafe { at.write(entry) };
        self.own = self.own.wrapping_add(1);
        true
    }

    /// As producer: shows the kernel all entries.
    #[inline]
    pub(super) fn publish(&self) {
        self.store(self.producer, self.own);
    }

    /// As consumer: the next entry, which the kernel may replace after [`Ring::release`].
    #[inline]
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.own == self.other {
            self.other = self.load(self.producer);
        }
        if self.own == self.other {
            return None;
        }
        let at = self.entry(self.own)?;
        // SAFETY: within the mapping; the kernel has published it, and writes here again only once it is released.
        let entry = unsafe { at.read() };
        self.own = self.own.wrapping_add(1);
        Some(entry)
    }

    /// As consumer: lets the kernel reuse all entries that were popped.
    #[inline]
    pub(super) fn release(&self) {
        self.store(self.consumer, self.own);
    }
}
