//! The requests that are due next: warm-up first, then the counted schedule, drawn as far as needed.

use std::collections::VecDeque;
use std::time::Duration;

use super::{QUEUED_PAUSE_NS, SHARED_PAUSE_NS, SKIPS_A_TURN, SPIN_NS, TICK_NS, Times, UNSENT_AFTER_NS};
use crate::pace::Pacer;

/// Both schedules and what has been drawn of them.
pub(super) struct Schedule {
    warmup: Pacer,
    pacer: Pacer,
    times: Times,
    drawn: VecDeque<u64>,
    warming: bool,
    over: bool,
    shares_cpus: bool,
}

impl Schedule {
    pub(super) fn new(warmup: Pacer, pacer: Pacer, times: Times, shares_cpus: bool) -> Self {
        let drawn = VecDeque::with_capacity(64);
        Self { warmup, pacer, times, drawn, warming: true, over: false, shares_cpus }
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

    /// The next request is due now, unless the time is over; returns whether one is due.
    pub(super) fn serve(&mut self, now: u64) -> bool {
        let time = (self.times.begin..self.times.end).contains(&now);
        if time && !self.over && self.drawn.is_empty() {
            self.drawn.push_back(now);
        }
        !self.drawn.is_empty()
    }

    /// Leaves out what can no longer leave in time, in one sweep; tells each: a generator far behind must not spend
    /// itself on that.
    pub(super) fn skip_late(&mut self, now: u64, mut tell: impl FnMut(u64)) {
        for _ in 0..SKIPS_A_TURN {
            let Some(due) = self.due(0).filter(|due| now.saturating_sub(*due) > UNSENT_AFTER_NS) else { return };
            self.pass();
            tell(due);
        }
    }

    /// How long a worker that has nothing to do may be idle; `None`: it spins.
    pub(super) fn idle_time(&mut self, now: u64, next_tick: u64) -> Option<Duration> {
        let due = self.due(0).unwrap_or(u64::MAX);
        let tick = next_tick.max(now + TICK_NS);
        if self.shares_cpus {
            return Some(Duration::from_nanos(due.max(now + SHARED_PAUSE_NS).min(tick) - now));
        }
        let wake = due.saturating_sub(SPIN_NS).min(tick);
        (wake > now + SPIN_NS).then(|| Duration::from_nanos(wake - now))
    }

    /// How long a worker with nothing to do leaves its CPU to the thread that sends for it.
    pub(super) fn pause(&mut self, now: u64, next_tick: u64) -> Duration {
        let due = self.due(0).unwrap_or(u64::MAX);
        let tick = next_tick.max(now + TICK_NS);
        Duration::from_nanos(due.max(now + QUEUED_PAUSE_NS).min(tick) - now)
    }

    /// Whether the worker shares its CPU with the target, so that it yields where others spin.
    pub(super) fn shares_cpus(&self) -> bool {
        self.shares_cpus
    }

    /// The target was seen to wait for the CPU of the calling thread: from now on that yields where it would spin, at
    /// ordinary priority.
    pub(super) fn share_cpus(&mut self) {
        if !self.shares_cpus {
            self.shares_cpus = true;
            flatout_net::raise_priority(0);
        }
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
