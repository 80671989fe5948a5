//! How connections come and go.

use std::io::ErrorKind;

use flatout_net::{CloseMode, CloseReason, Conn, Streams};
use flatout_wire::Protocol;

use super::peers::Phase;
use super::{EVENTS_A_TURN, StreamClient};
use crate::clock::Clock;
use crate::generator::opener::{OpenReason, PAUSE_NS};
use crate::stream_layer::{StreamError, StreamLayer};
use crate::tally::Outcome;

/// So many are closed before the kernel hears of it.
const CLOSINGS_A_TURN: usize = 1_024;

impl<P: Protocol, S: Streams, C: Clock, W: StreamLayer> StreamClient<P, S, C, W> {
    /// Opens what may be opened now, `most` at once, and gives up what takes too long; returns whether any was opened.
    pub(super) fn open_due(&mut self, now: u64, most: usize) -> bool {
        let mut opened = 0;
        while opened < most && self.peers.room() {
            let Some(ticket) = self.opener.ticket(now) else { break };
            if !self.open(ticket, now) {
                break;
            }
            opened += 1;
        }
        let peers = &self.peers;
        self.opener.tidy(|conn| peers.slot(conn).is_some_and(|slot| peers.coming(slot)));
        while let Some(conn) = self.opener.overdue(now) {
            if let Some(slot) = self.peers.slot(conn).filter(|slot| self.peers.coming(*slot)) {
                self.streams.close(conn, CloseMode::Reset);
                self.gone(slot, CloseReason::TimedOut, now);
            }
        }
        opened > 0
    }

