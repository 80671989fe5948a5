//! One worker that asks: sends what is due, hears what comes back, settles each request once.
//!
//! Laws: the schedule is absolute, so being late never moves it; a request that cannot leave within 1 ms of being due
//! is not sent but counted, and its wait still shows in lateness and from due; nothing waits to fill a batch.
//! What is heard is handled in `load/hear.rs`.

mod hear;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use flatout_net::{Batch, Datagrams, Sent};
use flatout_wire::{Ask, Protocol};

use crate::clock::Clock;
use crate::flow::{Ring, Slot};
use crate::histogram::Recorder;
use crate::log::{Pen, Row};
use crate::pace::Pacer;
use crate::snapshot::{Board, Second};
use crate::tally::{Counts, Outcome, Unsent};

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
const RINGS_A_TICK: usize = 64;
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
}

/// What a worker is made of.
pub struct Parts<P: Protocol, L, C> {
    /// The protocol's asking end.
    pub asker: P::Asker,
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
    parts: Parts<P, L, C>,
    rings: Vec<Ring>,
    outgoing: Batch,
    incoming: Batch,
    drawn: VecDeque<u64>,
    warming: bool,
    flow: usize,
    turn_began: u64,
    last_sent: u64,
    counts: Counts,
    recorder: Recorder,
    ears: hear::Ears,
    next_tick: u64,
    next_ring: usize,
    second: SecondHand,
    stop_at: Option<u64>,
}

/// Where the present second began.
struct SecondHand {
    index: usize,
    before: Counts,
}

impl SecondHand {
    /// When it ends, ns since the counted beginning.
    fn end(&self) -> u64 {
        (self.index as u64 + 1) * SECOND_NS
    }
}

impl<P: Protocol, L: Datagrams, C: Clock> Asking<P, L, C> {
    /// A worker ready to begin.
    pub fn new(parts: Parts<P, L, C>) -> Self {
        let flows = parts.link.flows();
        let board = &parts.board;
        board.give_back(Recorder::default());
        Self {
            rings: (0..flows).map(|_| Ring::new(parts.manner.slots)).collect(),
            outgoing: Batch::new(GROUP, P::REQUEST_MAX, false),
            incoming: Batch::new(ARRIVALS_A_CALL, P::DATAGRAM_MAX, false),
            drawn: VecDeque::with_capacity(GROUP * 2),
            warming: true,
            flow: 0,
            turn_began: parts.times.begin,
            last_sent: parts.times.begin,
            counts: Counts::default(),
            recorder: Recorder::default(),
            ears: hear::Ears::default(),
            next_tick: parts.times.begin,
            next_ring: 0,
            second: SecondHand { index: 0, before: Counts::default() },
            stop_at: None,
            parts,
        }
    }

    /// The memory of all rings, in bytes.
    #[must_use]
    pub fn ring_bytes(&self) -> usize {
        self.rings.iter().map(Ring::bytes).sum()
    }

    /// Asks until the schedule is over and all that may still come has come; returns the counters.
    pub fn run(mut self) -> Counts {
        while !self.turn() {}
        self.close()
    }

    fn turn(&mut self) -> bool {
        let now = self.parts.clock.now();
        if now >= self.next_tick && self.tick(now) {
            return true;
        }
        let sent = self.send_due();
        let heard = self.hear(sent.max(4));
        if sent == 0 && !heard {
            self.idle();
        }
        false
    }

    /// The due time of the n-th request that has not left, drawing as far as needed.
    fn due(&mut self, n: usize) -> Option<u64> {
        while self.drawn.len() <= n {
            let drawn = self.draw()?;
            self.drawn.push_back(drawn);
        }
        self.drawn.get(n).copied()
    }

    fn draw(&mut self) -> Option<u64> {
        if self.stop_at.is_some() {
            return None;
        }
        let times = self.parts.times;
        let parts = &mut self.parts;
        if self.warming {
            if let Some(due) = parts.warmup.draw() {
                return Some(times.begin + due);
            }
            self.warming = false;
        }
        parts.pacer.draw().map(|due| times.counted_from + due)
    }

