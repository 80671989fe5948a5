//! How connections pause and end, and how a ring does.
//!
//! Method: two phases. First everything in hand for the slot is cancelled: an armed receive holds the file, and the
//! peer would see no end. Only when all of that has come back is the file closed, and only when the close has come back
//! is the slot free.

use std::rc::Rc;
use std::time::Duration;

use io_uring::{opcode, types};

use super::Shared;
use super::ring::{GROUP, Ring};
use super::slots::{Job, Slot, State, Tag};
use crate::streams::How;

/// How long the end of a ring may take: so many waits of this length without any progress, and no more.
const WAITS: usize = 100;
/// Completions waited for at once then.
const AT_ONCE: usize = 1024;
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
            let receive = types::CancelBuilder::user_data(Tag::new(Job::Receive, index, generation).0);
            let tag = Tag::new(Job::Cancel, index, generation);
            self.push(index, opcode::AsyncCancel2::new(receive).build().user_data(tag.0));
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
    pub(super) fn close(&mut self, index: u32, generation: u32, how: How, shared: &mut Shared) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if how == How::Reset && slot.is(generation.wrapping_add(1), State::Draining) {
            // Its last bytes do not get away: its user has lost patience.
            return self.begin_close(index, true, shared);
        }
        if slot.generation != generation || !matches!(slot.state, State::Open | State::Opening) {
            return;
        }
        slot.generation = generation.wrapping_add(1);
        if how == How::Reset {
            self.begin_close(index, true, shared);
        } else if slot.state == State::Open && !slot.cut && !slot.out.is_empty() {
            slot.state = State::Draining;
            self.set_on_the_way_out(index, false);
            self.fly(index, shared);
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
        let in_hand = slot.in_flight > 0;
        slot.state = State::Closing;
        slot.starving = false;
        slot.out.discard(&mut shared.blocks);
        if cut {
            self.set_on_the_way_out(index, true);
        }
        if in_hand {
            self.cancel_all(index);
        } else {
            self.finish_close(index);
        }
    }

    /// Cancels everything that is in hand for a slot.
    ///
    /// By name where it can be named: by descriptor the kernel looks through all that is in hand for the whole ring.
    pub(super) fn cancel_all(&mut self, index: u32) {
        let Some(slot) = self.slots.get(index as usize) else { return };
        let (armed, flying, generation) = (slot.armed, slot.out.is_flying(), slot.generation);
        let cancel = |what: types::CancelBuilder| {
            opcode::AsyncCancel2::new(what).build().user_data(Tag::new(Job::Cancel, index, generation).0)
        };
        if armed {
            // It was armed while its user could still name it.
            let receive = Tag::new(Job::Receive, index, generation.wrapping_sub(1));
            self.push(index, cancel(types::CancelBuilder::user_data(receive.0)));
        }
        if flying {
            self.push(index, cancel(types::CancelBuilder::user_data(Tag::new(Job::Send, index, 0).0)));
        }
        if !armed && !flying {
            self.push(index, cancel(types::CancelBuilder::fd(types::Fixed(index)).all()));
        }
    }

    /// Second phase: the file goes.
    fn finish_close(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        slot.state = State::Shut;
        let tag = Tag::new(Job::Close, index, slot.generation);
        self.push(index, opcode::Close::new(types::Fixed(index)).build().user_data(tag.0));
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

    /// Cancels everything and waits for it; false: the kernel still holds some of our memory.
    pub(super) fn shut(&mut self, shared: &mut Shared) -> bool {
        self.ending = true;
        let _ = self.catch_up(shared);
        let _ = self.enter(None, &mut shared.carried);
        let patience = types::Timespec::new().sec(1);
        let _ = self.io.submitter().register_sync_cancel(Some(patience), types::CancelBuilder::any());
        let mut idle = 0;
        loop {
            let before = self.in_flight;
            while let Some(completion) = self.next() {
                drop(self.heed(&completion, shared));
            }
            idle = if self.in_flight < before { 0 } else { idle + 1 };
            if self.in_flight == 0 || idle == WAITS {
                break;
            }
            let _ = self.catch_up(shared);
            self.expected = (self.in_flight - 1).min(AT_ONCE) as u32;
            let _ = self.enter(Some(A_WAIT), &mut shared.carried);
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
