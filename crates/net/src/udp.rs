//! UDP sockets: client flows, the flows of one load, and servers.

use std::io;
use std::mem::zeroed;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::address;
use crate::batch::Batch;
use crate::call::{self, CallError};
use crate::datagrams::{Datagrams, Refused, SendResult};
use crate::option::{self, SocketMemory};
use crate::socket::{bind, check, connect, errno, local_address, own, read_error};
use crate::stamp;
use crate::tx_stamp;

const SERVER_BUFFER: libc::c_int = 4 << 20;
const FLOW_BUFFER: libc::c_int = 1 << 20;
/// The kernel cuts one call into at most this many datagrams before 6.9 (128 since).
pub(crate) const SEGMENTS: usize = 64;
/// Packets that one busy poll takes at most: the kernel's own default.
const BUSY_POLL_BUDGET: u16 = 8;

/// An unbound UDP socket that never blocks its opener.
pub(crate) fn socket(ip: IpAddr) -> io::Result<OwnedFd> {
    // SAFETY: socket takes no pointers.
    let fd = unsafe { libc::socket(address::family(ip), libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    own(fd)
}

/// One flow over a connected socket of its own.
pub struct Flow {
    socket: OwnedFd,
}

impl Flow {
    /// Opens a flow to `target`, from `source` where given (port 0: the kernel's choice), with the kernel's stamps if `stamps`.
    ///
    /// Errors are the kernel's: no descriptors, no ports left, no route, no permission.
    pub fn open(target: SocketAddr, source: Option<SocketAddr>, stamps: bool) -> io::Result<Self> {
        let socket = socket(target.ip())?;
        option::receive_errors(socket.as_fd(), target.is_ipv6())?;
        option::receive_buffer(socket.as_fd(), FLOW_BUFFER)?;
        option::send_buffer(socket.as_fd(), FLOW_BUFFER)?;
        if stamps {
            option::stamps(socket.as_fd())?;
        }
        if let Some(source) = source {
            option::late_port(socket.as_fd())?;
            bind(&socket, source)?;
        }
        connect(&socket, target)?;
        Ok(Self { socket })
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// This flow's local address.
    pub fn source(&self) -> io::Result<SocketAddr> {
        local_address(&self.socket)
    }

    /// Sends the first `count` slots, each its own datagram.
    pub fn send(&mut self, batch: &mut Batch, count: usize) -> SendResult {
        let count = count.min(batch.slots());
        if count == 1 {
            let (fd, header) = (self.socket.as_raw_fd(), batch.headers.as_ptr());
            // SAFETY: the header and all it points to live in `batch`, borrowed for the call.
            let sent = unsafe { libc::sendmsg(fd, &raw const (*header).msg_hdr, libc::MSG_DONTWAIT) };
            return outcome(sent, 1);
        }
        let headers = batch.headers.get_mut(..count).unwrap_or_default();
        // SAFETY: the headers and all they point to live in `batch`, borrowed for the call.
        let sent = unsafe { call::send(&self.socket, headers, libc::MSG_DONTWAIT) };
        outcome(sent, sent as usize)
    }

    /// Sends the first `count` slots, all `length` bytes long, in one call that the kernel cuts apart (UDP_SEGMENT).
    pub fn send_segmented(&mut self, batch: &mut Batch, count: usize, length: usize) -> SendResult {
        let count = count.min(SEGMENTS).min(batch.slots());
        let mut control = [0; stamp::WORDS];
        let mut header = batch.gathered(count, length);
        header.msg_controllen = stamp::write_segment(&mut control, length as u16) as _;
        header.msg_control = (&raw mut control).cast();
        // SAFETY: the header points into `batch`, borrowed for the call, and `control`, which outlives it.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
        outcome(sent, count)
    }

    /// Receives what has arrived, up to the batch's size; never waits. Zero: nothing there, or a refusal to read.
    pub fn receive(&self, batch: &mut Batch) -> Result<usize, CallError> {
        receive(&self.socket, batch, libc::MSG_DONTWAIT)
    }

    /// The next refusal that came back, its quoted datagram in `quote`.
    pub fn refused(&self, quote: &mut [u8]) -> Result<Option<Refused>, CallError> {
        let read = read_error(&self.socket, quote)?;
        Ok(read.map(|(quoted, data)| Refused { quoted, errno: data.errno }))
    }

    /// Fill level and drops of this flow's receive queue.
    #[must_use]
    pub fn memory(&self) -> SocketMemory {
        option::memory(self.socket.as_fd()).unwrap_or_default()
    }
}

/// The result of sending `count` datagrams, from what the system call returned.
pub(crate) fn outcome(sent: isize, count: usize) -> SendResult {
    if sent >= 0 {
        return SendResult::Sent(count);
    }
    match errno() {
        libc::EAGAIN | libc::EINTR => SendResult::Full,
        libc::ENOBUFS => SendResult::Dropped,
        libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EPROTO => SendResult::Refused,
        errno => SendResult::Failed(errno),
    }
}

pub(crate) fn receive(socket: &OwnedFd, batch: &mut Batch, flags: libc::c_int) -> Result<usize, CallError> {
    batch.open();
    // SAFETY: the headers and all they point to live in `batch`, borrowed for the call.
    let got = unsafe { call::receive(socket, &mut batch.headers, flags) };
    batch.note(*got.as_ref().unwrap_or(&0));
    got
}

/// Has calls on the socket wait, whatever its opener wanted; this holds for all descriptors of the socket.
fn set_blocking(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: fcntl takes no pointers here.
    let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK) })
}

