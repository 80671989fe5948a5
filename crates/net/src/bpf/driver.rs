//! A program that answers requests in the network driver (XDP): its state, its places, its counters.
//!
//! It is attached by a link of the kernel's, which ends with this process, however that ends. The program answers only
//! while the state that it was told last is valid; all else goes to the sockets. The layouts are those of `bpf/ntp.bpf.c`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};

use super::obstacle::{errno, is_network_admin};
use super::{BpfError, DriverPolicy, DriverRoom, DriverSpending, Loaded, Obstacle, attachment, total};

/// Bytes of a state and of a place.
const STATE: usize = 88;
const PLACE: usize = 20;
const PORTS: usize = 8;
/// Of an answer in a program's table.
const KEY: usize = 68;
const VALUE: usize = 512;
/// The most of them: 60 MB.
const ANSWERS: u32 = 100_000;
/// Frames that a test may give back.
const FRAME_MAX: usize = 2048;

/// The program's counters: answers and their bytes with IP and UDP headers, then why requests were passed up.
pub const DRIVER_COUNTERS: [&str; 8] =
    ["answered", "sent_bytes", "no_state", "clock_set", "address", "source", "not_plain", "checksum"];

/// What the program answers from; times are of CLOCK_MONOTONIC, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverAnswer {
    /// From then on nothing is answered.
    pub valid_until: u64,
    /// When the offset was right.
    pub told: u64,
    /// The time to give minus the clock.
    pub unix_offset: i64,
    /// How the offset changes, in 2^-32 ns a ns.
    pub change: i64,
    /// CLOCK_TAI minus the clock: it changes when the clock is set.
    pub tai_offset: i64,
    /// The device's Ethernet address.
    pub device: [u8; 6],
    /// The protocol's.
    pub words: [u64; 4],
}

/// A key and a value of a program's table.
pub type DriverAnswerEntry = ([u8; KEY], [u8; VALUE]);

/// Where requests come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// An address of this host.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// The VLAN's tag in the frame; 0: none.
    pub vlan: u16,
}

impl Place {
    fn key(&self) -> [u8; PLACE] {
        let mut key = [0; PLACE];
        let octets = match self.address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let (address, rest) = key.split_at_mut(16);
        address.copy_from_slice(&octets);
        let (port, vlan) = rest.split_at_mut(2);
        port.copy_from_slice(&self.port.to_be_bytes());
        vlan.copy_from_slice(&self.vlan.to_be_bytes());
        key
    }
}

/// Its counters, which outlive it.
pub struct DriverCounters(PerCpuArray<MapData, u64>);

impl fmt::Debug for DriverCounters {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("counters of a program")
    }
}

impl DriverCounters {
    /// Sums over all CPUs, in the order of [`DRIVER_COUNTERS`].
    ///
    /// # Errors
    /// If the kernel does not let its map be read.
    pub fn read(&self) -> Result<[u64; DRIVER_COUNTERS.len()], BpfError> {
        let mut sums = [0; DRIVER_COUNTERS.len()];
        for (index, sum) in (0..).zip(&mut sums) {
            *sum = total(&self.0.get(&index, 0).map_err(|error| BpfError::of(&error))?);
        }
        Ok(sums)
    }
}

/// The program, loaded; it answers while it is attached.
pub struct DriverResponder {
    // Dropped first: no frame reaches a program without its maps.
    link: Option<FdLink>,
    program: Loaded,
    states: Array<MapData, [u8; STATE]>,
    versions: Array<MapData, u64>,
    places: HashMap<MapData, [u8; PLACE], u8>,
    /// The places as they are told.
    told: BTreeMap<Place, bool>,
    version: u64,
    limits: Option<(DriverPolicy, DriverSpending)>,
}

