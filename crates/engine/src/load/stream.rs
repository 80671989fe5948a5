//! One worker that asks over connections: opens them, waits for the others, sends what is due, hears what comes back.
//!
//! Laws: those of `load.rs`; each request goes over a connection drawn uniformly from those that stand, by the seed; a
//! connection's end settles at once all that waits on it; time-outs of connections never touch the schedule.
//! Connections come and go in `stream/life.rs`, what comes over them is read in `stream/hear.rs`.

mod hear;
mod life;
mod peers;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use flatout_net::{CloseMode, Conn, Streams, WriteError};
use flatout_wire::{Client, Protocol};

use super::book::Book;
use super::gate::{Begin, Gate};
use super::opener::{Opener, Opening};
use super::schedule::Schedule;
use super::{GRACE_NS, Manner, TICK_NS, Times, UNSENT_AFTER_NS};
use crate::clock::Clock;
use crate::corpus::Cursor;
use crate::flow::Rings;
use crate::histogram::Durations;
use crate::log::Pen;
use crate::pace::{Pacer, Random};
use crate::snapshot::Board;
use crate::tally::{Connections, Counts, Unsent};
use crate::wrap::Wrap;
use peers::Peers;

/// At most so many sends before ears get their turn: about 200 µs.
const SENDS_A_TURN: usize = 64;
/// At most so many connections are opened before what comes back gets its turn: while nothing else is to be done,
const OPENINGS_A_TURN: usize = 64;
/// and beside the schedule.
const REOPENINGS_A_TURN: usize = 8;
/// A wrap makes a message longer by no more (bytes): TLS adds up to 29 to each 16 KiB (RFC 5246, section 6.2.3).
const WRAPPED_MORE: usize = 256;
/// At most so many events before the schedule gets its turn.
const EVENTS_A_TURN: usize = 256;
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
    pub wrap: W,
    /// The run's clock.
    pub clock: C,
    /// The warm-up's schedule.
    pub warmup: Pacer,
    /// The counted schedule.
    pub pacer: Pacer,
    /// When both begin.
    pub gate: Arc<Gate>,
    /// How long they take.
    pub lengths: Lengths,
    /// How.
    pub manner: Manner,
    /// What to open.
    pub opening: Opening,
    /// To whom.
    pub target: SocketAddr,
    /// From where, in turn; empty: the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// Of the choice of connections.
    pub seed: u64,
    /// Where to leave what is counted.
    pub board: Arc<Board>,
    /// Where to note each request.
    pub pen: Option<Pen>,
}

/// A worker that asks over connections.
pub struct Streaming<P: Protocol, S, C, W: Wrap> {
    client: P::Client,
    cursor: Cursor,
    streams: S,
    wrap: W,
    clock: C,
    gate: Arc<Gate>,
    lengths: Lengths,
    first_flow: u32,
    target: SocketAddr,
    sources: Vec<IpAddr>,
    churn: u32,
    random: Random,
    schedule: Schedule,
    book: Book,
    opener: Opener,
    peers: Peers<W::State>,
    /// Those that wait for their last answers, oldest first.
    retired: VecDeque<Conn>,
    connections: Connections,
    connect: Durations,
    /// A request on its way out, behind room for its prefix.
    message: Box<[u8]>,
    /// What a wrap has made of something.
    wrapped: Vec<u8>,
    plain: Vec<u8>,
}

impl<P: Protocol, S: Streams, C: Clock, W: Wrap> Streaming<P, S, C, W> {
    /// A worker ready to connect.
    pub fn new(parts: StreamParts<P, S, C, W>) -> Self {
        let now = parts.clock.now();
        let places = parts.streams.capacity();
        let most = 1 << parts.client.index_bits().min(24);
        let rings = Rings::new(places, parts.manner.slots.min(most));
        // Until the gate opens nothing is due, and nothing counts.
        let later = Times { begin: u64::MAX, counted_from: u64::MAX, end: u64::MAX, timeout: parts.lengths.timeout };
        Self {
            message: vec![0; P::PREFIX + parts.client.longest()].into_boxed_slice(),
            wrapped: Vec::new(),
            plain: Vec::new(),
            schedule: Schedule::new(parts.warmup, parts.pacer, later),
            book: Book::new(rings, later, parts.manner, parts.board, parts.pen),
            opener: Opener::new(parts.opening, now),
            peers: Peers::new(places),
            retired: VecDeque::new(),
            connections: Connections::default(),
            connect: Durations::default(),
            client: parts.client,
            cursor: parts.cursor,
            streams: parts.streams,
            wrap: parts.wrap,
            clock: parts.clock,
            gate: parts.gate,
            lengths: parts.lengths,
            first_flow: parts.manner.first_flow,
            target: parts.target,
            sources: parts.sources,
            churn: parts.opening.churn,
            random: Random::new(parts.seed),
        }
    }

    /// Connects, asks until the schedule is over and all that may still come has come; returns the counters.
    pub fn run(mut self) -> Counts {
        self.note_carrier();
        if let Some(begin) = self.connect() {
            let times = self.lengths.from(begin);
            self.schedule.begin(times);
            self.book.begin(times);
            while !self.turn() {}
            self.hear_the_rest();
        }
        self.note_carrier();
        self.hang_up();
        self.book.board.close_connections(&self.connections, self.connect);
        self.book.close(self.clock.now(), 0)
    }

    fn note_carrier(&self) {
        let bytes = self.streams.bytes() + self.peers.bytes() + self.book.rings.bytes();
        self.book.board.note_carrier(self.streams.name(), bytes);
    }

