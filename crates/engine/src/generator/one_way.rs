//! Sends one-way messages of many senders, numbered, on the schedule.
//!
//! Laws: those of [`super`] for what is sent. What has arrived the receiver knows: nothing is awaited here, and what
//! comes back is not read. Refusals are counted, and stop nothing.
//! Method: what is due and goes over one flow leaves in one call. There is no warm-up: a receiver counts all messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use flatout_net::{Batch, CallError, Datagrams, Departure, SendResult};
use flatout_wire::{Client, Protocol};

use super::departures::DEPARTING;
use super::schedule::Schedule;
use super::senders::Senders;
use super::tracker::RequestTracker;
use super::worker::Worker;
use super::{GRACE_NS, SENDS_A_TURN, TICK_NS, Times, WorkerOptions};
use crate::clock::Clock;
use crate::flow::Rings;
use crate::log::LogWriter;
use crate::pace::Pacer;
use crate::published::PublishedRun;
use crate::query_set::Cursor;
use crate::tally::{Counts, Unsent};

/// Messages of one flow that leave in one call: as many as the kernel cuts apart.
pub const GROUP: usize = 64;
/// Refusals read in a row, so that a flood of them cannot hold up the schedule.
const REFUSALS_A_TURN: usize = 64;

/// What such a worker is made of.
pub struct OneWayParts<P: Protocol, L, C> {
    /// The protocol's sending end.
    pub client: P::Client,
    /// What messages are made of, where they are made of rows.
    pub cursor: Cursor,
    /// What carries datagrams.
    pub link: L,
    /// The run's clock.
    pub clock: C,
    /// The schedule.
    pub pacer: Pacer,
    /// Who sends.
    pub senders: Senders,
    /// How long an answer would take, ns.
    pub timeout: u64,
    /// How.
    pub options: WorkerOptions,
    /// Where to leave what is counted.
    pub published: Arc<PublishedRun>,
    /// Where to note each message.
    pub log_writer: Option<LogWriter>,
}

/// A worker that sends one way.
pub struct OneWaySender<P: Protocol, L, C> {
    client: P::Client,
    cursor: Cursor,
    link: L,
    clock: C,
    /// Unix time minus the clock's: looked up with each tick, for the two drift apart by next to nothing.
    unix_offset: u64,
    schedule: Schedule,
    senders: Senders,
    tracker: RequestTracker,
    outgoing: Batch,
    /// Numbers of the present group, for the log.
    sequences: [u64; GROUP],
    noted: bool,
    /// When messages were due that are queued and have not left, where the link queues.
    departing: VecDeque<u64>,
    steady_offset: u64,
}

impl<P: Protocol, L: Datagrams, C: Clock> OneWaySender<P, L, C> {
    /// A worker ready to begin.
    pub fn new(parts: OneWayParts<P, L, C>) -> Self {
        let no_warmup = Pacer::nothing();
        let later = Times::undecided(parts.timeout);
        Self {
            outgoing: Batch::new(GROUP, parts.client.longest(), false),
            client: parts.client,
            cursor: parts.cursor,
            link: parts.link,
            unix_offset: parts.clock.unix_offset(),
            departing: VecDeque::with_capacity(if L::QUEUED { DEPARTING } else { 0 }),
            steady_offset: parts.clock.steady_offset(),
            clock: parts.clock,
            schedule: Schedule::new(no_warmup, parts.pacer, later, parts.options.shares_cpus),
            senders: parts.senders,
            noted: parts.log_writer.is_some(),
            tracker: RequestTracker::new(Rings::new(0, 0), later, parts.options, parts.published, parts.log_writer),
            sequences: [0; GROUP],
        }
    }

    /// The memory of what is known of all senders, in bytes.
    #[must_use]
    pub fn sender_bytes(&self) -> usize {
        self.senders.bytes()
    }

    /// Sends until the schedule is over; returns the counters. No times: nothing is sent.
    pub fn run(mut self, times: Option<Times>) -> Counts {
        let Some(times) = times else {
            let now = self.clock.now();
            return self.tracker.close(now, 0);
        };
        self.schedule.begin(times);
        self.tracker.begin(times);
        if let Err(error) = self.link.begin() {
            self.tracker.give_up(&error);
        }
        self.run_schedule();
        self.await_departures();
        let now = self.clock.now();
        self.tracker.close(now, 0)
    }

    fn note_departed(&mut self, flow: usize, departed: usize, due: u64, now: u64) {
        if L::QUEUED {
            self.tracker.queued_one_way(departed);
        } else {
            self.tracker.sent_one_way(departed, due, now);
        }
        for sequence in self.sequences.into_iter().take(departed) {
            let Some(due) = self.schedule.pass() else { continue };
            if L::QUEUED {
                self.departing.push_back(due);
            }
            if self.noted {
                self.tracker.note_one_way(flow, due, now, sequence);
            }
        }
    }

