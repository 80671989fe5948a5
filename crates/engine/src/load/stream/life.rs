//! How connections come and go.

use std::io::ErrorKind;
use std::net::SocketAddr;

use flatout_net::{CloseMode, CloseReason, Conn, Streams};
use flatout_wire::Protocol;

use super::peers::Phase;
use super::{EVENTS_A_TURN, Streaming};
use crate::clock::Clock;
use crate::load::opener::Ticket;
use crate::tally::Outcome;
use crate::wrap::{Trouble, Wrap};

/// So many are closed before the kernel hears of it.
const CLOSINGS_A_TURN: usize = 1_024;

impl<P: Protocol, S: Streams, C: Clock, W: Wrap> Streaming<P, S, C, W> {
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
        self.opener.tidy(|conn| peers.place(conn).is_some_and(|place| peers.coming(place)));
        while let Some(conn) = self.opener.overdue(now) {
            if let Some(place) = self.peers.place(conn).filter(|place| self.peers.coming(*place)) {
                self.streams.close(conn, CloseMode::Reset);
                self.gone(place, CloseReason::TimedOut, now);
            }
        }
        opened > 0
    }

    /// Opens one; false: not now, for the places of some that are over are still taken.
    fn open(&mut self, ticket: Ticket, now: u64) -> bool {
        let number = self.connections.opened as usize;
        let held = matches!(ticket, Ticket::Held | Ticket::Again { held: true });
        let from = |ip| SocketAddr::new(ip, 0);
        let source = (!self.sources.is_empty()).then(|| from(self.sources[number % self.sources.len()]));
        let opened = self.streams.open(source, self.target);
        if opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::StorageFull) {
            self.opener.put_back(ticket);
            return false;
        }
        self.connections.opened += 1;
        self.connections.reopened += u64::from(matches!(ticket, Ticket::Again { .. }));
        match opened {
            Ok(conn) => {
                self.peers.begin(conn, now, held);
                self.opener.begun(conn, now);
            }
            Err(error) => {
                self.connections.failed += 1;
                self.connections.local += 1;
                self.book.board.fail(format!("a connection could not be opened: {error}"));
                self.opener.lost(now, held);
            }
        }
        true
    }

    /// A connection stands.
    pub(super) fn opened(&mut self, place: usize, now: u64) {
        if W::PLAIN {
            return self.ready(place, now);
        }
        self.wrapped.clear();
        let peer = self.peers.at(place);
        peer.phase = Phase::Shaking;
        match self.wrap.begin(&mut peer.wrap, &mut self.wrapped) {
            Ok(()) => {
                if let Err(trouble) = self.say_wrapped(place) {
                    self.give_up(place, &trouble, CloseMode::Reset, now);
                }
            }
            Err(trouble) => self.give_up(place, &trouble, CloseMode::Reset, now),
        }
    }

    /// Sends what the wrap itself has to say.
    pub(super) fn say_wrapped(&mut self, place: usize) -> Result<(), Trouble> {
        if self.wrapped.is_empty() {
            return Ok(());
        }
        let said = self.streams.reserve(self.peers.conn(place), self.wrapped.len()).map(|mut guard| {
            guard.room()[..self.wrapped.len()].copy_from_slice(&self.wrapped);
            guard.commit(self.wrapped.len());
        });
        said.map_err(|_| "the far end takes nothing".to_owned())
    }

    /// A connection is ready for requests, or to be kept.
    pub(super) fn ready(&mut self, place: usize, now: u64) {
        let peer = self.peers.at(place);
        self.connect.record(now.saturating_sub(peer.since));
        if peer.held {
            peer.phase = Phase::Held;
        } else {
            self.peers.enter(place);
        }
        self.opener.over();
        self.connections.established += 1;
        self.connections.live += 1;
        self.connections.peak = self.connections.peak.max(self.connections.live);
    }

    /// A request has left over a connection, which may have been its last.
    pub(super) fn asked(&mut self, place: usize, now: u64) {
        let peer = self.peers.at(place);
        peer.asked += 1;
        if self.churn == 0 || peer.asked < self.churn {
            return;
        }
        (peer.phase, peer.since) = (Phase::Retiring, now);
        peer.asked = self.book.rings.of(place).unsettled(peer.asked);
        let conn = self.peers.conn(place);
        self.peers.leave(place);
        if self.schedule.due(0).is_some() {
            self.opener.replace(now);
        }
        self.retired.push_back(conn);
    }

    /// Closes those that have waited for their last answers as long as one may take, or, so that answers which are late
    /// are told from those which never come, twice as long where nobody needs their place.
    pub(super) fn close_retired(&mut self, now: u64) {
        while let Some(&conn) = self.retired.front() {
            if let Some(place) = self.peers.place(conn) {
                let patience = self.lengths.timeout * if self.peers.room() { 2 } else { 1 };
                if self.peers.at(place).since + patience > now {
                    return;
                }
                self.retire(place);
            }
            self.retired.pop_front();
        }
    }

    /// Closes one that has had its last answer: by a reset, so that its port is free at once.
    pub(super) fn retire(&mut self, place: usize) {
        self.streams.close(self.peers.conn(place), CloseMode::Reset);
        self.book.abandon(place, Outcome::Lost);
        self.connections.live -= 1;
        self.peers.clear(place);
    }

    /// Nothing more can come of a connection: what was heard on it makes no sense.
    pub(super) fn give_up(&mut self, place: usize, why: &str, how: CloseMode, now: u64) {
        self.book.board.fail(format!("a connection was given up: {why}"));
        self.streams.close(self.peers.conn(place), how);
        self.connections.broken += u64::from(!self.peers.coming(place));
        self.over(place, Outcome::Invalid, now);
    }

    /// The far end, the network or the time-out has ended a connection.
    pub(super) fn gone(&mut self, place: usize, reason: CloseReason, now: u64) {
        let counted = &mut self.connections;
        if self.peers.coming(place) {
            counted.refused += u64::from(reason == CloseReason::Refused);
            counted.timed_out += u64::from(reason == CloseReason::TimedOut);
            counted.local += u64::from(reason.is_local());
            if let CloseReason::Failed(errno) = reason {
                let error = std::io::Error::from_raw_os_error(errno);
                self.book.board.fail(format!("a connection could not be opened: {error}"));
            }
        } else if reason == CloseReason::Ended {
            counted.closed += 1;
        } else {
            counted.reset += 1;
        }
        self.over(place, if reason == CloseReason::Ended { Outcome::Lost } else { Outcome::Refused }, now);
    }

    fn over(&mut self, place: usize, outcome: Outcome, now: u64) {
        if self.peers.coming(place) {
            self.connections.failed += 1;
            self.opener.over();
        } else {
            self.connections.live -= 1;
            self.book.abandon(place, outcome);
        }
        let peer = self.peers.clear(place);
        if peer.phase != Phase::Retiring {
            self.opener.lost(now, peer.held);
        }
    }

    /// Ends all connections.
    pub(super) fn hang_up(&mut self) {
        let all: Vec<Conn> = self.peers.taken().collect();
        // What has not got there by now never will.
        self.connections.failed += all.iter().filter(|conn| self.peers.coming(conn.index as usize)).count() as u64;
        for some in all.chunks(CLOSINGS_A_TURN) {
            some.iter().for_each(|conn| self.streams.close(*conn, CloseMode::Reset));
            // What is heard now concerns nobody; an error here would come again where it matters.
            let _ = self.streams.turn(std::time::Duration::ZERO);
            for _ in 0..EVENTS_A_TURN {
                if self.streams.event().is_none() {
                    break;
                }
            }
        }
    }
}
