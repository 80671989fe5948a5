//! The trait `Datagrams`: what the engine needs of anything that carries datagrams of many flows.
//!
//! A flow is an identity of this end that the far end can tell apart, such as an address and a port. It is not a
//! socket: [`crate::Flows`] has a connected socket for each, others may have one socket or one AF_XDP queue for all and
//! sort arrivals by their addresses. Tests have fakes.

use std::io;
use std::time::Duration;

use crate::batch::Batch;
use crate::call::CallError;

/// Carries datagrams between this end's flows and the far end. Nothing here blocks but [`Datagrams::poll`].
///
/// Flows have the indices from 0 to [`Datagrams::flows`]. They say nothing about sockets: two flows may share a queue,
/// an error queue and a counter of drops.
pub trait Datagrams {
    /// Whether datagrams that were sent leave later, by a thread that runs while the caller waits.
    ///
    /// Then [`Datagrams::departed`] tells when each left, and a caller with nothing to do calls [`Datagrams::poll`] with
    /// a wait, in place of spinning.
    const QUEUED: bool = false;

    /// The calling thread is the one that will use it: called once, before anything is sent. Errors are the kernel's.
    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// What became of the oldest datagram that was sent and not told of yet; `None`: it waits, or there is none.
    fn departed(&mut self) -> Option<Departure> {
        None
    }
    /// The number of flows.
    fn flows(&self) -> usize;
    /// Sends the first `count` slots over `flow`, all of them `length` bytes long.
    fn send(&mut self, flow: usize, batch: &mut Batch, count: usize, length: usize) -> SendResult;
    /// Waits up to `wait` for arrivals or refusals and returns how many flows have some.
    ///
    /// Edge-triggered: each such flow is reported once, and must be received from until that returns less than the
    /// batch holds. An implementation whose flows share a queue sorts its arrivals here, or reports a flow once for each
    /// run of its arrivals; these are then received in the order of the reports. Errors: the call itself failed;
    /// that is no silence of the far end.
    fn poll(&mut self, wait: Duration) -> Result<usize, CallError>;
    /// The n-th flow that the last `poll` reported, and whether it has refusals to read.
    fn ready(&self, n: usize) -> (usize, bool);
    /// Receives arrivals of `flow` into the batch, from slot 0 on; returns how many. Errors as for `poll`.
    fn receive(&mut self, flow: usize, batch: &mut Batch) -> Result<usize, CallError>;
    /// The next refusal that came back to `flow`, the datagram it quotes in `quote`. Errors as for `poll`.
    fn refused(&mut self, flow: usize, quote: &mut [u8]) -> Result<Option<Refused>, CallError>;
    /// Arrivals of all flows that this end dropped because they were not received in time.
    fn drops(&self) -> u64;
}

/// How a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendResult {
    /// The number of datagrams sent, from the first on.
    Sent(usize),
    /// The send queue, which other flows may share, is full: try again.
    Full,
    /// This machine's own queue dropped the first datagram (ENOBUFS): it was not sent.
    Dropped,
    /// An earlier datagram was refused; nothing was sent now. Read [`Datagrams::refused`] and try again.
    Refused,
    /// The kernel does not send (errno).
    Failed(i32),
}

/// What became of a datagram that was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It left at that time (CLOCK_MONOTONIC, ns).
    At(u64),
    /// It was not sent.
    Failed,
}

/// A refusal that came back: the far end's answer to one datagram, as the network reports it.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// How many bytes of the refused datagram were quoted into the caller's buffer.
    pub quoted: usize,
    /// ECONNREFUSED, EHOSTUNREACH, …; ENOBUFS stands for this machine's own queue.
    pub errno: i32,
}
