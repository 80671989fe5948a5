//! One worker that asks: sends what is due, hears what comes back, settles each request once.
//!
//! Laws: the schedule is absolute, so being late never moves it; a request that cannot leave within 1 ms of being due
//! is not sent but counted, and its wait still shows in lateness and from due; nothing waits to fill a batch.
//! What is heard is handled in `load/read_replies.rs`.

mod classify;
mod departures;
mod exchanges;
pub mod one_way;
pub mod opener;
mod ping_pong;
mod replies;
mod schedule;
pub mod senders;
pub(crate) mod start;
pub mod start_barrier;
pub mod stream;
pub mod subinterval;
mod tracker;
mod worker;

use std::collections::VecDeque;
use std::sync::Arc;

use flatout_net::{Batch, CallError, Datagrams, RunDelay, SendResult};
use flatout_wire::{Client, Protocol};

use crate::clock::Clock;
use crate::flow::Rings;
use crate::log::LogWriter;
use crate::pace::Pacer;
use crate::plan::{MANY_FLOWS, Wait};
use crate::published::PublishedRun;
use crate::query_set::Cursor;
use crate::tally::{Counts, Unsent};

use departures::{DEPARTING, Departing};
use exchanges::Exchanges;
use ping_pong::PingPongPacer;
use schedule::Schedule;
use tracker::RequestTracker;
use worker::Worker;

/// The contract's line between late and unsent.
pub const UNSENT_AFTER_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;
const TICK_NS: u64 = 1_000_000;
/// At most so many sends before polling for replies: about 50 µs.
const SENDS_A_TURN: usize = 16;
/// Requests left out between two looks at the clock: about 100 µs.
const SKIPS_A_TURN: usize = 2048;
/// Datagrams of one flow that leave in one call.
const GROUP: usize = 32;
/// Requests that are due within so long of each other go over one flow: at high rates they and their answers can then
/// share calls, at low rates each has a flow of its own. The schedule alone decides it, not how late the generator is.
const TURN_NS: u64 = 50_000;
const ARRIVALS_A_CALL: usize = 32;
/// So many sockets are asked for their drops when counting begins: about 0.2 ms.
const DROPS_ASKED: usize = 512;
/// With the kernel's stamps an answer's time does not depend on when it is read, so reading may wait and batch.
const UNHURRIED_NS: u64 = 200_000;
/// Nearer than this the worker spins: waking up takes tens of µs.
const SPIN_NS: u64 = 100_000;
/// A worker that shares its CPU never spins: it yields for so long at least, and then sends all that is due.
const SHARED_PAUSE_NS: u64 = 150_000;
/// A worker whose requests are sent by another thread lets that run so long at least, where both may have one CPU.
const QUEUED_PAUSE_NS: u64 = 40_000;
/// After the last request has settled, further answers (duplicates) are still awaited so long.
const GRACE_NS: u64 = 100_000_000;

/// The run's times on the worker's clock, in ns.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When the schedule begins: warm-up.
    pub begin: u64,
    /// From when on requests count.
    pub counted_from: u64,
    /// When the schedule ends.
    pub end: u64,
    /// How long an answer may take from when its request left.
    pub timeout: u64,
}

impl Times {
    /// Until the begin is known nothing is due, and nothing counts.
    #[must_use]
    pub fn undecided(timeout: u64) -> Self {
        Self { begin: u64::MAX, counted_from: u64::MAX, end: u64::MAX, timeout }
    }
}

/// How a worker goes about it.
#[derive(Debug, Default)]
pub struct WorkerOptions {
    /// Arrivals carry the kernel's stamp.
    pub stamps: bool,
    /// Slots for each flow's requests.
    pub slots: usize,
    /// The number of this worker's first flow among all workers'.
    pub first_flow: u32,
    /// One request at a time, its answer awaited so; `None`: by the schedule.
    pub ping_pong: Option<Wait>,
    /// An answer later than this after due is slow, ns.
    pub slow_after: Option<u64>,
    /// The worker shares its CPU with the target, so it yields where others spin.
    pub shares_cpus: bool,
    /// After the last request, answers are awaited by how long others took, not for the whole timeout.
    pub brief_drain: bool,
    /// Threads of the target whose waits for a CPU are kept by subinterval.
    pub target_delay: RunDelay,
}

/// What a worker is made of.
pub struct DatagramParts<P: Protocol, L, C> {
    /// The protocol's asking end.
    pub client: P::Client,
    /// What to ask about.
    pub cursor: Cursor,
    /// What carries datagrams.
    pub link: L,
    /// The run's clock.
    pub clock: C,
    /// The warm-up's schedule, from `Times::begin`.
    pub warmup: Pacer,
    /// The counted schedule, from `Times::counted_from`.
    pub pacer: Pacer,
    /// How long an answer may take, ns.
    pub timeout: u64,
    /// How.
    pub options: WorkerOptions,
    /// Where to leave what is counted.
    pub published: Arc<PublishedRun>,
    /// Where to note each request.
    pub log_writer: Option<LogWriter>,
}

