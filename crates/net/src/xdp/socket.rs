//! AF_XDP sockets: memory for frames, and the four rings by which frames go to the kernel and come back.
//!
//! Method: the first frames are for receiving and go round between the fill and the receive ring, the others for sending,
//! between a list of free ones and the transmit and the completion ring. A frame belongs either to this end or to the
//! kernel, never to both.

use std::fmt;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::mapping::Mapping;
use super::ring::{Ring, RingKind};
use crate::bpf::{BpfError, Obstacle};
use crate::call::{self, CallError};
use crate::option;
use crate::socket::{check, errno, own};

/// What the kernel keeps free in front of a received frame.
const HEADROOM: usize = 256;
/// Frames of these sizes, with their headroom; the larger one is a page.
const CHUNKS: [usize; 2] = [2048, 4096];
const STAMP: usize = size_of::<u64>();
const FEWEST: u32 = 64;
const MOST: u32 = 1 << 15;
/// Frames that the kernel sends a call in copy mode.
const SENT_A_CALL: u32 = 32;
/// How often, and how far apart, a queue that is in use is asked for again.
const TRIES: usize = 25;
const PAUSE: Duration = Duration::from_millis(20);

const RECEIVE: RingKind = RingKind { option: libc::XDP_RX_RING, offset: libc::XDP_PGOFF_RX_RING };
const TRANSMIT: RingKind = RingKind { option: libc::XDP_TX_RING, offset: libc::XDP_PGOFF_TX_RING };
const FILL: RingKind =
    RingKind { option: libc::XDP_UMEM_FILL_RING, offset: libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t };
const COMPLETION: RingKind =
    RingKind { option: libc::XDP_UMEM_COMPLETION_RING, offset: libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t };

/// Options of an AF_XDP socket.
#[derive(Clone, Copy, Debug)]
pub struct XdpOptions {
    /// Without zero copy, even where the driver has it: needed where the program at the interface is generic.
    pub copy: bool,
    /// The longest Ethernet frame to receive, bytes; see [`XdpSocket::longest`].
    pub longest: usize,
    /// Frames that may wait to be received; made a power of two.
    pub receive: u32,
    /// Frames that may be on their way out; made a power of two.
    pub transmit: u32,
}

impl Default for XdpOptions {
    fn default() -> Self {
        Self { copy: false, longest: 1514, receive: 4096, transmit: FEWEST }
    }
}

impl XdpOptions {
    fn chunk(&self) -> usize {
        *CHUNKS.iter().find(|chunk| **chunk >= self.longest + HEADROOM).unwrap_or(&CHUNKS[1])
    }

    /// The longest frame that a socket with these options receives, bytes: at least `longest`, but at most 3840.
    #[must_use]
    pub fn room(&self) -> usize {
        self.chunk() - HEADROOM
    }
}

/// What the kernel has counted of a socket, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpStatistics {
    /// Frames lost because no frame was free, or because they were too long.
    pub dropped: u64,
    /// Frames lost because the receive ring was full.
    pub ring_full: u64,
    /// How often the kernel found no free frame; a frame lost so may be counted by the driver only.
    pub fill_ring_empty: u64,
    /// Frames of this end that the kernel refused.
    pub invalid: u64,
}

impl XdpStatistics {
    /// Arrivals that were lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.dropped + self.ring_full
    }
}

/// Reads a socket's counters, from any thread; holds the socket open.
#[derive(Clone, Debug)]
pub struct XdpStatisticsReader(Arc<OwnedFd>);

impl XdpStatisticsReader {
    /// Zeros where the kernel does not tell.
    #[must_use]
    pub fn read(&self) -> XdpStatistics {
        let Ok(raw) = read_option::<libc::xdp_statistics>(&self.0, libc::XDP_STATISTICS) else {
            return XdpStatistics::default();
        };
        XdpStatistics {
            dropped: raw.rx_dropped,
            ring_full: raw.rx_ring_full,
            fill_ring_empty: raw.rx_fill_ring_empty_descs,
            invalid: raw.rx_invalid_descs + raw.tx_invalid_descs,
        }
    }
}