/// Has the kernel tell the destination of each datagram.
fn tell_destinations(socket: &OwnedFd, v6: bool) -> io::Result<()> {
    option::packet_info(socket.as_fd(), v6)?;
    if v6 { option::packet_info_v4_mapped(socket.as_fd()) } else { Ok(()) }
}

/// Waits for any of many flows to become readable (epoll).
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Poller {
    /// Reports up to `at_once` flows a call.
    pub fn new(at_once: usize) -> io::Result<Self> {
        // SAFETY: epoll_create1 takes no pointers.
        let epoll = own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Self { epoll, events: vec![libc::epoll_event { events: 0, u64: 0 }; at_once.max(1)] })
    }

    /// Registers `flow` under `token`. Edge-triggered: a flow that is reported must be read until it is empty.
    pub fn register(&self, flow: &Flow, token: usize) -> io::Result<()> {
        self.add(&flow.socket, libc::EPOLLIN | libc::EPOLLERR | libc::EPOLLET, token)
    }

    /// Registers `socket` for these events under `token`.
    pub(crate) fn add(&self, socket: &OwnedFd, events: libc::c_int, token: usize) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token as u64 };
        let (epoll, socket) = (self.epoll.as_raw_fd(), socket.as_raw_fd());
        // SAFETY: the kernel reads one epoll_event.
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket, &raw mut event) })
    }

    /// Busy-polls the queue of the network card for up to `us` µs while waiting.
    ///
    /// For this epoll since 6.9; before, only where the sysctl net.core.busy_poll is set.
    fn set_busy_poll(&self, us: u32) -> io::Result<()> {
        if us == 0 {
            return Ok(());
        }
        // SAFETY: epoll_params is plain old data; all zeroes is a valid value.
        let mut params: libc::epoll_params = unsafe { zeroed() };
        (params.busy_poll_usecs, params.busy_poll_budget) = (us, BUSY_POLL_BUDGET);
        // SAFETY: the kernel reads one epoll_params.
        let done = unsafe { libc::ioctl(self.epoll.as_raw_fd(), libc::EPIOCSPARAMS, &raw const params) };
        match check(done) {
            Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Ok(()),
            done => done,
        }
    }

    /// Waits up to `wait` and returns how many flows are ready; [`Poller::ready`] has them.
    pub fn poll(&mut self, wait: Duration) -> Result<usize, CallError> {
        let (events, room) = (self.events.as_mut_ptr(), self.events.len() as libc::c_int);
        // SAFETY: `events` has `room` events.
        unsafe { call::wait(&self.epoll, events, room, wait) }
    }

    /// The same where epoll_pwait2 is refused.
    #[cfg(test)]
    pub(crate) fn poll_by_ppoll(&mut self, wait: Duration) -> Result<usize, CallError> {
        let (events, room) = (self.events.as_mut_ptr(), self.events.len() as libc::c_int);
        // SAFETY: `events` has `room` events.
        unsafe { call::wait_exactly(&self.epoll, events, room, wait) }
    }

    /// The token of the n-th flow that the last call reported, and whether it has an error to read.
    #[must_use]
    pub fn ready(&self, n: usize) -> (usize, bool) {
        let event = self.events[n];
        (event.u64 as usize, event.events & libc::EPOLLERR as u32 != 0)
    }
}

