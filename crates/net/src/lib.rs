//! The kernel: every system call and every `unsafe` block of flatout, behind safe faces.
//!
//! Method: a socket owns its descriptor; a [`Batch`] owns its packets and all memory that the kernel reads or writes,
//! which never moves while it lives. Callers see slices, lengths and stamps. No clocks, no protocol, no policy.

#[cfg(not(target_os = "linux"))]
compile_error!("flatout runs on Linux only: it is built on Linux's own system calls");

mod address;
mod arrivals;
mod batch;
mod bell;
mod blocks;
mod datagrams;
mod epoll;
mod intake;
mod line;
mod memory;
mod option;
mod outlet;
mod pool;
mod probe;
mod socket;
mod stamp;
mod streams;
mod tcp;
mod thread;
mod udp;
mod uring;

pub use arrivals::Arrivals;
pub use batch::{Batch, Meta};
pub use bell::Bell;
pub use datagrams::{Datagrams, Refused, Sent};
pub use epoll::Epoll;
pub use intake::{Inflow, Intake, IntakeWays};
pub use line::Line;
pub use option::SocketMemory;
pub use outlet::{Gone, Outlet};
pub use probe::{Kernel, kernel};
pub use stamp::{Local, Peer};
pub use streams::{Carried, Conn, Event, How, Lent, Reason, Refuse, Slip, Streams};
pub use tcp::Listener;
pub use thread::{Process, affinity, be_brief, pin, prefer, raise_descriptor_limit, thread_cpu_ns};
pub use udp::{Ears, Flow, Flows, Server, Ways, vacant};
pub use uring::Uring;

#[cfg(test)]
mod tests;
