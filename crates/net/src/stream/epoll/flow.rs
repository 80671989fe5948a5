//! Bytes in and out of one connection, and its end.

use std::os::fd::{AsFd, AsRawFd};

use super::slots::{Slot, State};
use super::{AcceptQueue, ENDS, Epoll};
use crate::option;
use crate::socket::errno;
use crate::stream::blocks::Reserve;
use crate::stream::{CloseMode, CloseReason, Conn, Event, RecvBuf};

impl Epoll {
    /// Whether bytes may be sent under this name.
    pub(super) fn is_open(&self, conn: Conn) -> bool {
        self.slots.get(conn.index as usize).is_some_and(|slot| slot.is(conn.generation, State::Open) && !slot.cut)
    }

    /// Makes room for `need` bytes if that can be had.
    pub(super) fn reserve(&mut self, place: u32, need: usize) -> Reserve {
        let slot = self.slots.get_mut(place as usize);
        slot.map_or(Reserve::Full, |slot| slot.out.reserve(&mut self.blocks, need))
    }

    /// Puts a connection at the end of the line of those with something to read.
    pub(super) fn line_up(&mut self, place: u32) {
        if let Some(slot) = self.slots.get_mut(place as usize)
            && !std::mem::replace(&mut slot.lined_up, true)
        {
            self.unread.push_back(place);
        }
    }

    /// Takes note of what epoll has told of a connection.
    pub(super) fn on_completion(&mut self, place: u32, generation: u32, events: u32) -> Option<Event> {
        let slot = self.slots.get_mut(place as usize)?;
        slot.ends |= events & ENDS != 0;
        let writable = events & (libc::EPOLLOUT as u32 | ENDS) != 0;
        let readable = events & (libc::EPOLLIN as u32 | ENDS) != 0;
        match slot.state {
            State::Opening if slot.generation == generation && writable => self.opened(place, readable),
            State::Open if slot.generation == generation => {
                if writable && slot.out.is_submitted() {
                    self.write(place);
                }
                if readable { self.read(place) } else { None }
            }
            // Its name is one older than what it is told under.
            State::Draining if slot.generation == generation.wrapping_add(1) && writable => {
                self.write(place);
                None
            }
            _ => None,
        }
    }

    fn opened(&mut self, place: u32, readable: bool) -> Option<Event> {
        let slot = self.slots.get_mut(place as usize)?;
        self.stats.calls += 1;
        match option::error(slot.fd.as_ref()?.as_fd()) {
            0 => {
                slot.state = State::Open;
                if readable {
                    self.line_up(place);
                }
                Some(Event::Opened(self.conn(place)))
            }
            errno => self.over(place, CloseReason::of(errno)),
        }
    }

    /// Reads on where there was more than one buffer, or no buffer.
    pub(super) fn read_on(&mut self, place: u32) -> Option<Event> {
        self.slots.get_mut(place as usize)?.lined_up = false;
        self.read(place)
    }

    fn read(&mut self, place: u32) -> Option<Event> {
        let slot = self.slots.get_mut(place as usize)?;
        if slot.state != State::Open || slot.paused {
            return None;
        }
        let Some((buffer, start, size)) = self.pool.choose() else {
            self.stats.starved += 1;
            self.line_up(place);
            return None;
        };
        self.stats.calls += 1;
        let fd = slot.fd.as_ref()?.as_raw_fd();
        // SAFETY: the buffer is ours until it is lent on; the kernel writes at most `size` bytes into it.
        let got = unsafe { libc::recv(fd, start.cast(), size, libc::MSG_DONTWAIT) };
        let failed = if got < 0 { errno() } else { 0 };
        let loan = self.pool.lease(buffer, usize::try_from(got).unwrap_or(0));
        if got > 0 {
            self.stats.bytes_in += got as u64;
            if got as usize == size || slot.ends {
                self.line_up(place);
            }
            return Some(Event::Received(self.conn(place), RecvBuf(loan)));
        }
        drop(loan);
        match failed {
            0 if !slot.cut => self.over(place, CloseReason::Ended),
            0 => self.over(place, CloseReason::Reset),
            libc::EAGAIN if slot.cut => self.over(place, CloseReason::Reset),
            libc::EAGAIN => None,
            libc::EINTR => {
                self.line_up(place);
                None
            }
            errno => self.over(place, CloseReason::of(errno)),
        }
    }

    /// Sends what a connection was given since the last turn, unless it waits for the peer already.
    pub(super) fn flush(&mut self, place: u32) {
        let Some(slot) = self.slots.get_mut(place as usize) else { return };
        slot.dirty = false;
        if !slot.out.is_submitted() {
            self.write(place);
            self.bound_draining(place);
        }
    }

