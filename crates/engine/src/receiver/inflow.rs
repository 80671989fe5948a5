//! Where a receiver's datagrams come from: sockets, or the queues of an interface (AF_XDP) beside one socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flatout_net::{
    BpfError, CallError, DatagramReceiver, Peer, QueueOptions, QueueReceiver, ReceiveOptions, ReceiveRing,
    ReceiveSocket, SteeringFilter, XdpOptions, XdpSocket, XdpSteering, devices,
};

use super::stats::Drops;
use crate::plan::{ReceivePlan, XdpReceivePlan};
use crate::published::lock;

/// An Ethernet header beside the MTU.
const ETHERNET: usize = 14;
/// Reads at most of what came to the socket before datagrams were steered past it.
const EARLY: usize = 1024;

/// One source: a socket, or a queue.
pub(super) enum Source {
    Socket(Arc<ReceiveSocket>),
    Queue(Box<QueueReceiver>, Arc<ReceiveSocket>),
}

impl Source {
    fn socket(&self) -> &ReceiveSocket {
        match self {
            Self::Socket(socket) | Self::Queue(_, socket) => socket,
        }
    }

    /// Slots for its arrivals.
    pub(super) fn ring(&self, longest: usize) -> ReceiveRing {
        let socket = self.socket();
        ReceiveRing::new(longest, socket.coalesced(), socket.has_control_messages())
    }

    /// What it drops.
    pub(super) fn drops(&self) -> Drops {
        match self {
            Self::Socket(socket) => {
                let socket = Arc::clone(socket);
                Drops::new(move || socket.memory().drops)
            }
            Self::Queue(queue, _) => {
                let losses = queue.losses();
                Drops::new(move || losses.count())
            }
        }
    }
}

impl DatagramReceiver for Source {
    fn receive(&mut self, into: &mut ReceiveRing, waits: bool) -> Result<usize, CallError> {
        match self {
            Self::Socket(socket) => socket.receive(into, waits),
            Self::Queue(queue, _) => queue.receive(into, waits),
        }
    }

    fn answer(&mut self, bytes: &[u8], to: Peer) {
        self.socket().send(bytes, &[to]);
    }
}

/// How datagrams are taken from an interface.
#[derive(Clone, Debug)]
pub struct LinkReport {
    /// The kernel runs the program behind the driver; else the driver does.
    pub generic: bool,
    /// The device writes into the receiver's memory; else the kernel copies.
    pub zero_copy: bool,
    /// Queues, and workers.
    pub queues: u32,
    /// Why it is not as it was tried first; empty if it is.
    pub refused: String,
}

/// The program at the interface, and how it is there.
pub(super) struct Steered {
    pub(super) report: LinkReport,
    program: Mutex<XdpSteering>,
}

impl Steered {
    pub(super) fn detach(&self) {
        lock(&self.program).detach();
    }
}

/// All sources of a receiver.
pub(super) struct Inflow {
    pub(super) address: SocketAddr,
    /// The socket that answers leave by.
    pub(super) answering: Arc<ReceiveSocket>,
    /// One a worker, or one for all.
    pub(super) sources: Vec<Source>,
    pub(super) steered: Option<Steered>,
}

impl Inflow {
    /// Opens them; each waits for `wait` at most. Errors are the kernel's.
    pub(super) fn open(plan: &ReceivePlan, workers: usize, wait: Duration) -> io::Result<Self> {
        let coalesced = plan.coalesced && plan.xdp.is_none();
        let options = ReceiveOptions { wait, buffer: plan.buffer, stamps: plan.stamps, coalesced };
        flatout_net::check_address_free(plan.listen)?;
        let answering = Arc::new(ReceiveSocket::bind(plan.listen, options)?);
        let address = answering.address()?;
        if let Some(xdp) = &plan.xdp {
            let (sources, steered) = steer(plan, xdp, wait, &answering, address)?;
            return Ok(Self { address, answering, sources, steered: Some(steered) });
        }
        let mut sources = vec![Source::Socket(Arc::clone(&answering))];
        for _ in 1..if plan.shared { 1 } else { workers } {
            sources.push(Source::Socket(Arc::new(ReceiveSocket::bind(address, options)?)));
        }
        Ok(Self { address, answering, sources, steered: None })
    }
}

/// A source for each worker: where there are fewer, they share the first.
pub(super) fn spread(mut sources: Vec<Source>, workers: usize) -> Vec<Source> {
    if let [Source::Socket(socket)] = sources.as_slice() {
        let shared = Arc::clone(socket);
        sources.resize_with(workers, || Source::Socket(Arc::clone(&shared)));
    }
    sources
}

/// Attaches a program that steers what is for `address` to sockets on the queues: by the driver, else behind it.
fn steer(
    plan: &ReceivePlan,
    xdp: &XdpReceivePlan,
    wait: Duration,
    rest: &Arc<ReceiveSocket>,
    address: SocketAddr,
) -> io::Result<(Vec<Source>, Steered)> {
    let longest = xdp.mtu + ETHERNET;
    let filter = SteeringFilter {
        first_port: address.port(),
        ports: 1,
        addresses: own_addresses(address.ip())?,
        longest: XdpOptions { longest, ..XdpOptions::default() }.room(),
    };
    let refused = io::Error::other::<BpfError>;
    let mut program = XdpSteering::load(&filter).map_err(refused)?;
    let native = program.attach(xdp.interface, false);
    if let Err(why) = &native
        && program.attach(xdp.interface, true).is_err()
    {
        return Err(refused(why.clone()));
    }
    let options = XdpOptions { copy: native.is_err(), longest, receive: xdp.frames, ..XdpOptions::default() };
    let (mut sources, mut zero_copy) = (Vec::new(), true);
    for number in 0..xdp.queues {
        let queue = XdpSocket::open(xdp.interface, number, options).map_err(refused)?;
        program.set_socket(number, &queue).map_err(refused)?;
        zero_copy &= queue.zero_copy();
        let takes_rest = number == 0;
        let options = QueueOptions { wait, stamps: plan.stamps, takes_rest, interface: xdp.interface };
        let receiver = QueueReceiver::new(queue, Arc::clone(rest), options)?;
        sources.push(Source::Queue(Box::new(receiver), Arc::clone(rest)));
    }
    pass_over_early(rest);
    let why = native.err().map(|error| error.text).unwrap_or_default();
    let report = LinkReport { generic: !why.is_empty(), zero_copy, queues: xdp.queues, refused: why };
    Ok((sources, Steered { report, program: Mutex::new(program) }))
}

/// What came to the socket first would be followed by another worker than what comes now.
fn pass_over_early(socket: &Arc<ReceiveSocket>) {
    let (mut socket, mut early) = (Arc::clone(socket), ReceiveRing::new(1, false, socket.has_control_messages()));
    for _ in 0..EARLY {
        if !socket.receive(&mut early, false).is_ok_and(|count| count > 0) {
            return;
        }
    }
}

/// The addresses that datagrams for `listened` go to: on a wildcard all of this host's. An address that is added later
/// is for the socket.
fn own_addresses(listened: IpAddr) -> io::Result<Vec<IpAddr>> {
    let canonical = listened.to_canonical();
    if !canonical.is_unspecified() {
        return Ok(vec![canonical]);
    }
    let all = devices()?.into_values().flat_map(|device| device.addresses).map(|own| own.address);
    Ok(all.filter(|own| listened.is_ipv6() || own.is_ipv4()).collect())
}
