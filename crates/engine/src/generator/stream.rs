//! One worker that asks over connections: opens them, waits for the others, sends what is due, hears what comes back.
//!
//! Laws: those of `load.rs`; each request goes over a connection drawn uniformly from those that stand, by the seed; a
//! connection's end settles at once all that waits on it; time-outs of connections never touch the schedule.
//! Connections come and go in `stream/policy.rs`, what comes over them is read in `stream/read_replies.rs`.

mod lifecycle;
mod peers;
mod replies;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flatout_net::{CloseMode, Conn, Streams, WriteError};
use flatout_wire::{Client, Protocol};

use super::opener::{ConnectionPlan, Opener};
use super::schedule::Schedule;
use super::start_barrier::{Begin, StartBarrier};
use super::tracker::RequestTracker;
use super::worker::Worker;
use super::{GRACE_NS, TICK_NS, Times, UNSENT_AFTER_NS, WorkerOptions};
use crate::clock::Clock;
use crate::flow::Rings;
use crate::histogram::Durations;
use crate::log::LogWriter;
use crate::pace::{Pacer, Random};
use crate::published::PublishedRun;
use crate::query_set::Cursor;
use crate::stream_layer::StreamLayer;
use crate::tally::{Connections, Counts, Unsent};
use peers::Peers;

/// At most so many sends before polling for replies: about 200 µs.
const SENDS_A_TURN: usize = 64;
/// At most so many connections are opened before what comes back gets its turn: while nothing else is to be done,
const OPENINGS_A_TURN: usize = 64;
/// and beside the schedule.
const REOPENINGS_A_TURN: usize = 8;
/// A wrap makes a message longer by no more (bytes): TLS adds up to 29 to each 16 KiB (RFC 5246, section 6.2.3).
const ENCODED_MORE: usize = 256;
/// At most so many events before the schedule gets its turn.
const EVENTS_A_TURN: usize = 256;
/// Turns that may fail in a row before the worker gives up.
const FAILED_TURNS: u32 = 64;
/// Longer than any message over a stream: DNS's two-byte length sets the bound.
const MESSAGE_MAX: usize = 65_535 + 2;

/// How long the parts of a run take, in ns.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// Before requests count.
    pub warmup: u64,
    /// While they count.
    pub counted: u64,
    /// How long an answer may take.
    pub timeout: u64,
}

impl Lengths {
    /// The run's times, once its beginning is known.
    #[must_use]
    pub fn from(self, begin: u64) -> Times {
        let counted_from = begin + self.warmup;
        Times { begin, counted_from, end: counted_from + self.counted, timeout: self.timeout }
    }
}

/// What a worker is made of.
pub struct StreamParts<P: Protocol, S, C, W> {
    /// The protocol's asking end.
    pub client: P::Client,
    /// What to ask about.
    pub cursor: Cursor,
    /// What carries bytes.
    pub streams: S,
    /// What lies between.
    pub layer: W,
    /// The run's clock.
    pub clock: C,
    /// The warm-up's schedule.
    pub warmup: Pacer,
    /// The counted schedule.
    pub pacer: Pacer,
    /// When both begin.
    pub barrier: Arc<StartBarrier>,
    /// How long they take.
    pub lengths: Lengths,
    /// How.
    pub options: WorkerOptions,
    /// What to open.
    pub connections: ConnectionPlan,
    /// Where connections go.
    pub target: SocketAddr,
    /// From where, in turn; empty: the kernel chooses.
    pub sources: Vec<SocketAddr>,
    /// Of the choice of connections.
    pub seed: u64,
    /// Where to leave what is counted.
    pub published: Arc<PublishedRun>,
    /// Where to note each request.
    pub log_writer: Option<LogWriter>,
}

/// A worker that asks over connections.
pub struct StreamClient<P: Protocol, S, C, W: StreamLayer> {
    client: P::Client,
    cursor: Cursor,
    streams: S,
    layer: W,
    clock: C,
    barrier: Arc<StartBarrier>,
    lengths: Lengths,
    first_flow: u32,
    target: SocketAddr,
    sources: Vec<SocketAddr>,
    churn: u32,
    random: Random,
    schedule: Schedule,
    tracker: RequestTracker,
    opener: Opener,
    peers: Peers<W::State>,
    /// Those that wait for their last answers, oldest first.
    retired: VecDeque<Conn>,
    connections: Connections,
    connect: Durations,
    /// Turns that have failed in a row.
    failed_turns: u32,
    /// A request on its way out, behind room for its prefix.
    message: Box<[u8]>,
    /// What a wrap has made of something.
    encoded: Vec<u8>,
    plain: Vec<u8>,
}

