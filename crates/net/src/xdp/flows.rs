//! Flows that go by the driver: whole frames are written here, and replies come past the kernel's network stack.
//!
//! Method: a flow is a local address and a port; none of them is bound, for a program at the interface steers their
//! datagrams to AF_XDP sockets, with the time of arrival. There is a socket on each queue, and one thread reads them
//! all: which queue a reply comes by is the interface's choice. What does not come from a flow's target is passed over.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use std::{io, thread};

use super::live_frames::LiveFrames;
use super::template::{Ends, FrameTemplate};
use super::{UdpFrame, XdpOptions, XdpSocket};
use crate::batch::{Batch, Meta};
use crate::bpf::{BpfError, Obstacle, SteeringFilter, XdpSteering};
use crate::call::CallError;
use crate::clock_watch::steady_ns;
use crate::datagrams::{Datagrams, Departure, Refused, SendResult};
use crate::host_addresses::devices;

/// Arrivals that one poll takes: more than come in the longest pause between two.
const AT_ONCE: usize = 4096;
/// Frames that may wait to be received, by each queue.
const RECEIVED: u32 = 8192;
/// Frames that may be on their way out through a socket.
const SENT: u32 = 2048;
const ETHERNET: usize = 14;

/// Where flows go by, and what their ends are.
#[derive(Clone, Debug)]
pub struct XdpFlowOptions {
    /// The interface's index.
    pub interface: u32,
    /// Whether programs are run by the kernel there, and not by the driver.
    pub generic: bool,
    /// How many receive queues it has.
    pub queues: u32,
    /// Whether frames are sent by a program in the kernel ([`LiveFrames`]); else by an AF_XDP socket.
    pub live: bool,
    /// The longest IP packet, bytes.
    pub mtu: usize,
    /// The interface's link-layer address.
    pub source_mac: [u8; 6],
    /// Where flows go, in turn, each with the link-layer address of its next hop.
    pub targets: Vec<(SocketAddr, [u8; 6])>,
    /// Where they come from: flow n from the n-th address, modulo their number.
    pub sources: Vec<IpAddr>,
    /// Their first port: all addresses are used with each.
    pub first_port: u16,
    /// How many flows.
    pub flows: usize,
}

impl XdpFlowOptions {
    fn ends(&self, flow: usize) -> Option<Ends> {
        let (target, next_hop_mac) = *self.targets.get(flow % self.targets.len().max(1))?;
        let address = *self.sources.get(flow % self.sources.len().max(1))?;
        let port = usize::from(self.first_port) + flow / self.sources.len().max(1);
        let source = SocketAddr::new(address, u16::try_from(port).ok()?);
        let fits = source.is_ipv4() == target.is_ipv4();
        fits.then_some(Ends { source_mac: self.source_mac, next_hop_mac, source, target })
    }
}

/// How frames leave.
enum Transmit {
    Live(LiveFrames),
    /// By the first socket.
    Socket(SocketTransmit),
}

/// What is known of the frames that leave by a socket.
#[derive(Default)]
struct SocketTransmit {
    committed: u64,
    left: u64,
    /// Of each that has left and was not told of.
    times: VecDeque<u64>,
}

/// An arrival: where its payload lies, and when it came.
#[derive(Clone, Copy)]
struct Arrival {
    at: usize,
    length: usize,
    stamp: u64,
}

/// Arrivals in a row of one flow.
#[derive(Clone, Copy)]
struct Run {
    flow: usize,
    next: usize,
    end: usize,
}

/// What has arrived and was not received.
struct Arrivals {
    bytes: Vec<u8>,
    arrivals: Vec<Arrival>,
    runs: Vec<Run>,
    run: usize,
}

/// Which flow a datagram is for.
struct Index {
    targets: Vec<SocketAddr>,
    places: HashMap<IpAddr, usize>,
    first_port: u16,
    flows: usize,
}

/// Many flows over one interface.
pub struct XdpFlows {
    // Dropped first: nothing is steered to sockets that are being closed.
    _steering: XdpSteering,
    transmit: Transmit,
    sockets: Vec<XdpSocket>,
    templates: Vec<FrameTemplate>,
    index: Index,
    arrivals: Arrivals,
    longest: usize,
    interface: u32,
    drops_before: u64,
}

