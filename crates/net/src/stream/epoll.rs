//! `Streams` over epoll, the fallback without io_uring: one descriptor a connection, two system calls a message.
//!
//! Method: edge-triggered. `event` processes the events of the last wait one by one; a connection with more to read, or
//! without a buffer, is queued behind them. A read that did not fill its buffer has emptied the socket, unless the peer
//! has closed: the next byte makes a new edge.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use crate::call;
use crate::option;
use crate::socket::{self, check, own};
use crate::stream::blocks::{Blocks, Reserve};
use crate::stream::pool::Pool;
use crate::stream::tcp::{self, Listener};
use crate::stream::{CloseMode, CloseReason, Conn, Event, StreamStats, Streams, WriteError, WriteGuard};

mod flow;
mod slots;

use slots::{Slot, State};

/// Events of one wait.
const EVENTS: usize = 256;
/// Receive buffers, reused last in, first out, so that few are touched.
const BUFFERS: usize = 64;
const BUFFER: usize = 16 << 10;
/// Accepts a turn, so that a burst of connections does not delay the others.
const ACCEPTS_A_TURN: u32 = 64;
/// Turns without accepts after one has failed for lack of resources.
const PAUSE: u32 = 16;
/// The listener's epoll token.
const LISTENER: u64 = u64::MAX;
const EDGES: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
/// Each means that a read has a result, if only an error or the end.
const ENDS: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// Sizes; tests use smaller ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Receive buffers.
    pub(crate) buffers: usize,
    /// How long each is.
    pub(crate) buffer: usize,
}

/// Whether the listener is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    /// It is; so many may still be accepted at this turn.
    Polled(u32),
    /// Not for so many turns, or until a connection is closed.
    Paused(u32),
}

/// Streams over epoll. Used by one thread.
pub struct Epoll {
    epoll: OwnedFd,
    listener: Option<Listener>,
    accepting: Accepting,
    slots: Vec<Slot>,
    free: Vec<u32>,
    capacity: usize,
    pool: Rc<Pool>,
    blocks: Blocks,
    /// The events of the last wait, and how many are processed.
    events: Vec<libc::epoll_event>,
    processed: usize,
    /// Slots with more to read.
    unread: VecDeque<u32>,
    /// Slots with bytes to send.
    dirty: Vec<u32>,
    /// Events that occurred outside `event`. The slots of closed connections among them are not free yet.
    deferred: VecDeque<Event>,
    stats: StreamStats,
}

impl Epoll {
    /// Room for `capacity` connections, including those that `listener` accepts. Errors: no descriptor, a call that
    /// connections need is refused.
    pub fn new(capacity: usize, listener: Option<Listener>) -> io::Result<Self> {
        Self::sized(capacity, listener, Sizes { buffers: BUFFERS, buffer: BUFFER })
    }

    pub(crate) fn sized(capacity: usize, listener: Option<Listener>, sizes: Sizes) -> io::Result<Self> {
        call::check_streaming(listener.is_some())?;
        // SAFETY: epoll_create1 takes no pointers.
        let epoll = own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        if let Some(listener) = &listener {
            control(&epoll, libc::EPOLL_CTL_ADD, listener.fd(), libc::EPOLLIN as u32, LISTENER)?;
        }
        Ok(Self {
            epoll,
            listener,
            accepting: Accepting::Polled(0),
            slots: Vec::new(),
            free: Vec::new(),
            capacity: capacity.clamp(1, u32::MAX as usize >> 1),
            pool: Pool::for_list(sizes.buffer, sizes.buffers),
            blocks: Blocks::default(),
            events: Vec::with_capacity(EVENTS),
            processed: 0,
            unread: VecDeque::new(),
            dirty: Vec::new(),
            deferred: VecDeque::new(),
            stats: StreamStats::default(),
        })
    }

    fn conn(&self, index: u32) -> Conn {
        Conn { index, generation: self.slots.get(index as usize).map_or(0, |slot| slot.generation) }
    }

    fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= self.capacity
    }

    /// Assigns a slot to a socket and registers it.
    fn add(&mut self, fd: OwnedFd, state: State) -> io::Result<Conn> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.is_full() => return Err(io::Error::new(io::ErrorKind::StorageFull, "all slots are in use")),
            None => {
                self.slots.push(Slot::free(0));
                self.slots.len() as u32 - 1
            }
        };
        let conn = self.conn(index);
        let token = u64::from(index) << 32 | u64::from(conn.generation);
        self.stats.calls += 1;
        if let Err(error) = control(&self.epoll, libc::EPOLL_CTL_ADD, fd.as_raw_fd(), EDGES, token) {
            self.free.push(index);
            return Err(error);
        }
        if let Some(slot) = self.slots.get_mut(index as usize) {
            (slot.fd, slot.state) = (Some(fd), state);
        }
        Ok(conn)
    }

    /// Polls the listener again, or pauses it: it is level-triggered and would be reported at every wait.
    fn poll_listener(&mut self, accepting: Accepting) {
        let Some(listener) = &self.listener else { return };
        let events = if matches!(accepting, Accepting::Polled(_)) { libc::EPOLLIN as u32 } else { 0 };
        self.stats.calls += 1;
        // After a failure nothing is accepted until the next try.
        self.accepting = match control(&self.epoll, libc::EPOLL_CTL_MOD, listener.fd(), events, LISTENER) {
            Ok(()) => accepting,
            Err(_) => Accepting::Paused(PAUSE),
        };
    }

    /// Accepts one connection, if there is one and a free slot.
    fn accept(&mut self) -> Option<Event> {
        let fd = self.listener.as_ref()?.fd();
        while let Accepting::Polled(remaining @ 1..) = self.accepting {
            if self.is_full() {
                self.poll_listener(Accepting::Paused(u32::MAX));
                return None;
            }
            self.accepting = Accepting::Polled(remaining - 1);
            self.stats.calls += 1;
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            // SAFETY: null pointers mean that the peer's address is not wanted.
            let accepted = unsafe { libc::accept4(fd, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
            match own(accepted).and_then(|fd| self.add(fd, State::Open)) {
                Ok(conn) => return Some(Event::Accepted(conn)),
                Err(error) => self.accept_failed(error.raw_os_error().unwrap_or(0)),
            }
        }
        None
    }

    fn accept_failed(&mut self, errno: i32) {
        if errno == libc::EAGAIN {
            self.accepting = Accepting::Polled(0);
            return;
        }
        self.stats.accept_errors += 1;
        if tcp::exhausted(errno) {
            self.poll_listener(Accepting::Paused(PAUSE));
        }
    }

    /// Counts a pause of the listener down.
    fn count_pause(&mut self) {
        match self.accepting {
            Accepting::Paused(0) => self.poll_listener(Accepting::Polled(0)),
            Accepting::Paused(turns) if turns < u32::MAX => self.accepting = Accepting::Paused(turns - 1),
            _ => {}
        }
    }

    fn wait(&mut self, wait: Duration) -> io::Result<()> {
        self.events.clear();
        self.processed = 0;
        self.stats.calls += 1;
        let (events, room) = (self.events.as_mut_ptr(), self.events.capacity().min(EVENTS) as libc::c_int);
        // SAFETY: the vector's own memory has room for as many.
        let count = unsafe { call::wait(&self.epoll, events, room, wait) }?;
        // SAFETY: the kernel has written so many.
        unsafe { self.events.set_len(count) };
        Ok(())
    }
}

/// Sets up a socket and begins to connect it.
fn begin(fd: &OwnedFd, source: Option<SocketAddr>, to: SocketAddr) -> io::Result<()> {
    option::no_delay(fd.as_fd())?;
    if let Some(source) = source {
        option::late_port(fd.as_fd())?;
        socket::bind(fd, source)?;
    }
    socket::connect(fd, to)
}

/// Sets which events of a descriptor epoll reports.
fn control(epoll: &OwnedFd, what: libc::c_int, fd: RawFd, events: u32, token: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: token };
    // SAFETY: the kernel reads one epoll_event.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), what, fd, &raw mut event) })
}

