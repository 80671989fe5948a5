//! What the engine is given: everything resolved, nothing left to look up.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub use flatout_wire::Link;

#[cfg(feature = "python")]
pub mod python;

use crate::pace::{Arrivals, Segment, Share, Ticks};
use crate::turns::Portion;

/// With more flows than these, memory is better spent on flows than on late answers of each.
pub(crate) const MANY_FLOWS: usize = 1 << 16;

/// A run to be done once.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject))]
pub struct LoadPlan {
    /// The protocol's name.
    pub protocol: String,
    /// Its options.
    pub options: Vec<(String, i64)>,
    /// The targets: at least one address; over datagrams flows go to all of them in turn, else to the first.
    #[cfg_attr(feature = "python", pyo3(from_py_with = python::addresses))]
    pub targets: Vec<SocketAddr>,
    /// Where nothing comes back: whose messages they are, and at which moments of a tick they leave.
    pub ticks: Ticks,
    /// Over what.
    #[cfg_attr(feature = "python", pyo3(from_py_with = python::link))]
    pub link: Link,
    /// Where to ask from, in turn, each with port 0; empty: the kernel chooses.
    #[cfg_attr(feature = "python", pyo3(from_py_with = python::addresses))]
    pub sources: Vec<SocketAddr>,
    /// How many sockets or connections that ask, over all workers.
    pub flows: usize,
    /// Whether flows share sockets, and each packet names its source address.
    pub shared_sockets: bool,
    /// What to ask about: lines of a query file.
    pub lines: Vec<String>,
    /// A query file, instead of lines.
    pub queries: Option<PathBuf>,
    /// How connections live, where the link has them.
    pub policy: ConnectionPolicy,
    /// Which part of the schedule is this host's.
    pub node: Share,
    /// Where hosts take unequal shares of the schedule: this one's; else all take the same.
    pub portion: Option<Portion>,
    /// When to begin, Unix time in ns; earlier than it can be: at once.
    pub start_at_unix_ns: Option<u64>,
    /// Whether the begin is told while the run waits for it, by [`crate::run::LoadRun::start_at`].
    pub held: bool,
    /// The counted schedule.
    pub profile: Vec<Segment>,
    /// How long to ask before counting, at the profile's first rate, ns.
    pub warmup_ns: u64,
    /// How long an answer may take, ns.
    pub timeout_ns: u64,
    /// How gaps are drawn.
    #[cfg_attr(feature = "python", pyo3(from_py_with = python::arrivals))]
    pub arrivals: Arrivals,
    /// One request at a time for each worker, in place of a schedule.
    pub ping_pong: Option<PingPong>,
    /// Of the schedule's randomness.
    pub seed: u64,
    /// Threads that ask.
    pub workers: usize,
    /// Where to keep them, in turn; empty: the scheduler chooses.
    pub cpus: Vec<usize>,
    /// Whether the target runs on the same CPUs: then threads yield where they would spin, at ordinary priority.
    pub shares_cpus: bool,
    /// An answer later than this after due counts as slow in its subinterval, ns.
    pub slow_after_ns: Option<u64>,
    /// Whether, after the last request, answers are awaited by how long others took, not for the whole timeout.
    pub brief_drain: bool,
    /// The target's threads on this host, whose waits for a CPU are kept by subinterval: /proc/PID/task/TID/schedstat.
    pub target_schedstats: Vec<PathBuf>,
    /// Whether arrivals carry the kernel's stamps.
    pub stamps: bool,
    /// Whether several datagrams of one flow leave in one call that the kernel cuts apart.
    pub segmented: bool,
    /// The interface whose driver carries datagrams, past the kernel's sockets; none: sockets carry them.
    pub xdp: Option<XdpPlan>,
    /// Where to write one row per request.
    pub log: Option<Log>,
}

/// An interface whose driver carries datagrams (XDP), and all that frames need. One worker uses it.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject))]
pub struct XdpPlan {
    /// The interface's index.
    pub interface: u32,
    /// Who runs programs there.
    #[cfg_attr(feature = "python", pyo3(from_py_with = python::xdp_mode))]
    pub mode: XdpMode,
    /// How many receive queues it has.
    pub queues: u32,
    /// Its link-layer address.
    pub source_mac: [u8; 6],
    /// The link-layer addresses of the next hops: of each target, in their order.
    pub next_hop_macs: Vec<[u8; 6]>,
    /// Addresses to ask from, in turn.
    pub sources: Vec<IpAddr>,
    /// The first port to ask from, of each address.
    pub first_port: u16,
    /// How many ports may be used from that one on.
    pub ports: u32,
    /// The longest IP packet, bytes.
    pub mtu: usize,
    /// What sends.
    #[cfg_attr(feature = "python", pyo3(from_py_with = python::xdp_transmit))]
    pub transmit: XdpTransmit,
}

