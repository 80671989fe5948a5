//! Ethernet frames for a program in the network driver, and the program itself with a state to answer from.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use flatout_net::{DriverAnswer, DriverCounters, DriverResponder, DriverRoom, Obstacle, Place, clock_offsets};
use flatout_wire::ntp::{HEADER, Ntp, NtpResponder, from_unix};
use flatout_wire::{DropReason, Protocol, ProtocolOption, RequestContext, Responder, Table};

pub(super) const DEVICE: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 9];
pub(super) const PORT: u16 = 123;
pub(super) const VLAN: u16 = 10;
pub(super) const PASS: u32 = 2;
pub(super) const TX: u32 = 3;
const SECOND: u64 = 1_000_000_000;

/// A frame with one datagram; all of its fields are right.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) vlan: Option<u16>,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn v4(payload: &[u8]) -> Self {
        let (from, to) = ("192.0.2.1:40000".parse().unwrap(), "198.51.100.1:123".parse().unwrap());
        Self { vlan: None, from, to, payload: payload.to_vec() }
    }

    pub(super) fn v6(payload: &[u8]) -> Self {
        let (from, to) = ("[2001:db8::1]:40000".parse().unwrap(), "[2001:db8:1::1]:123".parse().unwrap());
        Self { vlan: None, from, to, payload: payload.to_vec() }
    }

    /// Bytes before the IP header.
    pub(super) fn ip_at(&self) -> usize {
        if self.vlan.is_some() { 18 } else { 14 }
    }

    /// Bytes before the UDP header.
    pub(super) fn udp_at(&self) -> usize {
        self.ip_at() + if self.to.is_ipv4() { 20 } else { 40 }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = [DEVICE, ROUTER].concat();
        if let Some(vlan) = self.vlan {
            out.extend([&[0x81, 0x00][..], &(vlan | 5 << 13).to_be_bytes()].concat());
        }
        let length = (8 + self.payload.len()) as u16;
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                out.extend([0x08, 0x00, 0x45, 0xb9]);
                out.extend((20 + length).to_be_bytes());
                out.extend([0x12, 0x34, 0x40, 0, 57, 17, 0, 0]);
                out.extend([from.octets(), to.octets()].concat());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                out.extend([0x86, 0xdd, 0x6b, 0x9a, 0xbc, 0xde]);
                out.extend(length.to_be_bytes());
                out.extend([17, 57]);
                out.extend([from.octets(), to.octets()].concat());
            }
            ends => panic!("{ends:?}"),
        }
        out.extend(
            [self.from.port().to_be_bytes(), self.to.port().to_be_bytes(), length.to_be_bytes(), [0; 2]].concat(),
        );
        out.extend(&self.payload);
        self.seal(&mut out);
        out
    }

    /// Makes the checksums right.
    pub(super) fn seal(&self, frame: &mut [u8]) {
        if self.to.is_ipv4() {
            let at = self.ip_at();
            frame[at + 10..at + 12].fill(0);
            let sum = !sum(&frame[at..at + 20], 0);
            frame[at + 10..at + 12].copy_from_slice(&sum.to_be_bytes());
        }
        let at = self.udp_at();
        frame[at + 6..at + 8].fill(0);
        let sum = match !self.udp_sum(frame) {
            0 => 0xffff,
            sum => sum,
        };
        frame[at + 6..at + 8].copy_from_slice(&sum.to_be_bytes());
    }

    /// The sum of addresses, protocol and length, which is all that some packets of this host carry.
    pub(super) fn pseudo_sum(&self, frame: &[u8]) -> u16 {
        let (ip, udp) = (self.ip_at(), self.udp_at());
        let addresses = if self.to.is_ipv4() { &frame[ip + 12..ip + 20] } else { &frame[ip + 8..ip + 40] };
        sum(addresses, 17 + frame.len() as u32 - udp as u32)
    }

    /// 0xffff where the checksum is right.
    pub(super) fn udp_sum(&self, frame: &[u8]) -> u16 {
        sum(&frame[self.udp_at()..], self.pseudo_sum(frame).into())
    }

    /// The frame with which the sockets' host would answer: what it says of the time is from the given payload.
    pub(super) fn answered(&self, payload: &[u8]) -> Vec<u8> {
        let answer = Self { from: self.to, to: self.from, payload: payload.to_vec(), vlan: self.vlan };
        let mut frame = answer.bytes();
        frame[..12].copy_from_slice(&[ROUTER, DEVICE].concat());
        let at = self.ip_at();
        if self.to.is_ipv4() {
            (frame[at + 1], frame[at + 8]) = (0, 64);
            frame[at + 4..at + 8].copy_from_slice(&[0, 0, 0x40, 0]);
        } else {
            frame[at..at + 4].copy_from_slice(&[0x60, 0, 0, 0]);
            frame[at + 7] = 64;
        }
        answer.seal(&mut frame);
        frame
    }
}

