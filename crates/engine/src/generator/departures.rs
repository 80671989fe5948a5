//! When requests left, where a link queues them and another thread sends them.
//!
//! Laws: such a request counts as sent when it is queued, and its lateness and its latency from sent are those of its
//! departure; a reply is settled only after the departure of its request is known.

use flatout_net::{Datagrams, Departure};
use flatout_wire::Protocol;

use super::DatagramClient;
use crate::clock::Clock;

/// More wait in no queue.
pub(super) const DEPARTING: usize = 4096;

/// A request that has not left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departing {
    flow: usize,
    index: u32,
    due: u64,
}

impl<P: Protocol, L: Datagrams, C: Clock> DatagramClient<P, L, C> {
    /// The request at the vacancy of the present flow was queued.
    pub(super) fn queue(&mut self, due: u64, now: u64, query: u32) {
        if let Some(index) = self.tracker.rings.of(self.flow).vacancy(0) {
            self.departing.push_back(Departing { flow: self.flow, index, due });
        }
        self.tracker.queued(self.flow, due, now, query);
    }

    /// Notes which requests have left.
    #[inline]
    pub(super) fn note_departures(&mut self) {
        while !self.departing.is_empty()
            && let Some(departure) = self.link.departed()
            && let Some(Departing { flow, index, due }) = self.departing.pop_front()
        {
            match departure {
                Departure::At(at) => self.tracker.left(flow, index, due, at.wrapping_sub(self.steady_offset)),
                Departure::Failed => self.tracker.published.fail("the driver did not take a request".to_owned()),
            }
        }
    }
}
