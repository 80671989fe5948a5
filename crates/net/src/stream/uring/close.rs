//! How connections are paused and closed, and how a ring is shut down.
//!
//! Method: two phases. First all pending operations of the slot are made to complete: an armed receive holds the file,
//! and the peer would see no FIN. Only then is the file closed, and only when the close has completed is the slot free.
//! A receive is ended by shutdown(SHUT_RD), which sends nothing and costs the same for any number of connections; a
//! cancel by descriptor would search all of them.

use std::rc::Rc;
use std::time::Duration;

use io_uring::{opcode, types};

use super::Shared;
use super::ring::{GROUP, Ring};
use super::slots::{Job, Slot, State, Tag};
use crate::stream::CloseMode;

/// Limit of a ring's shutdown: so many waits of this length without progress.
const WAITS: usize = 100;
const A_WAIT: Duration = Duration::from_millis(10);

impl Ring {
    /// Stops receiving.
    pub(super) fn pause(&mut self, index: u32, generation: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if !slot.is(generation, State::Open) || slot.paused {
            return;
        }
        slot.paused = true;
        if slot.armed && !slot.stopping {
            slot.stopping = true;
            self.cancel(index, Tag::new(Job::Receive, index, generation));
        }
    }

    /// Resumes receiving.
    pub(super) fn resume(&mut self, index: u32, generation: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if slot.is(generation, State::Open) {
            slot.paused = false;
            self.arm(index);
        }
    }

    /// Closes the connection; the id with this generation is no longer valid.
    pub(super) fn close(&mut self, index: u32, generation: u32, how: CloseMode, shared: &mut Shared) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if how == CloseMode::Reset && slot.is(generation.wrapping_add(1), State::Draining) {
            // Pending bytes are not acknowledged in time: reset.
            return self.begin_close(index, true, shared);
        }
        if slot.generation != generation || !matches!(slot.state, State::Open | State::Opening) {
            return;
        }
        slot.generation = generation.wrapping_add(1);
        if how == CloseMode::Reset {
            self.begin_close(index, true, shared);
        } else if slot.state == State::Open && !slot.send_failed && !slot.out.is_empty() {
            slot.state = State::Draining;
            self.set_close_option(index, false);
            self.submit_send(index, shared);
            // Room that was reserved and not committed is not sent.
            if self.slots.get(index as usize).is_some_and(|slot| slot.out.is_empty()) {
                self.begin_close(index, false, shared);
            }
        } else {
            self.begin_close(index, false, shared);
        }
    }

    /// First phase: cancels the slot's pending operations.
    pub(super) fn begin_close(&mut self, index: u32, reset: bool, shared: &mut Shared) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let before = slot.state;
        let (armed, submitted, idle) = (slot.armed, slot.out.is_submitted(), slot.in_flight == 0);
        slot.state = State::Closing;
        slot.awaits_buffer = false;
        slot.out.discard(&mut shared.blocks);
        if reset {
            self.set_close_option(index, true);
        }
        if idle {
            return self.finish_close(index);
        }
        match before {
            State::Opening => self.cancel(index, Tag::new(Job::Open, index, 0)),
            State::Accepting => self.cancel(index, Tag::new(Job::Accept, index, 0)),
            _ => {}
        }
        if submitted {
            self.cancel(index, Tag::new(Job::Send, index, 0));
        }
        if armed {
            let shutdown = opcode::Shutdown::new(types::Fixed(index), libc::SHUT_RD).build();
            self.push(index, shutdown.user_data(Tag::new(Job::Cancel, index, 0).0));
        }
    }

    /// Cancels one operation.
    fn cancel(&mut self, index: u32, what: Tag) {
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::user_data(what.0)).build();
        self.push(index, cancel.user_data(Tag::new(Job::Cancel, index, 0).0));
    }

    /// Cancels all pending operations of a slot.
    pub(super) fn cancel_any(&mut self, index: u32) {
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::fd(types::Fixed(index))).build();
        self.push(index, cancel.user_data(Tag::new(Job::Cancel, index, 0).0));
    }

    /// Second phase: closes the file.
    fn finish_close(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        slot.state = State::Shut;
        // A shutdown closes all files at once.
        if !self.ending {
            let close = opcode::Close::new(types::Fixed(index)).build();
            self.push(index, close.user_data(Tag::new(Job::Close, index, 0).0));
        }
    }

    /// Advances a closing slot, once it has no pending operations.
    pub(super) fn settle(&mut self, index: u32, shared: &mut Shared) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        match slot.state {
            State::Closing if slot.in_flight == 0 => self.finish_close(index),
            State::Shut if slot.in_flight == 0 => {
                *slot = Slot::free(slot.generation);
                self.release(index, shared);
                // A slot is free: try to accept soon.
                shared.accept_queue.pause = shared.accept_queue.pause.min(1);
            }
            _ => {}
        }
    }

    /// Returns a slot to the free list.
    pub(super) fn release(&mut self, index: u32, shared: &mut Shared) {
        self.free.push(index);
        shared.first_room = shared.first_room.min(self.number);
    }

    /// Closes everything and waits for it; false: the kernel still uses some of our memory.
    pub(super) fn shut(&mut self, shared: &mut Shared) -> bool {
        self.ending = true;
        for index in 0..self.slots.len() as u32 {
            let Some(slot) = self.slots.get_mut(index as usize) else { break };
            if !matches!(slot.state, State::Free | State::Closing | State::Shut) {
                slot.generation = slot.generation.wrapping_add(1);
                self.begin_close(index, false, shared);
            }
        }
        let mut idle = 0;
        loop {
            let before = self.in_flight;
            while let Some(completion) = self.next() {
                drop(self.on_completion(&completion, shared));
            }
            idle = if self.in_flight < before { 0 } else { idle + 1 };
            if self.in_flight == 0 || idle == WAITS {
                break;
            }
            let _ = self.catch_up(shared);
            let _ = self.enter(Some(A_WAIT), &mut shared.stats);
        }
        let clean = self.in_flight == 0;
        if clean {
            // Now, so that peers see the end at once.
            let _ = self.io.submitter().unregister_files();
            let _ = self.io.submitter().unregister_buf_ring(GROUP);
        } else {
            // The kernel may still write into a buffer.
            std::mem::forget(Rc::clone(&self.pool));
        }
        clean
    }
}
