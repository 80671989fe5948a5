//! The hearing half of a worker over connections: what has happened, and whole messages out of whatever pieces come.

use std::time::Duration;

use flatout_net::{CloseMode, Event, Streams};
use flatout_wire::{Client, Frame, Protocol};

use super::peers::Phase;
use super::{EVENTS_A_TURN, MESSAGE_MAX, Streaming};
use crate::clock::Clock;
use crate::load::book;
use crate::load::judge::judge;
use crate::wrap::Wrap;

impl<P: Protocol, S: Streams, C: Clock, W: Wrap> Streaming<P, S, C, W> {
    /// Lets leave what is to leave and deals with what has happened; returns how much that was.
    pub(super) fn carry(&mut self, wait: Duration) -> usize {
        if let Err(error) = self.streams.turn(wait) {
            self.book.board.fail(error.to_string());
        }
        let now = self.clock.now();
        for n in 0..EVENTS_A_TURN {
            match self.streams.event() {
                Some(event) => self.happened(event, now),
                None => return n,
            }
        }
        EVENTS_A_TURN
    }

    fn happened(&mut self, event: Event, now: u64) {
        match event {
            Event::Received(conn, bytes) => {
                if let Some(place) = self.peers.place(conn) {
                    self.received(place, &bytes, now);
                }
            }
            Event::Opened(conn) => {
                if let Some(place) = self.peers.place(conn) {
                    self.opened(place, now);
                }
            }
            Event::Closed(conn, reason) => {
                if let Some(place) = self.peers.place(conn) {
                    self.gone(place, reason, now);
                }
            }
            // Nobody connects to us, and what could not be sent when it was due is not sent later.
            Event::Accepted(_) | Event::Writable(_) => {}
        }
    }

    fn received(&mut self, place: usize, bytes: &[u8], now: u64) {
        if W::PLAIN {
            return self.hear(place, bytes, now);
        }
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        self.wrapped.clear();
        let peer = self.peers.at(place);
        let heard = self.wrap.hear(&mut peer.wrap, bytes, &mut plain, &mut self.wrapped);
        let done = peer.phase == Phase::Shaking && self.wrap.ready(&peer.wrap);
        let conn = self.peers.conn(place);
        // After trouble too: an alert tells the far end what was wrong.
        let heard = heard.and(self.say_wrapped(place));
        if done && heard.is_ok() {
            self.ready(place, now);
        }
        // What came whole before the trouble counts.
        if !plain.is_empty() && !self.peers.coming(place) {
            self.hear(place, &plain, now);
        }
        if let (Err(trouble), Some(place)) = (heard, self.peers.place(conn)) {
            self.give_up(place, &trouble, CloseMode::Flush, now);
        }
        self.plain = plain;
    }

    /// Takes in more of what a connection says.
    fn hear(&mut self, place: usize, bytes: &[u8], now: u64) {
        match self.peers.at(place).partial.take() {
            None => {
                let rest = self.hear_messages(place, bytes, now).unwrap_or_default();
                if !rest.is_empty() {
                    self.peers.at(place).partial = Some(Box::new(rest.to_vec()));
                }
            }
            Some(mut partial) => {
                partial.extend_from_slice(bytes);
                let Some(rest) = self.hear_messages(place, &partial, now).map(<[u8]>::len) else { return };
                if rest > 0 {
                    partial.drain(..partial.len() - rest);
                    self.peers.at(place).partial = Some(partial);
                }
            }
        }
    }

    /// Reads all whole messages; returns what remains of the bytes, nothing where the connection is over.
    fn hear_messages<'a>(&mut self, place: usize, mut bytes: &'a [u8], now: u64) -> Option<&'a [u8]> {
        let generation = self.peers.at(place).generation;
        while !bytes.is_empty() {
            match self.client.frame(bytes) {
                Frame::Whole { start, end } if start <= end && end <= bytes.len() && end > 0 => {
                    self.hear_message(place, &bytes[start..end], now);
                    bytes = &bytes[end..];
                }
                Frame::Short { .. } if bytes.len() <= MESSAGE_MAX => return Some(bytes),
                _ => {
                    self.give_up(place, "what came is no message", CloseMode::Reset, now);
                    return None;
                }
            }
            let peer = self.peers.at(place);
            if peer.phase == Phase::Vacant || peer.generation != generation {
                return None;
            }
        }
        Some(bytes)
    }

    fn hear_message(&mut self, place: usize, message: &[u8], now: u64) {
        let name = self.first_flow + place as u32;
        let ring = self.book.rings.of(place);
        let Some((index, outcome, tally)) = judge::<P>(&self.client, &self.cursor, &ring, name, message) else {
            return self.book.stranger(place, now);
        };
        let waited = self.book.settle(&book::Event {
            flow: place,
            index,
            seen: now,
            reading: None,
            outcome,
            tally: Some(tally),
        });
        let peer = self.peers.at(place);
        if waited && peer.phase == Phase::Retiring {
            peer.asked = peer.asked.saturating_sub(1);
            if peer.asked == 0 {
                self.retire(place);
            }
        }
    }
}
