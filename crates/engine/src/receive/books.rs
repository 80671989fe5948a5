//! What all workers of a receiver have counted, for whoever reads it: Python on a tick, a sender that asks.
//!
//! Laws: `received = parsed + malformed` and `parsed = handed_over + dropped + queued` hold in whatever is read, for
//! each of these numbers comes from one place; a worker waits for no reader.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flatout_wire::Malformed;
use flatout_wire::receiver_stats::{ReceiverCounters, StatsReply};

use super::sequence::{Followed, Follower};
use super::sources::Sources;
use crate::clock::unique;
use crate::handover::{Handover, Passed};
use crate::histogram::Durations;

const REASONS: usize = Malformed::WORDS.len();

/// What one worker counts by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) malformed: [u64; REASONS],
    /// What the kernel handed over: coalesced messages as one.
    pub(crate) arrivals: u64,
    pub(crate) bytes: u64,
    pub(crate) cpu_ns: u64,
    /// Messages that arrived before they were sent, by the clocks.
    pub(crate) ahead: u64,
    /// Addresses that it was the first to see.
    pub(crate) sources: u64,
}

/// One worker's numbers, cumulative.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    pub(crate) counted: Counted,
    pub(crate) passed: Passed,
    pub(crate) followed: Followed,
    pub(crate) kernel_drops: u64,
    pub(crate) table_bytes: u64,
    pub(crate) size: u64,
    pub(crate) sequence_bits: u64,
}

impl Received {
    /// In the words of [`ReceiverCounters`], as one worker.
    #[must_use]
    pub fn arrived(&self) -> ReceiverCounters {
        let malformed = self.counted.malformed.iter().sum();
        ReceiverCounters {
            received: self.passed.parsed + malformed,
            parsed: self.passed.parsed,
            malformed,
            duplicate: self.followed.duplicate,
            reordered: self.followed.reordered,
            missing: self.followed.missing,
            restarts: self.followed.restarts,
            untracked: self.followed.untracked,
            kernel_drops: self.kernel_drops,
            arrivals: self.counted.arrivals,
            handed_over: self.passed.handed_over,
            dropped: self.passed.dropped,
            queued: self.passed.queued,
            // Who asks takes differences: those who have begun since are a run's senders.
            senders: self.senders(self.followed.begun),
            bytes: self.counted.bytes,
            cpu_ns: self.counted.cpu_ns,
            workers: 1,
            size: self.size,
            sequence_bits: self.sequence_bits,
        }
    }

    /// Where nobody is followed, an address is a sender.
    fn senders(&self, followed: u64) -> u64 {
        if self.sequence_bits > 0 { followed } else { self.counted.sources }
    }

    /// All words and numbers; of senders each once, in however many runs it took part.
    #[must_use]
    pub fn words(&self) -> Vec<(&'static str, u64)> {
        let senders = self.senders(self.followed.senders);
        let told = |(word, number)| (word, if word == "senders" { senders } else { number });
        let mut words: Vec<_> = self.arrived().words().into_iter().map(told).collect();
        words.extend(Malformed::WORDS.into_iter().zip(self.counted.malformed));
        words.extend([
            ("ahead", self.counted.ahead),
            ("waited", self.passed.waited),
            ("memory_bytes", self.passed.bytes as u64 + self.table_bytes),
        ]);
        words
    }
}