impl XdpFlows {
    /// Opens flows: from now on datagrams to their ports come here.
    ///
    /// # Errors
    /// [`BpfError`] says what forbids it.
    pub fn open(options: &XdpFlowOptions) -> Result<Self, BpfError> {
        let templates: Option<Vec<_>> =
            (0..options.flows).map(|flow| options.ends(flow).as_ref().map(FrameTemplate::new)).collect();
        let templates = templates.ok_or_else(|| {
            BpfError::new(
                Obstacle::Failed,
                "flows need ports below 65536, and sources and targets of one address family",
            )
        })?;
        let longest = options.mtu + ETHERNET;
        let ways = XdpOptions { copy: options.generic, longest, receive: RECEIVED, transmit: SENT };
        let sockets = (0..options.queues.max(1))
            .map(|queue| XdpSocket::open(options.interface, queue, ways))
            .collect::<Result<Vec<_>, _>>()?;
        let mut steering = XdpSteering::load(&SteeringFilter {
            first_port: options.first_port,
            ports: options.flows.div_ceil(options.sources.len().max(1)) as u32,
            addresses: options.sources.clone(),
            longest: sockets.iter().map(XdpSocket::longest).min().unwrap_or(0),
        })?;
        for (queue, socket) in (0..).zip(&sockets) {
            steering.set_socket(queue, socket)?;
        }
        steering.attach(options.interface, options.generic)?;
        let transmit = if options.live {
            Transmit::Live(LiveFrames::open(options.interface)?)
        } else {
            Transmit::Socket(SocketTransmit {
                times: VecDeque::with_capacity(SENT as usize),
                ..SocketTransmit::default()
            })
        };
        Ok(Self {
            _steering: steering,
            transmit,
            sockets,
            templates,
            index: Index::new(options),
            arrivals: Arrivals::new(),
            longest: longest.min(super::live_frames::LONGEST),
            interface: options.interface,
            drops_before: transmit_drops(options.interface),
        })
    }

    /// How frames leave and come.
    #[must_use]
    pub fn name(&self) -> &'static str {
        let zero_copy = self.sockets.iter().all(XdpSocket::zero_copy);
        match (&self.transmit, zero_copy) {
            (Transmit::Live(_), false) => "live frames, AF_XDP (copy)",
            (Transmit::Live(_), true) => "live frames, AF_XDP (zero copy)",
            (Transmit::Socket(_), false) => "AF_XDP (copy)",
            (Transmit::Socket(_), true) => "AF_XDP (zero copy)",
        }
    }

    fn receive_all(&mut self) {
        self.arrivals.clear();
        let (index, arrivals) = (&self.index, &mut self.arrivals);
        for socket in &mut self.sockets {
            let room = AT_ONCE - arrivals.arrivals.len();
            socket.receive(room, |frame, stamp| {
                if let Ok(datagram) = UdpFrame::parse(frame)
                    && let Some(flow) = index.flow_of(&datagram)
                {
                    arrivals.push(flow, datagram.payload, stamp);
                }
            });
        }
    }
}

impl Index {
    fn new(options: &XdpFlowOptions) -> Self {
        Self {
            targets: options.targets.iter().map(|(target, _)| *target).collect(),
            places: options.sources.iter().enumerate().map(|(place, source)| (*source, place)).collect(),
            first_port: options.first_port,
            flows: options.flows,
        }
    }

    #[inline]
    fn flow_of(&self, datagram: &UdpFrame<'_>) -> Option<usize> {
        let nth = datagram.destination.port().checked_sub(self.first_port)?;
        let place = self.places.get(&datagram.destination.ip())?;
        let flow = usize::from(nth) * self.places.len() + place;
        let target = self.targets.get(flow % self.targets.len())?;
        // Of link-local addresses the scope is known from the interface.
        let from_target = (datagram.source.ip(), datagram.source.port()) == (target.ip(), target.port());
        (flow < self.flows && from_target).then_some(flow)
    }
}

impl Arrivals {
    fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(AT_ONCE * 64),
            arrivals: Vec::with_capacity(AT_ONCE),
            runs: Vec::with_capacity(AT_ONCE),
            run: 0,
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.arrivals.clear();
        self.runs.clear();
        self.run = 0;
    }

    #[inline]
    fn push(&mut self, flow: usize, payload: &[u8], stamp: u64) {
        let nth = self.arrivals.len();
        self.arrivals.push(Arrival { at: self.bytes.len(), length: payload.len(), stamp });
        self.bytes.extend_from_slice(payload);
        match self.runs.last_mut() {
            Some(run) if run.flow == flow => run.end = nth + 1,
            _ => self.runs.push(Run { flow, next: nth, end: nth + 1 }),
        }
    }

    /// Moves the next arrivals of `flow` into the batch; a run is over when less than the batch holds are left.
    fn deliver(&mut self, flow: usize, batch: &mut Batch) -> usize {
        let Some(run) = self.runs.get_mut(self.run).filter(|run| run.flow == flow) else { return 0 };
        let until = run.end.min(run.next + batch.slots());
        let arrivals = self.arrivals.get(run.next..until).unwrap_or_default();
        for (slot, arrival) in arrivals.iter().enumerate() {
            let payload = self.bytes.get(arrival.at..arrival.at + arrival.length).unwrap_or_default();
            let stamp_steady_ns = (arrival.stamp > 0).then_some(arrival.stamp);
            batch.deliver(slot, payload, Meta { stamp_steady_ns, unicast: true, ..Meta::default() });
        }
        run.next = until;
        self.run += usize::from(arrivals.len() < batch.slots());
        arrivals.len()
    }
}

