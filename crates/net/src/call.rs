//! Calls that wait, receive and send many at once: errors by name, and what replaces a call that is refused here.
//!
//! Method: old kernels, sandboxes and container profiles refuse single system calls. A call that is refused does not
//! even look at its descriptor, so each is tried once with descriptor -1: EBADF means that it is there. What replaces
//! recvmmsg and sendmmsg takes one message a call; epoll_pwait2 becomes ppoll and epoll_wait, which wait as exactly.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::time::Duration;

use crate::socket::errno;

/// A failed system call: its name and its errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallError {
    /// The name of the call.
    pub call: &'static str,
    /// The kernel's reason.
    pub errno: i32,
}

impl CallError {
    /// The error of the call that has just failed on this thread.
    pub(crate) fn last(call: &'static str) -> Self {
        Self { call, errno: errno() }
    }

    /// An error with its number as the error of `call`; one without is returned as it is.
    pub(crate) fn name(call: &'static str, error: io::Error) -> io::Error {
        error.raw_os_error().map_or(error, |errno| Self { call, errno }.into())
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.errno).to_string();
        // Without the number that Rust puts behind the kernel's words.
        let reason = text.split(" (os error").next().unwrap_or_default();
        write!(f, "{}: {reason}", self.call)
    }
}

impl Error for CallError {}

impl From<CallError> for io::Error {
    fn from(error: CallError) -> Self {
        Self::new(Self::from_raw_os_error(error.errno).kind(), error)
    }
}

/// The calls that may be refused: `None` where a call works, else its errno.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusals {
    pub(crate) epoll_pwait2: Option<i32>,
    pub(crate) recvmmsg: Option<i32>,
    pub(crate) recvmsg: Option<i32>,
    pub(crate) sendmmsg: Option<i32>,
    recvfrom: Option<i32>,
    sendto: Option<i32>,
    accept4: Option<i32>,
}

/// What is refused here, kept after the first call.
#[inline]
pub(crate) fn refusals() -> &'static Refusals {
    static FOUND: OnceLock<Refusals> = OnceLock::new();
    FOUND.get_or_init(|| {
        let time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: mmsghdr is plain old data; all zeroes is a valid value: no buffers.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let refused = |result: libc::c_int| (result < 0).then(errno).filter(|errno| *errno != libc::EBADF);
        // SAFETY: all pointers are valid for the calls, and no descriptor is -1: no call does anything.
        unsafe {
            Refusals {
                epoll_pwait2: refused(libc::epoll_pwait2(-1, &raw mut event, 1, &raw const time, null())),
                recvmmsg: refused(libc::recvmmsg(-1, &raw mut header, 1, libc::MSG_DONTWAIT as _, null_mut())),
                recvmsg: refused(libc::recvmsg(-1, &raw mut header.msg_hdr, libc::MSG_DONTWAIT) as _),
                sendmmsg: refused(libc::sendmmsg(-1, &raw mut header, 1, libc::MSG_DONTWAIT as _)),
                recvfrom: refused(libc::recv(-1, (&raw mut event).cast(), 1, libc::MSG_DONTWAIT) as _),
                sendto: refused(libc::send(-1, (&raw const event).cast(), 1, libc::MSG_NOSIGNAL) as _),
                accept4: refused(libc::accept4(-1, null_mut(), null_mut(), libc::SOCK_CLOEXEC)),
            }
        }
    })
}

/// Errors: messages cannot be received here in any way.
pub(crate) fn check_receiving() -> io::Result<()> {
    match *refusals() {
        Refusals { recvmmsg: Some(_), recvmsg: Some(errno), .. } => Err(CallError { call: "recvmsg", errno }.into()),
        _ => Ok(()),
    }
}

