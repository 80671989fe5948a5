//! One worker that asks: sends what is due, hears what comes back, settles each request once.
//!
//! Laws: the schedule is absolute, so being late never moves it; a request that cannot leave within 1 ms of being due
//! is not sent but counted, and its wait still shows in lateness and from due; nothing waits to fill a batch.
//! What is heard is handled in `load/hear.rs`.

mod book;
pub mod cast;
pub mod gate;
mod hear;
mod judge;
pub mod opener;
mod rally;
mod schedule;
pub mod senders;
pub mod stream;

use std::sync::Arc;

use flatout_net::{Batch, Datagrams, SendResult};
use flatout_wire::{Client, Protocol};

use crate::clock::Clock;
use crate::corpus::Cursor;
use crate::flow::Rings;
use crate::log::Pen;
use crate::pace::Pacer;
use crate::plan::Wait;
use crate::snapshot::Board;
use crate::tally::{Counts, Unsent};

use book::Book;
use rally::Rally;
use schedule::Schedule;

/// The contract's line between late and unsent.
pub const UNSENT_AFTER_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;
const TICK_NS: u64 = 1_000_000;
/// At most so many sends before ears get their turn: about 50 µs.
const SENDS_A_TURN: usize = 16;
/// Requests left out between two looks at the clock: about 100 µs.
const SKIPS_A_TURN: usize = 2048;
/// Datagrams of one flow that leave in one call.
const GROUP: usize = 32;
/// Requests that are due within so long of each other go over one flow: at high rates they and their answers can then
/// share calls, at low rates each has a flow of its own. The schedule alone decides it, not how late the generator is.
const TURN_NS: u64 = 50_000;
const ARRIVALS_A_CALL: usize = 32;
/// With the kernel's stamps an answer's time does not depend on when it is read, so reading may wait and batch.
const UNHURRIED_NS: u64 = 200_000;
/// Nearer than this the worker spins: waking up takes tens of µs.
const SPIN_NS: u64 = 100_000;
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

/// How a worker goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Arrivals carry the kernel's stamp.
    pub stamps: bool,
    /// Slots for each flow's requests.
    pub slots: usize,
    /// The number of this worker's first flow among all workers'.
    pub first_flow: u32,
    /// One request at a time, its answer awaited so; `None`: by the schedule.
    pub rally: Option<Wait>,
}

/// What a worker is made of.
pub struct Parts<P: Protocol, L, C> {
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
    /// When.
    pub times: Times,
    /// How.
    pub manner: Manner,
    /// Where to leave what is counted.
    pub board: Arc<Board>,
    /// Where to note each request.
    pub pen: Option<Pen>,
}

/// A worker that asks.
pub struct Asking<P: Protocol, L, C> {
    client: P::Client,
    link: L,
    clock: C,
    manner: Manner,
    rally: Option<Rally>,
    cursor: Cursor,
    /// What the requests of the present group ask about.
    subjects: Vec<u32>,
    schedule: Schedule,
    book: Book,
    outgoing: Batch,
    incoming: Batch,
    flow: usize,
    turn_began: u64,
    /// Unix time minus the clock's, as of the last tick: for requests that carry the time.
    unix_offset: u64,
    ears: hear::Ears,
}

impl<P: Protocol, L: Datagrams, C: Clock> Asking<P, L, C> {
    /// A worker ready to begin.
    pub fn new(parts: Parts<P, L, C>) -> Self {
        let slots = parts.manner.slots.max(16).min(1 << parts.client.index_bits().min(24));
        let rings = Rings::new(parts.link.flows(), slots);
        Self {
            outgoing: Batch::new(GROUP, parts.client.longest(), false),
            incoming: Batch::new(ARRIVALS_A_CALL, P::DATAGRAM_MAX, false),
            client: parts.client,
            link: parts.link,
            unix_offset: parts.clock.unix_offset(),
            clock: parts.clock,
            manner: parts.manner,
            rally: parts.manner.rally.map(Rally::new),
            cursor: parts.cursor,
            subjects: Vec::with_capacity(GROUP),
            schedule: Schedule::new(parts.warmup, parts.pacer, parts.times),
            book: Book::new(rings, parts.times, parts.manner, parts.board, parts.pen),
            flow: 0,
            turn_began: parts.times.begin,
            ears: hear::Ears::default(),
        }
    }

    /// The memory of all rings, in bytes.
    #[must_use]
    pub fn ring_bytes(&self) -> usize {
        self.book.rings.bytes()
    }