fn sum(bytes: &[u8], with: u32) -> u16 {
    let mut sum = with;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// A plain request.
pub(super) fn request(version: u8, mode: u8) -> [u8; HEADER] {
    let mut packet = [0; HEADER];
    (packet[0], packet[2]) = (version << 3 | mode, 6);
    packet[40..].copy_from_slice(&[9, 8, 7, 6, 5, 4, 3, 2]);
    packet
}

/// The program with a state, and the responder that the sockets would have.
pub(super) struct Rig {
    pub(super) program: DriverResponder,
    pub(super) counters: DriverCounters,
    pub(super) responder: NtpResponder,
    pub(super) answer: DriverAnswer,
}

impl Rig {
    /// `None`, with a line that says why, where this process may not load programs.
    pub(super) fn new(options: &[(&'static str, i64)], generic: bool) -> Option<Self> {
        Self::limited(options, generic, None)
    }

    /// The same with room for rules, which the program waits for.
    pub(super) fn limited(options: &[(&'static str, i64)], generic: bool, room: Option<DriverRoom>) -> Option<Self> {
        let options: Vec<_> = options.iter().map(|&(name, value)| ProtocolOption { name, value }).collect();
        let responder = Ntp::responder(&options).unwrap();
        let (mut program, counters) = match DriverResponder::load(Ntp::DRIVER_PROGRAM, &[PORT], generic, room, &[]) {
            Ok(loaded) => loaded,
            Err(error) if error.obstacle == Obstacle::Failed => panic!("{error}"),
            Err(error) => {
                eprintln!("skipped: {error}");
                return None;
            }
        };
        let place = |address: &str, vlan| Place { address: address.parse().unwrap(), port: PORT, vlan };
        let own = ["198.51.100.1", "2001:db8:1::1"].map(|at| [(place(at, 0), true), (place(at, VLAN), true)]);
        let mut places: BTreeMap<_, _> = own.into_iter().flatten().collect();
        places.insert(place("192.0.2.255", 0), false);
        program.set_places(&places).unwrap();
        let mut rig = Self { program, counters, responder, answer: DriverAnswer::default() };
        rig.tell();
        Some(rig)
    }

    /// Tells the program what the responder says now, for a minute.
    pub(super) fn tell(&mut self) {
        let (clocks, state) = (clock_offsets(), self.responder.driver_state(Table::default()).unwrap());
        self.answer = DriverAnswer {
            valid_until: clocks.steady_ns + 60 * SECOND,
            told: clocks.steady_ns,
            unix_offset: clocks.unix_ns + state.offset_ns,
            change: 0,
            tai_offset: clocks.tai_ns,
            device: DEVICE,
            words: state.words,
        };
        self.program.tell(&self.answer).unwrap();
    }

    /// What becomes of a frame. A CPU that is taken away between two readings of the clock passes it up: again.
    pub(super) fn run(&mut self, frame: &[u8]) -> (u32, Vec<u8>) {
        for _ in 0..20 {
            let before = self.counted("clock_set");
            let done = self.program.run_on(frame).unwrap();
            if self.counted("clock_set") == before {
                return done;
            }
        }
        panic!("the clock never fits");
    }

    pub(super) fn counted(&self, name: &str) -> u64 {
        let place = flatout_net::DRIVER_COUNTERS.iter().position(|counter| *counter == name).unwrap();
        self.counters.read().unwrap()[place]
    }

    /// The sockets' answer to a datagram that is stamped so.
    pub(super) fn by_socket(&self, frame: &Frame, unix_ns: u64) -> Result<Vec<u8>, DropReason> {
        let context = RequestContext {
            received_unix_ns: unix_ns,
            now_unix_ns: unix_ns,
            client: Some(frame.from),
            local: Some(frame.to.ip()),
            local_port: frame.to.port(),
            ..RequestContext::default()
        };
        let (mut packet, length) = (frame.payload.clone(), frame.payload.len());
        let length = self.responder.answer(Table::default(), &context, &mut packet, length)?;
        Ok(packet[..length].to_vec())
    }

    /// Fails unless `done` is what the sockets would have answered, at a time between now and the state's telling.
    pub(super) fn check(&self, frame: &Frame, done: &[u8]) {
        let at = frame.udp_at() + 8 + 32;
        let receive = u64::from_be_bytes(done[at..at + 8].try_into().unwrap());
        let unix_ns = unix(receive);
        let now = (clock_offsets().steady_ns as i64 + self.answer.unix_offset) as u64;
        let told = (self.answer.told as i64 + self.answer.unix_offset) as u64;
        assert!((told..=now).contains(&unix_ns), "{told} {unix_ns} {now}");
        // Interleaved servers make the stamp odd, which may be of the ns before or after.
        let fits = |ns: &u64| self.by_socket(frame, *ns).is_ok_and(|payload| done == frame.answered(&payload));
        let answer = self.by_socket(frame, unix_ns).map(|payload| frame.answered(&payload));
        assert!((unix_ns - 2..=unix_ns + 2).any(|ns| fits(&ns)), "{frame:?}\n{done:x?}\n{answer:x?}");
    }
}

/// Unix time, ns, near an NTP stamp.
pub(super) fn unix(stamp: u64) -> u64 {
    let epoch = from_unix(0) >> 32;
    ((stamp >> 32) - epoch) * SECOND + (((stamp & 0xffff_ffff) * SECOND) >> 32)
}
