//! When the schedule begins: known at once for datagrams, after the last worker's connections stand for streams.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const CLOSED: u64 = 0;
const NEVER: u64 = u64::MAX;

/// What workers wait for before the first request; times in ns of the run's clock.
#[derive(Debug)]
pub struct StartBarrier {
    awaited: AtomicUsize,
    connected: AtomicUsize,
    begin: AtomicU64,
    earliest: u64,
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
        Self { awaited, connected, begin: AtomicU64::new(CLOSED), earliest, lead }
    }

    /// A worker is ready, with so many connections. The last one opens the barrier.
    pub fn arrive(&self, now: u64, connections: usize) {
        self.connected.fetch_add(connections, Ordering::AcqRel);
        if self.awaited.fetch_sub(1, Ordering::AcqRel) == 1 {
            let any = self.connected.load(Ordering::Acquire) > 0;
            let begin = if any { (now + self.lead).max(self.earliest).max(1) } else { NEVER };
            self.begin.store(begin, Ordering::Release);
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
