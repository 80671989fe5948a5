//! A worker that answers over streams: whole requests out of whatever pieces come, each answer behind the one before.
//!
//! Method: a request is copied behind the answers that wait to leave on its connection, and answered there in place;
//! all of them leave together at the next turn. What is cut waits until it is whole; where a client does not read its
//! answers, its requests wait and nothing more is received from it. Clocks end what never comes to an end.
//! Laws: a connection costs 16 bytes here and an idle one no time; nothing that one client does stops the others; what
//! an old connection left never reaches a new one in its place.

mod expiry;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flatout_net::{CloseMode, CloseReason, Conn, Event, Streams, WriteError};
use flatout_wire::{DropReason, Frame, Link, Protocol, RequestContext, Responder};

use super::age_list::AgeList;
use super::pending_input::{PendingBudget, PendingInput};
use super::{PUBLISH_NS, Served, WAIT};
use crate::answer_table::AnswerTable;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::published::Published;

/// The longest message of a stream, without what announces it.
const MESSAGE_MAX: usize = 65_535;
/// How often clients that do not read are looked at.
const TICK_NS: u64 = 1_000_000_000;
/// So many ticks without taking anything, or without a byte of the rest of a cut message, and a client is cut off.
const PATIENCE: u16 = 30;
/// So long after the last event more are looked for without sleep: who sends pays for waking who sleeps.
const LULL_NS: u64 = 30_000;

/// One place for a connection.
#[derive(Debug, Default)]
struct Slot {
    pending: Option<Box<PendingInput>>,
    generation: u32,
    /// The tick at which it last took something, while it waits.
    took_at: u16,
    state: State,
    /// It stands in the list of those that wait.
    listed: bool,
}

// A million connections at two of these each: one more word would be 8 MB.
const _: () = assert!(size_of::<Slot>() <= 16);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Free.
    #[default]
    Vacant,
    /// Requests are answered as they come.
    Open,
    /// There is no room for answers: what comes is kept.
    Waiting,
}

/// Why bytes are not all dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocked {
    /// What is left is cut: so many bytes would make it a message. None left: 0.
    Short(usize),
    /// There is no room for the next answer.
    Full,
    /// No message can begin so.
    Broken,
    /// The connection is over.
    Gone,
}

/// The worker.
pub(crate) struct Worker<P: Protocol, S, C> {
    streams: S,
    clock: C,
    responder: P::Responder,
    answer_table: Arc<AnswerTable>,
    context: RequestContext,
    slots: Vec<Slot>,
    waiting: Vec<Conn>,
    budget: PendingBudget,
    /// All connections by their last activity, where they may be idle for no longer than `idle_ms`.
    idle: AgeList,
    idle_ms: Option<u32>,
    now_ms: u32,
    tick: u16,
    tick_due: u64,
    unix_offset: u64,
    served: Served,
}

impl<P: Protocol, S: Streams, C: Clock> Worker<P, S, C> {
    pub(crate) fn new(
        streams: S,
        clock: C,
        responder: P::Responder,
        answer_table: Arc<AnswerTable>,
        local_port: u16,
        idle_ms: Option<u32>,
    ) -> Self {
        Self {
            tick_due: clock.now() + TICK_NS,
            unix_offset: clock.unix_offset(),
            streams,
            clock,
            responder,
            answer_table,
            context: RequestContext::new(Link::Tcp, None, local_port),
            slots: Vec::new(),
            waiting: Vec::new(),
            budget: PendingBudget::default(),
            idle: AgeList::default(),
            idle_ms,
            now_ms: 0,
            tick: 0,
            served: Served::default(),
        }
    }

    /// Keeps no more than `most` bytes of cut messages.
    #[cfg(test)]
    pub(crate) fn bound_pending(&mut self, most: usize) {
        self.budget = PendingBudget::up_to(most);
    }

    /// Works until it is stopped. Errors: the carrier's calls fail.
    pub(crate) fn run(mut self, stop: &AtomicBool, published: &Published<Served>) -> Result<(), String> {
        let (mut wait, mut published_at, mut ready_at) = (Duration::ZERO, 0, 0);
        let mut backoff = Backoff::default();
        // What it holds before anybody comes.
        self.publish(published);
        while backoff.goes_on() && !stop.load(Ordering::Relaxed) {
            backoff.tried(self.streams.turn(wait));
            let now = self.clock.now();
            self.now_ms = (now / 1_000_000) as u32;
            let busy = self.take_in(now) | self.expire();
            if now >= self.tick_due {
                self.look_around(now);
            }
            // After a wait that brought nothing there is time for it, and readers should see the last of a burst.
            if now > published_at + PUBLISH_NS || (!busy && !wait.is_zero()) {
                published_at = now;
                self.publish(published);
            }
            if busy {
                ready_at = now;
            }
            // Answers wait to leave after events, and under load the next event is near: sleep comes after a lull.
            wait = if busy || now < ready_at + LULL_NS { Duration::ZERO } else { WAIT };
        }
        self.measure();
        published.publish(&self.served);
        backoff.end()
    }

