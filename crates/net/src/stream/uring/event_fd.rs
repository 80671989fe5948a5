//! The eventfd that wakes the thread for all of its rings.
//!
//! Polling the rings' own descriptors does not work: with DEFER_TASKRUN they wake no thread.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::call;
use crate::event_fd;

/// A new eventfd, not readable.
pub(super) fn new() -> io::Result<OwnedFd> {
    event_fd::create()
}

/// Waits until it is readable, and drains it; returns the number of system calls.
pub(super) fn wait(fd: &OwnedFd, wait: Duration) -> io::Result<u64> {
    if !call::poll(fd, libc::POLLIN, wait)? {
        return Ok(1);
    }
    event_fd::drain(fd);
    Ok(2)
}
