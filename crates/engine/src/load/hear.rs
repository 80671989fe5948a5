//! The hearing half of a worker: reads arrivals and refusals, settles their requests.

use std::time::Duration;

use flatout_net::Datagrams;
use flatout_wire::{Ask, Protocol, Reading};

use super::{Asking, UNHURRIED_NS};
use crate::clock::Clock;
use crate::flow::Settled;
use crate::log::Row;
use crate::tally::Outcome;

/// An ICMP error quotes at least 8 bytes behind the headers, at most about 500.
const QUOTE: usize = 576;
/// Refusals read in a row, so that a flood of them cannot hold up the schedule.
const REFUSALS_A_TURN: usize = 64;

/// What the last listening heard and how far it is read.
#[derive(Default)]
pub(super) struct Ears {
    heard: usize,
    at: usize,
    listened: u64,
    unix_offset: u64,
}

/// One arrival or refusal, once it is known which request it concerns.
struct Event {
    flow: usize,
    index: u32,
    seen: u64,
    outcome: Outcome,
    tally: Option<usize>,
}

impl<P: Protocol, L: Datagrams, C: Clock> Asking<P, L, C> {
    /// Reads from up to `budget` flows; returns whether there may be more to read.
    pub(super) fn hear(&mut self, budget: usize) -> bool {
        for _ in 0..budget {
            if self.ears.at == self.ears.heard {
                let now = self.parts.clock.now();
                let pause = if self.parts.manner.stamps { UNHURRIED_NS } else { 0 };
                if now < self.ears.listened + pause || !self.listen(now, Duration::ZERO) {
                    return false;
                }
            }
            self.hear_flow();
        }
        self.ears.at < self.ears.heard
    }

    /// Reads all that has arrived, for `at_most` ns: what a worker that was held up at the end would else call lost.
    pub(super) fn hear_the_rest(&mut self, at_most: u64) {
        let until = self.parts.clock.now() + at_most;
        loop {
            let now = self.parts.clock.now();
            if now >= until || !self.listen(now, Duration::ZERO) {
                return;
            }
            self.hear_flow();
        }
    }

    /// Waits for arrivals, unless some are still to be read; returns whether there are any.
    pub(super) fn listen(&mut self, now: u64, wait: Duration) -> bool {
        if self.ears.at < self.ears.heard {
            return true;
        }
        self.ears.listened = now;
        self.ears.at = 0;
        self.ears.heard = self.parts.link.listen(wait);
        if self.parts.manner.stamps && self.ears.heard > 0 {
            self.ears.unix_offset = self.parts.clock.unix_offset();
        }
        self.ears.heard > 0
    }

    fn hear_flow(&mut self) {
        let (flow, refusals) = self.parts.link.heard(self.ears.at);
        if refusals {
            self.hear_refusals(flow);
        }
        let count = self.parts.link.receive(flow, &mut self.incoming);
        if count < self.incoming.slots() {
            self.ears.at += 1;
        }
        let now = self.parts.clock.now();
        for slot in 0..count {
            self.read(flow, slot, now);
        }
    }

    fn read(&mut self, flow: usize, slot: usize, now: u64) {
        let seen = self.seen(slot, now);
        let name = self.parts.manner.first_flow + flow as u32;
        let (index, outcome, tally) = match self.parts.asker.read(name, self.incoming.packet(slot)) {
            Reading::Answer { index, tally } => (index, Outcome::Answered, tally),
            Reading::Wrong { index, tally } => (index, Outcome::Invalid, tally),
            Reading::Stranger => {
                // Before counting begins there is nobody whom it could stand for.
                if now >= self.parts.times.counted_from {
                    self.rings[flow].strangers += 1;
                    self.counts.unmatched += 1;
                }
                return;
            }
        };
        self.settle(&Event { flow, index, seen, outcome, tally: Some(tally) });
    }

    fn seen(&mut self, slot: usize, now: u64) -> u64 {
        if !self.parts.manner.stamps {
            return now;
        }
        match self.incoming.meta(slot).stamp_unix_ns {
            Some(stamp) => stamp.wrapping_sub(self.ears.unix_offset).min(now),
            None => {
                self.counts.unstamped += 1;
                now
            }
        }
    }

    /// Reads the refusals of a flow: each quotes the request that it concerns.
    pub(super) fn hear_refusals(&mut self, flow: usize) {
        let mut quote = [0; QUOTE];
        for _ in 0..REFUSALS_A_TURN {
            let Some(refused) = self.parts.link.refused(flow, &mut quote) else { return };
            let name = self.parts.manner.first_flow + flow as u32;
            let quoted = quote.get(..refused.quoted).unwrap_or_default();
            if let Some(index) = self.parts.asker.recognise(name, quoted) {
                let seen = self.parts.clock.now();
                self.settle(&Event { flow, index, seen, outcome: Outcome::Refused, tally: None });
            }
        }
    }

    fn settle(&mut self, event: &Event) {
        let timeout = self.parts.times.timeout;
        let slot = match self.rings[event.flow].settle(event.index, event.seen, timeout, event.outcome) {
            Settled::Forgotten => {
                self.rings[event.flow].forgotten += 1;
                return;
            }
            Settled::Duplicate(slot) => {
                self.counts.duplicate += u64::from(self.counted(slot.due) && event.outcome != Outcome::Refused);
                return;
            }
            Settled::As(outcome, slot) => {
                if !self.counted(slot.due) {
                    return;
                }
                self.count(event, outcome);
                if outcome == Outcome::Answered {
                    self.recorder.from_due.record(event.seen.saturating_sub(slot.due));
                    self.recorder.from_sent.record(event.seen.saturating_sub(slot.sent));
                }
                (outcome, slot)
            }
        };
        let (outcome, slot) = slot;
        let (due, sent, answered) = (slot.due, Some(slot.sent), Some(event.seen));
        self.note(Row { due, sent, answered, outcome, flow: event.flow as u32 });
    }

    fn count(&mut self, event: &Event, outcome: Outcome) {
        let overtaken = event.outcome != Outcome::Refused && self.rings[event.flow].overtaken(event.index);
        self.rings[event.flow].open -= 1;
        self.counts.reordered += u64::from(overtaken);
        if let Some(tally) = event.tally {
            self.counts.tallies[tally] += 1;
        }
        match outcome {
            Outcome::Answered => self.counts.answered += 1,
            Outcome::Late => self.counts.late += 1,
            Outcome::Refused => self.counts.refused += 1,
            _ => self.counts.invalid += 1,
        }
    }
}
