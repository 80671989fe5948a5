//! AF_XDP: frames between a queue of an interface and this process, past the kernel's network stack.
//!
//! Which frames come is decided by a program at the interface: [`crate::XdpSteering`].

mod flows;
mod frame;
mod live_frames;
mod mapping;
mod receiver;
mod ring;
mod socket;
mod template;

pub use flows::{XdpFlowOptions, XdpFlows};
pub use frame::{FrameFault, UdpFrame};
pub use live_frames::LiveFrames;
pub use receiver::{QueueLosses, QueueOptions, QueueReceiver};
pub use socket::{XdpOptions, XdpSocket, XdpStatistics, XdpStatisticsReader};
