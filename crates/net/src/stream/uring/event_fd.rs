//! The eventfd that wakes the thread for all of its rings.
//!
//! Polling the rings' own descriptors does not work: with DEFER_TASKRUN they wake no thread.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use crate::event_fd;

/// A new eventfd, not readable.
pub(super) fn new() -> io::Result<OwnedFd> {
    event_fd::create()
}

/// Waits until it is readable, and drains it; returns the number of system calls.
pub(super) fn wait(fd: &OwnedFd, wait: Duration) -> u64 {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = libc::timespec { tv_sec: wait.as_secs() as libc::time_t, tv_nsec: wait.subsec_nanos().into() };
    // SAFETY: the kernel reads and writes one pollfd and reads one timespec; the null mask changes no signals.
    let ready = unsafe { libc::ppoll(&raw mut poll, 1, &raw const timeout, std::ptr::null()) };
    if ready <= 0 {
        return 1;
    }
    event_fd::drain(fd);
    2
}