    /// Opens one; false: not now, for the places of some that are over are still taken.
    fn open(&mut self, ticket: OpenReason, now: u64) -> bool {
        let number = self.connections.opened as usize;
        let (held, failures) = match ticket {
            OpenReason::First => (false, 0),
            OpenReason::Held => (true, 0),
            OpenReason::Again { held, failures } => (held, failures),
        };
        let source = (!self.sources.is_empty()).then(|| self.sources[number % self.sources.len()]);
        let opened = self.streams.open(source, self.target);
        if opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::StorageFull) {
            self.opener.put_back(ticket);
            return false;
        }
        self.connections.opened += 1;
        self.connections.reopened += u64::from(matches!(ticket, OpenReason::Again { .. }));
        match opened {
            Ok(conn) => {
                self.peers.begin(conn, now, held, failures);
                self.opener.begun(conn, now);
            }
            Err(error) => {
                self.connections.failed += 1;
                self.connections.local += 1;
                self.connections.no_port += u64::from(error.kind() == ErrorKind::AddrNotAvailable);
                self.tracker.published.fail(format!("a connection could not be opened: {error}"));
                self.opener.lost(now, held, failures.saturating_add(1));
            }
        }
        true
    }

    /// A connection stands.
    pub(super) fn opened(&mut self, slot: usize, now: u64) {
        if W::PLAIN {
            return self.ready(slot, now);
        }
        self.encoded.clear();
        let peer = self.peers.at(slot);
        peer.phase = Phase::Shaking;
        match self.layer.begin(&mut peer.layer, &mut self.encoded) {
            Ok(()) => {
                if let Err(error_text) = self.encode_message(slot) {
                    self.give_up(slot, &error_text, CloseMode::Reset, now);
                }
            }
            Err(error_text) => self.give_up(slot, &error_text, CloseMode::Reset, now),
        }
    }

    /// Sends what the wrap itself has to say.
    pub(super) fn encode_message(&mut self, slot: usize) -> Result<(), StreamError> {
        if self.encoded.is_empty() {
            return Ok(());
        }
        let said = self.streams.reserve(self.peers.conn(slot), self.encoded.len()).map(|mut guard| {
            guard.room()[..self.encoded.len()].copy_from_slice(&self.encoded);
            guard.commit(self.encoded.len());
        });
        said.map_err(|_| "the far end takes nothing".to_owned())
    }

    /// A connection is ready for requests, or to be kept.
    pub(super) fn ready(&mut self, slot: usize, now: u64) {
        let peer = self.peers.at(slot);
        self.connect.record(now.saturating_sub(peer.since));
        if peer.held {
            peer.phase = Phase::Held;
        } else {
            self.peers.enter(slot);
        }
        self.opener.over();
        self.connections.established += 1;
        self.connections.live += 1;
        self.connections.peak = self.connections.peak.max(self.connections.live);
    }

    /// A request has left over a connection, which may have been its last.
    pub(super) fn asked(&mut self, slot: usize, now: u64) {
        let peer = self.peers.at(slot);
        peer.asked += 1;
        if self.churn == 0 || peer.asked < self.churn {
            return;
        }
        (peer.phase, peer.since) = (Phase::Retiring, now);
        peer.asked = self.tracker.rings.of(slot).unsettled(peer.asked);
        let conn = self.peers.conn(slot);
        self.peers.leave(slot);
        if self.schedule.due(0).is_some() {
            self.opener.replace();
        }
        self.retired.push_back(conn);
    }

    /// Closes those that have waited for their last answers as long as one may take, or, so that answers which are late
    /// are told from those which never come, twice as long where no other connection needs their slot.
    pub(super) fn close_retired(&mut self, now: u64) {
        while let Some(&conn) = self.retired.front() {
            if let Some(slot) = self.peers.slot(conn) {
                let patience = self.lengths.timeout * if self.peers.room() { 2 } else { 1 };
                if self.peers.at(slot).since + patience > now {
                    return;
                }
                self.retire(slot);
            }
            self.retired.pop_front();
        }
    }

    /// Closes one that has had its last answer: by a reset, so that its port is free at once.
    pub(super) fn retire(&mut self, slot: usize) {
        self.streams.close(self.peers.conn(slot), CloseMode::Reset);
        self.tracker.abandon(slot, Outcome::Lost);
        self.connections.live -= 1;
        self.peers.clear(slot);
    }

    /// Nothing more can come of a connection: what was heard on it makes no sense.
    pub(super) fn give_up(&mut self, slot: usize, why: &str, how: CloseMode, now: u64) {
        self.tracker.published.fail(format!("a connection was given up: {why}"));
        self.streams.close(self.peers.conn(slot), how);
        self.connections.broken += u64::from(!self.peers.coming(slot));
        self.over(slot, Outcome::Invalid, false, now);
    }

    /// The far end, the network or the time-out has ended a connection.
    pub(super) fn gone(&mut self, slot: usize, reason: CloseReason, now: u64) {
        let in_order = reason == CloseReason::Ended;
        if in_order && self.is_idle_after_all(slot) {
            // It lasted as long as the load: the far end's patience with idle connections is not at issue.
            self.peers.clear(slot);
            return;
        }
        let counted = &mut self.connections;
        if self.peers.coming(slot) {
            counted.refused += u64::from(reason == CloseReason::Refused);
            counted.timed_out += u64::from(reason == CloseReason::TimedOut);
            counted.local += u64::from(reason.is_local());
            if let CloseReason::Failed(errno) = reason {
                let error = std::io::Error::from_raw_os_error(errno);
                counted.no_port += u64::from(error.kind() == ErrorKind::AddrNotAvailable);
                self.tracker.published.fail(format!("a connection could not be opened: {error}"));
            }
        } else if in_order {
            counted.closed += 1;
        } else {
            counted.reset += 1;
        }
        self.over(slot, if in_order { Outcome::Lost } else { Outcome::Refused }, in_order, now);
    }

    /// Whether all is asked, and all that was asked over this connection is answered, in time or late.
    fn is_idle_after_all(&mut self, slot: usize) -> bool {
        let kept = matches!(self.peers.at(slot).phase, Phase::Live | Phase::Held);
        let ring = self.tracker.rings.of(slot);
        kept && self.opener.stopped() && ring.head.open <= ring.head.forgotten
    }

    fn over(&mut self, slot: usize, outcome: Outcome, in_order: bool, now: u64) {
        let stood = !self.peers.coming(slot);
        if stood {
            self.connections.live -= 1;
            self.tracker.abandon(slot, outcome);
        } else {
            self.connections.failed += 1;
            self.opener.over();
        }
        let peer = self.peers.clear(slot);
        if peer.phase == Phase::Retiring {
            return;
        }
        let of_use = stood && (peer.answered || now.saturating_sub(peer.since) >= PAUSE_NS);
        let failures = match (of_use, in_order) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => peer.failures.saturating_add(1),
        };
        self.opener.lost(now, peer.held, failures);
    }

    /// Ends all connections.
    pub(super) fn close_all(&mut self) {
        let all: Vec<Conn> = self.peers.taken().collect();
        // What has not got there by now never will.
        self.connections.failed += all.iter().filter(|conn| self.peers.coming(conn.index as usize)).count() as u64;
        for some in all.chunks(CLOSINGS_A_TURN) {
            some.iter().for_each(|conn| self.streams.close(*conn, CloseMode::Reset));
            // What arrives now belongs to no request; an error here would come again where it matters.
            let _ = self.streams.turn(std::time::Duration::ZERO);
            for _ in 0..EVENTS_A_TURN {
                if self.streams.event().is_none() {
                    break;
                }
            }
        }
    }
}
