//! The kernel's features, found once by trying them.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::sync::OnceLock;

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
}

/// The answer, kept after the first call.
pub fn kernel() -> Kernel {
    static FOUND: OnceLock<Kernel> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let socket = udp::socket(IpAddr::V4(Ipv4Addr::LOCALHOST)).ok();
        Kernel {
            segmentation: socket.as_ref().is_some_and(|socket| option::segment(socket.as_fd(), 48).is_ok()),
            stamps: socket.as_ref().is_some_and(|socket| option::stamps(socket.as_fd()).is_ok()),
            uring: uring::works(),
        }
    })
}
