//! Answers in the network driver (XDP): keeps a protocol's program up to date while the server runs.
//!
//! Method: a thread computes what answers say with the workers' own responder, for now and for the end of the lease, and
//! tells the program; that answers only within the lease, so a thread that stalls or dies closes the path by itself. When
//! the clock is set the path closes at once, until what is told fits the clock again. Everything that the program does
//! not answer is for the sockets.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flatout_net::{
    BpfError, ClockOffsets, ClockWatch, DRIVER_COUNTERS, Device, DriverAnswer, DriverAnswerEntry, DriverCounters,
    DriverResponder, DriverSpending, Obstacle, Place, Server, Vlan, clock_offsets, devices, vlans,
};
use flatout_wire::{DriverState, LiveState, Protocol, Responder, Table};

use super::Serving;
use super::admission::{Admissions, ClientRow, InDriver, Refusals, settle};
use super::leap_second::steady_for_ns;
use super::live::LiveReader;
use crate::answer_table::AnswerTable;
use crate::clock::steady_now;
use crate::plan::DriverPlan;
use crate::published::lock;

/// How long the program answers without being told anew, and how often it is told.
const LEASE_NS: u64 = 200_000_000;
const TELL: Duration = Duration::from_millis(50);
/// The keeping thread's niceness.
const PRIORITY: i32 = -10;
/// Turns between two looks at this host's addresses: 1 s.
const LOOK_TURNS: u32 = 20;
/// Readings of the clocks that took longer are not told.
const TOOK_NS: u64 = 20_000;
/// A faster change of the offset than by a tenth of the time is no correction.
const CHANGE_NS: u64 = LEASE_NS / 10;