impl<P: Protocol, S: Streams, C: Clock, W: StreamLayer> StreamClient<P, S, C, W> {
    /// A worker ready to connect.
    pub fn new(parts: StreamParts<P, S, C, W>) -> Self {
        let now = parts.clock.now();
        let slots = parts.streams.capacity();
        let most = 1 << parts.client.index_bits().min(24);
        let rings = Rings::new(slots, parts.options.slots.min(most));
        let later = Times::undecided(parts.lengths.timeout);
        Self {
            message: vec![0; P::PREFIX + parts.client.longest()].into_boxed_slice(),
            encoded: Vec::new(),
            plain: Vec::new(),
            schedule: Schedule::new(parts.warmup, parts.pacer, later, parts.options.shares_cpus),
            first_flow: parts.options.first_flow,
            tracker: RequestTracker::new(rings, later, parts.options, parts.published, parts.log_writer),
            opener: Opener::new(parts.connections, now),
            peers: Peers::new(slots),
            retired: VecDeque::new(),
            connections: Connections::default(),
            connect: Durations::default(),
            failed_turns: 0,
            client: parts.client,
            cursor: parts.cursor,
            streams: parts.streams,
            layer: parts.layer,
            clock: parts.clock,
            barrier: parts.barrier,
            lengths: parts.lengths,
            target: parts.target,
            sources: parts.sources,
            churn: parts.connections.churn,
            random: Random::new(parts.seed),
        }
    }

    /// Connects, asks until the schedule is over and all that may still come has come; returns the counters.
    pub fn run(mut self) -> Counts {
        self.note_backend();
        if let Some(begin) = self.connect() {
            let times = self.lengths.from(begin);
            self.schedule.begin(times);
            self.tracker.begin(times);
            self.run_schedule();
            self.drain_replies();
        }
        self.note_backend();
        self.close_all();
        self.tracker.published.close_connections(&self.connections, self.connect);
        self.tracker.close(self.clock.now(), 0)
    }

    fn note_backend(&self) {
        let bytes = self.streams.bytes() + self.peers.bytes() + self.tracker.rings.bytes();
        self.tracker.published.note_backend(self.streams.name(), bytes);
    }

    /// Opens connections until all stand or have failed and everybody else is ready too; `None`: there is nothing to do.
    fn connect(&mut self) -> Option<u64> {
        let (mut arrived, mut next_tick) = (false, 0);
        loop {
            let now = self.clock.now();
            if now >= next_tick {
                next_tick = now + TICK_NS;
                self.tracker.published.offer_connections(&self.connections);
                if self.tracker.published.stopping() {
                    if !arrived {
                        self.barrier.arrive(now, 0);
                    }
                    return None;
                }
            }
            let opened = self.open_due(now, OPENINGS_A_TURN);
            if self.opener.done() && !arrived {
                arrived = true;
                self.barrier.arrive(now, self.peers.live());
            }
            match self.barrier.begin() {
                Begin::At(begin) => return Some(begin),
                Begin::Never => return None,
                Begin::Wait => {}
            }
            let wait = if opened { 0 } else { TICK_NS.min(self.opener.wake().saturating_sub(now)) };
            self.carry(Duration::from_nanos(wait));
        }
    }

    fn unsent(&mut self, flow: usize, now: u64, why: Unsent) {
        if let Some(due) = self.schedule.pass() {
            self.tracker.unsent(flow, due, now, why);
        }
    }

    /// Sends the request that is due now over a connection of the seed's choice.
    fn ask(&mut self, due: u64, now: u64) {
        let Some(slot) = self.peers.choose(&mut self.random) else {
            return self.unsent(0, now, Unsent::NoConnection);
        };
        let Some(index) = self.tracker.vacancy(slot, now) else {
            return self.unsent(slot, now, Unsent::NoSlot);
        };
        let query = self.cursor.next();
        let length = self.fill(slot, index, query);
        match self.append(slot, length, now) {
            Ok(()) => {
                self.schedule.pass();
                self.tracker.sent(slot, due, now, query);
                self.asked(slot, now);
            }
            Err(WriteError::Full) => self.unsent(slot, now, Unsent::Blocked),
            Err(WriteError::Closed) => self.unsent(slot, now, Unsent::NoConnection),
        }
    }

