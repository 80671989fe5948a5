//! What all sockets share: descriptor, address, errors, the queue of errors.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::address;
use crate::call::CallError;
use crate::stamp;

/// Takes ownership of a new descriptor, or the kernel's error.
pub(crate) fn own(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The kernel's error, where a call has failed.
pub(crate) fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The errno of the call that has just failed.
pub(crate) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Binds the socket to a local address.
pub(crate) fn bind(socket: &OwnedFd, at: SocketAddr) -> io::Result<()> {
    let (storage, length) = address::to_kernel(at);
    // SAFETY: pointer and length describe `storage`.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const storage).cast(), length) })
}

/// Connects the socket; a stream's connection may still be in progress afterwards (EINPROGRESS).
pub(crate) fn connect(socket: &OwnedFd, to: SocketAddr) -> io::Result<()> {
    let (storage, length) = address::to_kernel(to);
    // SAFETY: pointer and length describe `storage`.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const storage).cast(), length) })
}

/// The socket's local address.
pub(crate) fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    // SAFETY: sockaddr_storage is plain old data; all zeroes is a valid value.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `storage`.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut storage).cast(), &raw mut length) })?;
    address::from_kernel(&storage).ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

/// The next message of the error queue: how many bytes it quotes, and what came with it.
pub(crate) fn read_error(socket: &OwnedFd, quote: &mut [u8]) -> Result<Option<(usize, stamp::ControlData)>, CallError> {
    let mut vector = libc::iovec { iov_base: quote.as_mut_ptr().cast(), iov_len: quote.len() };
    let mut control = [0_u64; 64];
    // SAFETY: msghdr is plain old data; all zeroes is a valid value.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: the header points to `vector`, `quote` and `control`, which outlive the call.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    match usize::try_from(got) {
        Ok(got) => Ok(Some((got.min(quote.len()), stamp::read(&header)))),
        Err(_) if matches!(errno(), libc::EAGAIN | libc::EINTR) => Ok(None),
        Err(_) => Err(CallError::last("recvmsg")),
    }
}