/// The sum of what workers tell.
fn sum(workers: &[Received]) -> ReceiverCounters {
    let mut all = ReceiverCounters::default();
    for one in workers.iter().map(Received::arrived) {
        all.received += one.received;
        all.parsed += one.parsed;
        all.malformed += one.malformed;
        all.duplicate += one.duplicate;
        all.reordered += one.reordered;
        all.missing += one.missing;
        all.restarts += one.restarts;
        all.untracked += one.untracked;
        all.kernel_drops += one.kernel_drops;
        all.arrivals += one.arrivals;
        all.handed_over += one.handed_over;
        all.dropped += one.dropped;
        all.queued += one.queued;
        all.senders += one.senders;
        all.bytes += one.bytes;
        all.cpu_ns += one.cpu_ns;
        all.workers += one.workers;
        (all.size, all.sequence_bits) = (one.size, one.sequence_bits);
    }
    all
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counters are plain numbers: whoever panicked with the lock left some of them a batch behind.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The senders that are followed by one worker, or by all that read one socket.
#[derive(Debug)]
pub(crate) struct Following {
    pub(super) table: Mutex<Follower>,
    left: Mutex<(Followed, u64)>,
}

impl Following {
    pub(crate) fn new(follower: Follower) -> Self {
        Self { table: Mutex::new(follower), left: Mutex::default() }
    }

    /// Leaves what the table has found, if nobody is reading.
    pub(super) fn offer(&self, follower: &Follower) {
        if let Ok(mut left) = self.left.try_lock() {
            *left = (follower.counts(), follower.bytes() as u64);
        }
    }

    fn read(&self) -> (Followed, u64) {
        // The table itself where it is free: it knows more than was left.
        if let Ok(table) = self.table.try_lock() {
            return (table.counts(), table.bytes() as u64);
        }
        *lock(&self.left)
    }
}

/// What one socket has dropped. The kernel counts in 32 bits.
pub(crate) struct Drops {
    read: Mutex<Option<Box<dyn Fn() -> u32 + Send>>>,
    seen: Mutex<(u32, u64)>,
}

impl Drops {
    pub(crate) fn new(read: impl Fn() -> u32 + Send + 'static) -> Self {
        Self { read: Mutex::new(Some(Box::new(read))), seen: Mutex::default() }
    }

    pub(super) fn count(&self) -> u64 {
        let read = lock(&self.read);
        let mut seen = lock(&self.seen);
        if let Some(read) = read.as_ref() {
            let now = read();
            *seen = (now, seen.1 + u64::from(now.wrapping_sub(seen.0)));
        }
        seen.1
    }

    /// Counts for the last time, and lets the socket go.
    pub(super) fn close(&self) {
        self.count();
        lock(&self.read).take();
    }
}

/// One worker's page.
pub(crate) struct Page {
    left: Mutex<Counted>,
    pub(super) delays: Mutex<Durations>,
}

impl Page {
    /// Leaves the counters, if nobody is reading.
    pub(super) fn offer(&self, counted: &Counted) {
        if let Ok(mut left) = self.left.try_lock() {
            *left = *counted;
        }
    }

    /// Leaves the last ones.
    pub(super) fn leave(&self, counted: &Counted) {
        *lock(&self.left) = *counted;
    }
}

/// The books of a receiver.
pub(crate) struct Books {
    pub(crate) handover: Handover,
    pub(crate) sources: Sources,
    pub(super) pages: Vec<Page>,
    /// One a worker, or one for all.
    pub(super) followings: Vec<Following>,
    /// One a socket.
    pub(super) drops: Vec<Drops>,
    pub(super) size: usize,
    pub(super) sequence_bits: u32,
    /// Where messages say who sent them, and their number.
    places: u64,
    /// How often sequence numbers have begun anew, and which question was the last to ask for it.
    epoch: AtomicU64,
    asked: Mutex<Option<u64>>,
    /// Tells this receiver from all others, those included that listen here after it.
    instance: u64,
}

impl Books {
    pub(crate) fn new(
        handover: Handover,
        sources: Sources,
        (workers, followings, drops): (usize, Vec<Following>, Vec<Drops>),
        (size, sequence_bits, places): (usize, u32, u64),
    ) -> Arc<Self> {
        let page = || Page { left: Mutex::default(), delays: Mutex::default() };
        let pages = (0..workers).map(|_| page()).collect();
        let (epoch, asked) = (AtomicU64::new(0), Mutex::new(None));
        // No more bits than every reader of JSON keeps.
        let instance = unique() >> 11;
        Arc::new(Self {
            handover,
            sources,
            pages,
            followings,
            drops,
            size,
            sequence_bits,
            places,
            epoch,
            asked,
            instance,
        })
    }

    /// Which beginning of sequence numbers this is.
    #[inline]
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Sequence numbers begin anew, once for each question however often it comes.
    pub(super) fn begin_anew(&self, nonce: u64) {
        let mut asked = lock(&self.asked);
        if *asked != Some(nonce) {
            *asked = Some(nonce);
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Each worker's numbers. What workers share stands with the first.
    pub(crate) fn received(&self) -> Vec<Received> {
        (0..self.pages.len()).map(|n| self.received_by(n)).collect()
    }

    /// What those are told who ask.
    pub(crate) fn told(&self) -> StatsReply {
        StatsReply { instance: self.instance, field_layout: self.places, counters: sum(&self.received()) }
    }

    fn received_by(&self, worker: usize) -> Received {
        let (followed, table_bytes) = self.followings.get(worker).map(Following::read).unwrap_or_default();
        Received {
            counted: self.pages.get(worker).map(|page| *lock(&page.left)).unwrap_or_default(),
            passed: self.handover.passed(worker),
            followed,
            kernel_drops: self.drops.get(worker).map_or(0, Drops::count),
            table_bytes,
            size: self.size as u64,
            sequence_bits: self.sequence_bits.into(),
        }
    }

    /// How long messages were under way, over all workers.
    pub(crate) fn delays(&self) -> Durations {
        let mut all = Durations::default();
        for page in &self.pages {
            let delays = lock(&page.delays).clone();
            all.add(&delays);
        }
        all
    }
}
