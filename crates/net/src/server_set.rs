//! The server sockets of one worker: one for each address that it listens on.
//!
//! Method: a single socket is waited for in the receive itself; several are polled, and each that is ready is read once
//! before they are polled again, so that none has to wait for a busy one.

use std::os::fd::AsRawFd;
use std::ptr::null;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::Batch;
use crate::call::{CallError, timespec};
use crate::socket::errno;
use crate::udp::Server;

/// Server sockets that one thread reads in turn.
pub struct ServerSet {
    servers: Vec<Arc<Server>>,
    polled: Vec<libc::pollfd>,
    wait: Duration,
    /// Of which the last datagrams came.
    current: usize,
}

impl ServerSet {
    /// All of `servers`; a receive waits up to `wait` where they are several, else as long as the one socket does.
    #[must_use]
    pub fn new(servers: Vec<Arc<Server>>, wait: Duration) -> Self {
        let watched =
            |server: &Arc<Server>| libc::pollfd { fd: server.socket().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let polled = servers.iter().map(watched).collect();
        Self { servers, polled, wait, current: 0 }
    }

    /// How many sockets there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.servers.len()
    }

    /// The number of the socket that the last datagrams came from.
    #[must_use]
    pub fn current(&self) -> usize {
        self.current
    }

    /// That socket; `None`: there is none at all.
    #[must_use]
    pub fn server(&self) -> Option<&Server> {
        self.servers.get(self.current).map(|server| &**server)
    }

    /// The n-th socket.
    #[must_use]
    pub fn nth(&self, n: usize) -> Option<&Server> {
        self.servers.get(n).map(|server| &**server)
    }

    /// Receives what one of them has, waiting for the first datagram. Zero: nothing came in that time.
    #[inline]
    pub fn receive(&mut self, batch: &mut Batch) -> Result<usize, CallError> {
        match &*self.servers {
            [only] => only.receive(batch),
            _ => self.receive_any(batch),
        }
    }

    fn receive_any(&mut self, batch: &mut Batch) -> Result<usize, CallError> {
        if self.polled.iter().all(|watched| watched.revents == 0) {
            self.poll()?;
        }
        for n in (self.current + 1..self.polled.len()).chain(0..=self.current) {
            if std::mem::take(&mut self.polled[n].revents) == 0 {
                continue;
            }
            self.current = n;
            let count = self.servers[n].receive_now(batch)?;
            if count > 0 {
                return Ok(count);
            }
        }
        Ok(0)
    }

    fn poll(&mut self) -> Result<(), CallError> {
        let timeout = timespec(self.wait);
        let (watched, count) = (self.polled.as_mut_ptr(), self.polled.len() as libc::nfds_t);
        // SAFETY: `watched` has `count` entries; the kernel reads one timespec, and the null mask changes no signals.
        let ready = unsafe { libc::ppoll(watched, count, &raw const timeout, null()) };
        if ready >= 0 || errno() == libc::EINTR { Ok(()) } else { Err(CallError::last("ppoll")) }
    }

    /// Sends all queued answers from the socket that the last datagrams came from; returns how many were sent.
    #[inline]
    pub fn send_answers(&self, batch: &mut Batch) -> usize {
        self.server().map_or(0, |server| server.send_answers(batch))
    }
}