    /// Sends what is due, up to a turn's worth; returns how many requests it dealt with.
    fn send_due(&mut self) -> usize {
        let mut dealt = 0;
        while dealt < SENDS_A_TURN {
            let Some(due) = self.due(0) else { break };
            let now = self.parts.clock.now();
            // A tick comes first, so that what is due as a second begins is counted in it.
            if due > now || now >= self.next_tick {
                break;
            }
            if now - due > UNSENT_AFTER_NS {
                dealt += self.skip_late(now);
                continue;
            }
            match self.send_group(due, now) {
                0 => break,
                n => dealt += n,
            }
        }
        dealt
    }

    /// Leaves out what can no longer leave in time, in one sweep: a generator far behind must not spend itself on that.
    fn skip_late(&mut self, now: u64) -> usize {
        let mut skipped = 0;
        while skipped < SKIPS_A_TURN && self.due(0).is_some_and(|due| now.saturating_sub(due) > UNSENT_AFTER_NS) {
            self.unsent(now, Unsent::Late);
            skipped += 1;
        }
        1
    }

    /// Sends the requests that are due now over the flow whose turn it is; returns how many it dealt with.
    fn send_group(&mut self, due: u64, now: u64) -> usize {
        if due >= self.turn_began + TURN_NS {
            self.turn_began = due;
            self.next_flow();
        }
        let until = now.min(self.turn_began + TURN_NS - 1);
        let name = self.parts.manner.first_flow + self.flow as u32;
        let (mut count, mut length) = (0, 0);
        while count < GROUP && self.due(count).is_some_and(|due| due <= until) {
            let Some(index) = self.rings[self.flow].vacancy(count as u32) else { break };
            length = self.parts.asker.fill(name, index, &[], self.outgoing.slot(count));
            self.outgoing.set_length(count, length);
            count += 1;
        }
        if count == 0 {
            return self.stays(now, Unsent::NoSlot);
        }
        let sent = self.parts.link.send(self.flow, &mut self.outgoing, count, length);
        self.note_sent(sent, now)
    }