    /// Writes a request and its prefix into `message`; returns the length of both.
    fn fill(&mut self, slot: usize, index: u32, query: u32) -> usize {
        let (prefix, body) = self.message.split_at_mut(P::PREFIX);
        let flow_id = self.first_flow + slot as u32;
        let length = self.client.fill(flow_id, index, self.cursor.query(query), body);
        P::prefix(length, prefix);
        P::PREFIX + length
    }

    /// Appends the first `length` bytes of `message` to what the connection is about to send.
    fn append(&mut self, slot: usize, length: usize, now: u64) -> Result<(), WriteError> {
        let conn = self.peers.conn(slot);
        let message = &self.message[..length];
        if W::PLAIN {
            let mut guard = self.streams.reserve(conn, length)?;
            guard.room()[..length].copy_from_slice(message);
            guard.commit(length);
            return Ok(());
        }
        // Room comes first: what a wrap has said once must be heard, or nothing after it can be.
        let mut guard = self.streams.reserve(conn, length + ENCODED_MORE)?;
        self.encoded.clear();
        let said = self.layer.encode(&mut self.peers.at(slot).layer, message, &mut self.encoded);
        let error_text = match (said, guard.room().get_mut(..self.encoded.len())) {
            (Ok(()), Some(room)) => {
                room.copy_from_slice(&self.encoded);
                guard.commit(self.encoded.len());
                return Ok(());
            }
            (Ok(()), None) => "a message grew beyond its room".to_owned(),
            (Err(error_text), _) => error_text,
        };
        self.give_up(slot, &error_text, CloseMode::Reset, now);
        Err(WriteError::Closed)
    }

    /// Reads all that has arrived, for a while: what a worker that was held up at the end would else call lost.
    fn drain_replies(&mut self) {
        let until = self.clock.now() + GRACE_NS;
        while self.clock.now() < until && self.carry(Duration::ZERO) > 0 {}
    }
}

impl<P: Protocol, S: Streams, C: Clock, W: StreamLayer> Worker for StreamClient<P, S, C, W> {
    type Clock = C;
    const SENDS_A_TURN: usize = SENDS_A_TURN;

    #[inline]
    fn core(&mut self) -> (&C, &mut Schedule, &mut RequestTracker) {
        (&self.clock, &mut self.schedule, &mut self.tracker)
    }

    #[inline]
    fn prepare(&mut self, now: u64) {
        self.open_due(now, REOPENINGS_A_TURN);
    }

    #[inline]
    fn send_group(&mut self, due: u64, now: u64) -> usize {
        // Where none is open, one that is being opened is awaited as long as a request may be late.
        if self.peers.live() == 0 && self.opener.promises(due + UNSENT_AFTER_NS) {
            return 0;
        }
        self.ask(due, now);
        1
    }

    fn skip_late(&mut self, now: u64) -> usize {
        let tracker = &mut self.tracker;
        // Having waited for a connection is no lateness of this worker's own.
        let none = self.peers.live() == 0;
        self.schedule.skip_late(now, |due| match none {
            true => tracker.unsent(0, due, due, Unsent::NoConnection),
            false => tracker.unsent(0, due, now, Unsent::Late),
        });
        1
    }

    #[inline]
    fn poll(&mut self, _sent: usize) -> bool {
        self.carry(Duration::ZERO) > 0
    }

    fn idle(&mut self) {
        let now = self.clock.now();
        let Some(idle_time) = self.schedule.idle_time(now, self.tracker.next_tick) else { return };
        if self.schedule.shares_cpus() {
            // Woken by each answer, the worker would take its CPU from the target.
            self.clock.give_way(idle_time);
            self.carry(Duration::ZERO);
        } else {
            self.carry(idle_time);
        }
    }

    fn on_tick(&mut self, now: u64) {
        self.tracker.published.offer_connections(&self.connections);
        self.close_retired(now);
    }

    fn is_over(&mut self, now: u64) -> bool {
        // All requests are sent: what ends from now on is not opened again.
        self.opener.stop();
        self.tracker.settled(now)
    }
}
