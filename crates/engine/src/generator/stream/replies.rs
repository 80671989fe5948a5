//! The hearing half of a worker over connections: what has happened, and whole messages out of whatever pieces come.

use std::time::Duration;

use flatout_net::{CloseMode, Event, Streams};
use flatout_wire::{Client, Frame, Protocol};

use super::peers::Phase;
use super::{EVENTS_A_TURN, FAILED_TURNS, MESSAGE_MAX, StreamClient};
use crate::clock::Clock;
use crate::generator::classify::classify_reply;
use crate::generator::tracker;
use crate::stream_layer::StreamLayer;

impl<P: Protocol, S: Streams, C: Clock, W: StreamLayer> StreamClient<P, S, C, W> {
    /// Lets leave what is to leave and deals with what has happened; returns how much that was.
    pub(super) fn carry(&mut self, wait: Duration) -> usize {
        match self.streams.turn(wait) {
            Ok(()) => self.failed_turns = 0,
            Err(error) => {
                self.failed_turns += 1;
                if self.failed_turns == FAILED_TURNS {
                    self.tracker.give_up(&error);
                }
            }
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
                if let Some(slot) = self.peers.slot(conn) {
                    self.received(slot, &bytes, now);
                }
            }
            Event::Opened(conn) => {
                if let Some(slot) = self.peers.slot(conn) {
                    self.opened(slot, now);
                }
            }
            Event::Closed(conn, reason) => {
                if let Some(slot) = self.peers.slot(conn) {
                    self.gone(slot, reason, now);
                }
            }
            // A client accepts no connections, and what could not be sent when it was due is not sent later.
            Event::Accepted(_) | Event::Writable(_) => {}
        }
    }

    fn received(&mut self, slot: usize, bytes: &[u8], now: u64) {
        if W::PLAIN {
            return self.read_replies(slot, bytes, now);
        }
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        self.encoded.clear();
        let peer = self.peers.at(slot);
        let ready = self.layer.decode(&mut peer.layer, bytes, &mut plain, &mut self.encoded);
        let done = peer.phase == Phase::Shaking && self.layer.ready(&peer.layer);
        let conn = self.peers.conn(slot);
        // After trouble too: an alert tells the far end what was wrong.
        let ready = ready.and(self.encode_message(slot));
        if done && ready.is_ok() {
            self.ready(slot, now);
        }
        // What came whole before the trouble counts.
        if !plain.is_empty() && !self.peers.coming(slot) {
            self.read_replies(slot, &plain, now);
        }
        if let (Err(error_text), Some(slot)) = (ready, self.peers.slot(conn)) {
            self.give_up(slot, &error_text, CloseMode::Flush, now);
        }
        self.plain = plain;
    }

    /// Takes in more of what a connection says.
    fn read_replies(&mut self, slot: usize, bytes: &[u8], now: u64) {
        match self.peers.at(slot).partial.take() {
            None => {
                let remaining = self.read_messages(slot, bytes, now).unwrap_or_default();
                if !remaining.is_empty() {
                    self.peers.at(slot).partial = Some(Box::new(remaining.to_vec()));
                }
            }
            Some(mut partial) => {
                partial.extend_from_slice(bytes);
                let Some(remaining) = self.read_messages(slot, &partial, now).map(<[u8]>::len) else { return };
                if remaining > 0 {
                    partial.drain(..partial.len() - remaining);
                    self.peers.at(slot).partial = Some(partial);
                }
            }
        }
    }

    /// Reads all whole messages; returns what remains of the bytes, nothing where the connection is over.
    fn read_messages<'a>(&mut self, slot: usize, mut bytes: &'a [u8], now: u64) -> Option<&'a [u8]> {
        let generation = self.peers.at(slot).generation;
        while !bytes.is_empty() {
            match self.client.frame(bytes) {
                Frame::Whole { start, end } if start <= end && end <= bytes.len() && end > 0 => {
                    self.read_message(slot, &bytes[start..end], now);
                    bytes = &bytes[end..];
                }
                Frame::Short { .. } if bytes.len() <= MESSAGE_MAX => return Some(bytes),
                _ => {
                    self.give_up(slot, "what came is no message", CloseMode::Reset, now);
                    return None;
                }
            }
            let peer = self.peers.at(slot);
            if peer.phase == Phase::Vacant || peer.generation != generation {
                return None;
            }
        }
        Some(bytes)
    }

    fn read_message(&mut self, slot: usize, message: &[u8], now: u64) {
        let flow_id = self.first_flow + slot as u32;
        let ring = self.tracker.rings.of(slot);
        let Some((index, outcome, tally)) = classify_reply::<P>(&self.client, &self.cursor, &ring, flow_id, message)
        else {
            return self.tracker.unmatched(slot, now);
        };
        let event = tracker::Event { flow: slot, index, seen: now, reading: None, outcome, tally: Some(tally) };
        let waited = self.tracker.settle(&event).is_some();
        let peer = self.peers.at(slot);
        peer.answered |= waited;
        if waited && peer.phase == Phase::Retiring {
            peer.asked = peer.asked.saturating_sub(1);
            if peer.asked == 0 {
                self.retire(slot);
            }
        }
    }
}
