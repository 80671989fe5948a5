//! How connections pause and end, and how a ring does.
//!
//! Method: two phases. First everything in hand for the slot is made to come back: an armed receive holds the file, and
//! the peer would see no end. Only then is the file closed, and only when the close has come back is the slot free.
//! A receive is ended by shutting that side, which says nothing to the peer and costs the same however many connections
//! there are; a cancel has to find what it cancels, and by descriptor it looks at all of them.

use std::rc::Rc;
use std::time::Duration;

use io_uring::{opcode, types};

use super::Shared;
use super::ring::{GROUP, Ring};
use super::slots::{Job, Slot, State, Tag};
use crate::stream::CloseMode;

/// How long the end of a ring may take: so many waits of this length without any progress, and no more.
const WAITS: usize = 100;
const A_WAIT: Duration = Duration::from_millis(10);

impl Ring {
    /// Receives nothing more for now.
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

    /// Receives again.
    pub(super) fn resume(&mut self, index: u32, generation: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if slot.is(generation, State::Open) {
            slot.paused = false;
            self.arm(index);
        }
    }

    /// The name with this generation is dead from now on; the connection ends as it is told.
    pub(super) fn close(&mut self, index: u32, generation: u32, how: CloseMode, shared: &mut Shared) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if how == CloseMode::Reset && slot.is(generation.wrapping_add(1), State::Draining) {
            // Its last bytes do not get away: its user has lost patience.
            return self.begin_close(index, true, shared);
        }
        if slot.generation != generation || !matches!(slot.state, State::Open | State::Opening) {
            return;
        }
        slot.generation = generation.wrapping_add(1);
        if how == CloseMode::Reset {
            self.begin_close(index, true, shared);
        } else if slot.state == State::Open && !slot.cut && !slot.out.is_empty() {
            slot.state = State::Draining;
            self.set_on_the_way_out(index, false);
            self.submit_send(index, shared);
            // What was lent and never committed needs no waiting for.
            if self.slots.get(index as usize).is_some_and(|slot| slot.out.is_empty()) {
                self.begin_close(index, false, shared);
            }
        } else {
            self.begin_close(index, false, shared);
        }
    }

    /// First phase: nothing more may be in hand for the slot.
    pub(super) fn begin_close(&mut self, index: u32, cut: bool, shared: &mut Shared) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let before = slot.state;
        let (armed, submitted, idle) = (slot.armed, slot.out.is_submitted(), slot.in_flight == 0);
        slot.state = State::Closing;
        slot.starving = false;
        slot.out.discard(&mut shared.blocks);
        if cut {
            self.set_on_the_way_out(index, true);
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
            let deaf = opcode::Shutdown::new(types::Fixed(index), libc::SHUT_RD).build();
            self.push(index, deaf.user_data(Tag::new(Job::Cancel, index, 0).0));
        }
    }

    /// Cancels one operation.
    fn cancel(&mut self, index: u32, what: Tag) {
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::user_data(what.0)).build();
        self.push(index, cancel.user_data(Tag::new(Job::Cancel, index, 0).0));
    }

    /// Cancels whatever is in hand for a slot.
    pub(super) fn cancel_any(&mut self, index: u32) {
        let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::fd(types::Fixed(index))).build();
        self.push(index, cancel.user_data(Tag::new(Job::Cancel, index, 0).0));
    }

    /// Second phase: the file goes.
    fn finish_close(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        slot.state = State::Shut;
        // When the ring ends, all files go at once.
        if !self.ending {
            let close = opcode::Close::new(types::Fixed(index)).build();
            self.push(index, close.user_data(Tag::new(Job::Close, index, 0).0));
        }
    }

    /// Takes a slot that is being closed one step further, if nothing is in hand for it any more.
    pub(super) fn settle(&mut self, index: u32, shared: &mut Shared) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        match slot.state {
            State::Closing if slot.in_flight == 0 => self.finish_close(index),
            State::Shut if slot.in_flight == 0 => {
                *slot = Slot::free(slot.generation);
                self.give_free(index, shared);
                // Something has become free: whoever was turned away may be let in.
                shared.door.pause = shared.door.pause.min(1);
            }
            _ => {}
        }
    }

    /// A slot is nobody's again.
    pub(super) fn give_free(&mut self, index: u32, shared: &mut Shared) {
        self.free.push(index);
        shared.first_room = shared.first_room.min(self.number);
    }

    /// Ends everything and waits for it; false: the kernel still holds some of our memory.
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
            // Now and not when the kernel comes to it: peers are to see their end at once.
            let _ = self.io.submitter().unregister_files();
            let _ = self.io.submitter().unregister_buf_ring(GROUP);
        } else {
            // The kernel may still write into a buffer.
            std::mem::forget(Rc::clone(&self.pool));
        }
        clean
    }
}