/// The program's counters by name.
pub type Counted = [(&'static str, u64); DRIVER_COUNTERS.len()];

/// A server's program in the driver, as its owner sees it.
#[derive(Debug, Default)]
pub(super) struct Driver {
    mode: &'static str,
    counters: Option<DriverCounters>,
    /// Why a mode that was tried first does not work.
    refused: String,
    now: Arc<Mutex<Now>>,
    limits: Option<InDriver>,
    /// Why it has not the rules that hold now.
    unruled: Mutex<String>,
}

/// What its thread says of it.
#[derive(Debug, Default)]
struct Now {
    attached: bool,
    /// Why it does not answer.
    why: String,
}

impl Driver {
    pub(super) fn describe(&self) -> (&'static str, String) {
        let now = lock(&self.now);
        let unruled = lock(&self.unruled);
        let whys =
            [self.refused.as_str(), now.why.as_str(), unruled.as_str()].into_iter().filter(|why| !why.is_empty());
        (if now.attached { self.mode } else { "" }, whys.collect::<Vec<_>>().join("; "))
    }

    /// Tells the program the rules that hold now.
    pub(super) fn set_admission(&self, admissions: &Admissions) {
        let told = self.limits.as_ref().map_or(Ok(()), |limits| limits.replace(admissions));
        *lock(&self.unruled) = told.err().map(|error| error.to_string()).unwrap_or_default();
    }

    /// What the program's rules counted; `None`: it has none.
    pub(super) fn refusals(&self) -> Option<Result<Refusals, BpfError>> {
        self.limits.as_ref().map(InDriver::refusals)
    }

    /// Adds its clients that asked most.
    pub(super) fn add_clients(&self, rows: &mut Vec<ClientRow>) {
        for row in self.limits.iter().flat_map(InDriver::clients) {
            match rows.iter_mut().find(|known| known.address == row.address) {
                Some(known) => known.add(&row),
                None => rows.push(row),
            }
        }
    }

    pub(super) fn counters(&self) -> Option<Result<Counted, BpfError>> {
        let counted = self.counters.as_ref()?.read();
        Some(counted.map(|counted| std::array::from_fn(|n| (DRIVER_COUNTERS[n], counted[n]))))
    }
}

impl Serving {
    /// How the program in the network driver runs: "native", "generic", or nothing; and why it does not, or not now.
    #[must_use]
    pub fn driver(&self) -> (&'static str, String) {
        self.driver.describe()
    }

    /// Its counters; `None`: there is no such program. Errors: the kernel does not let them be read.
    #[must_use]
    pub fn driver_counters(&self) -> Option<Result<Counted, BpfError>> {
        self.driver.counters()
    }

    /// What its rules counted; `None`: it has none. Errors: the kernel does not let them be read.
    #[must_use]
    pub fn driver_refusals(&self) -> Option<Result<Refusals, BpfError>> {
        self.driver.refusals()
    }
}

/// Loads and attaches a protocol's program in the first mode that works; also returns what keeps it up to date, if any.
///
/// Errors: none works although one is required; or the kernel has no timer.
pub(super) fn start<P: Protocol>(
    plan: &DriverPlan,
    responder: P::Responder,
    live: LiveReader,
    sockets: &Sockets,
    limits: &Limits,
    answers: &Answers,
) -> io::Result<(Driver, Option<LeaseThread<P>>)> {
    let mut driver = Driver::default();
    let mut refusals = Vec::new();
    for generic in &plan.generic {
        let both = (responder.clone(), live.clone());
        match LeaseThread::<P>::begin(plan, *generic, both, sockets, limits, answers) {
            Ok((keeper, counters, in_driver)) => {
                driver.mode = if *generic { "generic" } else { "native" };
                driver.counters = Some(counters);
                driver.limits = in_driver;
                driver.now = Arc::clone(&keeper.now);
                driver.refused = refusals.join("; ");
                return Ok((driver, Some(keeper)));
            }
            Err(error) if plan.required => return Err(error),
            Err(error) if refusals.contains(&error.to_string()) => {}
            Err(error) => refusals.push(error.to_string()),
        }
    }
    driver.refused = refusals.join("; ");
    Ok((driver, None))
}

/// The sockets that answer what the program does not.
#[derive(Clone)]
pub(super) struct Sockets {
    pub(super) addresses: Vec<SocketAddr>,
    /// Those that receive only what comes by the interface, without a tag: all or none.
    pub(super) restricted: Vec<Arc<Server>>,
    /// Those of all IPv6 addresses receive IPv4 too.
    pub(super) dual_stack: bool,
}

/// The rules that both paths have.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) admissions: Arc<Admissions>,
    /// Known at once; 0: the server began without limits.
    pub(super) clients: usize,
}

/// What both paths answer from.
pub(super) struct Answers {
    pub(super) table: Arc<AnswerTable>,
    /// The part of it that the program has.
    entries: Vec<DriverAnswerEntry>,
}

impl Answers {
    pub(super) fn new<P: Protocol>(table: &Arc<AnswerTable>, entries: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let known = entries.iter().filter_map(|(key, value)| P::driver_entry(key, value));
        Self { table: Arc::clone(table), entries: known.map(|entry| (entry.key, entry.value)).collect() }
    }
}

/// What the keeping thread has.
pub(super) struct LeaseThread<P: Protocol> {
    program: DriverResponder,
    responder: P::Responder,
    live: LiveReader,
    watch: ClockWatch,
    interface: Interface,
    generic: bool,
    replace: bool,
    sockets: Sockets,
    /// Why it must not answer.
    trouble: Option<String>,
    /// Why the sockets stayed with an interface that is gone.
    deaf: Option<io::Error>,
    now: Arc<Mutex<Now>>,
    /// The kernel's steady clock minus the engine's, ns.
    steady_base_ns: u64,
    spending: Option<DriverSpending>,
    admissions: Arc<Admissions>,
    table: Arc<AnswerTable>,
}

/// The interface that has the program.
#[derive(Debug)]
struct Interface {
    index: u32,
    /// One of this name takes its place when it is gone.
    name: String,
    ethernet: [u8; 6],
    attached: bool,
}

impl<P: Protocol> LeaseThread<P> {
    /// Loads the program, tells it where to answer, and attaches it; it passes everything up until it is told a state.
    fn begin(
        plan: &DriverPlan,
        generic: bool,
        (responder, live): (P::Responder, LiveReader),
        sockets: &Sockets,
        limits: &Limits,
        answers: &Answers,
    ) -> io::Result<(Self, DriverCounters, Option<InDriver>)> {
        let mut ports: Vec<_> = sockets.addresses.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        let room = limits.admissions.room(limits.clients);
        let (mut program, counters) = DriverResponder::load(P::DRIVER_PROGRAM, &ports, generic, room, &answers.entries)
            .map_err(io::Error::other)?;
        let ruled = InDriver::begin(&mut program, &limits.admissions).map_err(io::Error::other)?;
        let (in_driver, spending) = ruled.unzip();
        let mut made = Self {
            program,
            responder,
            live,
            watch: ClockWatch::new()?,
            interface: Interface { index: plan.interface, name: String::new(), ethernet: [0; 6], attached: false },
            generic,
            replace: plan.replace,
            sockets: sockets.clone(),
            trouble: None,
            deaf: None,
            now: Arc::default(),
            steady_base_ns: steady_base_ns(),
            spending,
            admissions: Arc::clone(&limits.admissions),
            table: Arc::clone(&answers.table),
        };
        made.look().map_err(refused)?;
        Ok((made, counters, in_driver))
    }

    /// Keeps the program up to date until `stop`, then takes it from the interface.
    pub(super) fn run(mut self, stop: &AtomicBool) {
        // Beside a flood that takes the CPUs, too; where that is not allowed the sockets answer more.
        flatout_net::raise_priority(PRIORITY);
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            if turn % LOOK_TURNS == 0 {
                self.trouble = self.look().err().map(|error| error.to_string());
            }
            let told = if self.trouble.is_none() { self.tell() } else { self.program.withdraw() };
            // What cannot be told is not renewed.
            self.say(self.trouble.clone().or_else(|| told.err().map(|error| error.to_string())));
            turn += 1;
            if self.watch.wait(TELL) {
                let _ = self.program.withdraw();
            }
        }
        let _ = self.program.withdraw();
    }

    fn say(&self, why: Option<String>) {
        let deaf = self.deaf.as_ref().map(|error| format!("the sockets wait for an interface that is gone: {error}"));
        let why: Vec<_> = [why, deaf].into_iter().flatten().collect();
        *lock(&self.now) = Now { attached: self.interface.attached, why: why.join("; ") };
    }

    /// Tells the program what to answer until the end of the next lease, if that is known.
    fn tell(&mut self) -> Result<(), BpfError> {
        if let Some(spending) = &mut self.spending {
            settle(spending, &self.admissions)?;
        }
        let clocks = clock_offsets();
        let live = self.live.read(clocks.steady_ns.saturating_sub(self.steady_base_ns), unix_ns(&clocks));
        let both = (&mut self.responder, self.table.table());
        match answer(both, live, &clocks, self.interface.ethernet) {
            Some(answer) => self.program.tell(&answer),
            None => self.program.withdraw(),
        }
    }

    /// Looks which addresses this host has now, and for the interface. Errors: the kernel does not tell, the interface is
    /// gone, or it does not take the program.
    fn look(&mut self) -> io::Result<()> {
        let devices = devices()?;
        self.find(&devices)?;
        let places = places(&self.sockets, &devices, &vlans()?, self.interface.index);
        self.program.set_places(&places).map_err(io::Error::other)?;
        if !self.interface.attached {
            self.program.attach(self.interface.index, self.generic, self.replace).map_err(io::Error::other)?;
            self.interface.attached = true;
        }
        self.say(None);
        Ok(())
    }

    /// Finds the interface, or the one that was made in its place. Errors: it is gone, or without Ethernet.
    fn find(&mut self, devices: &BTreeMap<u32, Device>) -> io::Result<()> {
        let interface = &mut self.interface;
        if !devices.contains_key(&interface.index) {
            // It may be in another namespace, and would answer there.
            self.program.detach();
            interface.attached = false;
        }
        let there = devices.get_key_value(&interface.index);
        let there = there.or_else(|| devices.iter().find(|(_, device)| device.name == interface.name));
        let Some((index, device)) = there else { return Err(io::Error::other("the interface is gone")) };
        let ethernet = device.ethernet.ok_or_else(|| io::Error::other("the interface is not of Ethernet's kind"))?;
        if interface.index != *index {
            self.deaf = self.sockets.restricted.iter().find_map(|socket| socket.restrict(&device.name).err());
        }
        (interface.index, interface.ethernet) = (*index, ethernet);
        interface.name.clone_from(&device.name);
        Ok(())
    }
}

