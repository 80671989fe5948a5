//! The requests that are due next: warm-up first, then the counted schedule, drawn as far as needed.

use std::collections::VecDeque;

use super::Times;
use crate::pace::Pacer;

/// Both schedules and what has been drawn of them.
pub(super) struct Schedule {
    warmup: Pacer,
    pacer: Pacer,
    times: Times,
    drawn: VecDeque<u64>,
    warming: bool,
    over: bool,
}

impl Schedule {
    pub(super) fn new(warmup: Pacer, pacer: Pacer, times: Times) -> Self {
        Self { warmup, pacer, times, drawn: VecDeque::with_capacity(64), warming: true, over: false }
    }

    /// The run's times are known only now.
    pub(super) fn begin(&mut self, times: Times) {
        self.times = times;
    }

    /// The due time of the n-th request that has not been dealt with.
    pub(super) fn due(&mut self, n: usize) -> Option<u64> {
        while self.drawn.len() <= n {
            let drawn = self.draw()?;
            self.drawn.push_back(drawn);
        }
        self.drawn.get(n).copied()
    }

    /// The first request has been dealt with.
    pub(super) fn pass(&mut self) -> Option<u64> {
        self.drawn.pop_front()
    }

    /// Nothing is due any more.
    pub(super) fn stop(&mut self) {
        self.drawn.clear();
        self.over = true;
    }

    fn draw(&mut self) -> Option<u64> {
        if self.over {
            return None;
        }
        if self.warming {
            if let Some(due) = self.warmup.draw() {
                return Some(self.times.begin + due);
            }
            self.warming = false;
        }
        self.pacer.draw().map(|due| self.times.counted_from + due)
    }
}