impl DriverResponder {
    /// Loads an object for these ports, at most 8; `generic`: it will be run by the kernel and not by a driver. With
    /// `room` it has rules, and answers nothing before it is told them and a bandwidth. `answers` are its table.
    ///
    /// # Errors
    /// [`BpfError`] says what forbids it.
    pub fn load(
        object: &[u8],
        ports: &[u16],
        generic: bool,
        room: Option<DriverRoom>,
        answers: &[DriverAnswerEntry],
    ) -> Result<(Self, DriverCounters), BpfError> {
        if ports.len() > PORTS {
            return Err(BpfError::new(Obstacle::Unsupported, format!("answers at most {PORTS} ports in the driver")));
        }
        let mut listened = [0_u8; 2 * PORTS];
        for (slot, port) in listened.chunks_exact_mut(2).zip(ports) {
            slot.copy_from_slice(&port.to_be_bytes());
        }
        let (generic, constants) = ([u8::from(generic)], room.map(DriverRoom::constants));
        let mut globals: Vec<(&str, &[u8])> = vec![("ports", &listened), ("generic", &generic)];
        globals.extend(constants.iter().flat_map(DriverRoom::globals));
        let mut sizes = room.map(DriverRoom::sizes).as_slice().as_flattened().to_vec();
        if !answers.is_empty() {
            sizes.push(("answers", table_size(answers.len())?));
        }
        let mut program = Loaded::open_plain(object, &globals, &sizes).map_err(permission)?;
        let counters = DriverCounters(program.per_cpu_array("counters")?);
        let (states, versions, places) =
            (program.array("states")?, program.array("versions")?, program.hash("places")?);
        let limits = match room {
            Some(_) => Some((DriverPolicy::of(&mut program)?, DriverSpending::of(&mut program)?)),
            None => None,
        };
        let mut made =
            Self { link: None, program, states, versions, places, told: BTreeMap::new(), version: 0, limits };
        made.xdp()?.load().map_err(|error| unloaded(BpfError::of(&error)))?;
        if !answers.is_empty() {
            fill(made.program.hash("answers")?, answers)?;
        }
        Ok((made, counters))
    }

    /// What tells it the rules and the bandwidth, where it has any; once.
    pub fn take_limits(&mut self) -> Option<(DriverPolicy, DriverSpending)> {
        self.limits.take()
    }

    fn xdp(&mut self) -> Result<&mut Xdp, BpfError> {
        let (_, program) = self.program.0.programs_mut().next().ok_or_else(|| BpfError::absent("program"))?;
        program.try_into().map_err(|error: ProgramError| BpfError::of(&error))
    }

    /// Attaches it to the interface with this index. A program of others there is left alone, or (`replace`) detached
    /// first unless a link holds it.
    ///
    /// # Errors
    /// [`BpfError`] says what forbids it.
    pub fn attach(&mut self, interface: u32, generic: bool, replace: bool) -> Result<(), BpfError> {
        self.link = Some(attachment::attach(self.xdp()?, interface, generic, replace)?);
        Ok(())
    }

    /// Takes it from its interface, if that has not gone.
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// Replaces what it answers from.
    ///
    /// # Errors
    /// If the kernel does not let its map be written.
    pub fn tell(&mut self, answer: &DriverAnswer) -> Result<(), BpfError> {
        self.version += 1;
        let [a, b, c, d, e, f] = answer.device;
        let numbers = [
            self.version,
            answer.valid_until,
            answer.told,
            answer.unix_offset as u64,
            answer.change as u64,
            answer.tai_offset as u64,
            u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]),
        ];
        let mut state = [0; STATE];
        for (slot, number) in state.chunks_exact_mut(8).zip(numbers.iter().chain(&answer.words)) {
            slot.copy_from_slice(&number.to_ne_bytes());
        }
        // The slot that is not read now; then the version, which is one word, leads to it.
        self.states.set((self.version & 1) as u32, state, 0).map_err(|error| BpfError::of(&error))?;
        self.versions.set(0, self.version, 0).map_err(|error| BpfError::of(&error))
    }

    /// From now on everything is passed up, until [`DriverResponder::tell`].
    ///
    /// # Errors
    /// If the kernel does not let its map be written.
    pub fn withdraw(&mut self) -> Result<(), BpfError> {
        self.versions.set(0, 0, 0).map_err(|error| BpfError::of(&error))
    }

    /// Replaces the places where it answers (true), and addresses that no client can have (false).
    ///
    /// # Errors
    /// If the kernel does not let its map be written, or there are too many places.
    pub fn set_places(&mut self, places: &BTreeMap<Place, bool>) -> Result<(), BpfError> {
        for gone in self.told.keys().filter(|place| !places.contains_key(place)) {
            self.places.remove(&gone.key()).map_err(|error| BpfError::of(&error))?;
        }
        self.told.retain(|place, _| places.contains_key(place));
        for (place, served) in places {
            if self.told.get(place) != Some(served) {
                self.places.insert(place.key(), u8::from(*served), 0).map_err(|error| BpfError::of(&error))?;
                self.told.insert(*place, *served);
            }
        }
        Ok(())
    }

    /// Runs it on one frame, attached or not: what it decided (`XDP_PASS` is 2, `XDP_TX` 3), and the frame then.
    ///
    /// # Errors
    /// If the kernel does not run it.
    pub fn run_on(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>), BpfError> {
        let mut out = vec![0; FRAME_MAX];
        let mut options = TestRunOptions::default();
        (options.data_in, options.data_out) = (Some(frame), Some(out.as_mut_slice()));
        let done = self.xdp()?.test_run(options).map_err(|error| BpfError::of(&error))?;
        out.truncate(done.data_size_out as usize);
        Ok((done.return_value, out))
    }
}

