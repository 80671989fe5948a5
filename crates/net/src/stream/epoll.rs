//! `Streams` over epoll: where io_uring is not to be had. One descriptor a connection, two system calls a message.
//!
//! Method: edge-triggered. What the last wait told is worked off by `event`, one thing at a time; a connection that has
//! more to read, or found no buffer, stands in a line of its own behind it. A read that did not fill its buffer has
//! emptied the socket, unless the peer has ended: the next byte makes a new edge.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use crate::option;
use crate::socket::{self, check, own};
use crate::stream::blocks::{Blocks, Reserve};
use crate::stream::pool::Pool;
use crate::stream::tcp::{self, Listener};
use crate::stream::{CloseMode, CloseReason, Conn, Event, StreamStats, Streams, WriteError, WriteGuard};

mod flow;
mod slots;

use slots::{Slot, State};

/// What one wait can tell.
const EVENTS: usize = 256;
/// Receive buffers: those last used are used first, so few are ever touched.
const BUFFERS: usize = 64;
const BUFFER: usize = 16 << 10;
/// Accepts a turn, so that a flood of newcomers leaves time for those who are there.
const NEWCOMERS: u32 = 64;
/// Turns without accepts after one has failed because something ran out.
const PAUSE: u32 = 16;
/// The name of the listener among connections.
const DOOR: u64 = u64::MAX;
const EDGES: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
/// Either means that there is something to read, if only an error or the end.
const ENDS: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// How much of everything; tests take less.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Receive buffers.
    pub(crate) buffers: usize,
    /// How long each is.
    pub(crate) buffer: usize,
}

/// Whether the listener is listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptQueue {
    /// It is; so many may still come in at this turn.
    Watched(u32),
    /// Not for so many turns, or until a connection ends.
    Shut(u32),
}

/// Streams over epoll. One thread's own.
pub struct Epoll {
    epoll: OwnedFd,
    listener: Option<Listener>,
    door: AcceptQueue,
    slots: Vec<Slot>,
    free: Vec<u32>,
    capacity: usize,
    pool: Rc<Pool>,
    blocks: Blocks,
    /// What the last wait told, and how much of it is worked off.
    told: Vec<libc::epoll_event>,
    ready: usize,
    /// Places with something left to read.
    unread: VecDeque<u32>,
    /// Places with bytes to send.
    dirty: Vec<u32>,
    /// What was found out of turn.
    later: VecDeque<Event>,
    stats: StreamStats,
}

impl Epoll {
    /// Room for `capacity` connections, those included that `listener` lets in. Errors: no descriptor.
    pub fn new(capacity: usize, listener: Option<Listener>) -> io::Result<Self> {
        Self::sized(capacity, listener, Sizes { buffers: BUFFERS, buffer: BUFFER })
    }

    pub(crate) fn sized(capacity: usize, listener: Option<Listener>, sizes: Sizes) -> io::Result<Self> {
        // SAFETY: epoll_create1 takes no pointers.
        let epoll = own(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        if let Some(listener) = &listener {
            control(&epoll, libc::EPOLL_CTL_ADD, listener.fd(), libc::EPOLLIN as u32, DOOR)?;
        }
        Ok(Self {
            epoll,
            listener,
            door: AcceptQueue::Watched(0),
            slots: Vec::new(),
            free: Vec::new(),
            capacity: capacity.clamp(1, u32::MAX as usize >> 1),
            pool: Pool::for_list(sizes.buffer, sizes.buffers),
            blocks: Blocks::default(),
            told: Vec::with_capacity(EVENTS),
            ready: 0,
            unread: VecDeque::new(),
            dirty: Vec::new(),
            later: VecDeque::new(),
            stats: StreamStats::default(),
        })
    }

    fn conn(&self, place: u32) -> Conn {
        Conn { index: place, generation: self.slots.get(place as usize).map_or(0, |slot| slot.generation) }
    }

    fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= self.capacity
    }