impl Streams for Epoll {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn open(&mut self, source: Option<SocketAddr>, to: SocketAddr) -> io::Result<Conn> {
        if self.is_full() {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "all slots are in use"));
        }
        let fd = tcp::stream(to.ip())?;
        self.stats.calls += if source.is_some() { 5 } else { 3 };
        let begun = begin(&fd, source, to).map_err(|error| error.raw_os_error().unwrap_or(0));
        let conn = self.add(fd, State::Opening)?;
        match begun {
            Ok(()) | Err(libc::EINPROGRESS) => {}
            // An immediate failure is reported like a later one.
            Err(errno) => {
                self.over_later(conn.index, CloseReason::of(errno));
            }
        }
        Ok(conn)
    }

    fn turn(&mut self, wait: Duration) -> io::Result<()> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            self.flush(index);
        }
        self.dirty = dirty;
        self.count_pause();
        if self.processed < self.events.len() {
            return Ok(());
        }
        let readable = !self.unread.is_empty() && self.pool.available() > 0;
        let wait = if readable || !self.deferred.is_empty() { Duration::ZERO } else { wait };
        self.wait(wait)
    }

    fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.deferred.pop_front() {
                if let Event::Closed(conn, _) = event {
                    self.free.push(conn.index);
                }
                return Some(event);
            }
            if let Some(event) = self.accept() {
                return Some(event);
            }
            if let Some(event) = self.events.get_mut(self.processed) {
                let (token, events) = (event.u64, event.events);
                self.processed += 1;
                if token == LISTENER {
                    if let Accepting::Polled(_) = self.accepting {
                        self.accepting = Accepting::Polled(ACCEPTS_A_TURN);
                    }
                } else if let Some(event) = self.on_event((token >> 32) as u32, token as u32, events) {
                    return Some(event);
                }
                continue;
            }
            let index = if self.pool.available() > 0 { self.unread.pop_front() } else { None }?;
            if let Some(event) = self.read_on(index) {
                return Some(event);
            }
        }
    }

    fn reserve(&mut self, conn: Conn, need: usize) -> Result<WriteGuard<'_>, WriteError> {
        if !self.is_open(conn) {
            return Err(WriteError::Closed);
        }
        let mut reserve = self.reserve(conn.index, need);
        if reserve == Reserve::MustSubmit {
            self.write(conn.index);
            if !self.is_open(conn) {
                return Err(WriteError::Closed);
            }
            reserve = self.reserve(conn.index, need);
        }
        let slot = self.slots.get_mut(conn.index as usize).ok_or(WriteError::Closed)?;
        if reserve != Reserve::Ready {
            slot.wants_writable = true;
            return Err(WriteError::Full);
        }
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(conn.index);
        }
        let (room, length) = slot.out.room(&mut self.blocks);
        Ok(WriteGuard::new(room, length))
    }

    fn pause(&mut self, conn: Conn) {
        if let Some(slot) = self.slots.get_mut(conn.index as usize)
            && slot.is(conn.generation, State::Open)
        {
            slot.paused = true;
        }
    }

    fn resume(&mut self, conn: Conn) {
        if let Some(slot) = self.slots.get_mut(conn.index as usize)
            && slot.is(conn.generation, State::Open)
            && std::mem::take(&mut slot.paused)
        {
            // Edges during the pause were skipped.
            self.queue_read(conn.index);
        }
    }

    fn is_sending(&self, conn: Conn) -> bool {
        let slot = self.slots.get(conn.index as usize);
        slot.is_some_and(|slot| slot.is(conn.generation, State::Open) && !slot.out.is_empty())
    }

    fn close(&mut self, conn: Conn, how: CloseMode) {
        self.end(conn.index, conn.generation, how);
    }

    fn stats(&self) -> StreamStats {
        self.stats
    }

    fn bytes(&self) -> usize {
        let slots = self.slots.capacity() * size_of::<Slot>();
        let lists = (self.free.capacity() + self.unread.capacity() + self.dirty.capacity()) * size_of::<u32>();
        let events = self.events.capacity() * size_of::<libc::epoll_event>();
        slots + lists + events + self.pool.held() + self.blocks.held()
    }

    fn name(&self) -> &'static str {
        "epoll"
    }
}