/// The size of a table. Errors: there are more answers than a program is given.
fn table_size(answers: usize) -> Result<u32, BpfError> {
    u32::try_from(answers).ok().filter(|answers| *answers <= ANSWERS).ok_or_else(|| {
        BpfError::new(Obstacle::Unsupported, format!("XDP: the driver answers from at most {ANSWERS} names and types"))
    })
}

/// Writes the answers; of several with one key the first holds.
fn fill(mut table: HashMap<MapData, [u8; KEY], [u8; VALUE]>, answers: &[DriverAnswerEntry]) -> Result<(), BpfError> {
    const NEW_ONLY: u64 = 1;
    for (key, value) in answers {
        match table.insert(key, value, NEW_ONLY) {
            Err(error) if errno(&error) != Some(libc::EEXIST) => return Err(BpfError::of(&error)),
            _ => {}
        }
    }
    Ok(())
}

/// XDP needs another capability than tracing programs.
pub(super) fn permission(error: BpfError) -> BpfError {
    let asks = matches!(error.obstacle, Obstacle::NotPermitted | Obstacle::Forbidden) && !is_network_admin();
    if asks || error.obstacle == Obstacle::NotPermitted {
        let text = "not permitted to run XDP programs: needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN";
        return BpfError::new(Obstacle::NotPermitted, text);
    }
    error
}

