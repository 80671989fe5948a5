//! The clocks of a server's connections: clients that do not read, cut messages, idle connections, memory that runs out.
//!
//! Law: no clock looks at all connections. What may expire is found at the head of a list in order of age.

use flatout_net::{CloseMode, Conn, Streams};
use flatout_wire::Protocol;

use super::super::pending_input::PendingInput;
use super::{PATIENCE, State, TICK_NS, Worker};
use crate::clock::Clock;

/// As long as [`PATIENCE`], in ms.
const PATIENCE_MS: u32 = PATIENCE as u32 * (TICK_NS / 1_000_000) as u32;
/// At most so many connections of each kind end in one turn, so that the others are answered meanwhile.
const ENDS_A_TURN: usize = 1_024;

impl<P: Protocol, S: Streams, C: Clock> Worker<P, S, C> {
    /// Ends what has expired; returns whether there may be more.
    pub(super) fn expire(&mut self) -> bool {
        let stuck = (0..ENDS_A_TURN).all(|_| self.expire_stuck());
        let idle = (0..ENDS_A_TURN).all(|_| self.expire_idle());
        stuck | idle
    }

    /// Deals with the cut message whose rest has made no progress for longest; returns whether there was one.
    fn expire_stuck(&mut self) -> bool {
        let Some(conn) = self.budget.stuck(PATIENCE_MS, self.now_ms) else { return false };
        let now_ms = self.now_ms;
        let Some(at) = self.slots.get(conn.index as usize).filter(|slot| slot.generation == conn.generation) else {
            return false;
        };
        match &at.pending {
            // It waits for its client to read, which has a clock of its own.
            Some(pending) if at.state == State::Waiting => self.budget.touch(pending, now_ms),
            Some(_) => {
                self.served.incomplete += 1;
                self.end(conn, None, CloseMode::Reset);
            }
            None => return false,
        }
        true
    }

    /// Deals with the connection that has been idle for longest, if that is too long; returns whether there was one.
    fn expire_idle(&mut self) -> bool {
        let (now_ms, Some(idle_ms)) = (self.now_ms, self.idle_ms) else { return false };
        let Some(conn) = self.idle.older_than(idle_ms, now_ms) else { return false };
        match self.slot(conn).map(|slot| slot.state) {
            Some(State::Open) if !self.streams.is_sending(conn) => {
                self.served.idle_closed += 1;
                self.end(conn, None, CloseMode::Flush);
            }
            // Its answers are under way.
            Some(_) => self.idle.touch(conn.index, now_ms),
            None => self.idle.remove(conn.index),
        }
        true
    }

    /// Keeps `more` of a connection; where memory runs out, those that hold some for longest lose it first. Returns
    /// whether there is memory now.
    pub(super) fn keep(
        &mut self,
        conn: Conn,
        pending: &mut Option<Box<PendingInput>>,
        more: &[u8],
        need: usize,
    ) -> bool {
        while !self.budget.keep(pending, (conn, self.now_ms), more, need) {
            let Some(oldest) = self.budget.oldest().filter(|oldest| *oldest != conn) else { return false };
            self.evict(oldest, None);
            if self.budget.oldest() == Some(oldest) {
                return false;
            }
        }
        true
    }

    /// Ends a connection for the memory of its pending input.
    pub(super) fn evict(&mut self, conn: Conn, pending: Option<Box<PendingInput>>) {
        self.served.evicted += 1;
        self.end(conn, pending, CloseMode::Reset);
    }

    /// Ends a connection whose client does not read.
    pub(super) fn cut_off(&mut self, conn: Conn, pending: Option<Box<PendingInput>>) {
        self.served.stalled += 1;
        self.end(conn, pending, CloseMode::Reset);
    }

    /// Once a tick: cuts off who has not read for too long. Only those that wait are looked at.
    pub(super) fn look_around(&mut self, now: u64) {
        self.tick_due = now + TICK_NS;
        self.tick = self.tick.wrapping_add(1);
        self.unix_offset = self.clock.unix_offset();
        for conn in std::mem::take(&mut self.waiting) {
            let tick = self.tick;
            let Some(slot) = self.slot(conn) else { continue };
            slot.listed = slot.state == State::Waiting;
            if !slot.listed {
                continue;
            }
            if tick.wrapping_sub(slot.took_at) > PATIENCE {
                self.cut_off(conn, None);
            } else {
                self.waiting.push(conn);
            }
        }
    }
}
