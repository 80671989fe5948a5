//! Completions: their effect on the slot, and the event for the caller.

use io_uring::cqueue;

use super::Shared;
use super::ring::Ring;
use super::slots::{Job, Slot, State, Tag};
use crate::stream::pool::PoolBuf;
use crate::stream::tcp;
use crate::stream::{CloseMode, CloseReason, Conn, Event, RecvBuf};

impl Ring {
    /// Processes a completion.
    pub(super) fn on_completion(&mut self, completion: &cqueue::Entry, shared: &mut Shared) -> Option<Event> {
        let (tag, result) = (Tag(completion.user_data()), completion.result());
        let index = tag.index();
        // The buffer first, also of a stale completion: it returns to the pool on drop.
        let buffer = cqueue::buffer_select(completion.flags());
        let buf = buffer.map(|buffer| self.pool.take(buffer, usize::try_from(result).unwrap_or(0)));
        let job = tag.job()?;
        // Without this flag the operation has ended, whatever its result.
        let ended = !cqueue::more(completion.flags());
        if ended && job != Job::Option {
            let slot = self.slots.get_mut(index as usize)?;
            slot.in_flight = slot.in_flight.saturating_sub(1);
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        let event = match job {
            Job::Accept => self.accepted(index, result, shared),
            Job::Open => self.opened(index, result, shared),
            Job::Receive => self.received(tag, result, ended, buf, shared),
            Job::Send => self.sent(index, result, shared),
            Job::Cancel => self.cancelled(index, result),
            Job::Option | Job::Close => None,
        };
        self.settle(index, shared);
        event
    }

    fn conn(&self, index: u32, generation: u32) -> Conn {
        Conn { index: self.first + index, generation }
    }

    fn accepted(&mut self, index: u32, result: i32, shared: &mut Shared) -> Option<Event> {
        let slot = self.slots.get_mut(index as usize)?;
        if slot.state != State::Accepting {
            // The ring is shutting down.
            return None;
        }
        if result < 0 {
            *slot = Slot::free(slot.generation);
            self.release(index, shared);
            if result != -libc::ECANCELED {
                shared.stats.accept_errors += 1;
            }
            shared.accept_queue.failed(tcp::exhausted(-result));
            return None;
        }
        shared.accept_queue.opened();
        slot.state = State::Open;
        let generation = slot.generation;
        self.arm(index);
        Some(Event::Accepted(self.conn(index, generation)))
    }

    fn opened(&mut self, index: u32, result: i32, shared: &mut Shared) -> Option<Event> {
        let slot = self.slots.get_mut(index as usize)?;
        if slot.state != State::Opening {
            return None;
        }
        if result < 0 {
            return self.over(index, CloseReason::of(-result), shared);
        }
        slot.state = State::Open;
        let generation = slot.generation;
        self.arm(index);
        Some(Event::Opened(self.conn(index, generation)))
    }

    fn received(
        &mut self,
        tag: Tag,
        result: i32,
        ended: bool,
        buf: Option<PoolBuf>,
        shared: &mut Shared,
    ) -> Option<Event> {
        let index = tag.index();
        let slot = self.slots.get_mut(index as usize)?;
        if ended {
            slot.armed = false;
        }
        if !slot.is(tag.generation(), State::Open) {
            return None;
        }
        match (result, buf) {
            (1.., Some(buf)) => {
                shared.stats.bytes_in += result as u64;
                self.arm(index);
                Some(Event::Received(self.conn(index, tag.generation()), RecvBuf(buf)))
            }
            (result, _) if result == -libc::ENOBUFS => {
                shared.stats.starved += 1;
                slot.awaits_buffer = true;
                self.awaiting_buffer.push_back(index);
                None
            }
            // Cancelled by a pause, which may have ended.
            (result, _) if matches!(-result, libc::ECANCELED | libc::EAGAIN | libc::EINTR) => {
                self.arm(index);
                None
            }
            // Received bytes are processed first; after the pause the kernel reports the end again.
            (0, _) if slot.paused && !slot.send_failed => None,
            (0, _) if !slot.send_failed => self.over(index, CloseReason::Ended, shared),
            (0.., _) => self.over(index, CloseReason::Reset, shared),
            (result, _) => self.over(index, CloseReason::of(-result), shared),
        }
    }

    fn sent(&mut self, index: u32, result: i32, shared: &mut Shared) -> Option<Event> {
        let slot = self.slots.get_mut(index as usize)?;
        let length = slot.out.complete(&mut shared.blocks);
        let sent = u32::try_from(result).unwrap_or(0);
        shared.stats.bytes_out += u64::from(sent);
        // With MSG_WAITALL fewer bytes mean that the connection has failed.
        let whole = sent == length;
        match slot.state {
            State::Open if whole => {
                let event = std::mem::take(&mut slot.wants_writable).then_some(slot.generation);
                self.submit_send(index, shared);
                event.map(|generation| Event::Writable(self.conn(index, generation)))
            }
            State::Open if lost(result) && !slot.paused && (slot.armed || slot.awaits_buffer) => {
                // What the peer sent before it closed is read first; the last read has the reason.
                slot.send_failed = true;
                slot.out.discard(&mut shared.blocks);
                None
            }
            State::Open => {
                self.over(index, if result < 0 { CloseReason::of(-result) } else { CloseReason::Reset }, shared)
            }
            State::Draining if whole && !slot.out.is_empty() => {
                self.submit_send(index, shared);
                None
            }
            State::Draining => {
                self.begin_close(index, false, shared);
                None
            }
            _ => None,
        }
    }

    fn cancelled(&mut self, index: u32, result: i32) -> Option<Event> {
        let slot = self.slots.get_mut(index as usize)?;
        slot.stopping = false;
        if result < 0 && slot.state == State::Closing && slot.in_flight > 0 {
            // Nothing found, and yet an operation is pending: a chain before its connect.
            self.cancel_any(index);
        }
        None
    }

    /// The connection was closed by the peer or an error. After a FIN, pending bytes are still sent.
    fn over(&mut self, index: u32, reason: CloseReason, shared: &mut Shared) -> Option<Event> {
        let generation = self.slots.get(index as usize)?.generation;
        let event = Event::Closed(self.conn(index, generation), reason);
        if reason == CloseReason::Ended {
            self.close(index, generation, CloseMode::Flush, shared);
        } else {
            let slot = self.slots.get_mut(index as usize)?;
            slot.generation = generation.wrapping_add(1);
            self.begin_close(index, false, shared);
        }
        Some(event)
    }
}

/// Whether a send failed because the connection is closed.
fn lost(result: i32) -> bool {
    result >= 0 || matches!(-result, libc::EPIPE | libc::ECONNRESET)
}