    /// Deals with all that the last turn brought; returns whether that was anything.
    fn take_in(&mut self, now: u64) -> bool {
        let unix_ns = now.wrapping_add(self.unix_offset);
        (self.context.received_unix_ns, self.context.now_unix_ns) = (unix_ns, unix_ns);
        let mut busy = false;
        while let Some(event) = self.streams.event() {
            busy = true;
            match event {
                Event::Received(conn, lent) => self.received(conn, &lent),
                Event::Accepted(conn) => self.accepted(conn),
                Event::Writable(conn) => self.writable(conn),
                Event::Closed(conn, reason) => self.closed(conn, reason),
                // A server opens none.
                Event::Opened(_) => {}
            }
        }
        busy
    }

    fn slot(&mut self, conn: Conn) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(conn.index as usize)?;
        (slot.generation == conn.generation && slot.state != State::Vacant).then_some(slot)
    }

    fn accepted(&mut self, conn: Conn) {
        let at = conn.index as usize;
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, Slot::default);
        }
        let Some(slot) = self.slots.get_mut(at) else { return };
        if slot.state == State::Vacant {
            self.served.connections += 1;
        }
        let fresh = Slot { generation: conn.generation, state: State::Open, ..Slot::default() };
        let old = std::mem::replace(slot, fresh);
        self.budget.give_back(old.pending);
        if self.idle_ms.is_some() {
            self.idle.insert(conn.index, conn, self.now_ms);
        }
        self.served.accepted += 1;
    }

    fn received(&mut self, conn: Conn, bytes: &[u8]) {
        let Some(slot) = self.slot(conn) else { return };
        let (state, pending) = (slot.state, slot.pending.take());
        self.idle.touch(conn.index, self.now_ms);
        if state == State::Waiting {
            return self.settle(conn, pending, bytes, Blocked::Full);
        }
        match pending {
            None => {
                let (done, halt) = self.answer_all(conn, bytes);
                self.settle(conn, None, bytes.get(done..).unwrap_or_default(), halt);
            }
            Some(pending) => self.complete(conn, pending, bytes),
        }
    }

    /// Adds to a cut message as much as it misses, byte for byte no more, until it is whole; then the others.
    fn complete(&mut self, conn: Conn, pending: Box<PendingInput>, mut bytes: &[u8]) {
        let mut pending = Some(pending);
        while let Some(kept) = &mut pending {
            let (done, halt) = self.answer_all(conn, kept.waiting());
            kept.advance(done);
            let missing = match halt {
                Blocked::Short(need) if !kept.waiting().is_empty() => need.saturating_sub(kept.waiting().len()).max(1),
                Blocked::Short(_) => break,
                halt => return self.settle(conn, pending, bytes, halt),
            };
            if bytes.len() < missing {
                return self.settle(conn, pending, bytes, halt);
            }
            let (more, others) = bytes.split_at(missing);
            if !self.keep(conn, &mut pending, more, missing) {
                return self.evict(conn, pending);
            }
            bytes = others;
        }
        self.budget.give_back(pending);
        let (done, halt) = self.answer_all(conn, bytes);
        self.settle(conn, None, bytes.get(done..).unwrap_or_default(), halt);
    }

    fn writable(&mut self, conn: Conn) {
        let tick = self.tick;
        let Some(slot) = self.slot(conn).filter(|slot| slot.state == State::Waiting) else { return };
        slot.took_at = tick;
        let pending = slot.pending.take();
        self.idle.touch(conn.index, self.now_ms);
        let Some(mut pending) = pending else { return self.settle(conn, None, &[], Blocked::Short(0)) };
        // It waited for the client to read: the clock of its last cut message begins now.
        self.budget.touch(&pending, self.now_ms);
        let (done, halt) = self.answer_all(conn, pending.waiting());
        pending.advance(done);
        self.settle(conn, Some(pending), &[], halt);
    }

    /// Leaves a connection as `halt` says, with `pending` and then `more` unanswered.
    fn settle(&mut self, conn: Conn, mut pending: Option<Box<PendingInput>>, more: &[u8], halt: Blocked) {
        let need = match halt {
            Blocked::Short(need) => need,
            Blocked::Full => 0,
            Blocked::Broken => {
                self.served.broken += 1;
                return self.end(conn, pending, CloseMode::Reset);
            }
            // That it is over is told, or was.
            Blocked::Gone => return self.budget.give_back(pending),
        };
        if !self.keep(conn, &mut pending, more, need) {
            return self.evict(conn, pending);
        }
        if pending.as_ref().is_some_and(|pending| pending.waiting().is_empty()) {
            self.budget.give_back(pending.take());
        }
        let tick = self.tick;
        if self.slot(conn).is_none() {
            return self.budget.give_back(pending);
        }
        let Some(slot) = self.slot(conn) else { return };
        slot.pending = pending;
        match (slot.state, halt) {
            (State::Open, Blocked::Full) => {
                (slot.state, slot.took_at) = (State::Waiting, tick);
                if !std::mem::replace(&mut slot.listed, true) {
                    self.waiting.push(conn);
                }
                self.streams.pause(conn);
            }
            (State::Waiting, Blocked::Short(_)) => {
                slot.state = State::Open;
                self.streams.resume(conn);
            }
            _ => {}
        }
    }

    /// Answers all whole requests at the beginning of `bytes`; returns how much they are, and why not more.
    fn answer_all(&mut self, conn: Conn, bytes: &[u8]) -> (usize, Blocked) {
        let mut at = 0;
        loop {
            let pending = bytes.get(at..).unwrap_or_default();
            if pending.is_empty() {
                return (at, Blocked::Short(0));
            }
            // No further than the longest message: what has no frames must fit into a block too.
            let window = pending.get(..P::PREFIX + MESSAGE_MAX).unwrap_or(pending);
            match self.responder.frame(window) {
                Frame::Short { need } if need <= P::PREFIX + MESSAGE_MAX && need > window.len() => {
                    return (at, Blocked::Short(need));
                }
                Frame::Whole { start, end } if end > 0 => {
                    let Some(request) = window.get(start..end) else { return (at, Blocked::Broken) };
                    if let Err(refuse) = self.answer(conn, request) {
                        return (at, if refuse == WriteError::Full { Blocked::Full } else { Blocked::Gone });
                    }
                    at += end;
                }
                _ => return (at, Blocked::Broken),
            }
        }
    }

    /// Answers one request behind the answers before it.
    fn answer(&mut self, conn: Conn, request: &[u8]) -> Result<(), WriteError> {
        let table = self.answer_table.table();
        let room = self.responder.room(table, request).min(MESSAGE_MAX).max(request.len());
        let mut guard = self.streams.reserve(conn, P::PREFIX + room)?;
        let Some((prefix, packet)) = guard.room().split_at_mut_checked(P::PREFIX) else {
            return Err(WriteError::Closed);
        };
        let Some(packet) = packet.get_mut(..room) else { return Err(WriteError::Closed) };
        let most = if P::AMPLIFIES { room } else { request.len() };
        if let Some(slot) = packet.get_mut(..request.len()) {
            slot.copy_from_slice(request);
        }
        self.served.received += 1;
        let answered = self.responder.answer(table, &self.context, packet, request.len());
        match answered {
            Ok(length) if length <= most => {
                P::prefix(length, prefix);
                guard.commit(P::PREFIX + length);
                self.served.answered += 1;
            }
            Ok(_) => self.served.dropped[DropReason::Malformed as usize] += 1,
            Err(refusal) => self.served.dropped[refusal as usize] += 1,
        }
        Ok(())
    }

    fn closed(&mut self, conn: Conn, reason: CloseReason) {
        let Some(slot) = self.slot(conn) else { return };
        slot.state = State::Vacant;
        let pending = slot.pending.take();
        self.budget.give_back(pending);
        self.idle.remove(conn.index);
        self.served.connections -= 1;
        match reason {
            CloseReason::Ended => self.served.ended += 1,
            _ => self.served.resets += 1,
        }
    }

    /// Ends a connection of which there is no more use.
    fn end(&mut self, conn: Conn, pending: Option<Box<PendingInput>>, how: CloseMode) {
        self.budget.give_back(pending);
        let Some(slot) = self.slot(conn) else { return };
        slot.state = State::Vacant;
        let kept = slot.pending.take();
        self.budget.give_back(kept);
        self.idle.remove(conn.index);
        self.served.connections -= 1;
        self.streams.close(conn, how);
    }

    fn publish(&mut self, published: &Published<Served>) {
        self.measure();
        published.offer(&self.served);
    }

    fn measure(&mut self) {
        let carried = self.streams.stats();
        self.served.accept_errors = carried.accept_errors;
        (self.served.bytes_in, self.served.bytes_out) = (carried.bytes_in, carried.bytes_out);
        self.served.cpu_ns = flatout_net::thread_cpu_ns();
        let arrays = self.slots.capacity() * size_of::<Slot>() + self.waiting.capacity() * size_of::<Conn>();
        self.served.memory_bytes = (self.streams.bytes() + self.budget.bytes() + self.idle.bytes() + arrays) as u64;
    }
}
