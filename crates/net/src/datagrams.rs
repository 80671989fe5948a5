//! The face of anything that carries datagrams of many flows: sockets here, fakes in tests, AF_XDP later.

use std::time::Duration;

use crate::batch::Batch;

/// Carries datagrams between this end's flows and one far end. Nothing here blocks but [`Datagrams::poll`].
pub trait Datagrams {
    /// How many flows there are; they are named by number from 0.
    fn flows(&self) -> usize;
    /// Sends the first `count` slots over `flow`, all of them `length` bytes long.
    fn send(&mut self, flow: usize, batch: &mut Batch, count: usize, length: usize) -> SendResult;
    /// Waits up to `wait` for arrivals or refusals and returns how many flows have some.
    ///
    /// A flow is named once: it must be received from until that returns less than the batch holds.
    fn poll(&mut self, wait: Duration) -> usize;
    /// The n-th flow that the last `listen` named, and whether it has refusals to read.
    fn ready(&self, n: usize) -> (usize, bool);
    /// Receives arrivals of `flow` into the batch, from slot 0 on; returns how many.
    fn receive(&mut self, flow: usize, batch: &mut Batch) -> usize;
    /// The next refusal that came back to `flow`, the datagram it quotes in `quote`.
    fn refused(&mut self, flow: usize, quote: &mut [u8]) -> Option<Refused>;
    /// Arrivals that this end itself had to drop because they were not received in time.
    fn drops(&self) -> u64;
}

/// How a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendResult {
    /// So many datagrams left, from the first on.
    Sent(usize),
    /// The socket's send buffer is full: try again.
    Full,
    /// This machine's own queue dropped the first datagram (ENOBUFS): it never left.
    Dropped,
    /// An earlier datagram was refused; nothing was sent now. Read [`Flow::refused`] and try again.
    Refused,
    /// The kernel will not send (errno).
    Failed(i32),
}

/// A refusal that came back: the far end's answer to one datagram, as the network reports it.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// How many bytes of the refused datagram were quoted into the caller's buffer.
    pub quoted: usize,
    /// ECONNREFUSED, EHOSTUNREACH, …; ENOBUFS stands for this machine's own queue.
    pub errno: i32,
}
