//! The state that a server's owner replaces while it runs: workers read it without a lock, and never half of it.
//!
//! Method: a sequence lock of atomics. The number is odd while the words change; a reader that saw it change keeps what
//! it had and finds the rest with its next batch. Ages and steps of the system clock come from two clocks, read when the
//! state was told and again by the reader.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};

use flatout_wire::{LiveState, STATE_WORDS};

use crate::published::lock;

/// The words, and behind them when they were told: steady time, Unix time.
const WORDS: usize = STATE_WORDS + 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct SharedState {
    /// Odd while it is written; 0: nothing was told yet.
    sequence: AtomicU64,
    words: [AtomicU64; WORDS],
    /// Owners, not workers, wait for each other.
    writing: Mutex<()>,
}

impl Default for SharedState {
    fn default() -> Self {
        Self { sequence: AtomicU64::new(0), words: [const { AtomicU64::new(0) }; WORDS], writing: Mutex::default() }
    }
}

impl SharedState {
    /// Replaces the state, told at these times.
    pub(crate) fn set(&self, words: &[u64; STATE_WORDS], steady_ns: u64, unix_ns: u64) {
        let _one_owner = lock(&self.writing);
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (slot, word) in self.words.iter().zip(words.iter().chain(&[steady_ns, unix_ns])) {
            slot.store(*word, Ordering::Relaxed);
        }
        self.sequence.store(sequence + 2, Ordering::Release);
    }

    /// Copies the state if it is another one than `seen`, and returns its number.
    fn copy(&self, seen: u64, out: &mut [u64; WORDS]) -> u64 {
        let before = self.sequence.load(Ordering::Acquire);
        if before == seen || before & 1 == 1 {
            return seen;
        }
        let mut copied = [0; WORDS];
        for (word, slot) in copied.iter_mut().zip(&self.words) {
            *word = slot.load(Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        if self.sequence.load(Ordering::Relaxed) != before {
            return seen;
        }
        *out = copied;
        before
    }
}

/// One worker's copy.
#[derive(Debug)]
pub(crate) struct LiveReader {
    shared: Arc<SharedState>,
    seen: u64,
    words: [u64; WORDS],
}

impl LiveReader {
    pub(crate) fn new(shared: Arc<SharedState>) -> Self {
        Self { shared, seen: 0, words: [0; WORDS] }
    }

    /// The state at these times; `None` before the first.
    pub(crate) fn read(&mut self, steady_ns: u64, unix_ns: u64) -> Option<LiveState> {
        self.seen = self.shared.copy(self.seen, &mut self.words);
        if self.seen == 0 {
            return None;
        }
        let [words @ .., told_steady_ns, told_unix_ns] = self.words;
        let age_ns = steady_ns.saturating_sub(told_steady_ns);
        // Unix times as far apart as they may be: the difference wraps as the sum does.
        let stepped_ns = unix_ns.wrapping_sub(told_unix_ns).wrapping_sub(age_ns) as i64;
        Some(LiveState { words, age_ns, stepped_ns })
    }
}
