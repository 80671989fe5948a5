//! Each socket option that flatout uses, with the kernel it came in.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

pub(crate) fn set<T>(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const ON: libc::c_int = 1;

/// Several sockets on one address, packets spread by a hash of the 4-tuple (3.9).
pub(crate) fn reuse_port(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, ON)
}

/// An address with connections in TIME_WAIT can be bound again (all kernels).
pub(crate) fn reuse_address(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, ON)
}

/// Turns Nagle's algorithm off (all kernels).
pub(crate) fn no_delay(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_TCP, libc::TCP_NODELAY, ON)
}

/// SO_LINGER with a time of 0: close resets the connection (2.4).
pub(crate) const RESET: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };

/// Closing resets the connection; no TIME_WAIT.
pub(crate) fn reset_on_close(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_LINGER, RESET)
}

/// How long the last bytes of a connection may stay unacknowledged, ms.
pub(crate) const USER_TIMEOUT_MS: libc::c_uint = 10_000;

/// TCP_USER_TIMEOUT (2.6.37): bytes unacknowledged for so long end the connection.
pub(crate) fn user_timeout(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_TCP, libc::TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
}

/// SO_ERROR: the socket's pending error, 0 for none; reading clears it.
pub(crate) fn error(socket: BorrowedFd<'_>) -> i32 {
    let mut errno: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    let value = (&raw mut errno).cast();
    // SAFETY: the kernel writes at most `length` bytes into `errno`, which is that long.
    unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR, value, &raw mut length) };
    errno
}

/// Errors from the network queued with the packet they concern; a drop in the sender's own qdisc becomes ENOBUFS (2.2).
pub(crate) fn receive_errors(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        set(socket, libc::SOL_IPV6, libc::IPV6_RECVERR, ON)
    } else {
        set(socket, libc::SOL_IP, libc::IP_RECVERR, ON)
    }
}

/// The kernel's stamp of each arrival, CLOCK_REALTIME, in ns (2.6.22).
pub(crate) fn stamps(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, ON)
}

/// Turns [`stamps`] off.
pub(crate) fn no_stamps(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 0 as libc::c_int)
}

/// SO_TIMESTAMPING (2.6.30): which stamps the kernel makes and reports, by `SOF_TIMESTAMPING_*` flags.
pub(crate) fn timestamping(socket: BorrowedFd<'_>, flags: libc::c_uint) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, flags)
}

/// The address that each packet was sent to (2.2; IPv6: RFC 3542).
pub(crate) fn packet_info(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        set(socket, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, ON)
    } else {
        set(socket, libc::SOL_IP, libc::IP_PKTINFO, ON)
    }
}

/// The same for v4 datagrams on a v6 socket: the v6 message cannot tell a broadcast address from one of this host.
pub(crate) fn packet_info_v4_mapped(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_IP, libc::IP_PKTINFO, ON)
}

/// A socket may be bound to an address that this host does not have (yet) (2.4; IPv6: 4.15).
pub(crate) fn free_bind(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        set(socket, libc::SOL_IPV6, libc::IPV6_FREEBIND, ON)
    } else {
        set(socket, libc::SOL_IP, libc::IP_FREEBIND, ON)
    }
}

