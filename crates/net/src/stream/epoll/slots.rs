//! The state of one connection.

use std::os::fd::OwnedFd;

use crate::stream::blocks::Outgoing;

/// A connection's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not in use.
    Free,
    /// Connecting.
    Opening,
    /// Established.
    Open,
    /// Closed by the caller; pending bytes are still sent.
    Draining,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) fd: Option<OwnedFd>,
    pub(super) generation: u32,
    pub(super) out: Outgoing,
    /// Bytes of the submitted block that are sent.
    pub(super) sent: u32,
    pub(super) state: State,
    /// It is listed as having bytes to send.
    pub(super) dirty: bool,
    /// The caller was told that it is full and wants `Writable`.
    pub(super) wants_writable: bool,
    /// Receiving is paused.
    pub(super) paused: bool,
    /// It is queued for reading.
    pub(super) read_queued: bool,
    /// The end or an error was reported: read until it comes.
    pub(super) read_to_end: bool,
    /// A send has failed; received bytes are read first.
    pub(super) send_failed: bool,
}

impl Slot {
    /// A free slot of a given generation.
    pub(super) const fn free(generation: u32) -> Self {
        Self {
            fd: None,
            generation,
            out: Outgoing::EMPTY,
            sent: 0,
            state: State::Free,
            dirty: false,
            wants_writable: false,
            paused: false,
            read_queued: false,
            read_to_end: false,
            send_failed: false,
        }
    }

    /// Whether it has this generation and state.
    pub(super) fn is(&self, generation: u32, state: State) -> bool {
        self.generation == generation && self.state == state
    }
}
