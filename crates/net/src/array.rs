//! An array of fixed address, whose elements kernel structures may point to.
//!
//! Method: references to elements are made for each access from one raw pointer and end with it; pointers that are kept
//! come from the same raw pointer. So neither a reference nor a move of the array makes a kept pointer invalid, as it
//! would for a `Box`.

use std::ops::{Deref, DerefMut};
use std::slice;

use crate::memory::{ANYWHERE, Memory};

/// Types of which all zeroes is a valid value.
/// # Safety
/// SAFETY: implementors have no bytes whose zero is invalid, and need no drop.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: a number.
unsafe impl Plain for u8 {}
// SAFETY: numbers.
unsafe impl<const N: usize> Plain for [u64; N] {}
// SAFETY: a C structure of numbers and pointers.
unsafe impl Plain for libc::iovec {}
// SAFETY: a C structure of numbers and pointers.
unsafe impl Plain for libc::mmsghdr {}
// SAFETY: a C structure of numbers.
unsafe impl Plain for libc::sockaddr_storage {}

/// A boxed slice that never moves, zeroed at first.
#[derive(Debug)]
pub(crate) struct Array<T> {
    start: *mut T,
    length: usize,
    _memory: Memory,
}

impl<T: Plain> Array<T> {
    /// An array of `length` zeroed elements.
    pub(crate) fn zeroed(length: usize) -> Self {
        let memory = Memory::new(length.saturating_mul(size_of::<T>()), align_of::<T>().max(ANYWHERE));
        // More than there can be: none.
        let length = length.min(memory.len() / size_of::<T>().max(1));
        Self { start: memory.at(0).cast(), length, _memory: memory }
    }

    /// The address of an element, valid as long as the array; one beyond the end must not be used.
    pub(crate) fn at(&self, n: usize) -> *mut T {
        self.start.wrapping_add(n)
    }
}

impl<T: Plain> Deref for Array<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the memory holds `length` elements, zeroed or written since, and the kernel writes only during calls,
        // while no reference exists.
        unsafe { slice::from_raw_parts(self.start, self.length) }
    }
}

impl<T: Plain> DerefMut for Array<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start, self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_address_stays_valid_through_references_and_moves() {
        let mut numbers = Array::<[u64; 2]>::zeroed(3);
        let kept = numbers.at(1);
        numbers[1] = [1, 2];
        numbers.iter_mut().for_each(|pair| pair[0] += 10);
        let mut moved = numbers;
        // SAFETY: the address of an element of `moved`, to which no reference exists.
        unsafe { (*kept)[1] = 7 };
        assert_eq!(*moved, [[10, 0], [11, 7], [10, 0]]);
        moved[1] = [0, 0];
        // SAFETY: as above.
        assert_eq!(unsafe { *kept }, [0, 0]);
    }

    #[test]
    fn an_array_may_be_empty() {
        assert!(Array::<u8>::zeroed(0).is_empty());
    }
}