/// Why it cannot be loaded: a kernel that is too old calls the program invalid.
fn unloaded(error: BpfError) -> BpfError {
    if ["invalid func", "unknown func"].iter().any(|words| error.text.contains(words)) {
        let text = "this kernel lacks a function that the program needs (Linux 6.1 has all)";
        return BpfError::new(Obstacle::Unsupported, text);
    }
    permission(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]

    use super::*;
    use crate::clock_offsets;

    const OBJECT: &[u8] = super::super::object!("ntp.bpf.o");
    const DEVICE: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const XDP_TX: u32 = 3;

    /// A plain request from 192.0.2.1 to 192.0.2.2, without a UDP checksum.
    fn frame() -> Vec<u8> {
        let mut frame = [&DEVICE[..], &[2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0, 0, 76, 0, 0, 0, 0, 64, 17]].concat();
        // The checksum of this header.
        frame.extend([0xf6, 0x9d, 192, 0, 2, 1, 192, 0, 2, 2, 0x9c, 0x40, 0, 123, 0, 56, 0, 0, 0x23]);
        frame.resize(frame.len() + 47, 7);
        frame
    }

    /// `None`, with a line that says why, where this process may not load programs.
    fn loaded() -> Option<(DriverResponder, DriverCounters)> {
        match DriverResponder::load(OBJECT, &[123], false, None, &[]) {
            Ok(loaded) => Some(loaded),
            Err(error) if error.obstacle == Obstacle::Failed => panic!("{error}"),
            Err(error) => {
                eprintln!("skipped: {error}");
                None
            }
        }
    }

    fn answer() -> DriverAnswer {
        let clocks = clock_offsets();
        DriverAnswer {
            valid_until: clocks.steady_ns + 60_000_000_000,
            told: clocks.steady_ns,
            unix_offset: clocks.unix_ns,
            change: 0,
            tai_offset: clocks.tai_ns,
            device: DEVICE,
            words: [u64::from_ne_bytes([0, 1, 0, 0xec, 0, 0, 0, 0]), 0, 0, 1],
        }
    }

    fn is_answered(driver: &mut DriverResponder, counters: &DriverCounters) -> bool {
        // A CPU that is taken away between two readings of the clock passes the request up: again.
        (0..20).any(|_| {
            let [_, _, _, before, ..] = counters.read().unwrap();
            let (decision, _) = driver.run_on(&frame()).unwrap();
            let [_, _, _, after, ..] = counters.read().unwrap();
            assert!(after > before || decision == XDP_TX || counters.read().unwrap()[2] > 0);
            decision == XDP_TX
        })
    }

    fn place() -> BTreeMap<Place, bool> {
        BTreeMap::from([(Place { address: "192.0.2.2".parse().unwrap(), port: 123, vlan: 0 }, true)])
    }

    #[test]
    fn a_state_that_is_half_another_one_is_not_used() {
        let Some((mut driver, counters)) = loaded() else { return };
        driver.set_places(&place()).unwrap();
        assert!(driver.run_on(&frame()).unwrap().0 != XDP_TX, "none was told yet");
        driver.tell(&answer()).unwrap();
        driver.tell(&answer()).unwrap();
        let slot = (driver.version & 1) as u32;
        let whole = driver.states.get(&slot, 0).unwrap();
        let mut other = whole;
        // As its reader would find the slot while the state after the next is written into it.
        other[..8].copy_from_slice(&(driver.version + 2).to_ne_bytes());
        driver.states.set(slot, other, 0).unwrap();
        let [_, _, before, ..] = counters.read().unwrap();
        assert!(driver.run_on(&frame()).unwrap().0 != XDP_TX);
        assert_eq!(counters.read().unwrap()[2], before + 1, "no state");
        driver.states.set(slot, whole, 0).unwrap();
        assert!(is_answered(&mut driver, &counters));
        driver.withdraw().unwrap();
        assert!(driver.run_on(&frame()).unwrap().0 != XDP_TX);
        driver.tell(&answer()).unwrap();
        assert!(is_answered(&mut driver, &counters), "what was withdrawn is told anew");
    }

    #[test]
    fn places_come_and_go() {
        let Some((mut driver, counters)) = loaded() else { return };
        driver.tell(&answer()).unwrap();
        let mut answers = |places: &BTreeMap<Place, bool>| {
            driver.set_places(places).unwrap();
            (0..20).any(|_| driver.run_on(&frame()).unwrap().0 == XDP_TX)
        };
        assert!(answers(&place()));
        assert!(!answers(&BTreeMap::new()));
        assert!(answers(&place()));
        assert!(!answers(&place().into_keys().map(|place| (place, false)).collect()));
        assert!(counters.read().unwrap()[4] >= 2, "passed up for their address");
    }

    #[test]
    fn an_older_kernel_is_told_from_a_lack_of_permission() {
        let verifier = "the BPF program cannot be loaded: the BPF_PROG_LOAD syscall failed. invalid func unknown#208";
        let old = unloaded(BpfError::new(Obstacle::Failed, verifier));
        assert_eq!((old.obstacle, old.text.contains("Linux 6.1")), (Obstacle::Unsupported, true));
        let refused = unloaded(BpfError::new(Obstacle::NotPermitted, "needs root, or CAP_BPF and CAP_PERFMON"));
        assert!(refused.text.contains("CAP_NET_ADMIN"), "{refused}");
        assert_eq!(unloaded(BpfError::new(Obstacle::Lockdown, "locked")).text, "locked");
    }

    #[test]
    fn more_ports_than_the_program_has_places_for_are_refused() {
        let error = DriverResponder::load(OBJECT, &[1; 9], false, None, &[]).err().unwrap();
        assert_eq!(error.obstacle, Obstacle::Unsupported);
    }
}