    /// Gives a socket a place and hears it from now on.
    fn add(&mut self, fd: OwnedFd, state: State) -> io::Result<Conn> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.is_full() => return Err(io::Error::new(io::ErrorKind::StorageFull, "all places are taken")),
            None => {
                self.slots.push(Slot::free(0));
                self.slots.len() as u32 - 1
            }
        };
        let conn = self.conn(place);
        let name = u64::from(place) << 32 | u64::from(conn.generation);
        self.stats.calls += 1;
        if let Err(error) = control(&self.epoll, libc::EPOLL_CTL_ADD, fd.as_raw_fd(), EDGES, name) {
            self.free.push(place);
            return Err(error);
        }
        if let Some(slot) = self.slots.get_mut(place as usize) {
            (slot.fd, slot.state) = (Some(fd), state);
        }
        Ok(conn)
    }

    /// Listens to the listener again, or not for now: level-triggered it would be told of at every wait.
    fn watch_door(&mut self, door: AcceptQueue) {
        let Some(listener) = &self.listener else { return };
        let events = if matches!(door, AcceptQueue::Watched(_)) { libc::EPOLLIN as u32 } else { 0 };
        self.stats.calls += 1;
        // Failing here means that nobody is let in until the next try, which comes.
        self.door = match control(&self.epoll, libc::EPOLL_CTL_MOD, listener.fd(), events, DOOR) {
            Ok(()) => door,
            Err(_) => AcceptQueue::Shut(PAUSE),
        };
    }

    /// Somebody from the listener's queue, if anybody is there and may come in.
    fn accept(&mut self) -> Option<Event> {
        let fd = self.listener.as_ref()?.fd();
        while let AcceptQueue::Watched(left @ 1..) = self.door {
            if self.is_full() {
                self.watch_door(AcceptQueue::Shut(u32::MAX));
                return None;
            }
            self.door = AcceptQueue::Watched(left - 1);
            self.stats.calls += 1;
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            // SAFETY: null pointers mean that the peer's address is not wanted.
            let came = unsafe { libc::accept4(fd, std::ptr::null_mut(), std::ptr::null_mut(), flags) };
            match own(came).and_then(|fd| self.add(fd, State::Open)) {
                Ok(conn) => return Some(Event::Accepted(conn)),
                Err(error) => self.not_let_in(error.raw_os_error().unwrap_or(0)),
            }
        }
        None
    }

    fn not_let_in(&mut self, errno: i32) {
        if errno == libc::EAGAIN {
            self.door = AcceptQueue::Watched(0);
            return;
        }
        self.stats.accept_errors += 1;
        if tcp::exhausted(errno) {
            self.watch_door(AcceptQueue::Shut(PAUSE));
        }
    }

    /// One turn nearer to letting somebody in again.
    fn near_the_door(&mut self) {
        match self.door {
            AcceptQueue::Shut(0) => self.watch_door(AcceptQueue::Watched(0)),
            AcceptQueue::Shut(turns) if turns < u32::MAX => self.door = AcceptQueue::Shut(turns - 1),
            _ => {}
        }
    }

    fn wait(&mut self, wait: Duration) -> io::Result<()> {
        let timeout = libc::timespec { tv_sec: wait.as_secs() as libc::time_t, tv_nsec: wait.subsec_nanos().into() };
        self.told.clear();
        self.ready = 0;
        self.stats.calls += 1;
        let (events, room) = (self.told.as_mut_ptr(), self.told.capacity().min(EVENTS) as libc::c_int);
        // SAFETY: the kernel writes at most `room` events into the vector's own memory, and tells how many.
        let told =
            unsafe { libc::epoll_pwait2(self.epoll.as_raw_fd(), events, room, &raw const timeout, std::ptr::null()) };
        if told < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        // SAFETY: so many have been written.
        unsafe { self.told.set_len(told as usize) };
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

/// Tells epoll what to hear of a descriptor.
fn control(epoll: &OwnedFd, what: libc::c_int, fd: RawFd, events: u32, name: u64) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: name };
    // SAFETY: the kernel reads one epoll_event.
    check(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), what, fd, &raw mut event) })
}

impl Streams for Epoll {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn open(&mut self, source: Option<SocketAddr>, to: SocketAddr) -> io::Result<Conn> {
        if self.is_full() {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "all places are taken"));
        }
        let fd = tcp::stream(to.ip())?;
        self.stats.calls += if source.is_some() { 5 } else { 3 };
        let begun = begin(&fd, source, to).map_err(|error| error.raw_os_error().unwrap_or(0));
        let conn = self.add(fd, State::Opening)?;
        match begun {
            Ok(()) | Err(libc::EINPROGRESS) => {}
            // To fail at once is no other thing than to fail later.
            Err(errno) => {
                let event = self.over(conn.index, CloseReason::of(errno));
                self.later.extend(event);
            }
        }
        Ok(conn)
    }

    fn turn(&mut self, wait: Duration) -> io::Result<()> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for place in dirty.drain(..) {
            self.flush(place);
        }
        self.dirty = dirty;
        self.near_the_door();
        if self.ready < self.told.len() {
            return Ok(());
        }
        let readable = !self.unread.is_empty() && self.pool.available() > 0;
        let wait = if readable || !self.later.is_empty() { Duration::ZERO } else { wait };
        self.wait(wait)
    }

    fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.later.pop_front() {
                return Some(event);
            }
            if let Some(event) = self.accept() {
                return Some(event);
            }
            if let Some(told) = self.told.get_mut(self.ready) {
                let (name, events) = (told.u64, told.events);
                self.ready += 1;
                if name == DOOR {
                    if let AcceptQueue::Watched(_) = self.door {
                        self.door = AcceptQueue::Watched(NEWCOMERS);
                    }
                } else if let Some(event) = self.on_completion((name >> 32) as u32, name as u32, events) {
                    return Some(event);
                }
                continue;
            }
            let place = if self.pool.available() > 0 { self.unread.pop_front() } else { None }?;
            if let Some(event) = self.read_on(place) {
                return Some(event);
            }
        }
    }

    fn reserve(&mut self, conn: Conn, need: usize) -> Result<WriteGuard<'_>, WriteError> {
        if !self.is_open(conn) {
            return Err(WriteError::Closed);
        }
        let mut reserve = self.reserve(conn.index, need);
        if reserve == Reserve::MustLeave {
            self.write(conn.index);
            if !self.is_open(conn) {
                return Err(WriteError::Closed);
            }
            reserve = self.reserve(conn.index, need);
        }
        let slot = self.slots.get_mut(conn.index as usize).ok_or(WriteError::Closed)?;
        if reserve != Reserve::Ready {
            slot.wants = true;
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
            // Edges that came meanwhile were passed over.
            self.line_up(conn.index);
        }
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
        let told = self.told.capacity() * size_of::<libc::epoll_event>();
        slots + lists + told + self.pool.held() + self.blocks.held()
    }

    fn name(&self) -> &'static str {
        "epoll"
    }
}
