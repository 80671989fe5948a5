//! The kernel's features, found once by trying them.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use crate::call::{self, CallError};
use crate::stream::uring;
use crate::{option, udp};

/// Kernel features that the engine uses; each missing one is reported to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// UDP segmentation on send.
    pub segmentation: bool,
    /// Stamps on arrivals.
    pub stamps: bool,
    /// io_uring with all operations that streams need.
    pub uring: bool,
    /// epoll_pwait2; without it a wait takes ppoll and epoll_wait.
    pub epoll_pwait2: bool,
    /// recvmmsg; without it each message takes a call.
    pub recvmmsg: bool,
    /// sendmmsg; without it each message takes a call.
    pub sendmmsg: bool,
}

/// The answer, kept after the first call.
pub fn kernel() -> Kernel {
    static FOUND: OnceLock<Kernel> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let refused = call::refusals();
        let socket = udp::socket(IpAddr::V4(Ipv4Addr::LOCALHOST)).ok();
        Kernel {
            segmentation: socket.as_ref().is_some_and(|socket| option::segment(socket.as_fd(), 48).is_ok()),
            stamps: socket.as_ref().is_some_and(|socket| option::stamps(socket.as_fd()).is_ok()),
            uring: uring_refusal().is_none(),
            epoll_pwait2: refused.epoll_pwait2.is_none(),
            recvmmsg: refused.recvmmsg.is_none(),
            sendmmsg: refused.sendmmsg.is_none(),
        }
    })
}

/// Why streams over io_uring do not work here; `None` where they do.
pub fn uring_refusal() -> Option<CallError> {
    static FOUND: OnceLock<Option<CallError>> = OnceLock::new();
    *FOUND.get_or_init(|| uring::works().err())
}