/// Many flows to one far end, each with a socket of its own, and a poller for all.
pub struct Flows {
    flows: Vec<Flow>,
    poller: Poller,
    segmented: bool,
}

impl Flows {
    /// Opens `count` flows to the far end's addresses in turn (at least one), the n-th from `sources[n % len]` (empty:
    /// the kernel chooses).
    pub fn open(
        targets: &[SocketAddr],
        sources: &[SocketAddr],
        count: usize,
        options: FlowOptions,
    ) -> io::Result<Self> {
        let poller = Poller::new(count.min(256))?;
        poller.set_busy_poll(options.busy_poll_us)?;
        let mut flows = Vec::with_capacity(count);
        for (n, target) in targets.iter().cycle().take(count).enumerate() {
            let source = (!sources.is_empty()).then(|| sources[n % sources.len()]);
            let flow = Flow::open(*target, source, options.stamps)?;
            option::busy_poll(flow.socket.as_fd(), options.busy_poll_us)?;
            poller.register(&flow, n)?;
            flows.push(flow);
        }
        Ok(Self { flows, poller, segmented: options.segmented })
    }
}

/// Options of flows.
#[derive(Clone, Copy, Debug)]
pub struct FlowOptions {
    /// Arrivals carry the kernel's stamp.
    pub stamps: bool,
    /// Several equal datagrams of one flow are sent in one call that the kernel segments (UDP_SEGMENT).
    pub segmented: bool,
    /// How long waiting for arrivals busy-polls a network card's queue, µs; 0: not.
    pub busy_poll_us: u32,
}

impl Datagrams for Flows {
    fn flows(&self) -> usize {
        self.flows.len()
    }

    fn send(&mut self, flow: usize, batch: &mut Batch, count: usize, length: usize) -> SendResult {
        // The kernel cuts into equal parts, and requests about different subjects may differ in length.
        let segmented = self.segmented && count > 1 && batch.is_even(count, length);
        match self.flows.get_mut(flow) {
            Some(flow) if segmented => flow.send_segmented(batch, count, length),
            Some(flow) => flow.send(batch, count),
            None => SendResult::Failed(libc::EBADF),
        }
    }

    fn poll(&mut self, wait: Duration) -> Result<usize, CallError> {
        self.poller.poll(wait)
    }

    fn ready(&self, n: usize) -> (usize, bool) {
        self.poller.ready(n)
    }

    fn receive(&mut self, flow: usize, batch: &mut Batch) -> Result<usize, CallError> {
        self.flows.get(flow).map_or(Ok(0), |flow| flow.receive(batch))
    }

    fn refused(&mut self, flow: usize, quote: &mut [u8]) -> Result<Option<Refused>, CallError> {
        self.flows.get(flow).map_or(Ok(None), |flow| flow.refused(quote))
    }

