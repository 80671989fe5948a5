//! How connections are accepted and opened, and how rings are added for them.
//!
//! Each accept has a slot of its own. So a full table drops no connection: it waits in the listener's backlog until a
//! slot is free. (A multishot accept lets the kernel choose the slot, drops connections without one, and collides with
//! slots that we choose.)

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ptr;
use std::time::Duration;

use io_uring::{opcode, squeue, types};

use super::ring::{Addresses, Ring};
use super::slots::{Job, State, Tag};
use super::{Uring, event_fd};
use crate::stream::{Conn, StreamStats};
use crate::{address, option};

/// Pending accepts at once.
const PENDING: usize = 64;
/// Turns without accepts after one has failed for lack of resources.
const PAUSE: u32 = 16;

/// The state of accepting.
#[derive(Debug, Default)]
pub(crate) struct AcceptQueue {
    /// Pending accepts.
    pub(super) pending: usize,
    /// How many there should be.
    wanted: usize,
    most: usize,
    /// Turns before the next accept.
    pub(super) pause: u32,
}

impl AcceptQueue {
    pub(super) fn new(capacity: usize) -> Self {
        let most = PENDING.min(capacity);
        Self { pending: 0, wanted: most, most, pause: 0 }
    }

    /// A connection was accepted.
    pub(super) fn opened(&mut self) {
        self.pending = self.pending.saturating_sub(1);
        self.wanted = self.most;
    }

    /// An accept failed: for lack of resources, wait and then try with one.
    pub(super) fn failed(&mut self, exhausted: bool) {
        self.pending = self.pending.saturating_sub(1);
        if exhausted {
            (self.wanted, self.pause) = (1, PAUSE);
        }
    }
}

static ON: libc::c_int = 1;

fn option(index: u32, level: libc::c_int, name: libc::c_int) -> squeue::Entry {
    let value = (&raw const ON).cast();
    opcode::SetSockOpt::new(types::Fixed(index), level as u32, name as u32, value, size_of::<libc::c_int>() as u32)
        .build()
}

impl Uring {
    /// Queues accepts up to the wanted number, as far as there are slots.
    pub(super) fn queue_accepts(&mut self) {
        let Some(fd) = self.listener.as_ref().map(crate::Listener::fd) else { return };
        if self.shared.accept_queue.pause > 0 {
            self.shared.accept_queue.pause -= 1;
            return;
        }
        while self.shared.accept_queue.pending < self.shared.accept_queue.wanted {
            match self.ring_with_room() {
                Ok(Some(ring)) => ring.accept(fd),
                Ok(None) => return,
                Err(_) => {
                    self.shared.stats.accept_errors += 1;
                    self.shared.accept_queue.pause = PAUSE;
                    return;
                }
            }
            self.shared.accept_queue.pending += 1;
        }
    }

    /// Adds a ring, if the capacity allows it.
    pub(super) fn add_ring(&mut self) -> io::Result<bool> {
        let (number, sizes) = (self.rings.len(), self.sizes);
        let remaining = self.capacity.saturating_sub(number * sizes.per_ring);
        if remaining == 0 {
            return Ok(false);
        }
        let size = remaining.min(sizes.per_ring);
        let mut ring = Ring::new(number, sizes.per_ring, size, sizes.buffers_more, sizes.buffer)?;
        let fd = match self.event_fd.take() {
            Some(fd) => fd,
            None => {
                let fd = event_fd::new()?;
                self.rings.iter_mut().try_for_each(|ring| ring.register_event_fd(&fd))?;
                fd
            }
        };
        let registered = ring.register_event_fd(&fd);
        self.event_fd = Some(fd);
        registered?;
        self.rings.push(ring);
        Ok(true)
    }
}

impl Ring {
    /// Queues an accept into a free slot.
    fn accept(&mut self, fd: i32) {
        let Some(index) = self.free.pop() else { return };
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        slot.state = State::Accepting;
        let tag = Tag::new(Job::Accept, index, 0);
        let slot = types::DestinationSlot::try_from_slot_target(index).ok();
        let accept = opcode::Accept::new(types::Fd(fd), ptr::null_mut(), ptr::null_mut()).file_index(slot);
        self.push(index, accept.build().user_data(tag.0));
    }