    /// Asks until the schedule is over and all that may still come has come; returns the counters.
    pub fn run(mut self) -> Counts {
        while !self.turn() {}
        self.hear_the_rest(GRACE_NS);
        let now = self.clock.now();
        self.book.close(now, self.link.drops())
    }

    fn turn(&mut self) -> bool {
        let now = self.clock.now();
        if now >= self.book.next_tick && self.tick(now) {
            return true;
        }
        let sent = self.send_due();
        let heard = self.hear(sent.max(4));
        if sent == 0 && !heard {
            self.idle();
        }
        false
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
            if now - due > UNSENT_AFTER_NS {
                self.skip_late(now);
                dealt += 1;
                continue;
            }
            match self.send_group(due, now) {
                0 => break,
                n => dealt += n,
            }
        }
        dealt
    }

    fn skip_late(&mut self, now: u64) {
        let (book, flow) = (&mut self.book, self.flow);
        self.schedule.skip_late(now, |due| book.unsent(flow, due, now, Unsent::Late));
    }

    /// Sends the requests that are due now over the flow whose turn it is; returns how many it dealt with.
    fn send_group(&mut self, due: u64, now: u64) -> usize {
        if due >= self.turn_began + TURN_NS {
            self.turn_began = due;
            self.next_flow();
        }
        let until = now.min(self.turn_began + TURN_NS - 1);
        let name = self.manner.first_flow + self.flow as u32;
        let (mut count, mut length) = (0, 0);
        self.subjects.clear();
        while count < GROUP && self.schedule.due(count).is_some_and(|due| due <= until) {
            let Some(index) = self.book.rings.of(self.flow).vacancy(count as u32) else { break };
            let subject = self.cursor.next();
            length = self.client.fill(name, index, self.cursor.subject(subject), self.outgoing.slot(count));
            if self.client.stamped() {
                self.client.stamp(now.wrapping_add(self.unix_offset), self.outgoing.slot(count));
            }
            self.outgoing.set_length(count, length);
            self.subjects.push(subject);
            count += 1;
        }
        if count == 0 {
            return self.stays(now, Unsent::NoSlot);
        }
        let sent = self.link.send(self.flow, &mut self.outgoing, count, length);
        self.note_sent(sent, now)
    }

    fn note_sent(&mut self, sent: SendResult, now: u64) -> usize {
        match sent {
            SendResult::Sent(count) => {
                for n in 0..count {
                    self.left(now, self.subjects[n]);
                }
                count
            }
            SendResult::Full => 0,
            SendResult::Dropped => self.stays(now, Unsent::Dropped),
            SendResult::Refused => {
                self.hear_refusals(self.flow);
                self.end_turn();
                0
            }
            SendResult::Failed(errno) => {
                self.book.board.fail(std::io::Error::from_raw_os_error(errno).to_string());
                self.stays(now, Unsent::Failed)
            }
        }
    }

    /// The flow whose turn it was could not take the request: that ends its turn, so that the others go on.
    fn stays(&mut self, now: u64, why: Unsent) -> usize {
        self.unsent(now, why);
        self.end_turn();
        1
    }

    /// Whatever is sent next goes over the next flow.
    fn end_turn(&mut self) {
        self.turn_began = 0;
    }

    fn next_flow(&mut self) {
        self.flow = (self.flow + 1) % self.book.rings.flows();
    }

    fn left(&mut self, now: u64, subject: u32) {
        if let (Some(rally), Some(index)) = (&mut self.rally, self.book.rings.of(self.flow).vacancy(0)) {
            rally.left(self.flow, index, now);
        }
        if let Some(due) = self.schedule.pass() {
            self.book.left(self.flow, due, now, subject);
        }
    }

    fn unsent(&mut self, now: u64, why: Unsent) {
        if let Some(due) = self.schedule.pass() {
            self.book.unsent(self.flow, due, now, why);
        }
    }

    /// The work of each ms; returns whether the run is over.
    fn tick(&mut self, now: u64) -> bool {
        self.book.tick(now);
        if self.client.stamped() {
            self.unix_offset = self.clock.unix_offset();
        }
        if self.book.stop_at.is_some() {
            self.schedule.stop();
        }
        self.schedule.due(0).is_none() && self.book.settled(now)
    }

    fn idle(&mut self) {
        let now = self.clock.now();
        if let Some(rally) = &mut self.rally {
            let served = rally.is_ours(now, self.book.times.timeout) && self.schedule.serve(now);
            if served || rally.wait == Wait::Spin {
                return;
            }
        }
        if let Some(lull) = self.schedule.lull(now, self.book.next_tick) {
            self.listen(now, lull);
        }
    }
}