/// Who runs the program at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// The interface's driver.
    Native,
    /// The kernel, above the driver.
    Generic,
}

/// What sends frames past the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpTransmit {
    /// A program in the kernel that a process runs (live frames): needs native mode, and a driver that sends for others.
    Live,
    /// An AF_XDP socket.
    Socket,
}

/// A file with one row per request.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject))]
pub struct Log {
    /// Where it is.
    pub path: PathBuf,
    /// Whether its rows are those of tcpscaler's clients.
    pub tcpscaler: bool,
}

/// How a worker with one request at a time goes about it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject))]
pub struct PingPong {
    /// How it awaits the answer.
    #[cfg_attr(feature = "python", pyo3(from_py_with = python::wait))]
    pub wait: Wait,
    /// How long the kernel may poll a network card's queue for it, µs; 0: not.
    pub busy_poll_us: u32,
}

/// How the answer to the one request under way is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The thread sleeps until the kernel wakes it.
    Sleep,
    /// The thread looks again and again.
    Spin,
}

/// How the connections of a load live.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject))]
pub struct ConnectionPolicy {
    /// How fast to open them, per s over all workers.
    pub connect_per_s: f64,
    /// How long opening one may take, ns.
    pub connect_timeout_ns: u64,
    /// Requests after which a connection is replaced by a new one; 0: never.
    pub churn: u32,
    /// Connections to keep open beside those that ask.
    pub hold: usize,
    /// Whether one that ends or fails is opened again.
    pub reconnect: bool,
    /// What carries them.
    #[cfg_attr(feature = "python", pyo3(from_py_with = python::io))]
    pub io: Io,
    /// What TLS needs.
    pub tls: Tls,
}

/// What carries streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// io_uring where it works, else epoll.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

/// How to speak TLS.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject))]
pub struct Tls {
    /// The server's name: SNI, and what its certificate is checked against.
    pub name: String,
    /// Whether to check the certificate.
    pub verify: bool,
    /// PEM file of the authorities to trust, instead of the system's.
    pub authorities: Option<PathBuf>,
    /// Whether later connections may resume the session of earlier ones.
    pub resume: bool,
}

impl LoadPlan {
    /// The counted schedule's length in ns.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        (self.profile.iter().map(|segment| segment.seconds).sum::<f64>() * 1e9) as u64
    }

    /// The highest rate of the schedule, per s.
    #[must_use]
    pub fn peak_per_s(&self) -> f64 {
        self.profile.iter().flat_map(|s| [s.from_per_s, s.to_per_s]).fold(0.0, f64::max)
    }

    /// Slots for each connection, of which there may be a million: what may wait, and hardly ever more comes its way.
    #[must_use]
    pub fn slots_a_connection(&self) -> usize {
        let mine = self.portion.map_or_else(|| 1.0 / f64::from(self.node.of.max(1)), Portion::fraction);
        let peak = self.peak_per_s() * mine;
        let waiting = peak * self.timeout_ns as f64 / 1e9 / self.flows.max(1) as f64;
        // Six standard deviations of a Poisson count.
        (waiting + 6.0 * waiting.sqrt() + 2.0).min(f64::from(1 << 24)) as usize
    }

    /// Slots for each flow: what may wait, and where memory allows four times as much, so that late answers find theirs.
    #[must_use]
    pub fn slots_a_flow(&self) -> usize {
        const PLENTY: f64 = (2 << 20) as f64;
        const MOST: f64 = (32 << 20) as f64;
        let spare = if self.flows > MANY_FLOWS { 2 } else { 16 };
        let waiting = self.peak_per_s() * self.timeout_ns as f64 / 1e9 * 1.25;
        let remembered = (waiting * 4.0).max(self.peak_per_s() * 2.0).min(PLENTY);
        (waiting.max(remembered).min(MOST) / self.flows as f64) as usize + spare
    }
}