/// The same error as one of the program.
fn refused(error: io::Error) -> io::Error {
    if error.get_ref().is_some_and(|inner| inner.is::<BpfError>()) {
        return error;
    }
    io::Error::other(BpfError { obstacle: Obstacle::Failed, text: error.to_string() })
}

/// The kernel's steady clock minus the engine's, ns: of several readings the shortest.
fn steady_base_ns() -> u64 {
    let reading = |_| {
        let before = steady_now();
        let kernel = clock_offsets().steady_ns;
        let took = steady_now() - before;
        (took, kernel.saturating_sub(before + took / 2))
    };
    (0..8).map(reading).min().map_or(0, |(_, base)| base)
}

/// The Unix time of a reading, ns.
fn unix_ns(clocks: &ClockOffsets) -> u64 {
    clocks.steady_ns.wrapping_add_signed(clocks.unix_ns)
}

/// What answers say from now to the end of the lease; `None` where the sockets alone know.
fn answer<R: Responder>(
    (responder, table): (&mut R, Table<'_>),
    live: Option<LiveState>,
    clocks: &ClockOffsets,
    device: [u8; 6],
) -> Option<DriverAnswer> {
    if clocks.took_ns > TOOK_NS {
        return None;
    }
    let unix = unix_ns(clocks);
    let mut state_in = |later_ns| state_at(responder, table, live, unix, later_ns);
    let (now, end) = (state_in(0)?, state_in(LEASE_NS)?);
    let change_ns = end.offset_ns.checked_sub(now.offset_ns).filter(|ns| ns.unsigned_abs() <= CHANGE_NS)?;
    Some(DriverAnswer {
        valid_until: clocks.steady_ns + steady_for_ns(unix)?.min(LEASE_NS),
        told: clocks.steady_ns,
        unix_offset: clocks.unix_ns.checked_add(now.offset_ns)?,
        change: (change_ns << 32) / LEASE_NS as i64,
        tai_offset: clocks.tai_ns,
        device,
        // The dispersion of its end holds for the whole lease.
        words: end.words,
    })
}

/// What the responder answers so long after `unix`, if nothing is told and the clock is not set.
fn state_at<R: Responder>(
    responder: &mut R,
    table: Table<'_>,
    live: Option<LiveState>,
    unix: u64,
    later_ns: u64,
) -> Option<DriverState> {
    if let Some(live) = live {
        let live = LiveState { age_ns: live.age_ns.saturating_add(later_ns), ..live };
        responder.refresh(&live, unix.saturating_add(later_ns));
    }
    responder.driver_state(table)
}

/// The places that these sockets answer at, as frames of this interface have them, and (false) addresses that are no
/// client's: this host's own ones are among the places.
///
/// An address of a VLAN on the interface is a place in frames with its tag only: where the hardware has taken the tag
/// away, the program cannot see whose the frame is.
fn places(sockets: &Sockets, devices: &BTreeMap<u32, Device>, vlans: &[Vlan], interface: u32) -> BTreeMap<Place, bool> {
    let mut found = BTreeMap::new();
    let parent = devices.get(&interface).map_or("", |device| device.name.as_str());
    for (index, device) in devices {
        let vlan = match vlans.iter().find(|vlan| vlan.name == device.name) {
            // Its frames have lost the tag.
            Some(_) if *index == interface => 0,
            Some(vlan) if vlan.parent == parent && sockets.restricted.is_empty() => vlan.id,
            // Of another interface, of a VLAN in a VLAN, or none that the sockets receive.
            Some(_) => continue,
            None => 0,
        };
        for (one, socket) in
            device.addresses.iter().flat_map(|one| sockets.addresses.iter().map(move |socket| (one, socket)))
        {
            let port = socket.port();
            if let Some(broadcast) = one.broadcast {
                found.entry(Place { address: broadcast.into(), port, vlan }).or_insert(false);
            }
            if !one.address.is_loopback() && sockets.receive(socket, one.address, *index == interface, interface) {
                found.insert(Place { address: one.address, port, vlan }, true);
            }
        }
    }
    found
}

impl Sockets {
    /// Whether one of them receives what is sent to `address`, of this interface's device or not, over `interface`.
    fn receive(&self, socket: &SocketAddr, address: IpAddr, is_its: bool, interface: u32) -> bool {
        let scope = if let SocketAddr::V6(v6) = socket { v6.scope_id() } else { 0 };
        // A link-local address is one of its own link.
        let is_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if (scope != 0 && scope != interface) || (is_local && !is_its) {
            return false;
        }
        match socket.ip().to_canonical() {
            IpAddr::V4(v4) if v4.is_unspecified() => address.is_ipv4(),
            IpAddr::V6(v6) if v6.is_unspecified() => address.is_ipv6() || self.dual_stack,
            ip => ip == address,
        }
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
