//! `Streams` over io_uring, with direct descriptors: the descriptor limit applies per ring, not per process.
//!
//! Method: a ring is created when all others are full. A connection is a slot of one ring's file table; `event` reads
//! completions one by one. Entries are submitted in `turn` only (and in `open` where the queue is full). Only rings
//! with something to submit or to collect, by their shared memory, are entered. Entries point to blocks, buffers,
//! statics, or addresses that stay until submission.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use crate::call::CallError;
use crate::stream::blocks::{Blocks, Reserve};
use crate::stream::tcp::Listener;
use crate::stream::{CloseMode, Conn, Event, StreamStats, Streams, WriteError, WriteGuard};

mod accept_queue;
mod close;
mod completion;
mod event_fd;
mod ring;
mod slots;

use accept_queue::AcceptQueue;
use ring::Ring;
pub(crate) use ring::works;
use slots::State;

/// Calls for one ring before its completions are processed.
const CALLS_A_TURN: usize = 8;

/// Sizes; tests use smaller ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Connections a ring: at most the soft limit on descriptors.
    pub(crate) per_ring: usize,
    /// Receive buffers of the first ring.
    pub(crate) buffers_first: usize,
    /// Receive buffers of each ring after it.
    pub(crate) buffers_more: usize,
    /// The size of a receive buffer.
    pub(crate) buffer: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { per_ring: 16_384, buffers_first: 1024, buffers_more: 256, buffer: 2048 }
    }
}

/// What all rings of one backend share.
#[derive(Default)]
pub(crate) struct Shared {
    blocks: Blocks,
    /// Slots with bytes to send.
    dirty: Vec<u32>,
    stats: StreamStats,
    accept_queue: AcceptQueue,
    /// No ring before this one has a free slot.
    first_room: usize,
}

/// Streams over io_uring. Used by the thread that created it.
pub struct Uring {
    rings: Vec<Ring>,
    shared: Shared,
    sizes: Sizes,
    capacity: usize,
    listener: Option<Listener>,
    /// Rings with completions to read.
    ready: VecDeque<u32>,
    /// Wakes the thread for any ring, once there are several.
    event_fd: Option<OwnedFd>,
    /// The ring that is entered next without a sign of work.
    round: usize,
}

impl Uring {
    /// Room for `capacity` connections, including those that `listener` accepts. Errors: no io_uring, no memory.
    pub fn new(capacity: usize, listener: Option<Listener>) -> io::Result<Self> {
        Self::sized(capacity, listener, Sizes::default())
    }

    pub(crate) fn sized(capacity: usize, listener: Option<Listener>, mut sizes: Sizes) -> io::Result<Self> {
        let capacity = capacity.clamp(1, u32::MAX as usize >> 1);
        sizes.per_ring = sizes.per_ring.clamp(1, capacity.min(slots::MOST));
        let first = loop {
            match Ring::new(0, sizes.per_ring, sizes.per_ring, sizes.buffers_first, sizes.buffer) {
                Ok(ring) => break ring,
                // A file table cannot be longer than the limit on descriptors.
                Err(error) if error.raw_os_error() == Some(libc::EMFILE) && sizes.per_ring > 16 => sizes.per_ring /= 2,
                Err(error) => return Err(CallError::name("io_uring_register", error)),
            }
        };
        let shared = Shared { accept_queue: AcceptQueue::new(capacity), ..Shared::default() };
        let (rings, ready) = (vec![first], VecDeque::new());
        Ok(Self { rings, shared, sizes, capacity, listener, ready, event_fd: None, round: 0 })
    }

    fn locate(&mut self, conn_index: u32) -> Option<(&mut Ring, u32, &mut Shared)> {
        let per_ring = self.sizes.per_ring as u32;
        let ring = self.rings.get_mut((conn_index / per_ring) as usize)?;
        Some((ring, conn_index % per_ring, &mut self.shared))
    }

    /// The first ring with a free slot; created where all others are full and one more is allowed.
    fn ring_with_room(&mut self) -> io::Result<Option<&mut Ring>> {
        while self.rings.get(self.shared.first_room).is_some_and(Ring::is_full) {
            self.shared.first_room += 1;
        }
        if self.shared.first_room == self.rings.len() && !self.add_ring()? {
            return Ok(None);
        }
        Ok(self.rings.get_mut(self.shared.first_room))
    }

    /// Queues all entries of this turn.
    fn gather(&mut self) -> io::Result<()> {
        let mut dirty = std::mem::take(&mut self.shared.dirty);
        for conn_index in dirty.drain(..) {
            if let Some((ring, index, shared)) = self.locate(conn_index) {
                ring.flush(index, shared);
            }
        }
        self.shared.dirty = dirty;
        self.queue_accepts();
        let shared = &mut self.shared;
        self.rings.iter_mut().try_for_each(|ring| {
            ring.rearm();
            ring.catch_up(shared)
        })
    }

    /// Lists the rings that have completions.
    fn collect(&mut self) {
        for (number, ring) in self.rings.iter_mut().enumerate() {
            if !ring.listed && ring.has_completions() {
                ring.listed = true;
                self.ready.push_back(number as u32);
            }
        }
    }

    fn enter_busy_rings(&mut self) -> io::Result<()> {
        for ring in &mut self.rings {
            // One call brings some 20 completions at most: fewer than what may be sent in a turn.
            for _ in 0..CALLS_A_TURN {
                if !ring.has_work() {
                    break;
                }
                ring.enter(None, &mut self.shared.stats)?;
            }
        }
        self.collect();
        Ok(())
    }

