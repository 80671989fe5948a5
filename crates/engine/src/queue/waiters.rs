//! Who waits for messages, and how they are called: threads, threads that linger for more, event loops.
//!
//! Method: a waiter announces itself first and then looks again; a worker counts its messages first and then looks for
//! waiters. So one of the two sees the other. No waiter is woken twice for one thing: waking is a system call.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use flatout_net::EventFd;

/// No waiter lingers.
const NOBODY: usize = usize::MAX;

#[derive(Debug)]
pub(super) struct Waiters {
    /// Threads that wait for the first message.
    sleepers: AtomicUsize,
    /// One of them has been called and has not yet looked.
    called: AtomicBool,
    /// How many messages are enough for somebody who lingers.
    enough: AtomicUsize,
    /// The event fd is to be notified of the next message.
    armed: AtomicBool,
    stopped: AtomicBool,
    /// How many linger.
    barrier: Mutex<usize>,
    came: Condvar,
    more: Condvar,
    event_fd: EventFd,
}

impl Waiters {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            sleepers: AtomicUsize::new(0),
            called: AtomicBool::new(false),
            enough: AtomicUsize::new(NOBODY),
            armed: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            barrier: Mutex::new(0),
            came: Condvar::new(),
            more: Condvar::new(),
            event_fd: EventFd::new()?,
        })
    }

    /// Wakes the waiters that `ready` waiting messages concern; the messages have been counted in `ready` before.
    #[inline]
    pub(super) fn announce(&self, ready: usize) {
        if self.sleepers.load(Ordering::SeqCst) > 0 && !self.called.swap(true, Ordering::SeqCst) {
            self.pass_gate();
            self.came.notify_one();
        }
        if ready >= self.enough.load(Ordering::SeqCst) {
            self.enough.store(NOBODY, Ordering::SeqCst);
            self.pass_gate();
            self.more.notify_all();
        }
        if self.armed.load(Ordering::SeqCst) && self.armed.swap(false, Ordering::SeqCst) {
            self.event_fd.notify();
        }
    }

    /// A waiter between looking and sleeping holds the lock: once it is free, the waiter sleeps and can be woken.
    fn pass_gate(&self) {
        drop(self.barrier.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits for a message, at most so long.
    pub(super) fn wait(&self, at_most: Duration, ready: &AtomicUsize) {
        let barrier = self.barrier.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let idle = |_: &mut usize| {
            self.called.store(false, Ordering::SeqCst);
            ready.load(Ordering::SeqCst) == 0 && !self.stopped()
        };
        drop(self.came.wait_timeout_while(barrier, at_most, idle).unwrap_or_else(PoisonError::into_inner));
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Waits for so long, or until `enough` messages are there.
    pub(super) fn linger(&self, at_most: Duration, enough: usize, ready: &AtomicUsize) {
        let mut barrier = self.barrier.lock().unwrap_or_else(PoisonError::into_inner);
        *barrier += 1;
        self.enough.fetch_min(enough, Ordering::SeqCst);
        let few = |_: &mut usize| ready.load(Ordering::SeqCst) < enough && !self.stopped();
        let waited = self.more.wait_timeout_while(barrier, at_most, few).unwrap_or_else(PoisonError::into_inner);
        barrier = waited.0;
        *barrier -= 1;
        if *barrier == 0 {
            self.enough.store(NOBODY, Ordering::SeqCst);
        }
    }

    /// Arms the event fd for the next message; false where some wait already or none will come.
    ///
    /// Several may listen to it. It stays armed whatever this returns, for another may rely on that; one ring too many
    /// does no harm.
    pub(super) fn arm(&self, ready: &AtomicUsize) -> bool {
        if self.stopped() {
            return false;
        }
        self.event_fd.drain();
        self.armed.store(true, Ordering::SeqCst);
        if self.stopped() {
            // The ring that told the others may be the one that was silenced.
            self.event_fd.notify();
            return false;
        }
        ready.load(Ordering::SeqCst) == 0
    }

    /// The event fd's descriptor.
    pub(super) fn descriptor(&self) -> i32 {
        self.event_fd.descriptor()
    }

    /// Nothing more will come: calls all.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.pass_gate();
        self.came.notify_all();
        self.more.notify_all();
        self.event_fd.notify();
    }

    /// Whether nothing more will come.
    pub(super) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}
