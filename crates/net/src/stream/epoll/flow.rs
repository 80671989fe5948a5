//! Reading, writing and closing one connection.

use std::os::fd::{AsFd, AsRawFd};

use super::slots::{Slot, State};
use super::{Accepting, ENDS, Epoll};
use crate::option;
use crate::socket::errno;
use crate::stream::blocks::Reserve;
use crate::stream::{CloseMode, CloseReason, Conn, Event, RecvBuf};

impl Epoll {
    /// Whether bytes may be sent with this id.
    pub(super) fn is_open(&self, conn: Conn) -> bool {
        self.slots
            .get(conn.index as usize)
            .is_some_and(|slot| slot.is(conn.generation, State::Open) && !slot.send_failed)
    }

    /// Makes room for `need` bytes if possible.
    pub(super) fn reserve(&mut self, index: u32, need: usize) -> Reserve {
        let slot = self.slots.get_mut(index as usize);
        slot.map_or(Reserve::Full, |slot| slot.out.reserve(&mut self.blocks, need))
    }

    /// Queues a connection for reading.
    pub(super) fn queue_read(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && !std::mem::replace(&mut slot.read_queued, true)
        {
            self.unread.push_back(index);
        }
    }

    /// Processes the events of a connection.
    pub(super) fn on_event(&mut self, index: u32, generation: u32, events: u32) -> Option<Event> {
        let slot = self.slots.get_mut(index as usize)?;
        slot.read_to_end |= events & ENDS != 0;
        let writable = events & (libc::EPOLLOUT as u32 | ENDS) != 0;
        let readable = events & (libc::EPOLLIN as u32 | ENDS) != 0;
        match slot.state {
            State::Opening if slot.generation == generation && writable => self.opened(index, readable),
            State::Open if slot.generation == generation => {
                if writable && slot.out.is_submitted() {
                    self.write(index);
                }
                if readable { self.read(index) } else { None }
            }
            // It was registered with the generation before.
            State::Draining if slot.generation == generation.wrapping_add(1) && writable => {
                self.write(index);
                None
            }
            _ => None,
        }
    }

    fn opened(&mut self, index: u32, readable: bool) -> Option<Event> {
        let slot = self.slots.get_mut(index as usize)?;
        self.stats.calls += 1;
        match option::error(slot.fd.as_ref()?.as_fd()) {
            0 => {
                slot.state = State::Open;
                if readable {
                    self.queue_read(index);
                }
                Some(Event::Opened(self.conn(index)))
            }
            errno => self.over(index, CloseReason::of(errno)),
        }
    }

    /// Continues to read a queued connection.
    pub(super) fn read_on(&mut self, index: u32) -> Option<Event> {
        self.slots.get_mut(index as usize)?.read_queued = false;
        self.read(index)
    }

    fn read(&mut self, index: u32) -> Option<Event> {
        let slot = self.slots.get_mut(index as usize)?;
        if slot.state != State::Open || slot.paused {
            return None;
        }
        let Some((buffer, start, size)) = self.pool.choose() else {
            self.stats.starved += 1;
            self.queue_read(index);
            return None;
        };
        self.stats.calls += 1;
        let fd = slot.fd.as_ref()?.as_raw_fd();
        // SAFETY: the buffer is ours until it is given to the caller; the kernel writes at most `size` bytes into it.
        let got = unsafe { libc::recv(fd, start.cast(), size, libc::MSG_DONTWAIT) };
        let failed = if got < 0 { errno() } else { 0 };
        let buf = self.pool.take(buffer, usize::try_from(got).unwrap_or(0));
        if got > 0 {
            self.stats.bytes_in += got as u64;
            if got as usize == size || slot.read_to_end {
                self.queue_read(index);
            }
            return Some(Event::Received(self.conn(index), RecvBuf(buf)));
        }
        drop(buf);
        match failed {
            0 if !slot.send_failed => self.over(index, CloseReason::Ended),
            0 => self.over(index, CloseReason::Reset),
            libc::EAGAIN if slot.send_failed => self.over(index, CloseReason::Reset),
            libc::EAGAIN => None,
            libc::EINTR => {
                self.queue_read(index);
                None
            }
            errno => self.over(index, CloseReason::of(errno)),
        }
    }

    /// Sends what was appended since the last turn, unless a block waits for the peer.
    pub(super) fn flush(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        slot.dirty = false;
        if !slot.out.is_submitted() {
            self.write(index);
            self.bound_draining(index);
        }
    }