    /// Opens connections until all stand or have failed and everybody else is ready too; `None`: there is nothing to do.
    fn connect(&mut self) -> Option<u64> {
        let (mut arrived, mut next_tick) = (false, 0);
        loop {
            let now = self.clock.now();
            if now >= next_tick {
                next_tick = now + TICK_NS;
                self.book.board.publish_connections(&self.connections);
                if self.book.board.stopping() {
                    if !arrived {
                        self.gate.arrive(now, 0);
                    }
                    return None;
                }
            }
            let opened = self.open_due(now, OPENINGS_A_TURN);
            if self.opener.done() && !arrived {
                arrived = true;
                self.gate.arrive(now, self.peers.live());
            }
            match self.gate.begin() {
                Begin::At(begin) => return Some(begin),
                Begin::Never => return None,
                Begin::Wait => {}
            }
            let wait = if opened { 0 } else { TICK_NS.min(self.opener.wake().saturating_sub(now)) };
            self.carry(Duration::from_nanos(wait));
        }
    }

    fn turn(&mut self) -> bool {
        let now = self.clock.now();
        if now >= self.book.next_tick && self.tick(now) {
            return true;
        }
        self.open_due(now, REOPENINGS_A_TURN);
        let sent = self.send_due();
        let heard = self.carry(Duration::ZERO);
        if sent == 0 && heard == 0 {
            self.idle();
        }
        false
    }

    /// The work of each ms; returns whether the run is over.
    fn tick(&mut self, now: u64) -> bool {
        self.book.tick(now);
        self.book.board.publish_connections(&self.connections);
        self.close_retired(now);
        if self.book.stop_at.is_some() {
            self.schedule.stop();
        }
        let all_asked = self.schedule.due(0).is_none();
        if all_asked {
            self.opener.rest();
        }
        all_asked && self.book.settled(now)
    }

    /// Sends what is due, up to a turn's worth; returns how many requests it dealt with.
    fn send_due(&mut self) -> usize {
        let mut dealt = 0;
        while dealt < SENDS_A_TURN {
            let Some(due) = self.schedule.due(0) else { break };
            let now = self.clock.now();
            // A tick comes first, so that what is due as a second begins is counted in it.
            if due > now || now >= self.book.next_tick {
                break;
            }
            dealt += 1;
            if now - due > UNSENT_AFTER_NS {
                self.skip_late(now);
            } else {
                self.ask(due, now);
            }
        }
        dealt
    }

    fn skip_late(&mut self, now: u64) {
        let book = &mut self.book;
        self.schedule.skip_late(now, |due| book.unsent(0, due, now, Unsent::Late));
    }

    fn unsent(&mut self, flow: usize, now: u64, why: Unsent) {
        if let Some(due) = self.schedule.pass() {
            self.book.unsent(flow, due, now, why);
        }
    }

    /// Sends the request that is due now over a connection of the seed's choice.
    fn ask(&mut self, due: u64, now: u64) {
        let Some(place) = self.peers.choose(&mut self.random) else {
            return self.unsent(0, now, Unsent::NoConnection);
        };
        let Some(index) = self.book.vacancy(place, now) else {
            return self.unsent(place, now, Unsent::NoSlot);
        };
        let subject = self.cursor.next();
        let length = self.fill(place, index, subject);
        match self.append(place, length, now) {
            Ok(()) => {
                self.schedule.pass();
                self.book.left(place, due, now, subject);
                self.asked(place, now);
            }
            Err(WriteError::Full) => self.unsent(place, now, Unsent::Blocked),
            Err(WriteError::Closed) => self.unsent(place, now, Unsent::NoConnection),
        }
    }

    /// Writes a request and its prefix into `message`; returns the length of both.
    fn fill(&mut self, place: usize, index: u32, subject: u32) -> usize {
        let (prefix, body) = self.message.split_at_mut(P::PREFIX);
        let name = self.first_flow + place as u32;
        let length = self.client.fill(name, index, self.cursor.subject(subject), body);
        P::prefix(length, prefix);
        P::PREFIX + length
    }

    /// Appends the first `length` bytes of `message` to what the connection is about to send.
    fn append(&mut self, place: usize, length: usize, now: u64) -> Result<(), WriteError> {
        let conn = self.peers.conn(place);
        let message = &self.message[..length];
        if W::PLAIN {
            let mut guard = self.streams.reserve(conn, length)?;
            guard.room()[..length].copy_from_slice(message);
            guard.commit(length);
            return Ok(());
        }
        // Room comes first: what a wrap has said once must be heard, or nothing after it can be.
        let mut guard = self.streams.reserve(conn, length + WRAPPED_MORE)?;
        self.wrapped.clear();
        let said = self.wrap.say(&mut self.peers.at(place).wrap, message, &mut self.wrapped);
        let trouble = match (said, guard.room().get_mut(..self.wrapped.len())) {
            (Ok(()), Some(room)) => {
                room.copy_from_slice(&self.wrapped);
                guard.commit(self.wrapped.len());
                return Ok(());
            }
            (Ok(()), None) => "a message grew beyond its room".to_owned(),
            (Err(trouble), _) => trouble,
        };
        self.give_up(place, &trouble, CloseMode::Reset, now);
        Err(WriteError::Closed)
    }

    fn idle(&mut self) {
        let now = self.clock.now();
        if let Some(lull) = self.schedule.lull(now, self.book.next_tick) {
            self.carry(lull);
        }
    }

    /// Reads all that has arrived, for a while: what a worker that was held up at the end would else call lost.
    fn hear_the_rest(&mut self) {
        let until = self.clock.now() + GRACE_NS;
        while self.clock.now() < until && self.carry(Duration::ZERO) > 0 {}
    }
}
