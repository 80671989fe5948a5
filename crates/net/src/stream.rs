//! The trait `Streams`: byte streams over many connections, by io_uring or epoll.
//!
//! Laws: a [`Conn`] identifies one connection for ever, so that nothing meant for an old one reaches a new one in the
//! same slot; a [`RecvBuf`] returns to its pool on drop; what is to be sent is appended to the connection's own block
//! and is submitted at the next [`Streams::turn`], the only call that flushes or sleeps.

pub(crate) mod blocks;
pub(crate) mod epoll;
pub(crate) mod pool;
pub(crate) mod tcp;
pub(crate) mod uring;

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use crate::stream::pool::PoolBuf;

/// The id of one connection. The id of a closed one is never valid again, even when its slot is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conn {
    /// Its slot, dense from 0: the engine's arrays are indexed by it.
    pub index: u32,
    /// Counts the connections that have used this slot.
    pub generation: u32,
}

/// What has happened on a connection.
#[derive(Debug)]
pub enum Event {
    /// An outgoing connection is established.
    Opened(Conn),
    /// An incoming connection is established.
    Accepted(Conn),
    /// Bytes were received.
    Received(Conn, RecvBuf),
    /// There is room again after [`WriteError::Full`].
    Writable(Conn),
    /// It is closed, or was never established. The id is no longer valid.
    Closed(Conn, CloseReason),
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer has closed its side in order (FIN).
    Ended,
    /// The peer has reset it (RST).
    Reset,
    /// No listener at that address (ECONNREFUSED).
    Refused,
    /// The kernel gave up (ETIMEDOUT).
    TimedOut,
    /// Anything else (errno).
    Failed(i32),
}

impl CloseReason {
    /// Whether this host is the cause: no port, descriptor, memory or permission for the connection.
    #[must_use]
    pub fn is_local(self) -> bool {
        const WANTING: [i32; 7] =
            [libc::EADDRNOTAVAIL, libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EACCES, libc::EPERM];
        matches!(self, Self::Failed(errno) if WANTING.contains(&errno))
    }

    /// The reason for an errno of a socket; 0: an orderly end.
    #[must_use]
    pub fn of(errno: i32) -> Self {
        match errno {
            0 => Self::Ended,
            libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED => Self::Reset,
            libc::ECONNREFUSED => Self::Refused,
            libc::ETIMEDOUT => Self::TimedOut,
            errno => Self::Failed(errno),
        }
    }
}

/// Why bytes cannot be accepted for sending now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The connection is closed, or being closed.
    Closed,
    /// The send block is full: try again after [`Event::Writable`].
    Full,
}

/// How to close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseMode {
    /// In order: pending bytes are sent first, then FIN.
    Flush,
    /// At once, with a reset; no TIME_WAIT.
    Reset,
}

/// Received bytes in a buffer that returns to its pool on drop.
#[derive(Debug)]
pub struct RecvBuf(pub(crate) PoolBuf);

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl RecvBuf {
    /// A buffer outside any pool: for fakes in tests.
    #[must_use]
    pub fn owned(bytes: Vec<u8>) -> Self {
        Self(PoolBuf::owned(bytes))
    }
}

/// Reserved room at the end of a connection's send block. Dropped without [`WriteGuard::commit`], it sends nothing.
#[derive(Debug)]
pub struct WriteGuard<'a> {
    room: &'a mut [u8],
    length: &'a mut u32,
}

impl<'a> WriteGuard<'a> {
    /// A slip over `room`; committing adds to `length`.
    pub fn new(room: &'a mut [u8], length: &'a mut u32) -> Self {
        Self { room, length }
    }

    /// Where to write: at least as long as was needed.
    pub fn room(&mut self) -> &mut [u8] {
        self.room
    }

    /// The first `count` bytes of the room are to be sent.
    pub fn commit(self, count: usize) {
        *self.length += count.min(self.room.len()) as u32;
    }
}

/// Counters of a backend; cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// System calls.
    pub calls: u64,
    /// Receives that had to wait for a free buffer.
    pub starved: u64,
    /// Failed accepts (no descriptor, no memory, connection already closed).
    pub accept_errors: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes passed to the kernel.
    pub bytes_out: u64,
}

/// Carries byte streams over many connections. Nothing here blocks but [`Streams::turn`]. Used by one thread.
pub trait Streams {
    /// The maximum of connections at once: every [`Conn::index`] is below it.
    fn capacity(&self) -> usize;
    /// Starts to connect to `to`, from `source` with a port of the kernel's choice; [`Event::Opened`] or
    /// [`Event::Closed`] follows. Errors: `StorageFull` where all slots are in use, also by connections that are still
    /// closing; or no descriptor.
    fn open(&mut self, source: Option<SocketAddr>, to: SocketAddr) -> io::Result<Conn>;
    /// Submits all pending sends and collects completions, waiting up to `wait` where there are none yet.
    fn turn(&mut self, wait: Duration) -> io::Result<()>;
    /// The next event; never waits.
    fn event(&mut self) -> Option<Event>;
    /// Reserves room for at least `need` bytes (up to 64 KiB and a prefix) behind the connection's pending bytes.
    ///
    /// Many small messages share one block and one call.
    fn reserve(&mut self, conn: Conn, need: usize) -> Result<WriteGuard<'_>, WriteError>;
    /// Stops receiving on it until [`Streams::resume`]; bytes already received are still reported. The peer's FIN is
    /// reported only after that, too.
    fn pause(&mut self, conn: Conn);
    /// Resumes receiving.
    fn resume(&mut self, conn: Conn);
    /// Whether bytes of it wait here to leave.
    fn is_sending(&self, conn: Conn) -> bool;
    /// Closes it; the id is no longer valid and no event follows.
    fn close(&mut self, conn: Conn, how: CloseMode);
    /// The backend's counters.
    fn stats(&self) -> StreamStats;
    /// Memory held for connections and buffers, in bytes.
    fn bytes(&self) -> usize;
    /// The backend's name: "io_uring", "epoll".
    fn name(&self) -> &'static str;
}
