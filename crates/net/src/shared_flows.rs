//! Flows that share sockets: each packet names its source address (IP_PKTINFO), so descriptors limit nothing.
//!
//! Method: a socket is bound to a port of the wildcard address and carries one flow for each source address; arrivals
//! are sorted by the address that they were sent to. The sockets are not connected, so what comes from elsewhere than
//! the target is passed over. Epoll is level-triggered here: what one call leaves behind is reported again.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use crate::address;
use crate::batch::Batch;
use crate::call::{self, CallError};
use crate::datagrams::{Datagrams, Refused, SendResult};
use crate::option;
use crate::socket::{bind, read_error};
use crate::stamp::{self, Control, Local};
use crate::udp::{Poller, outcome, receive, socket};

/// Thousands of flows share it.
const BUFFER: libc::c_int = 16 << 20;
/// Arrivals of one socket in one call.
const AT_ONCE: usize = 64;
/// Refusals kept until they are asked for; more are passed over.
const REFUSALS: usize = 1024;
const QUOTE: usize = 576;

/// Many flows to one target over few sockets, each flow with a source address of its own on its socket.
pub struct SharedFlows {
    sockets: Vec<OwnedFd>,
    /// Of each socket.
    batches: Vec<Batch>,
    poller: Poller,
    target: SocketAddr,
    storage: libc::sockaddr_storage,
    storage_length: libc::socklen_t,
    sources: Vec<IpAddr>,
    /// The place of each source address.
    places: HashMap<IpAddr, usize>,
    flows: usize,
    /// What the last poll received: flow, socket and slot, sorted by flow.
    arrivals: Vec<(usize, usize, usize)>,
    ready: Vec<Ready>,
    /// How many of them have arrivals; they come first, sorted by flow.
    arrived: usize,
    refusals: VecDeque<(usize, i32, Vec<u8>)>,
}

/// A flow that has something, and which of the arrivals are still to be received.
#[derive(Clone, Copy, Debug)]
struct Ready {
    flow: usize,
    next: usize,
    end: usize,
    refused: bool,
}

impl SharedFlows {
    /// Opens `flows` flows to `target`: flow n has the n-th of `sources`, modulo their number. Arrivals are truncated
    /// to `stride` bytes; they carry the kernel's stamps if `stamps`.
    ///
    /// Errors are the kernel's, or say that no source is given.
    pub fn open(target: SocketAddr, sources: &[IpAddr], flows: usize, stride: usize, stamps: bool) -> io::Result<Self> {
        call::check_receiving()?;
        if sources.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "flows share sockets by their source addresses"));
        }
        let count = flows.div_ceil(sources.len());
        let poller = Poller::new(count.min(256))?;
        let sockets = (0..count).map(|_| open_socket(target.ip(), stamps)).collect::<io::Result<Vec<_>>>()?;
        for (token, socket) in sockets.iter().enumerate() {
            poller.add(socket, libc::EPOLLIN, token)?;
        }
        let (storage, storage_length) = address::to_kernel(target);
        Ok(Self {
            batches: (0..count).map(|_| Batch::new(AT_ONCE, stride, true)).collect(),
            sockets,
            poller,
            target,
            storage,
            storage_length,
            places: sources.iter().enumerate().map(|(place, source)| (*source, place)).collect(),
            sources: sources.to_vec(),
            flows,
            arrivals: Vec::with_capacity(AT_ONCE * count),
            ready: Vec::with_capacity(AT_ONCE * count),
            arrived: 0,
            refusals: VecDeque::with_capacity(REFUSALS),
        })
    }

    /// The flow on `socket` whose address is `local`.
    fn flow_at(&self, socket: usize, local: IpAddr) -> Option<usize> {
        let flow = socket * self.sources.len() + self.places.get(&local)?;
        (flow < self.flows).then_some(flow)
    }

    fn receive_from(&mut self, token: usize) -> Result<(), CallError> {
        let (Some(socket), Some(batch)) = (self.sockets.get(token), self.batches.get_mut(token)) else { return Ok(()) };
        let count = receive(socket, batch, libc::MSG_DONTWAIT)?;
        for slot in 0..count {
            let Some(batch) = self.batches.get(token) else { continue };
            let from_target = batch.peer(slot).is_some_and(|peer| is_same(peer, self.target));
            let local = batch.local(slot).filter(|_| from_target);
            if let Some(flow) = local.and_then(|local| self.flow_at(token, local)) {
                self.arrivals.push((flow, token, slot));
            }
        }
        Ok(())
    }

    /// Reads what the network refused: the address that the report came to tells whose it is.
    fn read_refusals(&mut self, token: usize) -> Result<(), CallError> {
        for _ in 0..AT_ONCE {
            let Some(socket) = self.sockets.get(token) else { return Ok(()) };
            let mut quote = [0; QUOTE];
            let Some((length, data)) = read_error(socket, &mut quote)? else { return Ok(()) };
            let flow = data.local.and_then(|local| self.flow_at(token, local.asked));
            if let Some(flow) = flow.filter(|_| self.refusals.len() < REFUSALS) {
                let quoted = quote.get(..length).unwrap_or_default().to_vec();
                self.refusals.push_back((flow, data.errno, quoted));
            }
        }
        Ok(())
    }

    fn sort(&mut self) {
        self.arrivals.sort_unstable();
        self.ready.clear();
        for (at, (flow, ..)) in self.arrivals.iter().enumerate() {
            match self.ready.last_mut() {
                Some(last) if last.flow == *flow => last.end = at + 1,
                _ => self.ready.push(Ready { flow: *flow, next: at, end: at + 1, refused: false }),
            }
        }
        self.arrived = self.ready.len();
        let (end, mut refused): (usize, Vec<_>) =
            (self.arrivals.len(), self.refusals.iter().map(|one| one.0).collect());
        refused.dedup();
        self.ready.extend(refused.into_iter().map(|flow| Ready { flow, next: end, end, refused: true }));
    }
}