    fn drops(&self) -> u64 {
        self.flows.iter().map(|flow| u64::from(flow.memory().drops)).sum()
    }
}

/// Checks that no other socket has the address `at`: the error is the kernel's, EADDRINUSE where one has.
///
/// With SO_REUSEPORT a second server would silently get a part of the first one's traffic.
pub fn check_address_free(at: SocketAddr) -> io::Result<()> {
    Listen::at(at).check_free()
}

/// Where a server listens.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address; a wildcard means all of this host, `[::]` those of both families.
    pub address: SocketAddr,
    /// Only what comes by this interface.
    pub interface: Option<String>,
    /// The address may be one that this host does not have yet.
    pub free_bind: bool,
    /// A `[::]` without v4.
    pub only_v6: bool,
}

impl Listen {
    /// An address, and no restrictions.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { address, interface: None, free_bind: false, only_v6: false }
    }

    /// Errors as for [`check_address_free`].
    pub fn check_free(&self) -> io::Result<()> {
        let socket = socket(self.address.ip())?;
        self.prepare(&socket)?;
        bind(&socket, self.address)
    }

    /// Sets what has to be set before the socket is bound.
    fn prepare(&self, socket: &OwnedFd) -> io::Result<()> {
        let (v6, any) = (self.address.is_ipv6(), self.address.ip().is_unspecified());
        if let Some(interface) = &self.interface {
            option::bind_to_device(socket.as_fd(), interface)?;
        }
        if self.free_bind && !any {
            option::free_bind(socket.as_fd(), v6)?;
        }
        if v6 && any {
            option::only_v6(socket.as_fd(), self.only_v6)?;
        }
        Ok(())
    }
}

/// How a server socket receives and sends.
#[derive(Clone, Copy, Debug)]
pub struct ServerOptions {
    /// How long a receive waits for the first datagram.
    pub wait: Duration,
    /// The kernel stamps each datagram sent; [`crate::TxStampReader`] reads the stamps.
    pub tx_stamps: bool,
}

impl ServerOptions {
    fn apply(self, socket: &OwnedFd) -> io::Result<()> {
        option::receive_buffer(socket.as_fd(), SERVER_BUFFER)?;
        option::send_buffer(socket.as_fd(), SERVER_BUFFER)?;
        option::stamps(socket.as_fd())?;
        option::receive_timeout(socket.as_fd(), self.wait)?;
        if self.tx_stamps { tx_stamp::enable(socket.as_fd(), true) } else { Ok(()) }
    }
}

/// A server socket; several may share one address.
pub struct Server {
    socket: OwnedFd,
}

impl Server {
    /// Binds to `at`. On a wildcard address answers leave from the address that the request was sent to; `[::]`
    /// includes v4.
    ///
    /// A receive waits at most `wait`. Errors are the kernel's: address in use, no permission, no such address.
    pub fn bind(at: SocketAddr, wait: Duration) -> io::Result<Self> {
        Self::bind_with(at, ServerOptions { wait, tx_stamps: false })
    }

    /// Binds to `at` as [`Server::bind`] does, with all options.
    pub fn bind_with(at: SocketAddr, options: ServerOptions) -> io::Result<Self> {
        Self::listen(&Listen::at(at), options)
    }

    /// Binds as [`Server::bind`] does, with all restrictions. Errors also: no such interface (ENODEV).
    pub fn listen(listen: &Listen, options: ServerOptions) -> io::Result<Self> {
        call::check_receiving()?;
        let socket = socket(listen.address.ip())?;
        option::reuse_port(socket.as_fd())?;
        options.apply(&socket)?;
        listen.prepare(&socket)?;
        if listen.address.ip().is_unspecified() {
            tell_destinations(&socket, listen.address.is_ipv6())?;
        }
        bind(&socket, listen.address)?;
        Ok(Self { socket })
    }