    /// Sends until nothing is left or the socket takes no more; then an edge comes.
    pub(super) fn write(&mut self, place: u32) {
        while let Some(slot) = self.slots.get_mut(place as usize) {
            if !matches!(slot.state, State::Open | State::Draining) || slot.cut {
                return;
            }
            if !slot.out.is_submitted() {
                if slot.out.submit(&mut self.blocks).is_none() {
                    break;
                }
                slot.left = 0;
            }
            let (start, length) = slot.out.rest(&self.blocks, slot.left);
            let Some(fd) = slot.fd.as_ref().map(AsRawFd::as_raw_fd) else { return };
            self.stats.calls += 1;
            // SAFETY: the kernel reads `length` bytes of the flying block, which is this connection's.
            let sent = unsafe { libc::send(fd, start.cast(), length, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) };
            match usize::try_from(sent) {
                Ok(sent) => {
                    self.stats.bytes_out += sent as u64;
                    slot.left += sent as u32;
                    if sent == length {
                        slot.out.complete(&mut self.blocks);
                    }
                }
                Err(_) => match errno() {
                    libc::EINTR => {}
                    libc::EAGAIN => return,
                    errno => return self.send_failed(place, errno),
                },
            }
        }
        self.sent_all(place);
    }

    fn sent_all(&mut self, place: u32) {
        let Some(slot) = self.slots.get_mut(place as usize) else { return };
        if slot.state == State::Draining {
            self.shut(place, false);
        } else if std::mem::take(&mut slot.wants) {
            let conn = self.conn(place);
            self.later.push_back(Event::Writable(conn));
        }
    }

    fn send_failed(&mut self, place: u32, errno: i32) {
        let Some(slot) = self.slots.get_mut(place as usize) else { return };
        if slot.state == State::Draining {
            return self.shut(place, false);
        }
        if matches!(errno, libc::EPIPE | libc::ECONNRESET) && !slot.paused {
            // What the peer said before it left is still to be heard.
            slot.cut = true;
            slot.out.complete(&mut self.blocks);
            slot.out.discard(&mut self.blocks);
            return self.line_up(place);
        }
        let event = self.over(place, CloseReason::of(errno));
        self.later.extend(event);
    }

    /// The connection has ended by itself. After the peer's last word, what it was answered still leaves.
    pub(super) fn over(&mut self, place: u32, reason: CloseReason) -> Option<Event> {
        let conn = self.conn(place);
        if reason == CloseReason::Ended {
            self.end(place, conn.generation, CloseMode::Flush);
        } else {
            let slot = self.slots.get_mut(place as usize)?;
            slot.generation = conn.generation.wrapping_add(1);
            self.shut(place, false);
        }
        Some(Event::Closed(conn, reason))
    }

    /// The name with this generation is dead from now on; the connection ends as it is told.
    pub(super) fn end(&mut self, place: u32, generation: u32, how: CloseMode) {
        let Some(slot) = self.slots.get_mut(place as usize) else { return };
        if how == CloseMode::Reset && slot.is(generation.wrapping_add(1), State::Draining) {
            // Its last bytes do not get away: its user has lost patience.
            return self.shut(place, true);
        }
        if slot.generation != generation || !matches!(slot.state, State::Open | State::Opening) {
            return;
        }
        slot.generation = generation.wrapping_add(1);
        let drains = how == CloseMode::Flush && slot.state == State::Open && !slot.cut && !slot.out.is_empty();
        if !drains {
            return self.shut(place, how == CloseMode::Reset);
        }
        slot.state = State::Draining;
        if !std::mem::replace(&mut slot.dirty, true) {
            self.dirty.push(place);
        }
        self.bound_draining(place);
    }

    /// Does not wait for ever for a peer that takes nothing of its last bytes.
    fn bound_draining(&mut self, place: u32) {
        if let Some(slot) = self.slots.get(place as usize)
            && slot.state == State::Draining
            && slot.out.is_submitted()
            && let Some(fd) = &slot.fd
        {
            self.stats.calls += 1;
            // Where it cannot be set, the kernel's own patience, some minutes, has to do.
            let _ = option::bounded_patience(fd.as_fd());
        }
    }

    /// Closes the descriptor, which takes it out of epoll; the place is free.
    fn shut(&mut self, place: u32, cut: bool) {
        let Some(slot) = self.slots.get_mut(place as usize) else { return };
        slot.out.complete(&mut self.blocks);
        slot.out.discard(&mut self.blocks);
        if let Some(fd) = slot.fd.take() {
            self.stats.calls += 1 + u64::from(cut);
            if cut {
                // Where it cannot be set, it ends the usual way.
                let _ = option::cut_on_close(fd.as_fd());
            }
        }
        *slot = Slot::free(slot.generation);
        self.free.push(place);
        if let AcceptQueue::Shut(_) = self.door {
            self.watch_door(AcceptQueue::Watched(0));
        }
    }
}
