//! Memory that the kernel accesses asynchronously: zeroed, at a fixed address, accessed by raw pointers only.

use std::alloc::{self, Layout};
use std::ptr::{self, NonNull};

/// An allocation that never moves. No reference may point into what the kernel is writing.
#[derive(Debug)]
pub(crate) struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

/// Up to this alignment the allocator uses fresh zero pages, so that untouched memory costs nothing.
pub(crate) const ANYWHERE: usize = 16;
/// Memory that the kernel maps is page-aligned.
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
