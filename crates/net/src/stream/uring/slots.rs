//! One connection's place in a ring: what is known of it, and what the kernel still has in hand for it.

use crate::stream::blocks::Outgoing;

/// The index of a slot has 24 bits in what completions carry.
pub(super) const MOST: usize = 1 << 24;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody's.
    Free,
    /// Kept for whoever connects next.
    Accepting,
    /// Connecting.
    Opening,
    /// Standing.
    Open,
    /// Dead to its user; what it was given still leaves.
    Draining,
    /// Everything in hand for it has been cancelled, but not all has come back.
    Closing,
    /// Nothing is in hand but its close; when that comes back it is free.
    Shut,
}

/// One connection. Small, for there may be a million.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) out: Outgoing,
    pub(super) state: State,
    /// Operations that have not completed. The file must not be closed before they have: its index would be given to
    /// the next connection, which would get their results.
    pub(super) in_flight: u8,
    /// A receive is in hand.
    pub(super) armed: bool,
    /// A cancel of it is in hand.
    pub(super) stopping: bool,
    /// It is listed as having bytes to send.
    pub(super) dirty: bool,
    /// Its user was told that it is full.
    pub(super) wants: bool,
    /// Its user wants to hear nothing.
    pub(super) paused: bool,
    /// It waits for a receive buffer.
    pub(super) starving: bool,
    /// A send has failed; what it still has to say is heard first.
    pub(super) cut: bool,
}

impl Slot {
    /// Nobody's, of a given generation.
    pub(super) const fn free(generation: u32) -> Self {
        Self {
            generation,
            out: Outgoing::EMPTY,
            state: State::Free,
            in_flight: 0,
            armed: false,
            stopping: false,
            dirty: false,
            wants: false,
            paused: false,
            starving: false,
            cut: false,
        }
    }

    /// Whether its user may still use it, under the name with this generation.
    pub(super) fn is(&self, generation: u32, state: State) -> bool {
        self.generation == generation && self.state == state
    }
}

/// What an operation was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Job {
    /// Let somebody in.
    Accept = 1,
    /// The whole chain that makes, binds and connects a socket.
    Open,
    /// Receive for as long as there are buffers.
    Receive,
    /// Send the flying block.
    Send,
    /// Cancel one or all of a slot's operations.
    Cancel,
    /// Set an option on the way out; only its failure completes, and nothing follows from it.
    Option,
    /// Close the file.
    Close,
}

/// What a completion carries: job, slot and, where what it brings is for one connection alone, generation.
///
/// The others mean the slot, which is nobody else's before they have come back; so a cancel can name them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag(pub(super) u64);

impl Tag {
    pub(super) fn new(job: Job, index: u32, generation: u32) -> Self {
        Self((job as u64) << 56 | u64::from(index & (MOST as u32 - 1)) << 32 | u64::from(generation))
    }

    pub(super) fn job(self) -> Option<Job> {
        let jobs = [Job::Accept, Job::Open, Job::Receive, Job::Send, Job::Cancel, Job::Option, Job::Close];
        (self.0 >> 56).checked_sub(1).and_then(|at| jobs.get(at as usize).copied())
    }

    pub(super) fn index(self) -> u32 {
        (self.0 >> 32) as u32 & (MOST as u32 - 1)
    }

    pub(super) fn generation(self) -> u32 {
        self.0 as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_small() {
        assert!(size_of::<Slot>() <= 32);
    }

    #[test]
    fn a_tag_comes_back_as_it_was() {
        for job in [Job::Accept, Job::Open, Job::Receive, Job::Send, Job::Cancel, Job::Option, Job::Close] {
            let tag = Tag::new(job, 0xab_cdef, 0xdead_beef);
            assert_eq!((tag.job(), tag.index(), tag.generation()), (Some(job), 0xab_cdef, 0xdead_beef));
        }
        assert_eq!((Tag(0).job(), Tag(u64::MAX).job()), (None, None));
    }
}
