//! What workers tell while they run: cumulative counters at any time, and each second once it is over.
//!
//! Method: a worker never waits for its reader. Counters are left on a board whenever its lock is free; a finished
//! second is handed over whole. A reader that comes late finds everything still there.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// Where one worker leaves what it has counted.
#[derive(Debug, Default)]
pub struct Board {
    live: Mutex<Counts>,
    done: Mutex<Vec<Second>>,
    spare: Mutex<Vec<Recorder>>,
    failure: Mutex<Option<String>>,
    connections: Mutex<Connections>,
    connect: Mutex<Durations>,
    carrier: Mutex<&'static str>,
    bytes: AtomicUsize,
    stop: AtomicBool,
    finished: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// Leaves the counters, unless somebody is reading them.
    pub fn publish(&self, counts: &Counts) {
        if let Ok(mut live) = self.live.try_lock() {
            *live = *counts;
        }
    }

    /// Leaves the counters, waiting for the reader if need be: at the end.
    pub fn publish_last(&self, counts: &Counts) {
        *lock(&self.live) = *counts;
    }

    /// The counters as last left.
    #[must_use]
    pub fn live(&self) -> Counts {
        *lock(&self.live)
    }

    /// Leaves what became of connections, unless somebody is reading it.
    pub fn publish_connections(&self, connections: &Connections) {
        if let Ok(mut left) = self.connections.try_lock() {
            *left = *connections;
        }
    }

    /// Leaves the last word on connections, and how long opening them took.
    pub fn close_connections(&self, connections: &Connections, connect: Durations) {
        *lock(&self.connections) = *connections;
        *lock(&self.connect) = connect;
    }

    /// What became of connections, as last left.
    #[must_use]
    pub fn connections(&self) -> Connections {
        *lock(&self.connections)
    }

    /// How long opening connections took; empty until the worker is done.
    #[must_use]
    pub fn connect(&self) -> Durations {
        lock(&self.connect).clone()
    }

    /// Notes what carries the connections, and the memory of requests and connections.
    pub fn note_carrier(&self, name: &'static str, bytes: usize) {
        *lock(&self.carrier) = name;
        self.bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// What carries the connections: empty where there are none.
    #[must_use]
    pub fn carrier(&self) -> &'static str {
        *lock(&self.carrier)
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

    /// The first thing that the kernel would not do.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }
}
