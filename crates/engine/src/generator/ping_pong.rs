//! One request at a time: the next is due when the last one has ended. For the time that a single round trip takes.
//!
//! Law: at most one request is under way. It has ended once it is settled, or its time-out has passed.

use crate::plan::Wait;

/// Whose turn it is: ours, or the far end's.
pub(super) struct PingPongPacer {
    /// How an answer is awaited.
    pub(super) wait: Wait,
    under_way: Option<Outstanding>,
}

/// The request that is under way.
struct Outstanding {
    flow: usize,
    index: u32,
    sent: u64,
}

impl PingPongPacer {
    pub(super) fn new(wait: Wait) -> Self {
        Self { wait, under_way: None }
    }

    /// A request has left.
    pub(super) fn sent(&mut self, flow: usize, index: u32, sent: u64) {
        self.under_way = Some(Outstanding { flow, index, sent });
    }

    /// A request has been answered or refused: perhaps an older one, whose time-out had passed.
    pub(super) fn settled(&mut self, flow: usize, index: u32) {
        self.under_way.take_if(|outstanding| outstanding.flow == flow && outstanding.index == index);
    }

    /// Whether the next request may leave.
    pub(super) fn is_ours(&mut self, now: u64, timeout: u64) -> bool {
        self.under_way.take_if(|outstanding| now.saturating_sub(outstanding.sent) > timeout);
        self.under_way.is_none()
    }
}
