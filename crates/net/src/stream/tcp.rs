//! TCP sockets as both carriers of streams need them: the one that listens, those that connect, and their options.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use crate::socket::{check, local_address, own};
use crate::{address, option, socket};

/// More than any system allows: the kernel cuts it to net.core.somaxconn.
const BACKLOG: libc::c_int = 65_535;

/// A stream socket that never blocks its owner.
pub(crate) fn stream(ip: IpAddr) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes no pointers.
    own(unsafe { libc::socket(address::family(ip), kind, 0) })
}

/// A socket that takes connections. Several may share one address; each then gets its share of them.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

impl Listener {
    /// Listens at `at`; `[::]` takes v4 too. Errors are the kernel's: address in use, no permission, no such address.
    pub fn bind(at: SocketAddr) -> io::Result<Self> {
        let socket = stream(at.ip())?;
        option::reuse_port(socket.as_fd())?;
        option::reuse_address(socket.as_fd())?;
        // What is accepted inherits it, which saves a call for each.
        option::no_delay(socket.as_fd())?;
        if at.is_ipv6() && at.ip().is_unspecified() {
            option::dual_stack(socket.as_fd())?;
        }
        socket::bind(&socket, at)?;
        // SAFETY: listen takes no pointers.
        check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
        Ok(Self { socket })
    }

    /// Whether one could listen at `at`: errors as [`Listener::bind`], and where somebody listens who shares.
    ///
    /// A server that shares an address by mistake would get a part of its connections, without a word.
    pub fn check_address_free(at: SocketAddr) -> io::Result<()> {
        let socket = stream(at.ip())?;
        option::reuse_address(socket.as_fd())?;
        if at.is_ipv6() && at.ip().is_unspecified() {
            option::dual_stack(socket.as_fd())?;
        }
        socket::bind(&socket, at)
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        local_address(&self.socket)
    }

    /// Its descriptor.
    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Whether an accept that failed so would fail again at once: something has run out.
pub(crate) fn exhausted(errno: i32) -> bool {
    !matches!(errno, libc::ECONNABORTED | libc::EINTR | libc::EPROTO | libc::EAGAIN | libc::EPERM)
}
