//! `Streams` over io_uring: direct descriptors, so the limit on open descriptors holds per ring and not per process.
//!
//! Method: rings are made when those before them are full. A connection is a slot of one ring's file table; what has
//! happened comes as completions, which `event` reads one by one. Nothing is submitted but in `turn` (and in `open`
//! where the queue is full). Rings are looked at through what the kernel shares with us; only those with something to
//! submit or to collect are entered. The kernel is given no address but that of a block, a buffer, a static, or one that
//! stays until it is submitted.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

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

/// At most so many calls for one ring before its completions are looked at.
const CALLS_A_TURN: usize = 8;

/// How much of everything; tests take less.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Connections a ring: the kernel wants no more than the soft limit on descriptors.
    pub(crate) per_ring: usize,
    /// Receive buffers of the first ring.
    pub(crate) buffers_first: usize,
    /// Receive buffers of each ring after it.
    pub(crate) buffers_more: usize,
    /// How long a receive buffer is.
    pub(crate) buffer: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { per_ring: 16_384, buffers_first: 1024, buffers_more: 256, buffer: 2048 }
    }
}

/// What all rings of one carrier share.
#[derive(Default)]
pub(crate) struct Shared {
    blocks: Blocks,
    /// Places with bytes to send.
    dirty: Vec<u32>,
    stats: StreamStats,
    door: AcceptQueue,
    /// No ring before this one has a free slot.
    first_room: usize,
}

/// Streams over io_uring. One thread's own, which must have made it.
pub struct Uring {
    rings: Vec<Ring>,
    shared: Shared,
    sizes: Sizes,
    capacity: usize,
    listener: Option<Listener>,
    /// Rings with completions to read.
    ready: VecDeque<u32>,
    /// Wakes us for any ring, once there are several.
    bell: Option<OwnedFd>,
    /// Which ring is entered next only to make sure.
    round: usize,
}

impl Uring {
    /// Room for `capacity` connections, those included that `listener` lets in. Errors: no io_uring, no memory.
    pub fn new(capacity: usize, listener: Option<Listener>) -> io::Result<Self> {
        Self::sized(capacity, listener, Sizes::default())
    }

    pub(crate) fn sized(capacity: usize, listener: Option<Listener>, mut sizes: Sizes) -> io::Result<Self> {
        let capacity = capacity.clamp(1, u32::MAX as usize >> 1);
        sizes.per_ring = sizes.per_ring.clamp(1, capacity.min(slots::MOST));
        let first = loop {
            match Ring::new(0, sizes.per_ring, sizes.per_ring, sizes.buffers_first, sizes.buffer) {
                Ok(ring) => break ring,
                // Registering takes no table longer than the limit on descriptors.
                Err(error) if error.raw_os_error() == Some(libc::EMFILE) && sizes.per_ring > 16 => sizes.per_ring /= 2,
                Err(error) => return Err(error),
            }
        };
        let shared = Shared { door: AcceptQueue::new(capacity), ..Shared::default() };
        let (rings, ready) = (vec![first], VecDeque::new());
        Ok(Self { rings, shared, sizes, capacity, listener, ready, bell: None, round: 0 })
    }

    fn locate(&mut self, place: u32) -> Option<(&mut Ring, u32, &mut Shared)> {
        let per_ring = self.sizes.per_ring as u32;
        let ring = self.rings.get_mut((place / per_ring) as usize)?;
        Some((ring, place % per_ring, &mut self.shared))
    }

    /// The first ring with a free slot; made now where all others are full and there may be one more.
    fn ring_with_room(&mut self) -> io::Result<Option<&mut Ring>> {
        while self.rings.get(self.shared.first_room).is_some_and(Ring::is_full) {
            self.shared.first_room += 1;
        }
        if self.shared.first_room == self.rings.len() && !self.add_ring()? {
            return Ok(None);
        }
        Ok(self.rings.get_mut(self.shared.first_room))
    }

    /// Queues all that is to be submitted at this turn.
    fn gather(&mut self) -> io::Result<()> {
        let mut dirty = std::mem::take(&mut self.shared.dirty);
        for place in dirty.drain(..) {
            if let Some((ring, index, shared)) = self.locate(place) {
                ring.flush(index, shared);
            }
        }
        self.shared.dirty = dirty;
        self.take_in();
        let shared = &mut self.shared;
        self.rings.iter_mut().try_for_each(|ring| {
            ring.feed();
            ring.catch_up(shared)
        })
    }

    /// Notes which rings have completions.
    fn collect(&mut self) {
        for (number, ring) in self.rings.iter_mut().enumerate() {
            if !ring.listed && ring.has_completions() {
                ring.listed = true;
                self.ready.push_back(number as u32);
            }
        }
    }

    fn enter_those_with_work(&mut self) -> io::Result<()> {
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

    /// Sleeps until any ring has something to collect.
    fn sleep(&mut self, wait: Duration) -> io::Result<()> {
        let Some(bell) = &self.bell else { return Ok(()) };
        self.rings.iter_mut().for_each(|ring| ring.ring_bell(true));
        // What the kernel posted before it saw the bell must be seen by us now.
        fence(Ordering::SeqCst);
        if !self.rings.iter_mut().any(|ring| ring.has_work() || ring.has_completions()) {
            self.shared.stats.calls += event_fd::wait(bell, wait);
        }
        self.rings.iter_mut().for_each(|ring| ring.ring_bell(false));
        // The kernel may keep work back without a sign of it (6.13 on): in its turn, each ring is entered without one.
        self.round = (self.round + 1) % self.rings.len().max(1);
        if let Some(ring) = self.rings.get_mut(self.round) {
            ring.expect_more();
        }
        self.enter_those_with_work()
    }
}

impl Streams for Uring {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn open(&mut self, source: Option<SocketAddr>, to: SocketAddr) -> io::Result<Conn> {
        let Some(ring) = self.ring_with_room()? else {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "all places are taken"));
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
                self.enter_those_with_work()?;
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
        if slot.generation != conn.generation || slot.state != State::Open || slot.cut {
            return Err(WriteError::Closed);
        }
        let mut reserve = slot.out.reserve(&mut shared.blocks, need);
        if reserve == Reserve::MustLeave {
            ring.submit_send(index, shared);
            reserve = match ring.slots.get_mut(index as usize) {
                Some(slot) => slot.out.reserve(&mut shared.blocks, need),
                None => Reserve::Full,
            };
        }
        let slot = ring.slots.get_mut(index as usize).ok_or(WriteError::Closed)?;
        if reserve != Reserve::Ready {
            slot.wants = true;
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
            // The kernel may still read a block: better to lose the memory than to hand it to somebody else.
            std::mem::forget(std::mem::take(&mut self.shared.blocks));
        }
    }
}
