//! TCP sockets for both backends: listeners, client sockets and their options.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use crate::socket::{check, local_address, own};
use crate::{address, option, socket};

/// More than any system allows: the kernel limits it to net.core.somaxconn.
const BACKLOG: libc::c_int = 65_535;

/// A non-blocking stream socket.
pub(crate) fn stream(ip: IpAddr) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes no pointers.
    own(unsafe { libc::socket(address::family(ip), kind, 0) })
}

/// A listening socket. Several may share one address; the kernel distributes connections among them.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

impl Listener {
    /// Listens at `at`; `[::]` includes v4. Errors are the kernel's: address in use, no permission, no such address.
    pub fn bind(at: SocketAddr) -> io::Result<Self> {
        let socket = stream(at.ip())?;
        option::reuse_port(socket.as_fd())?;
        option::reuse_address(socket.as_fd())?;
        // Accepted sockets inherit it, which saves a call for each.
        option::no_delay(socket.as_fd())?;
        if at.is_ipv6() && at.ip().is_unspecified() {
            option::dual_stack(socket.as_fd())?;
        }
        socket::bind(&socket, at)?;
        // SAFETY: listen takes no pointers.
        check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
        Ok(Self { socket })
    }

    /// Checks that no other socket listens at `at`: errors as [`Listener::bind`], and EADDRINUSE for shared listeners.
    ///
    /// With SO_REUSEPORT a second server would silently get a part of the first one's connections.
    pub fn check_address_free(at: SocketAddr) -> io::Result<()> {
        let socket = stream(at.ip())?;
        option::reuse_address(socket.as_fd())?;
        if at.is_ipv6() && at.ip().is_unspecified() {
            option::dual_stack(socket.as_fd())?;
        }
        socket::bind(&socket, at)
    }

    /// Its local address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        local_address(&self.socket)
    }

    /// Its descriptor.
    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Whether an accept failed for lack of resources, so that it would fail again at once.
pub(crate) fn exhausted(errno: i32) -> bool {
    !matches!(errno, libc::ECONNABORTED | libc::EINTR | libc::EPROTO | libc::EAGAIN | libc::EPERM)
}
