//! A connected UDP socket for one request at a time.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use crate::call;
use crate::socket::connect;
use crate::udp;

/// A connected UDP socket that waits for the reply.
pub struct QuerySocket(OwnedFd);

impl QuerySocket {
    /// Opens one to `target`. Errors are the kernel's: no descriptor, no port, no route.
    pub fn open(target: SocketAddr) -> io::Result<Self> {
        let socket = udp::socket(target.ip())?;
        connect(&socket, target)?;
        Ok(Self(socket))
    }

    /// Sends one datagram. Errors are the kernel's; ECONNREFUSED: an earlier one found no listener.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length describe `bytes`.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT) };
        if sent >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Receives the next datagram into `into`, truncated to fit; returns its length, or `None` after `wait`.
    ///
    /// Errors are the kernel's; ECONNREFUSED: no listener.
    pub fn receive(&self, into: &mut [u8], wait: Duration) -> io::Result<Option<usize>> {
        call::poll(&self.0, libc::POLLIN, wait)?;
        let fd = self.0.as_raw_fd();
        // SAFETY: pointer and length describe `into`, borrowed for the call.
        let got = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
        if got >= 0 {
            return Ok(Some(got as usize));
        }
        match io::Error::last_os_error() {
            error if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => Ok(None),
            error => Err(error),
        }
    }
}
