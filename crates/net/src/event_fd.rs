//! An eventfd, which wakes a thread that polls descriptors.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::socket::own;

/// A new eventfd, not readable.
pub(crate) fn create() -> io::Result<OwnedFd> {
    // SAFETY: eventfd takes no pointers.
    own(unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) })
}

/// Resets an eventfd: not readable any more.
pub(crate) fn drain(fd: &OwnedFd) {
    let mut count = 0_u64;
    // SAFETY: the kernel writes at most eight bytes into `count`.
    unsafe { libc::read(fd.as_raw_fd(), (&raw mut count).cast(), size_of::<u64>()) };
}

/// An eventfd that an event loop can poll.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A new one, not readable. Errors: no descriptors left.
    pub fn new() -> io::Result<Self> {
        create().map(Self)
    }

    /// Its descriptor: readable from `notify` to `drain`.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Makes it readable.
    pub fn notify(&self) {
        let once = 1_u64;
        // SAFETY: the kernel reads eight bytes of `once`.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const once).cast(), size_of::<u64>()) };
    }

    /// Resets it: not readable any more.
    pub fn drain(&self) {
        drain(&self.0);
    }
}
