//! Memory that the kernel reads or writes while we go on: zeroed, at a fixed address, reached by raw pointers alone.

use std::alloc::{self, Layout};
use std::ptr::{self, NonNull};

/// A piece of memory that never moves. Nobody may hold a reference into what the kernel is writing.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

/// Up to this alignment the allocator takes fresh pages as zeroed, so that memory which nobody touches costs nothing.
pub(crate) const ANYWHERE: usize = 16;
/// What the kernel maps must begin with a page.
pub(crate) const PAGE: usize = 4096;

impl Memory {
    /// At least one byte, `align` a power of two.
    pub(crate) fn new(bytes: usize, align: usize) -> Self {
        let layout = Layout::from_size_align(bytes.max(1), align).unwrap_or(Layout::new::<u64>());
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc::alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Self { start, layout },
            None => alloc::handle_alloc_error(layout),
        }
    }

    /// How long it is.
    pub(crate) fn len(&self) -> usize {
        self.layout.size()
    }

    /// The address of a byte; null beyond the end.
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        if offset < self.len() { self.start.as_ptr().wrapping_add(offset) } else { ptr::null_mut() }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, freed once.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) }
    }
}
