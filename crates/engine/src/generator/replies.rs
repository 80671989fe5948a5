//! The hearing half of a worker: reads arrivals and refusals, settles their requests.

use std::time::Duration;

use flatout_net::Datagrams;
use flatout_wire::{Client, Exchange, Protocol};

use super::classify::classify_reply;
use super::tracker::Event;
use super::{DatagramClient, UNHURRIED_NS};
use crate::clock::Clock;
use crate::flow::Slot;
use crate::tally::Outcome;

/// An ICMP error quotes at least 8 bytes behind the headers, at most about 500.
const QUOTE: usize = 576;
/// Refusals read in a row, so that a flood of them cannot hold up the schedule.
const REFUSALS_A_TURN: usize = 64;

/// What the last listening heard and how far it is read.
#[derive(Default)]
pub(super) struct ReplyPoll {
    ready: usize,
    at: usize,
    polled_at: u64,
    unix_offset: u64,
}

impl<P: Protocol, L: Datagrams, C: Clock> DatagramClient<P, L, C> {
    /// Reads from up to `budget` flows; returns whether there may be more to read.
    pub(super) fn read_replies(&mut self, budget: usize) -> bool {
        for _ in 0..budget {
            if self.poll_state.at == self.poll_state.ready {
                let now = self.clock.now();
                let pause = if self.stamps && self.ping_pong.is_none() { UNHURRIED_NS } else { 0 };
                if now < self.poll_state.polled_at + pause || !self.poll_replies(now, Duration::ZERO) {
                    return false;
                }
            }
            self.read_flow();
        }
        self.poll_state.at < self.poll_state.ready
    }

    /// Reads all that has arrived, for `at_most` ns: what a worker that was held up at the end would else call lost.
    pub(super) fn drain_replies(&mut self, at_most: u64) {
        let until = self.clock.now() + at_most;
        loop {
            let now = self.clock.now();
            if now >= until || !self.poll_replies(now, Duration::ZERO) {
                return;
            }
            self.read_flow();
        }
    }

    /// Waits for arrivals, unless some are still to be read; returns whether there are any.
    pub(super) fn poll_replies(&mut self, now: u64, wait: Duration) -> bool {
        if self.poll_state.at < self.poll_state.ready {
            return true;
        }
        self.poll_state.polled_at = now;
        self.poll_state.at = 0;
        self.poll_state.ready = match self.link.poll(wait) {
            Ok(ready) => ready,
            Err(error) => {
                self.tracker.give_up(&error);
                0
            }
        };
        if (self.stamps || self.client.needs_unix_times()) && self.poll_state.ready > 0 {
            self.poll_state.unix_offset = self.clock.unix_offset();
        }
        if L::QUEUED {
            self.note_departures();
        }
        self.poll_state.ready > 0
    }

    fn read_flow(&mut self) {
        let (flow, refusals) = self.link.ready(self.poll_state.at);
        if refusals {
            self.read_refusals(flow);
        }
        let count = match self.link.receive(flow, &mut self.incoming) {
            Ok(count) => count,
            Err(error) => {
                self.tracker.give_up(&error);
                0
            }
        };
        if count < self.incoming.slots() {
            self.poll_state.at += 1;
        }
        let now = self.clock.now();
        for slot in 0..count {
            self.read(flow, slot, now);
        }
    }

    fn read(&mut self, flow: usize, slot: usize, now: u64) {
        let stamp = self.stamp(slot, now);
        let flow_id = self.first_flow + flow as u32;
        let ring = self.tracker.rings.of(flow);
        let said = classify_reply::<P>(&self.client, &self.cursor, &ring, flow_id, self.incoming.packet(slot));
        let Some((index, outcome, tally)) = said else {
            self.tracker.unmatched(flow, now);
            return;
        };
        // By a schedule answers lie on purpose, until many can be read in one call.
        let reading = stamp.filter(|_| self.ping_pong.is_some()).map(|stamp| now - stamp);
        let event = Event { flow, index, seen: stamp.unwrap_or(now), reading, outcome, tally: Some(tally) };
        if let Some((Outcome::Answered | Outcome::Late, request)) = self.settle(&event) {
            self.note_times(slot, &event, tally, &request);
        }
    }

    /// Records what a valid answer says of the server's time, and keeps it for the flow's next request.
    fn note_times(&mut self, slot: usize, event: &Event, tally: usize, request: &Slot) {
        if !self.client.timed() {
            return;
        }
        let reply = self.incoming.packet(slot);
        let unix = |time: u64| time.wrapping_add(self.poll_state.unix_offset);
        let (sent_unix_ns, seen_unix_ns) = (unix(request.sent), unix(event.seen));
        let this = Exchange { sent_unix_ns, seen_unix_ns, mark: self.client.mark(reply) };
        let last = self.exchanges.referred(event.flow, event.index);
        let timing = self.client.timing(reply, tally, &this, last.as_ref());
        self.exchanges.note(event.flow, this);
        if let Some(timing) = timing.filter(|_| self.tracker.counted(request.due)) {
            self.tracker.recorder.note_timing(timing);
        }
    }

    fn settle(&mut self, event: &Event) -> Option<(Outcome, Slot)> {
        let settled = self.tracker.settle(event);
        if let (Some(_), Some(ping_pong)) = (settled, &mut self.ping_pong) {
            ping_pong.settled(event.flow, event.index);
        }
        settled
    }

    /// When the kernel had it, where that was asked for.
    fn stamp(&mut self, slot: usize, now: u64) -> Option<u64> {
        if !self.stamps {
            return None;
        }
        let meta = self.incoming.meta(slot);
        let stamp = match meta.stamp_steady_ns {
            Some(steady) => Some(steady.wrapping_sub(self.steady_offset)),
            None => meta.stamp_unix_ns.map(|unix| unix.wrapping_sub(self.poll_state.unix_offset)),
        };
        self.tracker.counts.unstamped += u64::from(stamp.is_none());
        stamp.map(|stamp| stamp.min(now))
    }

    /// Reads the refusals of a flow: each quotes the request that it concerns.
    pub(super) fn read_refusals(&mut self, flow: usize) {
        let mut quote = [0; QUOTE];
        for _ in 0..REFUSALS_A_TURN {
            let refused = match self.link.refused(flow, &mut quote) {
                Ok(Some(refused)) => refused,
                Ok(None) => return,
                Err(error) => return self.tracker.give_up(&error),
            };
            let flow_id = self.first_flow + flow as u32;
            let quoted = quote.get(..refused.quoted).unwrap_or_default();
            if let Some(index) = self.client.recognise(flow_id, quoted) {
                let seen = self.clock.now();
                self.settle(&Event { flow, index, seen, reading: None, outcome: Outcome::Refused, tally: None });
            }
        }
    }
}