    /// Notes which messages have left, where the link queues.
    fn note_departures(&mut self) {
        while !self.departing.is_empty()
            && let Some(departure) = self.link.departed()
            && let Some(due) = self.departing.pop_front()
        {
            match departure {
                Departure::At(at) => self.tracker.left_one_way(due, at.wrapping_sub(self.steady_offset)),
                Departure::Failed => self.tracker.published.fail("the driver did not take a message".to_owned()),
            }
        }
    }

    /// What is queued leaves within a moment, unless nothing leaves any more.
    fn await_departures(&mut self) {
        let until = self.clock.now() + GRACE_NS;
        while L::QUEUED && !self.departing.is_empty() && self.clock.now() < until {
            if let Err(error) = self.link.poll(Duration::from_nanos(TICK_NS)) {
                return self.tracker.give_up(&error);
            }
            self.note_departures();
        }
    }

    /// What became of the first message of a group that did not leave; returns how many it dealt with.
    fn note_stayed(&mut self, flow: usize, sent: SendResult, now: u64) -> usize {
        let why = match sent {
            SendResult::Full => return 0,
            // Why the rest stayed, a call that sent some does not say: a refusal is told in its queue only.
            SendResult::Sent(_) | SendResult::Refused => {
                self.read_refusals(flow);
                return 0;
            }
            SendResult::Dropped => Unsent::Dropped,
            SendResult::Failed(errno) => {
                self.tracker.published.fail(CallError { call: "sendmsg", errno }.to_string());
                Unsent::Failed
            }
        };
        if let Some(due) = self.schedule.pass() {
            self.tracker.not_sent(flow, due, now, why);
        }
        self.senders.pass();
        1
    }

    fn read_refusals(&mut self, flow: usize) {
        for _ in 0..REFUSALS_A_TURN {
            match self.link.refused(flow, &mut []) {
                Ok(Some(_)) => self.tracker.counts.refused += 1,
                Ok(None) => return,
                Err(error) => return self.tracker.give_up(&error),
            }
        }
    }
}

impl<P: Protocol, L: Datagrams, C: Clock> Worker for OneWaySender<P, L, C> {
    type Clock = C;
    const SENDS_A_TURN: usize = SENDS_A_TURN * GROUP;

    #[inline]
    fn core(&mut self) -> (&C, &mut Schedule, &mut RequestTracker) {
        (&self.clock, &mut self.schedule, &mut self.tracker)
    }

    /// Sends what is due now and goes over the flow whose turn it is; returns how many messages it dealt with.
    fn send_group(&mut self, due: u64, now: u64) -> usize {
        let flow = self.senders.flow();
        let unix_ns = self.client.stamped().then(|| now.wrapping_add(self.unix_offset));
        let (mut count, mut length) = (0, 0);
        while count < GROUP && self.senders.flow() == flow && self.schedule.due(count).is_some_and(|due| due <= now) {
            let (sender, sequence) = self.senders.number();
            let (query, slot) = (self.cursor.next(), self.outgoing.slot(count));
            length = self.client.fill_one_way(sender, sequence, self.cursor.query(query), slot);
            if let Some(unix_ns) = unix_ns {
                self.client.stamp(unix_ns, slot);
            }
            self.outgoing.set_length(count, length);
            if let Some(entry) = self.sequences.get_mut(count) {
                *entry = sequence;
            }
            count += 1;
        }
        let sent = self.link.send(flow, &mut self.outgoing, count, length);
        let departed = if let SendResult::Sent(departed) = sent { departed.min(count) } else { 0 };
        self.senders.take_back(count - departed);
        if departed > 0 {
            self.note_departed(flow, departed, due, now);
        }
        if departed < count { departed + self.note_stayed(flow, sent, now) } else { departed }
    }

    fn skip_late(&mut self, now: u64) -> usize {
        let (tracker, senders, mut skipped) = (&mut self.tracker, &mut self.senders, 0);
        self.schedule.skip_late(now, |due| {
            tracker.not_sent(senders.flow(), due, now, Unsent::Late);
            senders.pass();
            skipped += 1;
        });
        skipped
    }

    #[inline]
    fn prepare(&mut self, _now: u64) {
        if L::QUEUED {
            self.note_departures();
        }
    }

    #[inline]
    fn poll(&mut self, _sent: usize) -> bool {
        false
    }

    fn idle(&mut self) {
        let (now, next_tick) = (self.clock.now(), self.tracker.next_tick);
        let idle_time =
            if L::QUEUED { Some(self.schedule.pause(now, next_tick)) } else { self.schedule.idle_time(now, next_tick) };
        if let Some(idle_time) = idle_time {
            let ready = match self.link.poll(idle_time) {
                Ok(ready) => ready,
                Err(error) => return self.tracker.give_up(&error),
            };
            for n in 0..ready {
                let (flow, refusals) = self.link.ready(n);
                if refusals {
                    self.read_refusals(flow);
                }
            }
        }
    }

    fn on_tick(&mut self, _now: u64) {
        self.unix_offset = self.clock.unix_offset();
    }

    fn is_over(&mut self, now: u64) -> bool {
        self.tracker.stop_at.is_some() || now >= self.tracker.times.end
    }
}
