//! What workers publish while they run: cumulative counters at any time, and each second once it is over.
//!
//! Method: a worker never waits for its reader. Counters are published whenever the lock is free; a finished second is
//! handed over whole. A reader that comes late finds everything still there.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use flatout_net::Contention;

use crate::generator::subinterval::Subintervals;
use crate::histogram::{Durations, Recorder};
use crate::tally::{Connections, Counts};

/// One second of one worker: events that fell into it.
#[derive(Debug)]
pub struct Second {
    /// Which, from 0; what comes after the schedule's end goes on counting.
    pub index: usize,
    /// When it ended, ns since the counted beginning.
    pub until: u64,
    /// The events.
    pub counts: Counts,
    /// The durations that ended in it.
    pub recorder: Recorder,
}

/// A value that one worker publishes and others read; the worker never waits for a reader.
#[derive(Debug, Default)]
pub struct Published<T>(Mutex<T>);

impl<T: Copy> Published<T> {
    /// Publishes the value unless it is being read at this moment.
    #[inline]
    pub fn offer(&self, value: &T) {
        if let Ok(mut published) = self.0.try_lock() {
            *published = *value;
        }
    }

    /// Publishes the last value: waits for a reader if need be.
    pub fn publish(&self, value: &T) {
        *lock(&self.0) = *value;
    }

    /// The value as last published.
    #[must_use]
    pub fn read(&self) -> T {
        *lock(&self.0)
    }
}

/// What one load worker publishes.
#[derive(Debug, Default)]
pub struct PublishedRun {
    live: Published<Counts>,
    done: Mutex<Vec<Second>>,
    spare: Mutex<Vec<Recorder>>,
    failure: Mutex<Option<String>>,
    gave_up: Mutex<Option<String>>,
    connections: Published<Connections>,
    connect: Mutex<Durations>,
    backend: Mutex<&'static str>,
    contention: Mutex<Option<Contention>>,
    subintervals: Mutex<Subintervals>,
    bytes: AtomicUsize,
    stop: AtomicBool,
    share_cpus: AtomicBool,
    finished: AtomicBool,
}

/// Counters are plain numbers: a panic with the lock held leaves them at most one batch behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PublishedRun {
    /// Publishes the counters unless they are being read.
    pub fn offer(&self, counts: &Counts) {
        self.live.offer(counts);
    }

    /// Publishes the final counters.
    pub fn publish(&self, counts: &Counts) {
        self.live.publish(counts);
    }

    /// The counters as last published.
    #[must_use]
    pub fn live(&self) -> Counts {
        self.live.read()
    }

    /// Publishes the counters of connections unless they are being read.
    pub fn offer_connections(&self, connections: &Connections) {
        self.connections.offer(connections);
    }

    /// Publishes the final counters of connections, and how long opening them took.
    pub fn close_connections(&self, connections: &Connections, connect: Durations) {
        self.connections.publish(connections);
        *lock(&self.connect) = connect;
    }

    /// The counters of connections as last published.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.connections.read()
    }

    /// How long opening connections took; empty until the worker is done.
    #[must_use]
    pub fn connect(&self) -> Durations {
        lock(&self.connect).clone()
    }

    /// Publishes what is known only at the end: how the thread fared, and what was due when.
    pub fn close(&self, contention: Contention, subintervals: Subintervals) {
        *lock(&self.contention) = Some(contention);
        *lock(&self.subintervals) = subintervals;
    }

    /// How the thread fared; `None` until the worker is done.
    #[must_use]
    pub fn contention(&self) -> Option<Contention> {
        *lock(&self.contention)
    }

    /// What was due in each subinterval; empty until the worker is done.
    #[must_use]
    pub fn subintervals(&self) -> Subintervals {
        lock(&self.subintervals).clone()
    }

    /// Notes what carries the connections, and the memory of requests and connections.
    pub fn note_backend(&self, name: &'static str, bytes: usize) {
        *lock(&self.backend) = name;
        self.bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// What carries the connections: empty where there are none.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        *lock(&self.backend)
    }

    /// The most memory that requests and connections have taken.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Hands over a finished second.
    pub fn hand_over(&self, second: Second) {
        lock(&self.done).push(second);
    }

    /// Takes all finished seconds.
    pub fn take_done(&self) -> Vec<Second> {
        std::mem::take(&mut *lock(&self.done))
    }

    /// An empty recorder: a used one if there is any.
    #[must_use]
    pub fn spare(&self) -> Recorder {
        lock(&self.spare).pop().unwrap_or_default()
    }

    /// Gives a recorder back for further use.
    pub fn give_back(&self, mut recorder: Recorder) {
        recorder.clear();
        lock(&self.spare).push(recorder);
    }

    /// Asks the worker to stop.
    pub fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the worker was asked to stop.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Tells the worker that the target needs its CPU.
    pub fn ask_to_share_cpus(&self) {
        self.share_cpus.store(true, Ordering::Relaxed);
    }

    /// Whether the target needs the worker's CPU.
    #[must_use]
    pub fn shares_cpus(&self) -> bool {
        self.share_cpus.load(Ordering::Relaxed)
    }

    /// Notes that the worker has left its last word.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }

    /// Whether the worker has left its last word.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Notes the first thing that the kernel would not do.
    pub fn fail(&self, what: String) {
        lock(&self.failure).get_or_insert(what);
    }

    /// The worker cannot go on, for this reason: it ends as if it were asked to stop.
    pub fn give_up(&self, why: String) {
        lock(&self.gave_up).get_or_insert(why);
        self.ask_to_stop();
    }

    /// Why the worker could not go on.
    #[must_use]
    pub fn gave_up(&self) -> Option<String> {
        lock(&self.gave_up).clone()
    }

    /// The first thing that the kernel would not do.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }
}
