//! One eventfd that wakes the thread for all of its rings.
//!
//! Waiting for the rings' own descriptors does not do: with DEFER_TASKRUN they wake nobody.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use crate::event_fd;

/// A bell that nobody has rung.
pub(super) fn new() -> io::Result<OwnedFd> {
    event_fd::create()
}

/// Waits until it is rung, and makes it silent again; returns how many system calls that took.
pub(super) fn wait(bell: &OwnedFd, wait: Duration) -> u64 {
    let mut poll = libc::pollfd { fd: bell.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = libc::timespec { tv_sec: wait.as_secs() as libc::time_t, tv_nsec: wait.subsec_nanos().into() };
    // SAFETY: the kernel reads and writes one pollfd and reads one timespec; the null mask changes no signals.
    let rung = unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
    if rung <= 0 {
        return 1;
    }
    event_fd::drain(bell);
    2
}
