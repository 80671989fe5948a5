//! What all workers of a receiver have counted; read by Python on a tick, and by senders that query it.
//!
//! Laws: `received = parsed + malformed` and `parsed = handed_over + dropped + queued` hold in whatever is read, for
//! each of these numbers comes from one place; a worker waits for no reader.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use flatout_wire::Malformed;
use flatout_wire::receiver_stats::{ReceiverCounters, StatsReply};

use super::sequence::{SequenceCounters, SequenceTracker};
use super::sources::Sources;
use crate::clock::unique;
use crate::histogram::Durations;
use crate::published::{Published, lock};
use crate::queue::{Passed, RecordQueue};

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
    pub(crate) tracked: SequenceCounters,
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
            duplicate: self.tracked.duplicate,
            reordered: self.tracked.reordered,
            missing: self.tracked.missing,
            restarts: self.tracked.restarts,
            untracked: self.tracked.untracked,
            kernel_drops: self.kernel_drops,
            arrivals: self.counted.arrivals,
            handed_over: self.passed.handed_over,
            dropped: self.passed.dropped,
            queued: self.passed.queued,
            // Who asks takes differences: those who have begun since are a run's senders.
            senders: self.senders(self.tracked.begun),
            bytes: self.counted.bytes,
            cpu_ns: self.counted.cpu_ns,
            workers: 1,
            size: self.size,
            sequence_bits: self.sequence_bits,
        }
    }

    /// Where no sender is tracked, an address is a sender.
    fn senders(&self, tracked: u64) -> u64 {
        if self.sequence_bits > 0 { tracked } else { self.counted.sources }
    }

    /// All words and numbers; of senders each once, in however many runs it took part.
    #[must_use]
    pub fn words(&self) -> Vec<(&'static str, u64)> {
        let senders = self.senders(self.tracked.senders);
        let reported = |(word, number)| (word, if word == "senders" { senders } else { number });
        let mut words: Vec<_> = self.arrived().words().into_iter().map(reported).collect();
        words.extend(Malformed::WORDS.into_iter().zip(self.counted.malformed));
        words.extend([
            ("ahead", self.counted.ahead),
            ("waited", self.passed.waited),
            ("memory_bytes", self.passed.bytes as u64 + self.table_bytes),
        ]);
        words
    }
}

/// The sum over all workers.
fn sum(workers: &[Received]) -> ReceiverCounters {
    workers.iter().map(Received::arrived).fold(ReceiverCounters::default(), |mut all, one| {
        all.add(&one);
        all
    })
}

/// The senders that are followed by one worker, or by all that read one socket.
#[derive(Debug)]
pub(crate) struct TrackedSenders {
    pub(super) table: Mutex<SequenceTracker>,
    published: Published<(SequenceCounters, u64)>,
}

impl TrackedSenders {
    pub(crate) fn new(tracker: SequenceTracker) -> Self {
        Self { table: Mutex::new(tracker), published: Published::default() }
    }

    /// Publishes what the table has found, unless it is being read.
    pub(super) fn offer(&self, tracker: &SequenceTracker) {
        self.published.offer(&(tracker.counts(), tracker.bytes() as u64));
    }

    fn read(&self) -> (SequenceCounters, u64) {
        // The table itself where it is free: it knows more than was left.
        if let Ok(table) = self.table.try_lock() {
            return (table.counts(), table.bytes() as u64);
        }
        self.published.read()
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

/// What one worker publishes.
#[derive(Default)]
pub(crate) struct WorkerStats {
    pub(super) counted: Published<Counted>,
    pub(super) delays: Mutex<Durations>,
}

/// All counters of a receiver.
pub(crate) struct ReceiverStats {
    pub(crate) queue: RecordQueue,
    pub(crate) sources: Sources,
    pub(super) workers: Vec<WorkerStats>,
    /// One a worker, or one for all.
    pub(super) followings: Vec<TrackedSenders>,
    /// One a socket.
    pub(super) drops: Vec<Drops>,
    pub(super) size: usize,
    pub(super) sequence_bits: u32,
    /// Where messages say who sent them, and their number.
    slots: u64,
    /// How often sequence numbers have begun anew, and which question was the last to ask for it.
    epoch: AtomicU64,
    asked: Mutex<Option<u64>>,
    /// Tells this receiver from all others, those included that listen here after it.
    instance: u64,
}

impl ReceiverStats {
    pub(crate) fn new(
        queue: RecordQueue,
        sources: Sources,
        (workers, followings, drops): (usize, Vec<TrackedSenders>, Vec<Drops>),
        (size, sequence_bits, slots): (usize, u32, u64),
    ) -> Arc<Self> {
        let workers = (0..workers).map(|_| WorkerStats::default()).collect();
        let (epoch, asked) = (AtomicU64::new(0), Mutex::new(None));
        // No more bits than every reader of JSON keeps.
        let instance = unique() >> 11;
        Arc::new(Self {
            queue,
            sources,
            workers,
            followings,
            drops,
            size,
            sequence_bits,
            slots,
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
    pub(super) fn reset_sequences(&self, nonce: u64) {
        let mut asked = lock(&self.asked);
        if *asked != Some(nonce) {
            *asked = Some(nonce);
            self.epoch.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Each worker's numbers. What workers share stands with the first.
    pub(crate) fn received(&self) -> Vec<Received> {
        (0..self.workers.len()).map(|n| self.received_by(n)).collect()
    }

    /// What those are told who ask.
    pub(crate) fn reported(&self) -> StatsReply {
        StatsReply { instance: self.instance, field_layout: self.slots, counters: sum(&self.received()) }
    }

    fn received_by(&self, worker: usize) -> Received {
        let (tracked, table_bytes) = self.followings.get(worker).map(TrackedSenders::read).unwrap_or_default();
        Received {
            counted: self.workers.get(worker).map(|stats| stats.counted.read()).unwrap_or_default(),
            passed: self.queue.passed(worker),
            tracked,
            kernel_drops: self.drops.get(worker).map_or(0, Drops::count),
            table_bytes,
            size: self.size as u64,
            sequence_bits: self.sequence_bits.into(),
        }
    }

    /// How long messages were under way, over all workers.
    pub(crate) fn delays(&self) -> Durations {
        let mut all = Durations::default();
        for stats in &self.workers {
            let delays = lock(&stats.delays).clone();
            all.add(&delays);
        }
        all
    }
}
