//! The kernel: every system call and every `unsafe` block of flatout, behind safe interfaces.
//!
//! Method: a socket owns its descriptor; a [`Batch`] owns its packets and all memory that the kernel reads or writes,
//! which never moves while it lives. Callers see slices, lengths and stamps. No clocks, no protocol, no policy.

#[cfg(not(target_os = "linux"))]
compile_error!("flatout runs on Linux only: it is built on Linux's own system calls");

mod address;
mod array;
mod balance;
mod batch;
mod batch_sender;
mod bpf;
mod call;
mod clock_watch;
mod datagrams;
mod event_fd;
mod host_addresses;
mod memory;
mod option;
mod probe;
mod query_socket;
mod receive_socket;
mod recv_ring;
mod run_delay;
mod server_set;
mod shared_flows;
mod socket;
mod stamp;
mod stream;
mod thread;
mod tx_stamp;
mod udp;
mod xdp;

pub use balance::{ClientBits, balance_by_client};
pub use batch::{Batch, Meta};
pub use batch_sender::{BatchSender, SendSummary};
pub use bpf::{
    BTF_OF_KERNEL, BpfError, DropCounter, DropFilter, DroppedPackets, Obstacle, PortTraffic, Talker, TrafficCounter,
    WatchedPort,
};
pub use bpf::{DRIVER_COUNTERS, DriverAnswer, DriverAnswerEntry, DriverCounters, DriverResponder, Place};
pub use bpf::{
    DriverBudget, DriverClient, DriverLists, DriverPolicy, DriverRoom, DriverRules, DriverSpending, POLICY_COUNTERS,
};
pub use bpf::{SteeringCounters, SteeringFilter, XdpSteering};
pub use call::CallError;
pub use clock_watch::{ClockOffsets, ClockWatch, clock_offsets, steady_ns};
pub use datagrams::{Datagrams, Departure, Refused, SendResult};
pub use event_fd::EventFd;
pub use host_addresses::{Device, HostAddress, Vlan, devices, vlans};
pub use option::SocketMemory;
pub use probe::{Kernel, kernel, uring_refusal};
pub use query_socket::QuerySocket;
pub use receive_socket::{DatagramReceiver, ReceiveOptions, ReceiveSocket};
pub use recv_ring::ReceiveRing;
pub use run_delay::RunDelay;
pub use server_set::ServerSet;
pub use shared_flows::SharedFlows;
pub use stamp::{Local, Peer};
pub use stream::epoll::Epoll;
pub use stream::tcp::Listener;
pub use stream::uring::Uring;
pub use stream::{CloseMode, CloseReason, Conn, Event, RecvBuf, StreamStats, Streams, WriteError, WriteGuard};
pub use thread::{
    Contention, Process, affinity, pin, raise_descriptor_limit, raise_priority, shorten_timeslice, thread_contention,
    thread_cpu_ns,
};
pub use tx_stamp::{TxStamp, TxStampReader};
pub use udp::{Flow, FlowOptions, Flows, Listen, Poller, Server, ServerOptions, check_address_free};
pub use xdp::{
    FrameFault, LiveFrames, UdpFrame, XdpFlowOptions, XdpFlows, XdpOptions, XdpSocket, XdpStatistics,
    XdpStatisticsReader,
};
pub use xdp::{QueueLosses, QueueOptions, QueueReceiver};

#[cfg(test)]
mod tests;