/// Which requests a server answers.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject))]
pub struct AdmissionPlan {
    /// Prefixes with their bits and what they say; see [`crate::server::Class`].
    #[cfg_attr(feature = "python", pyo3(from_py_with = python::prefixes))]
    pub prefixes: Vec<(IpAddr, u8, crate::server::Class)>,
    /// Whether an address that no prefix covers is denied.
    pub only_allowed: bool,
    /// Requests per s of one client; 0: no limit.
    pub client_per_s: f64,
    /// How many of them at once.
    pub client_burst: u32,
    /// One in so many above the rate is answered; 0: none.
    pub client_leak: u32,
    /// Whether some of those above the rate get a kiss-o'-death.
    pub kiss: bool,
    /// The bits of a v4 address that make a client: 1 to 32.
    pub v4_bits: u8,
    /// The bits of a v6 address that make a client: 1 to 64.
    pub v6_bits: u8,
    /// The bandwidth of answers, IP headers included; none: no limit.
    pub bytes_per_s: Option<u64>,
    /// How many clients are known at once, over all workers.
    pub clients: usize,
}

/// A server to be run until it is stopped.
#[derive(Clone, Debug)]
pub struct ServePlan {
    /// The protocol's name.
    pub protocol: String,
    /// Its options.
    pub options: Vec<(String, i64)>,
    /// Where to listen: at least one address, unless sockets are inherited.
    pub listen: Vec<SocketAddr>,
    /// Only what comes by this interface; over datagrams.
    pub interface: Option<String>,
    /// The addresses may be such that this host does not have yet; over datagrams.
    pub free_bind: bool,
    /// Descriptors of bound UDP sockets that this process was started with, instead of addresses.
    pub inherited: Vec<i32>,
    /// Whether all datagrams of a client (an address or prefix: `admission`) reach one worker, whatever their ports.
    pub by_client: bool,
    /// Which datagrams are answered.
    pub admission: AdmissionPlan,
    /// Over what: each worker listens on all of them.
    pub links: Vec<Link>,
    /// What to answer from: keys and values, as the protocol's wire file reads them.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// What carries streams.
    pub io: Io,
    /// Connections at once, over all workers.
    pub connections: usize,
    /// How long a connection may be idle; none: for ever.
    pub idle_timeout_ns: Option<u64>,
    /// Threads that answer, each with its own socket for each address.
    pub workers: usize,
    /// Where to keep them, in turn; empty: the scheduler chooses.
    pub cpus: Vec<usize>,
    /// A program that answers in the network driver; none: the sockets answer everything.
    pub driver: Option<DriverPlan>,
}

/// A program in the network driver (XDP).
#[derive(Clone, Debug)]
pub struct DriverPlan {
    /// The interface's index.
    pub interface: u32,
    /// What to try, in turn: whether the program is run by the kernel (generic) and not by the driver (native).
    pub generic: Vec<bool>,
    /// Whether the server fails where none of them works.
    pub required: bool,
    /// Whether a program of others is detached from the interface.
    pub replace: bool,
}

/// A receiver of what goes one way, to be run until it is stopped.
#[derive(Clone, Debug)]
pub struct ReceivePlan {
    /// The protocol's name.
    pub protocol: String,
    /// Its options.
    pub options: Vec<(String, i64)>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Threads that receive.
    pub workers: usize,
    /// Whether all of them read one socket; else each has its own, and the kernel spreads senders over them.
    pub shared: bool,
    /// Where to keep them, in turn; empty: the scheduler chooses.
    pub cpus: Vec<usize>,
    /// Whether the kernel may hand over several datagrams of one sender as one (UDP_GRO).
    pub coalesced: bool,
    /// Whether arrivals carry the kernel's stamps; else the time at which a worker read them.
    pub stamps: bool,
    /// The sockets' receive buffers, bytes each.
    pub buffer: usize,
    /// Messages that may wait for the handler, over all workers.
    pub queue: usize,
    /// What happens to more.
    pub when_full: WhenFull,
    /// Senders whose sequence numbers are followed, and whose addresses are kept, at most.
    pub tracked: usize,
    /// Whether counter questions on the same port are answered.
    pub tells: bool,
    /// Datagrams are taken from the queues of an interface (AF_XDP), one worker a queue; else from sockets.
    pub xdp: Option<XdpReceivePlan>,
}

/// The interface whose queues a receiver takes datagrams from.
#[derive(Clone, Copy, Debug)]
pub struct XdpReceivePlan {
    /// Its index.
    pub interface: u32,
    /// Its receive queues.
    pub queues: u32,
    /// Its MTU, bytes.
    pub mtu: usize,
    /// Frames that may wait in each queue.
    pub frames: u32,
}

/// What to do when the queue to the handler is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The longest waiting messages make room.
    DropOldest,
    /// Those that have just come are dropped.
    DropNewest,
    /// Receiving waits: the kernel's buffer fills, and what does not fit there the kernel drops.
    Wait,
}
