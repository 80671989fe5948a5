//! The state that a server's owner replaces while it runs: workers read it without a lock, and never half of it.
//!
//! Method: a sequence lock of atomics. The number is odd while the words change; a reader that saw it change keeps what
//! it had and finds the rest with its next batch. Ages and steps of the system clock come from two clocks, read when the
//! state was told and again by the reader.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};

use flatout_wire::{LiveState, STATE_WORDS};

use crate::clock::{steady_now, unix_now};
use crate::published::lock;

/// The words, and behind them when they were told: steady time, Unix time.
const WORDS: usize = STATE_WORDS + 2;

/// Steady time and Unix time, ns, of one moment: the first of `tries` readings that took at most `most_ns`, else the
/// shortest. A thread that is put aside between two clocks would see a step of one of them.
pub(crate) fn read_clocks(most_ns: u64, tries: usize) -> (u64, u64) {
    read_together(steady_now, unix_now, most_ns, tries)
}

fn read_together(steady: impl Fn() -> u64, unix: impl Fn() -> u64, most_ns: u64, tries: usize) -> (u64, u64) {
    let (mut shortest_ns, mut read) = (u64::MAX, (0, 0));
    for _ in 0..tries {
        let (before, unix_ns) = (steady(), unix());
        let took_ns = steady().saturating_sub(before);
        if took_ns < shortest_ns {
            (shortest_ns, read) = (took_ns, (before + took_ns / 2, unix_ns));
        }
        if took_ns <= most_ns {
            break;
        }
    }
    read
}

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
#[derive(Clone, Debug)]
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const UNIX: u64 = 1_800_000_000 * SECOND;

    #[test]
    fn nothing_was_told_before_the_first() {
        let shared = Arc::<SharedState>::default();
        let mut reader = LiveReader::new(Arc::clone(&shared));
        assert_eq!(reader.read(5, UNIX), None);
        shared.set(&[7; STATE_WORDS], 5, UNIX);
        let told = reader.read(5 + SECOND, UNIX + SECOND).expect("a state");
        assert_eq!(told, LiveState { words: [7; STATE_WORDS], age_ns: SECOND, stepped_ns: 0 });
    }

    #[test]
    fn a_step_of_the_system_clock_is_seen_whatever_its_size() {
        let shared = Arc::<SharedState>::default();
        let mut reader = LiveReader::new(Arc::clone(&shared));
        shared.set(&[1; STATE_WORDS], 0, UNIX);
        for hours in [1_i64, -1, 68 * 8766, -56 * 8766] {
            let step = hours * 3600 * SECOND as i64;
            let told = reader.read(SECOND, (UNIX + SECOND).wrapping_add_signed(step)).expect("a state");
            assert_eq!((told.age_ns, told.stepped_ns), (SECOND, step), "{hours} h");
        }
        // A clock before 1970 reads as 0.
        assert!(reader.read(SECOND, 0).expect("a state").stepped_ns < -(UNIX as i64 / 2));
    }

    #[test]
    fn clocks_that_were_read_apart_are_read_again() {
        const GAPS: [u64; 4] = [300_000_000, 2_000_000, 900_000_000, 100];
        let (steady_ns, reads) = (Cell::new(0), Cell::new(0));
        let read = |most_ns, tries| {
            steady_ns.set(0);
            reads.set(0);
            let unix = || {
                let told = UNIX + steady_ns.get();
                // The thread is put aside behind the reading.
                steady_ns.set(steady_ns.get() + GAPS[reads.replace(reads.get() + 1)]);
                told
            };
            let (steady, unix) = read_together(|| steady_ns.get(), unix, most_ns, tries);
            ((UNIX + steady).abs_diff(unix), reads.get())
        };
        assert_eq!(read(1_000_000, 4), (50, 4));
        assert_eq!(read(1_000_000, 3), (1_000_000, 3), "the shortest of all");
        assert_eq!(read(50_000_000, 3), (1_000_000, 2), "the first that is short enough");
    }

    #[test]
    fn no_reader_sees_half_of_a_state() {
        const STATES: u64 = 20_000;
        let shared = Arc::<SharedState>::default();
        let writer = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || (1..=STATES).for_each(|n| shared.set(&[n; STATE_WORDS], n, n)))
        };
        let mut reader = LiveReader::new(shared);
        let mut last = 0;
        while last < STATES {
            let Some(told) = reader.read(STATES, STATES) else { continue };
            assert!(told.words.iter().all(|word| *word == told.words[0]), "{told:?}");
            assert_eq!(told.age_ns, STATES - told.words[0]);
            assert!(told.words[0] >= last, "states come in order");
            last = told.words[0];
        }
        writer.join().expect("a state");
    }
}