    /// Starts to connect a free slot.
    pub(super) fn open(
        &mut self,
        source: Option<SocketAddr>,
        to: SocketAddr,
        stats: &mut StreamStats,
    ) -> io::Result<Conn> {
        if self.addresses.pairs.len() >= Addresses::MOST {
            self.enter(None, stats)?;
        }
        let full = io::Error::from_raw_os_error(libc::EAGAIN);
        if self.addresses.pairs.len() >= Addresses::MOST {
            return Err(full);
        }
        let Some(&index) = self.free.last() else { return Err(full) };
        let Some(generation) = self.slots.get(index as usize).map(|slot| slot.generation) else { return Err(full) };
        let tag = Tag::new(Job::Open, index, 0);
        if !self.queue_open(index, tag, source, to) {
            self.enter(None, stats)?;
            if !self.queue_open(index, tag, source, to) {
                return Err(full);
            }
        }
        self.free.pop();
        self.in_flight += 1;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.state = State::Opening;
            slot.in_flight += 1;
        }
        Ok(Conn { index: self.first + index, generation })
    }

    /// Socket, options, bind, connect: one chain with one completion, that of the first to fail or of the connect.
    fn queue_open(&mut self, index: u32, tag: Tag, source: Option<SocketAddr>, to: SocketAddr) -> bool {
        let addresses = &mut self.addresses.pairs;
        if addresses.capacity() == 0 {
            // It must never grow: entries point into it.
            addresses.reserve_exact(Addresses::MOST);
        }
        let (target, target_length) = address::to_kernel(to);
        let (own, own_length) = address::to_kernel(source.unwrap_or(to));
        addresses.push([target, own]);
        let Some([target, own]) = addresses.last() else { return false };
        let (target, own) = ((&raw const *target).cast(), (&raw const *own).cast());
        let slot = types::DestinationSlot::try_from_slot_target(index).ok();
        let quiet =
            |entry: squeue::Entry| entry.flags(squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS).user_data(tag.0);
        let fixed = types::Fixed(index);
        let socket = opcode::Socket::new(address::family(to.ip()), libc::SOCK_STREAM, 0).file_index(slot).build();
        let begin = [quiet(socket), quiet(option(index, libc::SOL_TCP, libc::TCP_NODELAY))];
        let connect = opcode::Connect::new(fixed, target, target_length).build().user_data(tag.0);
        let [socket, no_delay] = begin;
        let queued = if source.is_some() {
            let late_port = quiet(option(index, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT));
            let bind = quiet(opcode::Bind::new(fixed, own, own_length).build());
            self.queue_chain(&[socket, no_delay, late_port, bind, connect])
        } else {
            self.queue_chain(&[socket, no_delay, connect])
        };
        if !queued {
            self.addresses.pairs.pop();
        }
        queued
    }

    /// Sets the option for closing: a reset, or a limit on unacknowledged bytes.
    pub(super) fn set_close_option(&mut self, index: u32, reset: bool) {
        static RESET: libc::linger = option::RESET;
        static USER_TIMEOUT: libc::c_uint = option::USER_TIMEOUT_MS;
        let tag = Tag::new(Job::Option, index, 0);
        let (level, name, value, length) = if reset {
            (libc::SOL_SOCKET, libc::SO_LINGER, (&raw const RESET).cast(), size_of::<libc::linger>())
        } else {
            (libc::SOL_TCP, libc::TCP_USER_TIMEOUT, (&raw const USER_TIMEOUT).cast(), size_of::<libc::c_uint>())
        };
        let set = opcode::SetSockOpt::new(types::Fixed(index), level as u32, name as u32, value, length as u32);
        // Not counted: it completes during submission, and a failure changes nothing.
        self.queue(set.build().flags(squeue::Flags::SKIP_SUCCESS).user_data(tag.0));
    }
}

/// Creates, configures and binds a socket through the ring: the probe of opcodes does not cover that.
pub(super) fn trial(mut ring: Ring) -> io::Result<bool> {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let (address, length) = address::to_kernel(any);
    let tag = Tag::new(Job::Open, 0, 0);
    let slot = types::DestinationSlot::try_from_slot_target(0).ok();
    let quiet = squeue::Flags::IO_LINK | squeue::Flags::SKIP_SUCCESS;
    let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).file_index(slot).build();
    let no_delay = option(0, libc::SOL_TCP, libc::TCP_NODELAY);
    // A port would stay in use until the kernel frees the ring.
    let late_port = option(0, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT);
    let bind = opcode::Bind::new(types::Fixed(0), (&raw const address).cast(), length).build();
    let [socket, no_delay, late_port] = [socket, no_delay, late_port].map(|entry| entry.flags(quiet).user_data(tag.0));
    let chain = [socket, no_delay, late_port, bind.user_data(tag.0)];
    let queued = ring.queue_chain(&chain);
    ring.enter(Some(Duration::from_millis(500)), &mut StreamStats::default())?;
    Ok(queued && ring.next().is_some_and(|completion| completion.result() == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_something_ran_out_one_is_tried_and_then_all() {
        let mut queue = AcceptQueue::new(1000);
        queue.pending = 3;
        queue.failed(false);
        assert_eq!((queue.pending, queue.wanted, queue.pause), (2, PENDING, 0));
        queue.failed(true);
        assert_eq!((queue.pending, queue.wanted, queue.pause), (1, 1, PAUSE));
        queue.opened();
        assert_eq!((queue.pending, queue.wanted), (0, PENDING));
        assert_eq!(AcceptQueue::new(5).wanted, 5);
    }
}