/// A worker that asks.
pub struct DatagramClient<P: Protocol, L, C> {
    client: P::Client,
    link: L,
    clock: C,
    first_flow: u32,
    stamps: bool,
    ping_pong: Option<PingPongPacer>,
    cursor: Cursor,
    /// What the requests of the present group ask about.
    queries: Vec<u32>,
    schedule: Schedule,
    tracker: RequestTracker,
    exchanges: Exchanges,
    /// Requests that are queued and have not left, where the link queues.
    departing: VecDeque<Departing>,
    /// CLOCK_MONOTONIC minus the clock's time.
    steady_offset: u64,
    outgoing: Batch,
    incoming: Batch,
    flow: usize,
    turn_began: u64,
    /// Unix time minus the clock's, as of the last tick: for requests that carry the time.
    unix_offset: u64,
    poll_state: replies::ReplyPoll,
    /// What this worker's sockets had dropped when counting began; `None`: it has not begun.
    drops_before: Option<u64>,
}

impl<P: Protocol, L: Datagrams, C: Clock> DatagramClient<P, L, C> {
    /// A worker ready to begin.
    pub fn new(parts: DatagramParts<P, L, C>) -> Self {
        let least = if parts.link.flows() > MANY_FLOWS { 4 } else { 16 };
        let slots = parts.options.slots.max(least).min(1 << parts.client.index_bits().min(24));
        let rings = Rings::new(parts.link.flows(), slots);
        let later = Times::undecided(parts.timeout);
        let referring = if parts.client.refers_back() { parts.link.flows() } else { 0 };
        Self {
            exchanges: Exchanges::new(referring),
            outgoing: Batch::new(GROUP, parts.client.longest(), false),
            incoming: Batch::new(ARRIVALS_A_CALL, P::DATAGRAM_MAX, false),
            client: parts.client,
            link: parts.link,
            unix_offset: parts.clock.unix_offset(),
            departing: VecDeque::with_capacity(if L::QUEUED { DEPARTING } else { 0 }),
            steady_offset: parts.clock.steady_offset(),
            clock: parts.clock,
            first_flow: parts.options.first_flow,
            stamps: parts.options.stamps,
            ping_pong: parts.options.ping_pong.map(PingPongPacer::new),
            cursor: parts.cursor,
            queries: Vec::with_capacity(GROUP),
            schedule: Schedule::new(parts.warmup, parts.pacer, later, parts.options.shares_cpus),
            tracker: RequestTracker::new(rings, later, parts.options, parts.published, parts.log_writer),
            flow: 0,
            turn_began: 0,
            poll_state: replies::ReplyPoll::default(),
            drops_before: None,
        }
    }

    /// The memory of all rings and exchanges, in bytes.
    #[must_use]
    pub fn ring_bytes(&self) -> usize {
        self.tracker.rings.bytes() + self.exchanges.bytes()
    }

    /// Asks until the schedule is over and all that may still come has come; returns the counters. No times: nothing
    /// is sent.
    pub fn run(mut self, times: Option<Times>) -> Counts {
        let Some(times) = times else {
            let now = self.clock.now();
            return self.tracker.close(now, 0);
        };
        self.schedule.begin(times);
        self.tracker.begin(times);
        self.turn_began = times.begin;
        if let Err(error) = self.link.begin() {
            self.tracker.give_up(&error);
        }
        self.run_schedule();
        self.drain_replies(GRACE_NS);
        let now = self.clock.now();
        let drops = self.link.drops().saturating_sub(self.drops_before.unwrap_or(0));
        self.tracker.close(now, drops)
    }

    fn note_sent(&mut self, sent: SendResult, now: u64) -> usize {
        match sent {
            SendResult::Sent(count) => {
                for n in 0..count {
                    self.record_sent(now, self.queries[n]);
                }
                count
            }
            SendResult::Full => 0,
            SendResult::Dropped => self.hold_back(now, Unsent::Dropped),
            SendResult::Refused => {
                self.read_refusals(self.flow);
                self.end_turn();
                0
            }
            SendResult::Failed(errno) => {
                self.tracker.published.fail(CallError { call: "sendmsg", errno }.to_string());
                self.hold_back(now, Unsent::Failed)
            }
        }
    }

    /// The flow whose turn it was could not take the request: that ends its turn, so that the others go on.
    fn hold_back(&mut self, now: u64, why: Unsent) -> usize {
        self.unsent(now, why);
        self.end_turn();
        1
    }

    /// Whatever is sent next goes over the next flow.
    fn end_turn(&mut self) {
        self.turn_began = 0;
    }

    fn next_flow(&mut self) {
        self.flow = (self.flow + 1) % self.tracker.rings.flows();
    }

