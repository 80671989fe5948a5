//! The loop that every load worker runs: ticks, what is due, what has arrived, sleep.
//!
//! Laws: a tick comes first, so that what is due as a second begins is counted in it; what cannot leave within 1 ms of
//! its due time is skipped and counted; replies are polled after a bounded number of sends. What differs between
//! datagrams, connections and one-way messages is in the types that implement [`Worker`]; all of it is monomorphised.

use super::UNSENT_AFTER_NS;
use super::schedule::Schedule;
use super::tracker::RequestTracker;
use crate::clock::Clock;

/// A load worker: the loop is here, the steps are its own.
pub(super) trait Worker {
    /// Its clock.
    type Clock: Clock;
    /// Requests that may be handled before replies are polled.
    const SENDS_A_TURN: usize;

    /// What the loop itself works on.
    fn core(&mut self) -> (&Self::Clock, &mut Schedule, &mut RequestTracker);

    /// Work at the beginning of a turn, before anything is sent.
    #[inline]
    fn prepare(&mut self, _now: u64) {}

    /// Sends what is due now and can share a call; returns how many requests it handled, 0: none can leave now.
    fn send_group(&mut self, due: u64, now: u64) -> usize;

    /// Skips what is due for more than 1 ms and counts it as unsent; returns how many requests count for the turn.
    fn skip_late(&mut self, now: u64) -> usize;

    /// Handles what has arrived, after so many requests were sent; returns whether anything had.
    fn poll(&mut self, sent: usize) -> bool;

    /// Waits: nothing was due and nothing had arrived.
    fn idle(&mut self);

    /// The worker's own work of each ms.
    fn on_tick(&mut self, now: u64);

    /// Whether the run is over, once nothing is due any more.
    fn is_over(&mut self, now: u64) -> bool;

    /// Runs until the schedule is over and all that may still arrive has arrived.
    fn run_schedule(&mut self) {
        while !self.turn() {}
    }

    /// One round of the loop; returns whether the run is over.
    #[inline]
    fn turn(&mut self) -> bool {
        let (clock, _, tracker) = self.core();
        let now = clock.now();
        if now >= tracker.next_tick && self.tick(now) {
            return true;
        }
        self.prepare(now);
        let sent = self.send_due();
        let ready = self.poll(sent);
        if sent == 0 && !ready {
            self.idle();
        }
        false
    }

    /// Sends what is due, up to a turn's worth; returns how many requests it handled.
    #[inline]
    fn send_due(&mut self) -> usize {
        let mut handled = 0;
        while handled < Self::SENDS_A_TURN {
            let (clock, schedule, tracker) = self.core();
            let Some(due) = schedule.due(0) else { break };
            let now = clock.now();
            if due > now || now >= tracker.next_tick {
                break;
            }
            if now - due > UNSENT_AFTER_NS {
                handled += self.skip_late(now);
                continue;
            }
            match self.send_group(due, now) {
                0 => break,
                count => handled += count,
            }
        }
        handled
    }

    /// The work of each ms; returns whether the run is over.
    fn tick(&mut self, now: u64) -> bool {
        self.core().2.tick(now);
        self.on_tick(now);
        let (_, schedule, tracker) = self.core();
        if tracker.stop_at.is_some() {
            schedule.stop();
        }
        if tracker.published.shares_cpus() {
            schedule.share_cpus();
        }
        schedule.due(0).is_none() && self.is_over(now)
    }
}
