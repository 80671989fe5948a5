//! Datagrams of one queue of an interface, received past the kernel's stack, beside an ordinary socket on the same port.
//!
//! The socket holds the port, sends answers, and receives what is not steered: fragments, long datagrams, IP options, what
//! comes by other interfaces, and what is for addresses that are newer than the program.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::frame::UdpFrame;
use super::socket::{XdpSocket, XdpStatisticsReader};
use crate::call::{self, CallError};
use crate::clock_watch::clock_offsets;
use crate::receive_socket::{DatagramReceiver, ReceiveSocket};
use crate::recv_ring::ReceiveRing;
use crate::socket::errno;
use crate::stamp::{Local, Peer};

/// After so many receives the ordinary socket is looked at, however much comes past it.
const LOOKS: u32 = 64;
/// How old the offset between the clocks may get: it changes when the system clock is set.
const OFFSET_NS: u64 = 10_000_000;

/// What becomes of datagrams of a queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueOptions {
    /// How long a receive waits for the first datagram.
    pub wait: Duration,
    /// Arrivals carry the time at which the program saw them.
    pub stamps: bool,
    /// It also receives what comes by the ordinary socket: one queue of all does.
    pub takes_rest: bool,
    /// The index of the interface.
    pub interface: u32,
}

/// The receiver of one queue.
#[derive(Debug)]
pub struct QueueReceiver {
    queue: XdpSocket,
    rest: Arc<ReceiveSocket>,
    options: QueueOptions,
    faces: Faces,
    clock: UnixOffset,
    /// Frames that are no right datagrams.
    refused: Arc<AtomicU32>,
    turns: u32,
}

/// How addresses are written so that the ordinary socket answers to them and from them.
#[derive(Clone, Copy, Debug)]
struct Faces {
    /// An IPv6 socket: IPv4 addresses are mapped.
    mapped: bool,
    /// The socket is bound to all addresses: answers leave from the one that was asked, at this interface.
    interface: Option<u32>,
}

impl Faces {
    #[inline]
    fn ip(self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(v4) if self.mapped => IpAddr::V6(v4.to_ipv6_mapped()),
            other => other,
        }
    }

    #[inline]
    fn peer(self, datagram: &UdpFrame<'_>, interface: u32) -> Peer {
        let mut address = SocketAddr::new(self.ip(datagram.source.ip()), datagram.source.port());
        if let SocketAddr::V6(v6) = &mut address
            && v6.ip().is_unicast_link_local()
        {
            v6.set_scope_id(interface);
        }
        let own = |interface| Local { asked: self.ip(datagram.destination.ip()), own: true, interface };
        Peer { address, asked: self.interface.map(own) }
    }
}

/// CLOCK_REALTIME minus CLOCK_MONOTONIC.
#[derive(Debug, Default)]
struct UnixOffset {
    ns: i64,
    read_at: u64,
}

impl UnixOffset {
    /// Unix time of a stamp, ns.
    #[inline]
    fn unix_ns(&mut self, stamp: u64) -> u64 {
        if stamp > self.read_at + OFFSET_NS {
            let offsets = clock_offsets();
            (self.ns, self.read_at) = (offsets.unix_ns, offsets.steady_ns);
        }
        stamp.saturating_add_signed(self.ns)
    }
}

impl QueueReceiver {
    /// Receives from `queue`; `rest` is the ordinary socket. Errors: the socket has no address.
    pub fn new(queue: XdpSocket, rest: Arc<ReceiveSocket>, options: QueueOptions) -> std::io::Result<Self> {
        let at = rest.address()?;
        let wildcard = at.ip().to_canonical().is_unspecified();
        let faces = Faces { mapped: at.is_ipv6(), interface: wildcard.then_some(options.interface) };
        let (clock, refused) = (UnixOffset::default(), Arc::default());
        Ok(Self { queue, rest, options, faces, clock, refused, turns: 0 })
    }

    /// Counts what was lost, from any thread.
    #[must_use]
    pub fn losses(&self) -> QueueLosses {
        let rest = self.options.takes_rest.then(|| Arc::clone(&self.rest));
        QueueLosses { queue: self.queue.statistics_reader(), rest, refused: Arc::clone(&self.refused) }
    }

    /// Moves datagrams that have arrived in the queue into `into`, from slot 0 on.
    #[inline]
    fn take(&mut self, into: &mut ReceiveRing) -> usize {
        let Self { queue, options, faces, clock, refused, .. } = self;
        let mut count = 0;
        queue.receive(into.slots(), |frame, stamp| {
            let Ok(datagram) = UdpFrame::parse(frame) else {
                refused.fetch_add(1, Ordering::Relaxed);
                return;
            };
            let stamp = (options.stamps && stamp > 0).then(|| clock.unix_ns(stamp));
            into.deliver(count, datagram.payload, 0, faces.peer(&datagram, options.interface), stamp);
            count += 1;
        });
        count
    }

    /// Waits until something has come.
    fn wait(&self) -> Result<(), CallError> {
        let watched = |fd: BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut both = [watched(self.queue.as_fd()), watched(self.rest.as_fd())];
        let count = if self.options.takes_rest { 2 } else { 1 };
        let timeout = call::timespec(self.options.wait);
        // SAFETY: the kernel writes `count` pollfds and reads one timespec; the null mask changes no signals.
        let ready = unsafe { libc::ppoll(both.as_mut_ptr(), count, &raw const timeout, ptr::null()) };
        if ready < 0 && errno() != libc::EINTR {
            return Err(CallError::last("ppoll"));
        }
        // It is no socket of the interface any more, and would be ready for ever.
        if both[0].revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0 {
            return Err(CallError { call: "AF_XDP", errno: libc::ENETDOWN });
        }
        Ok(())
    }
}

impl DatagramReceiver for QueueReceiver {
    fn receive(&mut self, into: &mut ReceiveRing, waits: bool) -> Result<usize, CallError> {
        self.turns = self.turns.wrapping_add(1);
        if self.options.takes_rest && self.turns.is_multiple_of(LOOKS) {
            let count = self.rest.receive(into, false)?;
            if count > 0 {
                return Ok(count);
            }
        }
        let mut count = self.take(into);
        if count == 0 && waits {
            self.wait()?;
            count = self.take(into);
        }
        if count == 0 && self.options.takes_rest { self.rest.receive(into, false) } else { Ok(count) }
    }

    fn answer(&mut self, bytes: &[u8], to: Peer) {
        self.rest.send(bytes, &[to]);
    }
}

/// What a queue has lost; holds its socket open.
#[derive(Clone, Debug)]
pub struct QueueLosses {
    queue: XdpStatisticsReader,
    rest: Option<Arc<ReceiveSocket>>,
    refused: Arc<AtomicU32>,
}

impl QueueLosses {
    /// Datagrams lost in the rings, those with wrong checksums, and what the ordinary socket dropped; wraps at 32 bits.
    #[must_use]
    pub fn count(&self) -> u32 {
        let rest = self.rest.as_ref().map_or(0, |socket| socket.memory().drops);
        (self.queue.read().lost() as u32).wrapping_add(self.refused.load(Ordering::Relaxed)).wrapping_add(rest)
    }
}