/// Errors: connections over descriptors cannot be read from or written to here, or not be accepted where that is to be.
pub(crate) fn check_streaming(accepts: bool) -> io::Result<()> {
    let Refusals { recvfrom, sendto, accept4, .. } = *refusals();
    let accept4 = accept4.filter(|_| accepts);
    let refused = [("recvfrom", recvfrom), ("sendto", sendto), ("accept4", accept4)];
    match refused.into_iter().find_map(|(call, errno)| Some(CallError { call, errno: errno? })) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// Errors that say nothing of the receiving call: nothing is there, a signal came, or an ICMP error waits on the socket
/// (as Linux converts them: icmp_err_convert, icmpv6_err_convert).
fn is_silence(errno: i32) -> bool {
    matches!(
        errno,
        libc::EAGAIN
            | libc::EINTR
            | libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EMSGSIZE
            | libc::EOPNOTSUPP
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::EACCES
    )
}

fn received(call: &'static str, got: isize) -> Result<usize, CallError> {
    match usize::try_from(got) {
        Ok(got) => Ok(got),
        Err(_) if is_silence(errno()) => Ok(0),
        Err(_) => Err(CallError::last(call)),
    }
}

/// Receives into `headers`, as recvmmsg does; 0: nothing was there.
///
/// SAFETY: callers make sure that all that the headers point to is valid, and may be written to during the call.
pub(crate) unsafe fn receive(
    socket: &OwnedFd,
    headers: &mut [libc::mmsghdr],
    flags: libc::c_int,
) -> Result<usize, CallError> {
    let (fd, count) = (socket.as_raw_fd(), headers.len() as libc::c_uint);
    let Refusals { recvmmsg, recvmsg, .. } = refusals();
    match (*recvmmsg, *recvmsg) {
        // SAFETY: the caller's promise.
        (None, _) => received("recvmmsg", unsafe {
            libc::recvmmsg(fd, headers.as_mut_ptr(), count, flags as _, null_mut()) as isize
        }),
        // SAFETY: the caller's promise.
        (Some(_), None) => unsafe { receive_each(fd, headers, flags) },
        (Some(_), Some(errno)) => Err(CallError { call: "recvmsg", errno }),
    }
}

/// The same, one message a call.
/// SAFETY: callers promise what [`receive`] says.
pub(crate) unsafe fn receive_each(
    fd: RawFd,
    headers: &mut [libc::mmsghdr],
    flags: libc::c_int,
) -> Result<usize, CallError> {
    for (n, header) in headers.iter_mut().enumerate() {
        let flags = match flags & libc::MSG_WAITFORONE {
            0 => flags,
            _ if n == 0 => flags & !libc::MSG_WAITFORONE,
            _ => flags & !libc::MSG_WAITFORONE | libc::MSG_DONTWAIT,
        };
        // SAFETY: the caller's promise.
        let got = unsafe { libc::recvmsg(fd, &raw mut header.msg_hdr, flags) };
        match u32::try_from(got) {
            Ok(length) => header.msg_len = length,
            // A lasting error comes back with the next call.
            Err(_) if n > 0 => return Ok(n),
            Err(_) => return received("recvmsg", got),
        }
    }
    Ok(headers.len())
}

/// Sends `headers`, as sendmmsg does: how many were sent, or -1 with the first one's error in errno.
///
/// SAFETY: callers make sure that all that the headers point to is valid during the call; it is only read.
pub(crate) unsafe fn send(socket: &OwnedFd, headers: &mut [libc::mmsghdr], flags: libc::c_int) -> isize {
    let (fd, count) = (socket.as_raw_fd(), headers.len() as libc::c_uint);
    if refusals().sendmmsg.is_none() {
        // SAFETY: the caller's promise.
        return unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count, flags as _) as isize };
    }
    // SAFETY: the caller's promise.
    unsafe { send_each(fd, headers, flags) }
}

/// The same, one message a call.
/// SAFETY: callers promise what [`send`] says.
pub(crate) unsafe fn send_each(fd: RawFd, headers: &mut [libc::mmsghdr], flags: libc::c_int) -> isize {
    for (n, header) in headers.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let sent = unsafe { libc::sendmsg(fd, &raw const header.msg_hdr, flags) };
        match u32::try_from(sent) {
            Ok(length) => header.msg_len = length,
            Err(_) => return if n > 0 { n as isize } else { -1 },
        }
    }
    headers.len() as isize
}

/// Waits up to `wait` for events; returns how many were written.
///
/// SAFETY: callers make sure that `events` has room for `room` events.
pub(crate) unsafe fn wait(
    epoll: &OwnedFd,
    events: *mut libc::epoll_event,
    room: libc::c_int,
    wait: Duration,
) -> Result<usize, CallError> {
    if refusals().epoll_pwait2.is_some() {
        // SAFETY: the caller's promise.
        return unsafe { wait_exactly(epoll, events, room, wait) };
    }
    let timeout = timespec(wait);
    // SAFETY: the caller's promise; the null mask changes no signals.
    let ready = unsafe { libc::epoll_pwait2(epoll.as_raw_fd(), events, room, &raw const timeout, null()) };
    waited("epoll_pwait2", ready)
}

/// The same by ppoll and epoll_wait, which knows milliseconds only.
/// SAFETY: callers promise what [`wait`] says.
pub(crate) unsafe fn wait_exactly(
    epoll: &OwnedFd,
    events: *mut libc::epoll_event,
    room: libc::c_int,
    wait: Duration,
) -> Result<usize, CallError> {
    if !wait.is_zero() {
        // Whatever it says, epoll is asked: an error of the second call must show while nothing comes, too.
        poll(epoll, libc::POLLIN, wait)?;
    }
    // SAFETY: the caller's promise.
    waited("epoll_wait", unsafe { libc::epoll_wait(epoll.as_raw_fd(), events, room, 0) })
}

/// Waits up to `wait` until the descriptor is ready for `events` or has an error; returns whether it is.
pub(crate) fn poll(fd: &OwnedFd, events: libc::c_short, wait: Duration) -> Result<bool, CallError> {
    let mut watched = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    let timeout = timespec(wait);
    // SAFETY: the kernel writes one pollfd and reads one timespec; the null mask changes no signals.
    let ready = unsafe { libc::ppoll(&raw mut watched, 1, &raw const timeout, null()) };
    Ok(waited("ppoll", ready)? > 0)
}

fn waited(call: &'static str, ready: libc::c_int) -> Result<usize, CallError> {
    match usize::try_from(ready) {
        Ok(ready) => Ok(ready),
        Err(_) if errno() == libc::EINTR => Ok(0),
        Err(_) => Err(CallError::last(call)),
    }
}

pub(crate) fn timespec(wait: Duration) -> libc::timespec {
    libc::timespec { tv_sec: wait.as_secs() as libc::time_t, tv_nsec: wait.subsec_nanos().into() }
}
