//! One receiving worker: parses what has arrived, tracks its sequence numbers and queues it, a batch at a time.
//!
//! Laws: per message no allocation, no lock, no log; each message that came is counted once, as right or by what is
//! wrong with it; a question for the counters is answered and is no message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flatout_net::{DatagramReceiver, ReceiveRing};
use flatout_wire::Decode;

use super::parser::Parser;
use super::stats::ReceiverStats;
use crate::backoff::Backoff;
use crate::clock::unix_now;
use crate::published::lock;

/// How often a busy worker asks for its CPU time and what the kernel has dropped.
const MEASURE_NS: u64 = 10_000_000;

/// Where messages come more often than this, the next one is looked for before sleeping: over loopback the sender pays
/// for waking a sleeping receiver, and elsewhere waking takes longer.
const OFTEN_NS: u64 = 10_000;
/// For so long.
const LOOK_NS: u64 = 20_000;

/// Whether to look on or to sleep.
#[derive(Default)]
pub(crate) struct PollOrSleep {
    came: u64,
    often: bool,
}

impl PollOrSleep {
    /// Whether to look once more at once, `count` datagrams having come by `now`.
    pub(crate) fn looks_on(&mut self, count: usize, now: u64) -> bool {
        let since = now.wrapping_sub(self.came);
        if count > 0 {
            self.often = since / (count as u64) < OFTEN_NS;
            self.came = now;
            return self.often;
        }
        self.often && since < LOOK_NS
    }
}

/// One worker.
pub(crate) struct Worker<T, I> {
    number: usize,
    inflow: I,
    arrivals: ReceiveRing,
    parser: Parser<T>,
    stats: Arc<ReceiverStats>,
    measured: u64,
}

impl<T: Decode, I: DatagramReceiver> Worker<T, I> {
    /// The `number`-th worker; `tells`: counter questions are answered.
    pub(crate) fn new(
        number: usize,
        decoder: T,
        (inflow, arrivals): (I, ReceiveRing),
        stats: Arc<ReceiverStats>,
        tells: bool,
    ) -> Self {
        let parser = Parser::new(number, decoder, tells, arrivals.slots());
        Self { number, inflow, arrivals, parser, stats, measured: 0 }
    }

    /// Where the next batch arrives.
    #[cfg(test)]
    pub(crate) fn arrivals(&mut self) -> &mut ReceiveRing {
        &mut self.arrivals
    }

    /// Works until it is stopped. Errors: the receiving call fails.
    pub(crate) fn run(mut self, stop: &AtomicBool) -> Result<(), String> {
        let (mut poll_or_sleep, mut looks_on) = (PollOrSleep::default(), false);
        let mut backoff = Backoff::default();
        while backoff.goes_on() && !stop.load(Ordering::Relaxed) {
            let count = backoff.tried(self.inflow.receive(&mut self.arrivals, !looks_on));
            let now = unix_now();
            if count > 0 || !looks_on {
                self.turn(count, now);
            } else {
                // A handler may share this CPU.
                std::thread::yield_now();
            }
            looks_on = poll_or_sleep.looks_on(count, now);
        }
        self.close();
        backoff.end()
    }

    /// Takes in what arrived in the first `count` slots and was read at `now`.
    pub(crate) fn turn(&mut self, count: usize, now: u64) {
        if count > 0 {
            self.take_in(count, now);
        }
        if count == 0 || now > self.measured + MEASURE_NS {
            self.measured = now;
            self.parser.counted.cpu_ns = flatout_net::thread_cpu_ns();
            if let Some(drops) = self.stats.drops.get(self.number) {
                drops.count();
            }
        }
        if let Some(stats) = self.stats.workers.get(self.number) {
            stats.counted.offer(&self.parser.counted);
        }
        self.answer();
    }

    fn take_in(&mut self, count: usize, now: u64) {
        let Self { parser, arrivals, stats, .. } = self;
        // Workers of one socket share one table.
        let Some(tracked) = stats.followings.get(self.number).or(stats.followings.first()) else { return };
        let mut tracker = lock(&tracked.table);
        tracker.begin(now, stats.epoch());
        for slot in 0..count {
            parser.consider(slot, now, arrivals, stats, &mut tracker);
        }
        tracked.offer(&tracker);
        drop(tracker);
        parser.hand_over(arrivals, stats);
        self.note_delays(false);
    }

    /// Moves delays into the histogram, unless it is being read and there is room for more of them.
    fn note_delays(&mut self, last: bool) {
        let Some(stats) = self.stats.workers.get(self.number) else { return };
        let must = last || self.parser.is_full_of_delays(self.arrivals.slots());
        let free = if must { Some(lock(&stats.delays)) } else { stats.delays.try_lock().ok() };
        if let Some(mut delays) = free {
            self.parser.delays.drain(..).for_each(|delay| delays.record(delay));
        }
    }

    /// Answers those who asked for the counters, after this batch was counted.
    fn answer(&mut self) {
        for (question, peer) in self.parser.asked.drain(..) {
            if question.reset_sequences {
                self.stats.reset_sequences(question.nonce);
            }
            if let Some(stats) = self.stats.workers.get(self.number) {
                stats.counted.publish(&self.parser.counted);
            }
            let answer = question.reply(&self.stats.reported());
            self.inflow.answer(&answer, peer);
        }
    }

    /// Leaves the last numbers.
    pub(crate) fn close(mut self) {
        self.note_delays(true);
        self.parser.counted.cpu_ns = flatout_net::thread_cpu_ns();
        if let Some(stats) = self.stats.workers.get(self.number) {
            stats.counted.publish(&self.parser.counted);
        }
    }
}
