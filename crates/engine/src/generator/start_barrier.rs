//! When the schedule begins: known at once for datagrams, after the last worker's connections stand for streams.
//! A held barrier waits for its release as well: another host decides the moment, once all hosts' connections stand.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::Clock;

const CLOSED: u64 = 0;
const NEVER: u64 = u64::MAX;
/// The earliest begin of a barrier that has not been released.
const HELD: u64 = u64::MAX;
/// Between two looks at a barrier that is waited for.
const PAUSE: Duration = Duration::from_millis(1);

/// What workers wait for before the first request; times in ns of the run's clock.
#[derive(Debug)]
pub struct StartBarrier {
    awaited: AtomicUsize,
    connected: AtomicUsize,
    begin: AtomicU64,
    earliest: AtomicU64,
    lead: u64,
}

/// The state of a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Some are not ready yet.
    Wait,
    /// The schedule begins then.
    At(u64),
    /// No worker has a connection.
    Never,
}

impl StartBarrier {
    /// A barrier that is open from the start.
    #[must_use]
    pub fn open(begin: u64) -> Self {
        Self { begin: AtomicU64::new(begin.max(1)), ..Self::closed(0, 0, 0) }
    }

    /// A barrier that opens `lead` after all of `workers` have arrived, but not before `earliest`.
    #[must_use]
    pub fn closed(workers: usize, earliest: u64, lead: u64) -> Self {
        let (awaited, connected) = (AtomicUsize::new(workers), AtomicUsize::new(0));
        Self { awaited, connected, begin: AtomicU64::new(CLOSED), earliest: AtomicU64::new(earliest), lead }
    }

    /// A barrier that opens once all of `workers` have arrived and it has been released.
    #[must_use]
    pub fn held(workers: usize, lead: u64) -> Self {
        Self::closed(workers, HELD, lead)
    }

    /// A worker is ready, with so many connections. The last one opens the barrier, unless it is held.
    pub fn arrive(&self, now: u64, connections: usize) {
        self.connected.fetch_add(connections, Ordering::SeqCst);
        // Of the last arrival and the release, whichever is second must see the first: one order for both.
        if self.awaited.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.open_if_due(now);
        }
    }

    /// A held barrier opens at `at`, or as soon after it as all have arrived and hear of it. Counts once.
    pub fn release(&self, now: u64, at: u64) {
        let first = self.earliest.compare_exchange(HELD, at.min(HELD - 1), Ordering::SeqCst, Ordering::SeqCst);
        if first.is_ok() && self.standing() {
            self.open_if_due(now);
        }
    }

    fn open_if_due(&self, now: u64) {
        let begin = match self.earliest.load(Ordering::SeqCst) {
            _ if self.connected.load(Ordering::SeqCst) == 0 => NEVER,
            HELD => return,
            earliest => (now + self.lead).max(earliest).max(1),
        };
        // Both may come here at the same time; what the first one says stays.
        let _ = self.begin.compare_exchange(CLOSED, begin, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Whether all have arrived.
    #[must_use]
    pub fn standing(&self) -> bool {
        self.awaited.load(Ordering::SeqCst) == 0
    }

    /// Arrives, with so many flows, where the begin is not known yet, and waits for it; `None`: it never comes, or
    /// `stopping` says so.
    pub fn wait(&self, clock: &impl Clock, flows: usize, stopping: impl Fn() -> bool) -> Option<u64> {
        if self.begin() == Begin::Wait {
            self.arrive(clock.now(), flows);
        }
        loop {
            match self.begin() {
                Begin::At(begin) => return Some(begin),
                Begin::Wait if !stopping() => std::thread::sleep(PAUSE),
                Begin::Wait | Begin::Never => return None,
            }
        }
    }

    /// What it says now.
    #[must_use]
    pub fn begin(&self) -> Begin {
        match self.begin.load(Ordering::Acquire) {
            CLOSED => Begin::Wait,
            NEVER => Begin::Never,
            at => Begin::At(at),
        }
    }
}
