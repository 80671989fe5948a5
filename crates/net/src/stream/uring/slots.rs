//! The state of one connection in a ring, and the tags of its operations.

use crate::stream::blocks::Outgoing;

/// A slot's index has 24 bits in a tag.
pub(super) const MOST: usize = 1 << 24;

/// A connection's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not in use.
    Free,
    /// Reserved for a pending accept.
    Accepting,
    /// Connecting.
    Opening,
    /// Established.
    Open,
    /// Closed by the caller; pending bytes are still sent.
    Draining,
    /// Its operations are cancelled, but not all have completed.
    Closing,
    /// Only its close is pending; then it is free.
    Shut,
}

/// One connection. Small, as there may be a million.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) out: Outgoing,
    pub(super) state: State,
    /// Operations that have not completed. The file must not be closed before they have: its index would be given to
    /// the next connection, which would get their results.
    pub(super) in_flight: u8,
    /// A receive is pending.
    pub(super) armed: bool,
    /// A cancel of the receive is pending.
    pub(super) stopping: bool,
    /// It is listed as having bytes to send.
    pub(super) dirty: bool,
    /// The caller was told that it is full and wants `Writable`.
    pub(super) wants_writable: bool,
    /// Receiving is paused.
    pub(super) paused: bool,
    /// It waits for a receive buffer.
    pub(super) awaits_buffer: bool,
    /// A send has failed; received bytes are read first.
    pub(super) send_failed: bool,
}

impl Slot {
    /// A free slot of a given generation.
    pub(super) const fn free(generation: u32) -> Self {
        Self {
            generation,
            out: Outgoing::EMPTY,
            state: State::Free,
            in_flight: 0,
            armed: false,
            stopping: false,
            dirty: false,
            wants_writable: false,
            paused: false,
            awaits_buffer: false,
            send_failed: false,
        }
    }

    /// Whether it has this generation and state.
    pub(super) fn is(&self, generation: u32, state: State) -> bool {
        self.generation == generation && self.state == state
    }
}

/// The kind of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Job {
    /// Accept a connection.
    Accept = 1,
    /// Create, bind and connect a socket: a linked chain.
    Open,
    /// Receive (multishot).
    Receive,
    /// Send the submitted block.
    Send,
    /// Cancel one or all operations of a slot.
    Cancel,
    /// Set an option before closing; completes only on failure, which is ignored.
    Option,
    /// Close the file.
    Close,
}

/// The user data of an operation: job, slot and, for receives, the connection's generation.
///
/// Other operations have generation 0, so that a cancel can find them; the slot is not reused before they complete.
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