/// SO_BINDTODEVICE: only what comes by this interface, and answers leave by it (without privilege: 5.7).
pub(crate) fn bind_to_device(socket: BorrowedFd<'_>, interface: &str) -> io::Result<()> {
    let (name, length) = (interface.as_ptr().cast(), interface.len() as libc::socklen_t);
    // SAFETY: pointer and length describe the name, which the kernel only reads.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name, length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// SO_ATTACH_REUSEPORT_CBPF (4.5): a program chooses the socket of the group that receives a datagram; it replaces the
/// one before. Errors: EINVAL for a program that the kernel does not take, or a socket of no group.
pub(crate) fn choose_socket(socket: BorrowedFd<'_>, steps: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(steps.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: steps.as_ptr().cast_mut() };
    let (value, length) = ((&raw const program).cast(), size_of::<libc::sock_fprog>() as libc::socklen_t);
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF);
    // SAFETY: value and length describe `program`; its `filter` points to `len` steps, which are borrowed for the call.
    // The kernel copies both and writes to neither.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value, length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// SO_TYPE: the kind of a socket (all kernels).
pub(crate) fn kind(socket: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    let mut kind: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    let value = (&raw mut kind).cast();
    // SAFETY: the kernel writes at most `length` bytes into `kind`, which is that long.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TYPE, value, &raw mut length) };
    if done == 0 { Ok(kind) } else { Err(io::Error::last_os_error()) }
}

/// A v6 wildcard that includes v4, whatever net.ipv6.bindv6only is (2.4).
pub(crate) fn dual_stack(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_IPV6, libc::IPV6_V6ONLY, 0 as libc::c_int)
}

/// Whether a v6 wildcard is without v4 (2.4).
pub(crate) fn only_v6(socket: BorrowedFd<'_>, only: bool) -> io::Result<()> {
    set(socket, libc::SOL_IPV6, libc::IPV6_V6ONLY, libc::c_int::from(only))
}

/// Size of the receive buffer: beyond rmem_max where that is allowed (CAP_NET_ADMIN, 2.6.14), else up to it.
pub(crate) fn receive_buffer(socket: BorrowedFd<'_>, bytes: libc::c_int) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
        .or_else(|_| set(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))
}

/// Size of the send buffer; the same permissions as for [`receive_buffer`].
pub(crate) fn send_buffer(socket: BorrowedFd<'_>, bytes: libc::c_int) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
        .or_else(|_| set(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes))
}

/// SO_BUSY_POLL (3.11): a receive busy-polls the card's queue for up to `us` µs. More than net.core.busy_read needs
/// CAP_NET_ADMIN. Zero changes nothing.
pub(crate) fn busy_poll(socket: BorrowedFd<'_>, us: u32) -> io::Result<()> {
    if us == 0 { Ok(()) } else { set(socket, libc::SOL_SOCKET, libc::SO_BUSY_POLL, us as libc::c_int) }
}

/// SO_RCVTIMEO: how long a blocking receive waits.
pub(crate) fn receive_timeout(socket: BorrowedFd<'_>, wait: Duration) -> io::Result<()> {
    let value = libc::timeval { tv_sec: wait.as_secs() as libc::time_t, tv_usec: wait.subsec_micros().into() };
    set(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, value)
}

/// UDP_SEGMENT: the kernel segments one send call into datagrams of `bytes` (4.18). Zero turns it off.
pub(crate) fn segment(socket: BorrowedFd<'_>, bytes: libc::c_int) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, bytes)
}

/// UDP_GRO: consecutive datagrams of one sender are received coalesced, with their length (5.0).
pub(crate) fn coalesce(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO, ON)
}

/// IP_BIND_ADDRESS_NO_PORT: the port is chosen at connect, by the 4-tuple, so that many sources share the range (4.2).
pub(crate) fn late_port(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, ON)
}

/// Fill level and drops of a socket's queues: SO_MEMINFO (4.12), in bytes and packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketMemory {
    /// Bytes charged for unread packets.
    pub queued: u32,
    /// The receive buffer's size, bytes.
    pub limit: u32,
    /// Packets dropped because the queue was full, since the socket was created.
    pub drops: u32,
}

pub(crate) fn memory(socket: BorrowedFd<'_>) -> io::Result<SocketMemory> {
    let mut words = [0_u32; 9];
    let mut length = size_of::<[u32; 9]>() as libc::socklen_t;
    let value = (&raw mut words).cast();
    // SAFETY: the kernel writes at most `length` bytes into `words`, which is that long.
    let done =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, value, &raw mut length) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(SocketMemory { queued: words[0], limit: words[1], drops: words[8] })
}
