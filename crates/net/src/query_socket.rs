//! A connected socket over which one question is asked at a time: [`QuerySocket`].

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use crate::socket::{connect, wait_until};
use crate::udp;

/// A connected UDP socket that waits for answers.
pub struct QuerySocket(OwnedFd);

impl QuerySocket {
    /// Opens one to `target`. Errors are the kernel's: no descriptor, no port, no route.
    pub fn open(target: SocketAddr) -> io::Result<Self> {
        let socket = udp::socket(target.ip())?;
        connect(&socket, target)?;
        Ok(Self(socket))
    }

    /// Sends one datagram. Errors are the kernel's; ECONNREFUSED: nobody listens where an earlier one went.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length describe `bytes`.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT) };
        if sent >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The length of the next datagram in `into`, cut to what fits; nothing where none comes within `wait`.
    ///
    /// Errors are the kernel's; ECONNREFUSED: nobody listens there.
    pub fn receive(&self, into: &mut [u8], wait: Duration) -> io::Result<Option<usize>> {
        wait_until(&self.0, libc::POLLIN, wait);
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