    /// Sleeps until any ring has completions.
    fn sleep(&mut self, wait: Duration) -> io::Result<()> {
        let Some(fd) = &self.event_fd else { return Ok(()) };
        self.rings.iter_mut().for_each(|ring| ring.enable_event_fd(true));
        // Completions posted before the eventfd was enabled must be visible now.
        fence(Ordering::SeqCst);
        let mut waited = Ok(0);
        if !self.rings.iter_mut().any(|ring| ring.has_work() || ring.has_completions()) {
            waited = event_fd::wait(fd, wait);
        }
        self.shared.stats.calls += *waited.as_ref().unwrap_or(&1);
        self.rings.iter_mut().for_each(|ring| ring.enable_event_fd(false));
        // The kernel may defer work without a sign of it (6.13 on): each ring is entered in turn.
        self.round = (self.round + 1) % self.rings.len().max(1);
        if let Some(ring) = self.rings.get_mut(self.round) {
            ring.expect_more();
        }
        self.enter_busy_rings()?;
        waited.map(drop)
    }
}

impl Streams for Uring {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn open(&mut self, source: Option<SocketAddr>, to: SocketAddr) -> io::Result<Conn> {
        let Some(ring) = self.ring_with_room()? else {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "all slots are in use"));
        };
        let number = ring.number;
        let ring = self.rings.get_mut(number).ok_or(io::ErrorKind::NotFound)?;
        ring.open(source, to, &mut self.shared.stats)
    }

    fn turn(&mut self, wait: Duration) -> io::Result<()> {
        self.gather()?;
        self.collect();
        let wait = if self.ready.is_empty() { wait } else { Duration::ZERO };
        match self.rings.as_mut_slice() {
            [only] if !wait.is_zero() => {
                only.enter(Some(wait), &mut self.shared.stats)?;
                self.collect();
                Ok(())
            }
            _ => {
                self.enter_busy_rings()?;
                if self.ready.is_empty() && !wait.is_zero() { self.sleep(wait) } else { Ok(()) }
            }
        }
    }

    fn event(&mut self) -> Option<Event> {
        while let Some(&number) = self.ready.front() {
            let ring = self.rings.get_mut(number as usize)?;
            while let Some(completion) = ring.next() {
                if let Some(event) = ring.on_completion(&completion, &mut self.shared) {
                    return Some(event);
                }
            }
            ring.listed = false;
            self.ready.pop_front();
        }
        None
    }

    fn reserve(&mut self, conn: Conn, need: usize) -> Result<WriteGuard<'_>, WriteError> {
        let (ring, index, shared) = self.locate(conn.index).ok_or(WriteError::Closed)?;
        let slot = ring.slots.get_mut(index as usize).ok_or(WriteError::Closed)?;
        if slot.generation != conn.generation || slot.state != State::Open || slot.send_failed {
            return Err(WriteError::Closed);
        }
        let mut reserve = slot.out.reserve(&mut shared.blocks, need);
        if reserve == Reserve::MustSubmit {
            ring.submit_send(index, shared);
            reserve = match ring.slots.get_mut(index as usize) {
                Some(slot) => slot.out.reserve(&mut shared.blocks, need),
                None => Reserve::Full,
            };
        }
        let slot = ring.slots.get_mut(index as usize).ok_or(WriteError::Closed)?;
        if reserve != Reserve::Ready {
            slot.wants_writable = true;
            return Err(WriteError::Full);
        }
        if !slot.dirty {
            slot.dirty = true;
            shared.dirty.push(conn.index);
        }
        let (room, length) = slot.out.room(&mut shared.blocks);
        Ok(WriteGuard::new(room, length))
    }

    fn pause(&mut self, conn: Conn) {
        if let Some((ring, index, _)) = self.locate(conn.index) {
            ring.pause(index, conn.generation);
        }
    }

    fn resume(&mut self, conn: Conn) {
        if let Some((ring, index, _)) = self.locate(conn.index) {
            ring.resume(index, conn.generation);
        }
    }

    fn is_sending(&self, conn: Conn) -> bool {
        let per_ring = self.sizes.per_ring as u32;
        let ring = self.rings.get((conn.index / per_ring) as usize);
        let slot = ring.and_then(|ring| ring.slots.get((conn.index % per_ring) as usize));
        slot.is_some_and(|slot| slot.is(conn.generation, State::Open) && !slot.out.is_empty())
    }

    fn close(&mut self, conn: Conn, how: CloseMode) {
        if let Some((ring, index, shared)) = self.locate(conn.index) {
            ring.close(index, conn.generation, how, shared);
        }
    }

    fn stats(&self) -> StreamStats {
        self.shared.stats
    }

    fn bytes(&self) -> usize {
        let lists = (self.shared.dirty.capacity() + self.ready.capacity()) * size_of::<u32>();
        self.rings.iter().map(Ring::held).sum::<usize>() + self.shared.blocks.held() + lists
    }

    fn name(&self) -> &'static str {
        "io_uring"
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        let mut clean = true;
        for ring in &mut self.rings {
            clean &= ring.shut(&mut self.shared);
        }
        if !clean {
            // The kernel may still read a block: leak the memory rather than reuse it.
            std::mem::forget(std::mem::take(&mut self.shared.blocks));
        }
    }
}