    /// From now on only what comes by this interface is received, which may have been made anew. Errors: the kernel's,
    /// such as EPERM without CAP_NET_RAW.
    pub fn restrict(&self, interface: &str) -> io::Result<()> {
        option::bind_to_device(self.socket.as_fd(), interface)
    }

    /// Takes over a bound socket that another process left to this one, by its number; the descriptor itself stays open.
    ///
    /// Errors: there is no such descriptor, or it is no UDP socket.
    pub fn inherit(descriptor: i32, options: ServerOptions) -> io::Result<Self> {
        call::check_receiving()?;
        // SAFETY: fcntl takes no pointers here; a number that is no descriptor is an error.
        let socket = own(unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3) })?;
        if option::kind(socket.as_fd())? != libc::SOCK_DGRAM {
            return Err(io::Error::from_raw_os_error(libc::EPROTOTYPE));
        }
        set_blocking(&socket)?;
        let address = local_address(&socket)?;
        options.apply(&socket)?;
        tell_destinations(&socket, address.is_ipv6())?;
        Ok(Self { socket })
    }

    /// Its descriptor, borrowed.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Its local address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        local_address(&self.socket)
    }

    /// Receives what has arrived, waiting for the first datagram up to [`ServerOptions::wait`].
    ///
    /// Zero: nothing came in that time.
    pub fn receive(&self, batch: &mut Batch) -> Result<usize, CallError> {
        receive(&self.socket, batch, libc::MSG_WAITFORONE)
    }

    /// Receives what has arrived without waiting.
    pub fn receive_now(&self, batch: &mut Batch) -> Result<usize, CallError> {
        receive(&self.socket, batch, libc::MSG_DONTWAIT)
    }

    /// Sends one datagram; returns whether it was sent.
    pub fn send_to(&self, bytes: &[u8], peer: SocketAddr) -> bool {
        let (storage, length) = address::to_kernel(peer);
        let (data, fd) = (bytes.as_ptr().cast(), self.socket.as_raw_fd());
        // SAFETY: pointers and lengths describe `bytes` and `storage`.
        let sent = unsafe { libc::sendto(fd, data, bytes.len(), 0, (&raw const storage).cast(), length) };
        sent >= 0
    }

    /// Sends all queued answers; returns how many were sent. One that fails does not stop the others.
    pub fn send_answers(&self, batch: &mut Batch) -> usize {
        let (mut total, mut at) = (0, 0);
        while at < batch.answers.len() {
            let sent = self.send_some(batch, at, batch.answers.len());
            total += sent;
            // Behind those that were sent is one that failed.
            at += sent + 1;
        }
        batch.clear_answers();
        total
    }

    /// Sends up to `count` queued answers from the n-th on in one call, which ends at the first that fails; returns how
    /// many were sent. They stay queued. Never waits: an answer that the kernel has no room for fails.
    pub fn send_some(&self, batch: &mut Batch, n: usize, count: usize) -> usize {
        let end = n.saturating_add(count).min(batch.answers.len());
        let Some(some) = batch.answers.get_mut(n..end).filter(|some| !some.is_empty()) else { return 0 };
        // SAFETY: the headers and all they point to live in `batch`, borrowed for the call.
        let sent = unsafe { call::send(&self.socket, some, libc::MSG_DONTWAIT) };
        usize::try_from(sent).unwrap_or(0)
    }

    /// From now on the kernel stamps what [`Batch::request_stamp`] asks for; [`crate::TxStampReader`] reads the stamps.
    /// Arrivals keep theirs. Errors: the kernel's; then nothing has changed.
    pub fn enable_tx_stamps(&self) -> io::Result<()> {
        tx_stamp::enable(self.socket.as_fd(), false)
    }

    /// Fill level and drops of this socket's receive queue.
    #[must_use]
    pub fn memory(&self) -> SocketMemory {
        option::memory(self.socket.as_fd()).unwrap_or_default()
    }
}