    /// Sends until all is sent or the socket is full; then an edge comes.
    pub(super) fn write(&mut self, index: u32) {
        while let Some(slot) = self.slots.get_mut(index as usize) {
            if !matches!(slot.state, State::Open | State::Draining) || slot.send_failed {
                return;
            }
            if !slot.out.is_submitted() {
                if slot.out.submit(&mut self.blocks).is_none() {
                    break;
                }
                slot.sent = 0;
            }
            let (start, length) = slot.out.rest(&self.blocks, slot.sent);
            let Some(fd) = slot.fd.as_ref().map(AsRawFd::as_raw_fd) else { return };
            self.stats.calls += 1;
            // SAFETY: the kernel reads `length` bytes of the submitted block, which is this connection's.
            let sent = unsafe { libc::send(fd, start.cast(), length, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) };
            match usize::try_from(sent) {
                Ok(sent) => {
                    self.stats.bytes_out += sent as u64;
                    slot.sent += sent as u32;
                    if sent == length {
                        slot.out.complete(&mut self.blocks);
                    }
                }
                Err(_) => match errno() {
                    libc::EINTR => {}
                    libc::EAGAIN => return,
                    errno => return self.send_failed(index, errno),
                },
            }
        }
        self.sent_all(index);
    }

    fn sent_all(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if slot.state == State::Draining {
            self.shut(index, false);
        } else if std::mem::take(&mut slot.wants_writable) {
            let conn = self.conn(index);
            self.deferred.push_back(Event::Writable(conn));
        }
    }

    fn send_failed(&mut self, index: u32, errno: i32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if slot.state == State::Draining {
            return self.shut(index, false);
        }
        if matches!(errno, libc::EPIPE | libc::ECONNRESET) && !slot.paused {
            // What the peer sent before it closed is read first.
            slot.send_failed = true;
            slot.out.complete(&mut self.blocks);
            slot.out.discard(&mut self.blocks);
            return self.queue_read(index);
        }
        self.over_later(index, CloseReason::of(errno));
    }

    /// `over` outside of `event`: the caller learns of it later, and until then no other connection takes the slot.
    pub(super) fn over_later(&mut self, index: u32, reason: CloseReason) {
        let event = self.over(index, reason);
        let withheld = self.free.pop();
        debug_assert_eq!(withheld, Some(index), "an error frees the slot at once");
        self.deferred.extend(event);
    }

    /// The connection was closed by the peer or an error. After a FIN, pending bytes are still sent.
    pub(super) fn over(&mut self, index: u32, reason: CloseReason) -> Option<Event> {
        let conn = self.conn(index);
        if reason == CloseReason::Ended {
            self.end(index, conn.generation, CloseMode::Flush);
        } else {
            let slot = self.slots.get_mut(index as usize)?;
            slot.generation = conn.generation.wrapping_add(1);
            self.shut(index, false);
        }
        Some(Event::Closed(conn, reason))
    }

    /// Closes the connection; the id with this generation is no longer valid.
    pub(super) fn end(&mut self, index: u32, generation: u32, how: CloseMode) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if how == CloseMode::Reset && slot.is(generation.wrapping_add(1), State::Draining) {
            // Pending bytes are not acknowledged in time: reset.
            return self.shut(index, true);
        }
        if slot.generation != generation || !matches!(slot.state, State::Open | State::Opening) {
            return;
        }
        slot.generation = generation.wrapping_add(1);
        let drains = how == CloseMode::Flush && slot.state == State::Open && !slot.send_failed && !slot.out.is_empty();
        if !drains {
            return self.shut(index, how == CloseMode::Reset);
        }
        slot.state = State::Draining;
        if !std::mem::replace(&mut slot.dirty, true) {
            self.dirty.push(index);
        }
        self.bound_draining(index);
    }

    /// Limits the wait for a peer that does not acknowledge the last bytes.
    fn bound_draining(&mut self, index: u32) {
        if let Some(slot) = self.slots.get(index as usize)
            && slot.state == State::Draining
            && slot.out.is_submitted()
            && let Some(fd) = &slot.fd
        {
            self.stats.calls += 1;
            // Where it cannot be set, the kernel's own time-out, some minutes, applies.
            let _ = option::user_timeout(fd.as_fd());
        }
    }

    /// Closes the descriptor, which removes it from epoll; the slot is free.
    fn shut(&mut self, index: u32, reset: bool) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        slot.out.complete(&mut self.blocks);
        slot.out.discard(&mut self.blocks);
        if let Some(fd) = slot.fd.take() {
            self.stats.calls += 1 + u64::from(reset);
            if reset {
                // Where it cannot be set, the connection closes in order.
                let _ = option::reset_on_close(fd.as_fd());
            }
        }
        *slot = Slot::free(slot.generation);
        self.free.push(index);
        if let Accepting::Paused(_) = self.accepting {
            self.poll_listener(Accepting::Polled(0));
        }
    }
}