    fn note_sent(&mut self, sent: Sent, now: u64) -> usize {
        match sent {
            Sent::Left(count) => {
                for _ in 0..count {
                    self.left(now);
                }
                count
            }
            Sent::Full => 0,
            Sent::Dropped => self.stays(now, Unsent::Dropped),
            Sent::Refused => {
                self.hear_refusals(self.flow);
                self.end_turn();
                0
            }
            Sent::Failed(errno) => {
                self.parts.board.fail(std::io::Error::from_raw_os_error(errno).to_string());
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
        self.flow = (self.flow + 1) % self.rings.len();
    }

    fn left(&mut self, now: u64) {
        let Some(due) = self.drawn.pop_front() else { return };
        self.last_sent = now;
        let flow = self.flow;
        if let Some(before) = self.rings[flow].left(due, now) {
            self.note_unanswered(flow, &before, Outcome::Lost);
        }
        if self.counted(due) {
            self.rings[flow].open += 1;
            self.counts.planned += 1;
            self.counts.sent += 1;
            self.recorder.lateness.record(now - due);
        }
    }

    fn unsent(&mut self, now: u64, why: Unsent) {
        let Some(due) = self.drawn.pop_front() else { return };
        if !self.counted(due) {
            return;
        }
        self.counts.planned += 1;
        self.counts.unsent[why as usize] += 1;
        self.recorder.lateness.record(now - due);
        if why == Unsent::Late {
            // Left out, the generator's own stall would make the latency look better than any user saw it.
            self.recorder.from_due.record(now - due);
        }
        self.note(Row { due, sent: None, answered: None, outcome: Outcome::Unsent, flow: self.flow as u32 });
    }

    fn counted(&self, due: u64) -> bool {
        due >= self.parts.times.counted_from
    }

    fn note(&mut self, row: Row) {
        let from = self.parts.times.counted_from;
        let first_flow = self.parts.manner.first_flow;
        if let Some(pen) = &mut self.parts.pen {
            let since = |time: u64| time.saturating_sub(from);
            pen.write(Row {
                due: since(row.due),
                sent: row.sent.map(since),
                answered: row.answered.map(since),
                flow: first_flow + row.flow,
                ..row
            });
        }
    }

    fn note_unanswered(&mut self, flow: usize, slot: &Slot, outcome: Outcome) {
        if self.counted(slot.due) {
            self.note(Row { due: slot.due, sent: Some(slot.sent), answered: None, outcome, flow: flow as u32 });
        }
    }

    /// The work of each ms; returns whether the run is over.
    fn tick(&mut self, now: u64) -> bool {
        if self.stop_at.is_none() && self.parts.board.stopping() {
            self.drawn.clear();
            self.stop_at = Some(now);
        }
        self.expire_some(now);
        self.parts.board.publish(&self.counts);
        let from = self.parts.times.counted_from;
        while now >= from + self.second.end() {
            self.end_second(self.second.end());
        }
        self.next_tick = (now + TICK_NS).min(from + self.second.end());
        self.due(0).is_none() && self.settled(now)
    }

    fn expire_some(&mut self, now: u64) {
        let before = now.saturating_sub(self.parts.times.timeout);
        for _ in 0..self.rings.len().min(RINGS_A_TICK) {
            self.expire(self.next_ring, before);
            self.next_ring = (self.next_ring + 1) % self.rings.len();
        }
    }

    fn expire(&mut self, flow: usize, before: u64) {
        let (counts, from) = (&mut self.counts, self.parts.times.counted_from);
        self.rings[flow].expire(before, |slot| counts.lost += u64::from(slot.due >= from));
    }

    /// Whether nothing more is to be awaited.
    fn settled(&mut self, now: u64) -> bool {
        let timeout = self.parts.times.timeout;
        // Where answers have come late, those to the last requests are given as long again.
        let patience = if self.counts.late > 0 { timeout * 2 } else { timeout };
        let patience = if self.stop_at.is_some() { patience.min(GRACE_NS * 2) } else { patience };
        let beginning = self.stop_at.unwrap_or(self.last_sent).max(self.last_sent);
        let open = self.rings.iter().any(|ring| ring.open > 0) || self.rings.iter_mut().any(Ring::waits);
        let until = beginning + if open { patience } else { patience.min(GRACE_NS) };
        now >= until && (self.stop_at.is_some() || now >= self.parts.times.end)
    }

    fn end_second(&mut self, until: u64) {
        let spare = self.parts.board.spare();
        let recorder = std::mem::replace(&mut self.recorder, spare);
        let counts = self.counts - self.second.before;
        self.parts.board.hand_over(Second { index: self.second.index, until, counts, recorder });
        self.second = SecondHand { index: self.second.index + 1, before: self.counts };
    }

    fn idle(&mut self) {
        let now = self.parts.clock.now();
        let due = self.due(0).unwrap_or(u64::MAX);
        let wake = due.saturating_sub(SPIN_NS).min(self.next_tick.max(now + TICK_NS));
        if wake > now + SPIN_NS {
            self.listen(now, Duration::from_nanos(wake - now));
        }
    }

    /// Settles what can no longer be awaited and leaves the last word.
    fn close(mut self) -> Counts {
        self.hear_the_rest(GRACE_NS);
        let now = self.parts.clock.now();
        for flow in 0..self.rings.len() {
            self.expire(flow, u64::MAX);
            let mut strangers = self.rings[flow].strangers;
            for slot in self.rings[flow].unanswered().copied().collect::<Vec<_>>() {
                self.note_unanswered(flow, &slot, if strangers > 0 { Outcome::Invalid } else { Outcome::Lost });
                strangers = strangers.saturating_sub(1);
            }
        }
        self.counts.lost = 0;
        for ring in &self.rings {
            // An answer that names no request stands for one of its flow that got no other.
            let invalid = ring.strangers.min(ring.open);
            let late = ring.forgotten.min(ring.open - invalid);
            self.counts.invalid += invalid;
            self.counts.late += late;
            self.counts.lost += ring.open - invalid - late;
        }
        self.counts.own_drops = self.parts.link.drops();
        self.counts.cpu_ns = flatout_net::thread_cpu_ns();
        let until = now.saturating_sub(self.parts.times.counted_from);
        self.end_second(until);
        if let Some(pen) = self.parts.pen.take() {
            let dropped = pen.close();
            if dropped > 0 {
                self.parts.board.fail(format!("the log could not follow: {dropped} rows left out"));
            }
        }
        self.parts.board.publish_last(&self.counts);
        self.parts.board.finish();
        self.counts
    }
}
