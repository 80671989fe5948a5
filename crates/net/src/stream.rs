//! The face of anything that carries byte streams over many connections: io_uring and epoll here, fakes in tests.
//!
//! Laws: a [`Conn`] names one connection for ever, so that nothing meant for an old one reaches a new one in its place;
//! what is received is lent and comes back when it is dropped; what is to be sent is appended to the connection's own
//! block and leaves at the next [`Streams::turn`], the only place that flushes or sleeps.

pub(crate) mod blocks;
pub(crate) mod epoll;
pub(crate) mod memory;
pub(crate) mod pool;
pub(crate) mod tcp;
pub(crate) mod uring;

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use crate::stream::pool::Loan;

/// One connection. The name of one that has ended means nothing any more, whatever takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conn {
    /// Its place among all connections at once, from 0, densely: the engine's arrays are indexed by it.
    pub index: u32,
    /// Which of the connections that have been at this place.
    pub generation: u32,
}

/// What has happened on a connection.
#[derive(Debug)]
pub enum Event {
    /// An opened connection stands.
    Opened(Conn),
    /// Somebody has connected to us.
    Accepted(Conn),
    /// Bytes have come.
    Received(Conn, RecvBuf),
    /// There is room again after [`WriteError::Full`].
    Writable(Conn),
    /// It is over, or never stood. The name is dead.
    Closed(Conn, CloseReason),
}

/// Why a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The far end has said that it sends no more.
    Ended,
    /// The far end has cut it off.
    Reset,
    /// Nobody listens there.
    Refused,
    /// The network gave up (ETIMEDOUT).
    TimedOut,
    /// Anything else (errno).
    Failed(i32),
}

impl CloseReason {
    /// Whether it is this host that had no port, descriptor, memory or permission for the connection.
    #[must_use]
    pub fn is_local(self) -> bool {
        const WANTING: [i32; 7] =
            [libc::EADDRNOTAVAIL, libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EACCES, libc::EPERM];
        matches!(self, Self::Failed(errno) if WANTING.contains(&errno))
    }

    /// What an errno of a socket means.
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

/// Why nothing can be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The connection is over, or being closed.
    Closed,
    /// What waits to leave fills its block: [`Event::Writable`] tells when to try again.
    Full,
}

/// How to end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseMode {
    /// What has been appended still leaves, then it ends (FIN).
    Flush,
    /// At once, with a reset: leaves no TIME_WAIT behind.
    Reset,
}

/// Bytes received, borrowed from a pool that they return to when dropped.
#[derive(Debug)]
pub struct RecvBuf(pub(crate) Loan);

impl Deref for RecvBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl RecvBuf {
    /// Bytes of one's own in the same form: for fakes.
    #[must_use]
    pub fn owned(bytes: Vec<u8>) -> Self {
        Self(Loan::owned(bytes))
    }
}

/// Room at the end of what a connection is about to send. Dropped without [`WriteGuard::commit`], it sends nothing.
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

/// What the carrying itself has cost and met; cumulative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// System calls.
    pub calls: u64,
    /// Receives that found no free buffer and had to wait for one.
    pub starved: u64,
    /// Accepts that failed (no descriptor, no memory, already gone); serving goes on.
    pub accept_errors: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes handed to the kernel.
    pub bytes_out: u64,
}

/// Carries byte streams over many connections. Nothing here blocks but [`Streams::turn`]. One thread's own.
pub trait Streams {
    /// How many connections there may be at once: every [`Conn::index`] is below it.
    fn capacity(&self) -> usize;
    /// Begins to connect to `to`, from `source` with a port of the kernel's choice; [`Event::Opened`] or
    /// [`Event::Closed`] follows. Errors: `StorageFull` where all places are taken, if only by connections whose end is
    /// still under way; or no descriptor.
    fn open(&mut self, source: Option<SocketAddr>, to: SocketAddr) -> io::Result<Conn>;
    /// Sends all that was appended and takes in what has happened, waiting up to `wait` where nothing has yet.
    fn turn(&mut self, wait: Duration) -> io::Result<()>;
    /// The next thing that has happened; never waits.
    fn event(&mut self) -> Option<Event>;
    /// Room for at least `need` bytes (up to 64 KiB and a prefix) behind what the connection is about to send.
    ///
    /// Many small messages are appended to one block and leave in one call.
    fn reserve(&mut self, conn: Conn, need: usize) -> Result<WriteGuard<'_>, WriteError>;
    /// Receives nothing more on it until [`Streams::resume`]; what was already taken in still comes. That the far end
    /// has said its last word is told only after that, too.
    fn pause(&mut self, conn: Conn);
    /// Receives again.
    fn resume(&mut self, conn: Conn);
    /// Ends it; the name is dead at once and no event follows.
    fn close(&mut self, conn: Conn, how: CloseMode);
    /// What the carrying has cost.
    fn stats(&self) -> StreamStats;
    /// Memory held for connections and buffers, in bytes.
    fn bytes(&self) -> usize;
    /// The word for how it is done: "io_uring", "epoll".
    fn name(&self) -> &'static str;
}