/// A socket on one queue of an interface.
pub struct XdpSocket {
    // Dropped in this order: the socket is closed before its frames are unmapped.
    received: Ring<libc::xdp_desc>,
    fill: Ring<u64>,
    to_send: Ring<libc::xdp_desc>,
    completed: Ring<u64>,
    socket: Arc<OwnedFd>,
    frames: Mapping,
    chunk: usize,
    /// Addresses of frames to send in.
    free: Vec<u64>,
    zero_copy: bool,
}

impl fmt::Debug for XdpSocket {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("XdpSocket").field("socket", &self.socket).field("zero_copy", &self.zero_copy).finish()
    }
}

impl XdpSocket {
    /// Opens a socket on a queue of the interface with this index, with zero copy where its driver has that.
    ///
    /// Nothing arrives until a program steers frames to it.
    ///
    /// # Errors
    /// [`BpfError`] says what forbids it: no permission, no memory that may be locked, a queue that is in use or that
    /// does not exist, an interface that is down.
    pub fn open(interface: u32, queue: u32, options: XdpOptions) -> Result<Self, BpfError> {
        // SAFETY: socket takes no pointers.
        let made = own(unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) });
        let socket = Arc::new(made.map_err(|error| unopened(&error))?);
        let chunk = options.chunk();
        let [receive, transmit] =
            [options.receive, options.transmit].map(|count| count.clamp(FEWEST, MOST).next_power_of_two());
        let bytes = chunk * (receive + transmit) as usize;
        let frames = Mapping::anonymous(bytes).map_err(|error| unregistered(&error, bytes))?;
        register(&socket, &frames, chunk).map_err(|error| unregistered(&error, bytes))?;
        let mapped = |error: io::Error| unregistered(&error, bytes);
        for (kind, size) in [(RECEIVE, receive), (FILL, receive), (TRANSMIT, transmit), (COMPLETION, transmit)] {
            option::set(socket.as_fd(), libc::SOL_XDP, kind.option, size).map_err(mapped)?;
        }
        let offsets: libc::xdp_mmap_offsets = read_option(&socket, libc::XDP_MMAP_OFFSETS).map_err(mapped)?;
        let mut made = Self {
            received: Ring::map(&socket, RECEIVE, &offsets.rx, receive).map_err(mapped)?,
            fill: Ring::map(&socket, FILL, &offsets.fr, receive).map_err(mapped)?,
            to_send: Ring::map(&socket, TRANSMIT, &offsets.tx, transmit).map_err(mapped)?,
            completed: Ring::map(&socket, COMPLETION, &offsets.cr, transmit).map_err(mapped)?,
            socket,
            frames,
            chunk,
            free: (receive..receive + transmit).rev().map(|frame| u64::from(frame) * chunk as u64).collect(),
            zero_copy: false,
        };
        for frame in 0..receive {
            made.fill.push(u64::from(frame) * chunk as u64);
        }
        made.fill.publish();
        bind_patiently(&made.socket, interface, queue, options.copy).map_err(|error| unbound(&error, queue))?;
        let chosen = read_option::<libc::xdp_options>(&made.socket, libc::XDP_OPTIONS);
        made.zero_copy = chosen.is_ok_and(|options| options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0);
        Ok(made)
    }

    /// Whether the device reads and writes the frames itself; else the kernel copies them.
    #[must_use]
    pub fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// The longest frame that can be received, bytes: [`XdpOptions::room`].
    #[must_use]
    pub fn longest(&self) -> usize {
        self.chunk - HEADROOM
    }

    /// Waits until a frame has arrived, at most so long; whether one has. Errors: the call itself failed.
    pub fn wait(&self, wait: Duration) -> Result<bool, CallError> {
        call::poll(&self.socket, libc::POLLIN, wait)
    }

    /// Shows `take` up to `most` frames that have arrived, without a copy, each with the time that [`crate::XdpSteering`]
    /// put in front of it (CLOCK_MONOTONIC, ns; 0: none). Returns how many there were; it does not wait.
    #[inline]
    pub fn receive(&mut self, most: usize, mut take: impl FnMut(&[u8], u64)) -> usize {
        let mut count = 0;
        while count < most
            && let Some(arrival) = self.received.pop()
        {
            let start = arrival.addr as usize;
            let stamp = self.take_stamp(start);
            if let Some(at) = self.frames.at(start, arrival.len as usize) {
                // SAFETY: within the frames; the kernel has given this one away until it is in the fill ring again.
                take(unsafe { std::slice::from_raw_parts(at, arrival.len as usize) }, stamp);
            }
            // As many fit as there are frames to receive in.
            self.fill.push((start - start % self.chunk) as u64);
            count += 1;
        }
        if count > 0 {
            self.received.release();
            self.fill.publish();
        }
        if self.fill.needs_wakeup() {
            let (fd, none) = (self.socket.as_raw_fd(), ptr::null_mut());
            // SAFETY: nothing is received into no bytes at a null address.
            unsafe { libc::recvfrom(fd, none, 0, libc::MSG_DONTWAIT, ptr::null_mut(), ptr::null_mut()) };
        }
        count
    }

    /// The stamp in front of the frame at `start`, and none there afterwards: a frame without one must not show an old one.
    #[inline]
    fn take_stamp(&self, start: usize) -> u64 {
        let Some(at) = start.checked_sub(STAMP).and_then(|start| self.frames.at(start, STAMP)) else { return 0 };
        let at = at.cast::<u64>();
        // SAFETY: within the frames; it belongs to a frame that the kernel has given away, as in `receive`. Frames need
        // not be aligned.
        unsafe {
            let stamp = at.read_unaligned();
            at.write_unaligned(0);
            stamp
        }
    }

    /// Room for a frame to send; the same again until [`XdpSocket::commit`]. `None`: all frames are on their way out.
    #[inline]
    pub fn reserve(&mut self) -> Option<&mut [u8]> {
        if self.free.is_empty() {
            self.collect();
        }
        if !self.to_send.has_room() {
            return None;
        }
        let start = *self.free.last()? as usize;
        let at = self.frames.at(start, self.chunk)?;
        // SAFETY: within the frames; a free frame belongs to nobody else, and `self` is borrowed while it is written.
        Some(unsafe { std::slice::from_raw_parts_mut(at, self.chunk) })
    }

    /// Has the first `length` bytes of the reserved frame sent, at the next [`XdpSocket::kick`].
    #[inline]
    pub fn commit(&mut self, length: usize) {
        if let Some(addr) = self.free.pop() {
            let len = length.min(self.chunk) as u32;
            if !self.to_send.push(libc::xdp_desc { addr, len, options: 0 }) {
                self.free.push(addr);
            }
        }
    }

    /// Takes back the frames that have been sent.
    fn collect(&mut self) {
        while let Some(addr) = self.completed.pop() {
            self.free.push(addr);
        }
        self.completed.release();
    }

    /// Has all committed frames sent; returns how many the kernel has not taken yet, because its queue is full: try again.
    /// Errors: the kernel does not send (ENETDOWN, ENXIO: the interface is down or gone).
    pub fn kick(&mut self) -> Result<u32, CallError> {
        self.to_send.publish();
        let mut pending = self.to_send.pending();
        for _ in 0..=pending / SENT_A_CALL {
            if pending == 0 || !self.to_send.needs_wakeup() {
                break;
            }
            let (fd, none) = (self.socket.as_raw_fd(), ptr::null());
            // SAFETY: no bytes at a null address are sent to nobody: the call makes the kernel look at the ring.
            let sent = unsafe { libc::sendto(fd, none, 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
            let why = if sent < 0 { errno() } else { 0 };
            pending = self.to_send.pending();
            match why {
                // It took as many as it takes in one call.
                0 | libc::EAGAIN => {}
                libc::EBUSY | libc::ENOBUFS | libc::EINTR => break,
                errno => return Err(CallError { call: "sendto", errno }),
            }
        }
        Ok(pending)
    }

    /// What was lost.
    #[must_use]
    pub fn statistics(&self) -> XdpStatistics {
        self.statistics_reader().read()
    }

    /// The same for other threads.
    #[must_use]
    pub fn statistics_reader(&self) -> XdpStatisticsReader {
        XdpStatisticsReader(Arc::clone(&self.socket))
    }
}

impl AsFd for XdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for XdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn read_option<T>(socket: &OwnedFd, name: libc::c_int) -> io::Result<T> {
    // SAFETY: the kernel's structures of these options are integers only; all zeroes is a valid value.
    let mut value: T = unsafe { zeroed() };
    let mut length = size_of::<T>() as libc::socklen_t;
    let at = (&raw mut value).cast();
    // SAFETY: the kernel writes at most `length` bytes into `value`, which is that long.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_XDP, name, at, &raw mut length) })?;
    Ok(value)
}

/// Names the memory for frames; the kernel locks it.
fn register(socket: &OwnedFd, frames: &Mapping, chunk: usize) -> io::Result<()> {
    let Some(start) = frames.at(0, frames.len()) else { return Err(io::Error::from_raw_os_error(libc::EINVAL)) };
    // SAFETY: a structure of integers; all zeroes is a valid value.
    let mut region: libc::xdp_umem_reg = unsafe { zeroed() };
    region.addr = start as u64;
    region.len = frames.len() as u64;
    region.chunk_size = chunk as u32;
    option::set(socket.as_fd(), libc::SOL_XDP, libc::XDP_UMEM_REG, region)
}

/// Some time after a socket was closed its queue is still in use.
fn bind_patiently(socket: &OwnedFd, interface: u32, queue: u32, copy: bool) -> io::Result<()> {
    let mut bound = bind(socket, interface, queue, copy);
    for _ in 0..TRIES {
        match &bound {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => thread::sleep(PAUSE),
            _ => break,
        }
        bound = bind(socket, interface, queue, copy);
    }
    bound
}

fn bind(socket: &OwnedFd, interface: u32, queue: u32, copy: bool) -> io::Result<()> {
    let at = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as libc::sa_family_t,
        sxdp_flags: libc::XDP_USE_NEED_WAKEUP | if copy { libc::XDP_COPY } else { 0 },
        sxdp_ifindex: interface,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let length = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
    // SAFETY: pointer and length describe `at`.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const at).cast(), length) })
}

fn unopened(error: &io::Error) -> BpfError {
    match error.raw_os_error() {
        Some(libc::EPERM) => {
            BpfError::new(Obstacle::NotPermitted, "not permitted to open AF_XDP sockets: needs root, or CAP_NET_RAW")
        }
        Some(libc::EAFNOSUPPORT) => {
            BpfError::new(Obstacle::Unsupported, "this kernel has no AF_XDP sockets (CONFIG_XDP_SOCKETS)")
        }
        _ => BpfError::new(Obstacle::Failed, format!("no AF_XDP socket: {error}")),
    }
}

fn unregistered(error: &io::Error, bytes: usize) -> BpfError {
    let mib = bytes.div_ceil(1 << 20);
    let text = match error.raw_os_error() {
        Some(libc::ENOBUFS) => format!(
            "an AF_XDP socket needs {mib} MiB of locked memory, and RLIMIT_MEMLOCK allows less: raise it (ulimit -l), or \
             give CAP_IPC_LOCK"
        ),
        Some(libc::ENOMEM) => format!("no memory for an AF_XDP socket: it needs {mib} MiB"),
        _ => format!("no AF_XDP socket: {error}"),
    };
    BpfError::new(Obstacle::Failed, text)
}

fn unbound(error: &io::Error, queue: u32) -> BpfError {
    let text = match error.raw_os_error() {
        Some(libc::EBUSY) => format!("queue {queue} of the interface has an AF_XDP socket already"),
        Some(libc::EINVAL) => format!(
            "the interface has no queue {queue} for AF_XDP (ethtool -l), or its MTU is too large for it (ip link set mtu)"
        ),
        Some(libc::ENETDOWN) => "the interface is down".to_owned(),
        Some(libc::ENODEV) => "the interface is gone".to_owned(),
        _ => format!("AF_XDP on queue {queue}: {error}"),
    };
    BpfError::new(Obstacle::Failed, text)
}
