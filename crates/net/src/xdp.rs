//! AF_XDP: frames between a queue of an interface and this process, past the kernel's network stack.
//!
//! Which frames come is decided by a program at the interface: [`crate::XdpSteering`].

mod frame;
mod mapping;
mod receiver;
mod ring;
mod socket;

pub use frame::{FrameFault, UdpFrame};
pub use receiver::{QueueLosses, QueueOptions, QueueReceiver};
pub use socket::{XdpOptions, XdpSocket, XdpStatistics, XdpStatisticsReader};
