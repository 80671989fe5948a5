//! One connection's place among those of epoll.

use std::os::fd::OwnedFd;

use crate::stream::blocks::Outgoing;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody's.
    Free,
    /// Connecting.
    Opening,
    /// Standing.
    Open,
    /// Dead to its user; what it was given still leaves.
    Draining,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) fd: Option<OwnedFd>,
    pub(super) generation: u32,
    pub(super) out: Outgoing,
    /// Bytes of the flying block that have left.
    pub(super) left: u32,
    pub(super) state: State,
    /// It is listed as having bytes to send.
    pub(super) dirty: bool,
    /// Its user was told that it is full.
    pub(super) wants: bool,
    /// Its user wants to hear nothing.
    pub(super) paused: bool,
    /// It stands in the line of those with something to read.
    pub(super) lined_up: bool,
    /// The end or an error has been told: read on until it comes.
    pub(super) ends: bool,
    /// A send has failed; what the peer still has to say is heard first.
    pub(super) cut: bool,
}

impl Slot {
    /// Nobody's, of a given generation.
    pub(super) const fn free(generation: u32) -> Self {
        Self {
            fd: None,
            generation,
            out: Outgoing::EMPTY,
            left: 0,
            state: State::Free,
            dirty: false,
            wants: false,
            paused: false,
            lined_up: false,
            ends: false,
            cut: false,
        }
    }

    /// Whether its user may still use it, under the name with this generation.
    pub(super) fn is(&self, generation: u32, state: State) -> bool {
        self.generation == generation && self.state == state
    }
}
