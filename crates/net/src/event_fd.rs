//! An eventfd: what wakes somebody who waits for descriptors.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::socket::own;

/// An eventfd that nobody has rung.
pub(crate) fn create() -> io::Result<OwnedFd> {
    // SAFETY: eventfd takes no pointers.
    own(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })
}

/// Makes an eventfd silent again.
pub(crate) fn drain(bell: &OwnedFd) {
    let mut count = 0_u64;
    // SAFETY: the kernel writes at most eight bytes into `count`.
    unsafe { libc::read(bell.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
}

/// A bell that others can wait for, as event loops do.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A silent one. Errors: no descriptors left.
    pub fn new() -> io::Result<Self> {
        create().map(Self)
    }

    /// Its descriptor: readable from the first ring on until it is silenced.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Rings it.
    pub fn notify(&self) {
        let once = 1_u64;
        // SAFETY: the kernel reads eight bytes of `once`.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const once).cast(), size_of::<u64>()) };
    }

    /// Makes it silent again.
    pub fn drain(&self) {
        drain(&self.0);
    }
}
