//! Steers UDP datagrams to AF_XDP sockets: the program of `bpf/steer.bpf.c`.
//!
//! It is attached by a link of the kernel's, which ends with this process, however that ends.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use aya::maps::{HashMap, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};

use super::driver::permission;
use super::{BpfError, Loaded, Obstacle, attachment, object, total};
use crate::xdp::XdpSocket;

const OBJECT: &[u8] = object!("steer.bpf.o");
/// Frames that a test may give back.
const FRAME_MAX: usize = 2048;

/// Which datagrams are steered: untagged, whole, over IPv4 or IPv6, without IP options or extension headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SteeringFilter {
    /// The first local port.
    pub first_port: u16,
    /// How many ports from that one on.
    pub ports: u32,
    /// Local addresses, at most 8192; none: whatever address a datagram is for, forwarded ones included.
    pub addresses: Vec<IpAddr>,
    /// The longest Ethernet frame that the sockets take, bytes: [`XdpSocket::longest`]. Longer ones go up.
    pub longest: usize,
}

/// What the program has counted, frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SteeringCounters {
    /// Steered to a socket; it may have been full.
    pub redirected: u64,
    /// Passed up: for other addresses or ports, or of a kind that is not steered.
    pub passed: u64,
    /// Passed up: for these ports, and in several pieces or too long.
    pub not_plain: u64,
    /// Passed up: for these ports, on a queue without a socket.
    pub no_socket: u64,
    /// Steered without a stamp: the driver has no room for metadata.
    pub unstamped: u64,
}

/// The program, loaded; it steers while it is attached.
pub struct XdpSteering {
    // Dropped first: no frame reaches a program without its maps.
    link: Option<FdLink>,
    program: Loaded,
    sockets: XskMap<MapData>,
    counters: PerCpuArray<MapData, u64>,
    _addresses: HashMap<MapData, [u8; 16], u8>,
}

impl fmt::Debug for XdpSteering {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("XdpSteering").field("attached", &self.link.is_some()).finish_non_exhaustive()
    }
}

impl XdpSteering {
    /// Loads the program.
    ///
    /// # Errors
    /// [`BpfError`] says what forbids it.
    pub fn load(filter: &SteeringFilter) -> Result<Self, BpfError> {
        let (first, longest) = (u32::from(filter.first_port), u32::try_from(filter.longest).unwrap_or(u32::MAX));
        let globals: [(&str, &[u8]); 4] = [
            ("first_port", &first.to_ne_bytes()),
            ("ports", &filter.ports.to_ne_bytes()),
            ("longest", &longest.to_ne_bytes()),
            ("any_address", &[u8::from(filter.addresses.is_empty())]),
        ];
        let mut program = Loaded::open_plain(OBJECT, &globals, &[]).map_err(permission)?;
        let mut addresses = program.hash::<[u8; 16], u8>("addresses")?;
        for address in &filter.addresses {
            addresses.insert(octets(*address), 1, 0).map_err(|error| BpfError::of(&error))?;
        }
        let sockets = program.take("sockets")?.try_into().map_err(|error: MapError| BpfError::of(&error))?;
        let counters = program.per_cpu_array("counters")?;
        let mut made = Self { link: None, program, sockets, counters, _addresses: addresses };
        made.xdp()?.load().map_err(|error| permission(BpfError::of(&error)))?;
        Ok(made)
    }

    fn xdp(&mut self) -> Result<&mut Xdp, BpfError> {
        let found = self.program.0.program_mut("steer").ok_or_else(|| BpfError::absent("steer"))?;
        found.try_into().map_err(|error: ProgramError| BpfError::of(&error))
    }

    /// From now on what comes by this queue goes to `socket`, which is open on it.
    ///
    /// # Errors
    /// If there are more queues than the program has places for (256).
    pub fn set_socket(&mut self, queue: u32, socket: &XdpSocket) -> Result<(), BpfError> {
        self.sockets.set(queue, socket.as_raw_fd(), 0).map_err(|error| match error {
            MapError::OutOfBounds { max_entries, .. } => {
                BpfError::new(Obstacle::Unsupported, format!("queue {queue}: at most {max_entries} queues are steered"))
            }
            other => BpfError::of(&other),
        })
    }

    /// Attaches it to the interface with this index; a program of others there is left alone.
    ///
    /// # Errors
    /// [`BpfError`] says what forbids it.
    pub fn attach(&mut self, interface: u32, generic: bool) -> Result<(), BpfError> {
        self.link = Some(attachment::attach(self.xdp()?, interface, generic, false)?);
        Ok(())
    }

    /// Detaches it: all goes up to the kernel's sockets again. The counters stay.
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// Sums over all CPUs.
    ///
    /// # Errors
    /// If the kernel does not let its map be read.
    pub fn counters(&self) -> Result<SteeringCounters, BpfError> {
        let mut sums = [0; 5];
        for (index, sum) in (0..).zip(&mut sums) {
            *sum = total(&self.counters.get(&index, 0).map_err(|error| BpfError::of(&error))?);
        }
        let [redirected, passed, not_plain, no_socket, unstamped] = sums;
        Ok(SteeringCounters { redirected, passed, not_plain, no_socket, unstamped })
    }

    /// Runs it on one frame of queue 0, attached or not: what it decided (`XDP_PASS` is 2, `XDP_REDIRECT` 4). No frame
    /// goes anywhere.
    ///
    /// # Errors
    /// If the kernel does not run it.
    pub fn run_on(&mut self, frame: &[u8]) -> Result<u32, BpfError> {
        let mut out = vec![0; FRAME_MAX + frame.len()];
        let mut options = TestRunOptions::default();
        (options.data_in, options.data_out) = (Some(frame), Some(out.as_mut_slice()));
        let done = self.xdp()?.test_run(options).map_err(|error| BpfError::of(&error))?;
        Ok(done.return_value)
    }
}

/// IPv4 behind ::ffff:.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}