impl SocketTransmit {
    /// Has the kernel send what was committed, and notes when that has left.
    fn kick(&mut self, socket: &mut XdpSocket) -> Result<(), i32> {
        let pending = socket.kick().map_err(|error| error.errno)?;
        let now = steady_ns();
        let left = self.committed - u64::from(pending);
        self.times.extend((self.left..left).map(|_| now));
        self.left = left;
        Ok(())
    }
}

impl Datagrams for XdpFlows {
    const QUEUED: bool = true;

    fn begin(&mut self) -> io::Result<()> {
        match &mut self.transmit {
            Transmit::Live(frames) => frames.begin(),
            Transmit::Socket(_) => Ok(()),
        }
    }

    fn departed(&mut self) -> Option<Departure> {
        match &mut self.transmit {
            Transmit::Live(frames) => frames.departed(),
            Transmit::Socket(sent) => sent.times.pop_front().map(Departure::At),
        }
    }

    fn flows(&self) -> usize {
        self.templates.len()
    }

    fn send(&mut self, flow: usize, batch: &mut Batch, count: usize, _length: usize) -> SendResult {
        let (Some(template), Some(socket)) = (self.templates.get(flow), self.sockets.first_mut()) else {
            return SendResult::Failed(libc::EBADF);
        };
        let mut sent = 0;
        while sent < count {
            let payload = batch.outgoing(sent);
            let length = template.frame_length(payload.len());
            if length > self.longest {
                break;
            }
            let room = match &mut self.transmit {
                Transmit::Live(frames) => frames.reserve(length),
                Transmit::Socket(_) => socket.reserve().and_then(|room| room.get_mut(..length)),
            };
            let Some(room) = room else { break };
            template.write(payload, room);
            match &mut self.transmit {
                Transmit::Live(frames) => frames.commit(length),
                Transmit::Socket(transmit) => {
                    socket.commit(length);
                    transmit.committed += 1;
                }
            }
            sent += 1;
        }
        let done = match &mut self.transmit {
            Transmit::Live(frames) => frames.flush(),
            Transmit::Socket(transmit) => transmit.kick(socket),
        };
        match (done, sent) {
            (Err(errno), _) => SendResult::Failed(errno),
            (Ok(()), 0) if template.frame_length(batch.outgoing(0).len()) > self.longest => {
                SendResult::Failed(libc::EMSGSIZE)
            }
            (Ok(()), 0) => SendResult::Full,
            (Ok(()), sent) => SendResult::Sent(sent),
        }
    }

    fn poll(&mut self, wait: Duration) -> Result<usize, CallError> {
        let failed = |errno| CallError { call: "bpf", errno };
        match (&mut self.transmit, self.sockets.first_mut()) {
            (Transmit::Live(frames), _) => frames.error().map_err(failed)?,
            (Transmit::Socket(transmit), Some(socket)) if transmit.left < transmit.committed => {
                transmit.kick(socket).map_err(failed)?;
            }
            _ => {}
        }
        if !wait.is_zero() {
            if let Transmit::Live(frames) = &self.transmit {
                frames.rests_until(steady_ns() + wait.as_nanos() as u64);
            }
            thread::sleep(wait);
        }
        self.receive_all();
        Ok(self.arrivals.runs.len())
    }

    fn ready(&self, n: usize) -> (usize, bool) {
        self.arrivals.runs.get(n).map_or((0, false), |run| (run.flow, false))
    }

    fn receive(&mut self, flow: usize, batch: &mut Batch) -> Result<usize, CallError> {
        Ok(self.arrivals.deliver(flow, batch))
    }

    /// Refusals go to the kernel, which has no socket that they could be for.
    fn refused(&mut self, _flow: usize, _quote: &mut [u8]) -> Result<Option<Refused>, CallError> {
        Ok(None)
    }

    /// With what the interface dropped on its way out: another end's frames too, where that sends by it.
    fn drops(&self) -> u64 {
        let received: u64 = self.sockets.iter().map(|socket| socket.statistics().lost()).sum();
        received + transmit_drops(self.interface).saturating_sub(self.drops_before)
    }
}

/// Frames that the interface did not send, as it counts them; 0 where that cannot be read.
fn transmit_drops(interface: u32) -> u64 {
    let Some(device) = devices().ok().and_then(|devices| devices.get(&interface).cloned()) else { return 0 };
    let Ok(text) = fs::read_to_string("/proc/net/dev") else { return 0 };
    let prefix = format!("{}:", device.name);
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(&prefix));
    // Eight columns of what is received, then bytes, packets, errors and drops of what is sent.
    line.and_then(|numbers| numbers.split_whitespace().nth(11)?.parse().ok()).unwrap_or(0)
}