    fn record_sent(&mut self, now: u64, query: u32) {
        if let (Some(ping_pong), Some(index)) = (&mut self.ping_pong, self.tracker.rings.of(self.flow).vacancy(0)) {
            ping_pong.sent(self.flow, index, now);
        }
        if let Some(due) = self.schedule.pass() {
            if L::QUEUED {
                self.queue(due, now, query);
            } else {
                self.tracker.sent(self.flow, due, now, query);
            }
            if self.drops_before.is_none() && due >= self.tracker.times.counted_from {
                self.begin_counting();
            }
        }
    }

    /// What was dropped during the warm-up does not count. Of very many sockets that would take too long to ask.
    #[cold]
    fn begin_counting(&mut self) {
        let times = self.tracker.times;
        let asked = times.counted_from > times.begin && self.link.flows() <= DROPS_ASKED;
        self.drops_before = Some(if asked { self.link.drops() } else { 0 });
    }

    fn unsent(&mut self, now: u64, why: Unsent) {
        if let Some(due) = self.schedule.pass() {
            self.tracker.unsent(self.flow, due, now, why);
        }
    }
}

impl<P: Protocol, L: Datagrams, C: Clock> Worker for DatagramClient<P, L, C> {
    type Clock = C;
    const SENDS_A_TURN: usize = SENDS_A_TURN;

    #[inline]
    fn core(&mut self) -> (&C, &mut Schedule, &mut RequestTracker) {
        (&self.clock, &mut self.schedule, &mut self.tracker)
    }

    /// Sends the requests that are due now over the flow whose turn it is; returns how many it dealt with.
    fn send_group(&mut self, due: u64, now: u64) -> usize {
        if due >= self.turn_began + TURN_NS {
            self.turn_began = due;
            self.next_flow();
        }
        let until = now.min(self.turn_began + TURN_NS - 1);
        let flow_id = self.first_flow + self.flow as u32;
        let (mut count, mut length) = (0, 0);
        self.queries.clear();
        let group = if self.client.alone() { 1 } else { GROUP };
        while count < group && self.schedule.due(count).is_some_and(|due| due <= until) {
            let Some(index) = self.tracker.rings.of(self.flow).vacancy(count as u32) else { break };
            let query = self.cursor.next();
            length = self.client.fill(flow_id, index, self.cursor.query(query), self.outgoing.slot(count));
            if self.client.stamped() {
                self.client.stamp(now.wrapping_add(self.unix_offset), self.outgoing.slot(count));
            }
            if let Some(last) = self.exchanges.last(self.flow) {
                self.client.refer(flow_id, index, &last, self.outgoing.slot(count));
            }
            self.outgoing.set_length(count, length);
            self.queries.push(query);
            count += 1;
        }
        if count == 0 {
            return self.hold_back(now, Unsent::NoSlot);
        }
        if !self.client.alone() {
            let sent = self.link.send(self.flow, &mut self.outgoing, count, length);
            return self.note_sent(sent, now);
        }
        // The send time is that of the call, and not of the turn.
        let now = self.clock.now();
        let index = self.tracker.rings.of(self.flow).vacancy(0);
        let sent = self.link.send(self.flow, &mut self.outgoing, count, length);
        if let (SendResult::Sent(1..), Some(index)) = (&sent, index) {
            self.exchanges.refer(self.flow, index);
        }
        self.end_turn();
        self.note_sent(sent, now)
    }

    fn skip_late(&mut self, now: u64) -> usize {
        let (tracker, flow) = (&mut self.tracker, self.flow);
        self.schedule.skip_late(now, |due| tracker.unsent(flow, due, now, Unsent::Late));
        1
    }

    #[inline]
    fn prepare(&mut self, _now: u64) {
        if L::QUEUED {
            self.note_departures();
        }
    }

    #[inline]
    fn poll(&mut self, sent: usize) -> bool {
        self.read_replies(sent.max(4))
    }

    fn idle(&mut self) {
        let now = self.clock.now();
        if let Some(ping_pong) = &mut self.ping_pong {
            let served = ping_pong.is_ours(now, self.tracker.times.timeout) && self.schedule.serve(now);
            if served || ping_pong.wait == Wait::Spin {
                return;
            }
        }
        if L::QUEUED {
            let pause = self.schedule.pause(now, self.tracker.next_tick);
            self.poll_replies(now, pause);
            return;
        }
        let Some(idle_time) = self.schedule.idle_time(now, self.tracker.next_tick) else { return };
        // The kernel's stamps let answers lie: woken by each of them, the worker would take its CPU from the target.
        if self.schedule.shares_cpus() && self.stamps && self.ping_pong.is_none() {
            self.clock.give_way(idle_time);
        } else {
            self.poll_replies(now, idle_time);
        }
    }

    fn on_tick(&mut self, _now: u64) {
        if self.client.stamped() {
            self.unix_offset = self.clock.unix_offset();
        }
    }

    fn is_over(&mut self, now: u64) -> bool {
        self.tracker.settled(now)
    }
}