fn open_socket(target: IpAddr, stamps: bool) -> io::Result<OwnedFd> {
    let socket = socket(target)?;
    option::receive_errors(socket.as_fd(), target.is_ipv6())?;
    option::receive_buffer(socket.as_fd(), BUFFER)?;
    option::send_buffer(socket.as_fd(), BUFFER)?;
    option::packet_info(socket.as_fd(), target.is_ipv6())?;
    // IPv6 sends from an address of a local prefix only if the socket may be bound to any.
    option::free_bind(socket.as_fd(), target.is_ipv6())?;
    if stamps {
        option::stamps(socket.as_fd())?;
    }
    let any = if target.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    bind(&socket, SocketAddr::new(any, 0))?;
    Ok(socket)
}

/// Of link-local addresses the scope is that of the interface on which the answer came in.
fn is_same(peer: SocketAddr, target: SocketAddr) -> bool {
    (peer.ip(), peer.port()) == (target.ip(), target.port())
}

impl Datagrams for SharedFlows {
    fn flows(&self) -> usize {
        self.flows
    }

    fn send(&mut self, flow: usize, batch: &mut Batch, count: usize, _length: usize) -> SendResult {
        let sources = self.sources.len();
        let (Some(socket), Some(source)) = (self.sockets.get(flow / sources), self.sources.get(flow % sources)) else {
            return SendResult::Failed(libc::EBADF);
        };
        let count = count.min(batch.slots());
        let mut control: Control = [0; stamp::WORDS];
        let local = Local { asked: *source, own: true, interface: scope(self.target) };
        let control_length = stamp::write_source(&mut control, &local);
        for header in batch.headers.iter_mut().take(count) {
            header.msg_hdr.msg_name = (&raw mut self.storage).cast();
            header.msg_hdr.msg_namelen = self.storage_length;
            header.msg_hdr.msg_control = (&raw mut control).cast();
            header.msg_hdr.msg_controllen = control_length as _;
        }
        let headers = batch.headers.get_mut(..count).unwrap_or_default();
        // SAFETY: the headers point to `batch`, `self.storage` and `control`, all borrowed or alive for the call.
        let sent = unsafe { call::send(socket, headers, libc::MSG_DONTWAIT) };
        let result = outcome(sent, usize::try_from(sent).unwrap_or(0));
        for header in batch.headers.iter_mut().take(count) {
            header.msg_hdr.msg_name = std::ptr::null_mut();
            header.msg_hdr.msg_namelen = 0;
            header.msg_hdr.msg_control = std::ptr::null_mut();
            header.msg_hdr.msg_controllen = 0;
        }
        result
    }

    fn poll(&mut self, wait: Duration) -> Result<usize, CallError> {
        self.arrivals.clear();
        let ready = self.poller.poll(wait)?;
        for n in 0..ready {
            let (token, has_errors) = self.poller.ready(n);
            if has_errors {
                self.read_refusals(token)?;
            }
            self.receive_from(token)?;
        }
        self.sort();
        Ok(self.ready.len())
    }

    fn ready(&self, n: usize) -> (usize, bool) {
        self.ready.get(n).map_or((0, false), |ready| (ready.flow, ready.refused))
    }

    fn receive(&mut self, flow: usize, batch: &mut Batch) -> Result<usize, CallError> {
        let arrived = self.ready.get_mut(..self.arrived).unwrap_or_default();
        let Ok(at) = arrived.binary_search_by_key(&flow, |ready| ready.flow) else { return Ok(0) };
        let Some(ready) = arrived.get_mut(at) else { return Ok(0) };
        let until = ready.end.min(ready.next + batch.slots());
        let arrivals = self.arrivals.get(ready.next..until).unwrap_or_default();
        for (to, (_, token, slot)) in arrivals.iter().enumerate() {
            if let Some(from) = self.batches.get(*token) {
                batch.deliver(to, from.packet(*slot), from.meta(*slot));
            }
        }
        ready.next = until;
        Ok(arrivals.len())
    }

    fn refused(&mut self, flow: usize, quote: &mut [u8]) -> Result<Option<Refused>, CallError> {
        let Some(at) = self.refusals.iter().position(|one| one.0 == flow) else { return Ok(None) };
        let Some((_, errno, bytes)) = self.refusals.remove(at) else { return Ok(None) };
        let quoted = bytes.len().min(quote.len());
        quote.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
        Ok(Some(Refused { quoted, errno }))
    }

    fn drops(&self) -> u64 {
        let drops = |socket: &OwnedFd| u64::from(option::memory(socket.as_fd()).unwrap_or_default().drops);
        self.sockets.iter().map(drops).sum()
    }
}

/// The interface of a link-local target.
fn scope(target: SocketAddr) -> u32 {
    match target {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) => v6.scope_id(),
    }
}
