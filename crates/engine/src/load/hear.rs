//! The hearing half of a worker: reads arrivals and refusals, settles their requests.

use std::time::Duration;

use flatout_net::Datagrams;
use flatout_wire::{Client, Protocol};

use super::book::Event;
use super::judge::judge;
use super::{Asking, UNHURRIED_NS};
use crate::clock::Clock;
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

impl<P: Protocol, L: Datagrams, C: Clock> Asking<P, L, C> {
    /// Reads from up to `budget` flows; returns whether there may be more to read.
    pub(super) fn hear(&mut self, budget: usize) -> bool {
        for _ in 0..budget {
            if self.ears.at == self.ears.heard {
                let now = self.clock.now();
                let pause = if self.manner.stamps && self.rally.is_none() { UNHURRIED_NS } else { 0 };
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
        let until = self.clock.now() + at_most;
        loop {
            let now = self.clock.now();
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
        self.ears.heard = self.link.poll(wait);
        if self.manner.stamps && self.ears.heard > 0 {
            self.ears.unix_offset = self.clock.unix_offset();
        }
        self.ears.heard > 0
    }

    fn hear_flow(&mut self) {
        let (flow, refusals) = self.link.ready(self.ears.at);
        if refusals {
            self.hear_refusals(flow);
        }
        let count = self.link.receive(flow, &mut self.incoming);
        if count < self.incoming.slots() {
            self.ears.at += 1;
        }
        let now = self.clock.now();
        for slot in 0..count {
            self.read(flow, slot, now);
        }
    }

    fn read(&mut self, flow: usize, slot: usize, now: u64) {
        let stamp = self.stamp(slot, now);
        let name = self.manner.first_flow + flow as u32;
        let ring = self.book.rings.of(flow);
        let said = judge::<P>(&self.client, &self.cursor, &ring, name, self.incoming.packet(slot));
        let Some((index, outcome, tally)) = said else {
            self.book.stranger(flow, now);
            return;
        };
        // By a schedule answers lie on purpose, until many can be read in one call.
        let reading = stamp.filter(|_| self.rally.is_some()).map(|stamp| now - stamp);
        self.settle(&Event { flow, index, seen: stamp.unwrap_or(now), reading, outcome, tally: Some(tally) });
    }

    fn settle(&mut self, event: &Event) {
        if let (true, Some(rally)) = (self.book.settle(event), &mut self.rally) {
            rally.settled(event.flow, event.index);
        }
    }

    /// When the kernel had it, where that was asked for.
    fn stamp(&mut self, slot: usize, now: u64) -> Option<u64> {
        if !self.manner.stamps {
            return None;
        }
        let stamp = self.incoming.meta(slot).stamp_unix_ns;
        self.book.counts.unstamped += u64::from(stamp.is_none());
        stamp.map(|stamp| stamp.wrapping_sub(self.ears.unix_offset).min(now))
    }

    /// Reads the refusals of a flow: each quotes the request that it concerns.
    pub(super) fn hear_refusals(&mut self, flow: usize) {
        let mut quote = [0; QUOTE];
        for _ in 0..REFUSALS_A_TURN {
            let Some(refused) = self.link.refused(flow, &mut quote) else { return };
            let name = self.manner.first_flow + flow as u32;
            let quoted = quote.get(..refused.quoted).unwrap_or_default();
            if let Some(index) = self.client.recognise(name, quoted) {
                let seen = self.clock.now();
                self.settle(&Event { flow, index, seen, reading: None, outcome: Outcome::Refused, tally: None });
            }
        }
    }
}
