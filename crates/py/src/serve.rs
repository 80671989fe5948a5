//! Servers for Python: the real one and the one with known faults.

use std::collections::BTreeMap;
use std::net::IpAddr;

use flatout_engine::faulty::{Faults, Faulty};
use flatout_engine::plan::{AdmissionPlan, DriverPlan, Io, Link, ServePlan};
use flatout_engine::run;
use flatout_engine::server::{DROPPED, STATE_WORDS, Serving};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use flatout_engine::plan::python::{IOS, LINKS, address, one_of, parts};

use super::bpf::refused;
use super::histogram::Histogram;
use super::load::Words;
use super::{elsewhere, raise};

type Address = (IpAddr, u16, u32);
/// A client: address; requests answered, limited, withheld; silent for so long, ns.
type Client = (IpAddr, u32, u32, u32, u64);

/// A server that answers until it is stopped. Any number of threads may use it at once.
#[pyclass(module = "flatout._engine", frozen)]
pub struct Server(Serving);

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (*, protocol, options, listen, interface, free_bind, inherited, by_client, admission, links, entries, io,
                        connections, idle_timeout_ns, workers, cpus, driver=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        protocol: String,
        options: Vec<(String, i64)>,
        listen: Vec<Address>,
        interface: Option<String>,
        free_bind: bool,
        inherited: Vec<i32>,
        by_client: bool,
        admission: AdmissionPlan,
        links: Vec<String>,
        entries: Vec<(Vec<u8>, Vec<u8>)>,
        io: &str,
        connections: usize,
        idle_timeout_ns: Option<u64>,
        workers: usize,
        cpus: Vec<usize>,
        driver: Option<(u32, Vec<bool>, bool, bool)>,
    ) -> PyResult<Self> {
        if workers == 0 || connections == 0 {
            return Err(PyValueError::new_err("a server needs a worker and room for a connection"));
        }
        let links = links.iter().map(|word| one_of(word, &LINKS)).collect::<PyResult<_>>()?;
        if listen.is_empty() && inherited.is_empty() {
            return Err(PyValueError::new_err("a server needs an address"));
        }
        let (listen, io) = (listen.into_iter().map(address).collect(), one_of(io, &IOS)?);
        let plan = ServePlan {
            protocol,
            options,
            listen,
            interface,
            free_bind,
            inherited,
            by_client,
            admission,
            links,
            entries,
            io,
            connections,
            idle_timeout_ns,
            workers,
            cpus,
            driver: driver.map(|(interface, generic, required, replace)| DriverPlan {
                interface,
                generic,
                required,
                replace,
            }),
        };
        py.detach(|| run::serve(&plan)).map(Self).map_err(raise)
    }

    /// What carries streams: "io_uring", "epoll", or nothing.
    #[getter]
    fn backend(&self) -> &'static str {
        self.0.backend()
    }

    /// How many connections there may be at once, as far as places go; 0 without streams.
    #[getter]
    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Memory held for connections and their buffers, in bytes, without the kernel's.
    #[getter]
    fn connection_bytes(&self) -> PyResult<u64> {
        Ok(self.here()?.served().iter().map(|served| served.memory_bytes).sum())
    }

    /// Where it listens, the ports resolved.
    #[getter]
    fn addresses(&self) -> Vec<Address> {
        self.0.addresses().iter().map(|at| parts(*at)).collect()
    }

    /// How many workers were replaced, and why the last one was.
    #[getter]
    fn replaced(&self) -> PyResult<(u64, String)> {
        Ok(self.here()?.replaced())
    }

    #[getter]
    fn alive(&self) -> bool {
        self.0.alive()
    }

    /// Why threads could not go on: the calls that failed.
    #[getter]
    fn failures(&self) -> PyResult<Vec<String>> {
        Ok(self.here()?.failures())
    }

    /// Each worker's counters, by the names of their fields; dropped is the sum of all reasons.
    fn served(&self) -> PyResult<Vec<Words>> {
        Ok(self.here()?.served().iter().map(|served| served.words().collect()).collect())
    }

    /// Datagrams without answer, over all workers, by reason.
    fn dropped(&self) -> PyResult<Words> {
        let mut sum: BTreeMap<_, _> = DROPPED.into_iter().map(|reason| (reason, 0)).collect();
        for served in self.here()?.served() {
            for (reason, count) in DROPPED.into_iter().zip(served.dropped) {
                *sum.entry(reason).or_default() += count;
            }
        }
        Ok(sum)
    }

    /// By how much the transmit stamps in answers are before the kernel's own, of sampled answers.
    fn tx_errors(&self) -> PyResult<Histogram> {
        Ok(Histogram(self.here()?.tx_errors()))
    }

    /// Replaces the rules of which datagrams are answered, but not the bandwidth.
    fn set_admission(&self, py: Python<'_>, admission: AdmissionPlan) {
        py.detach(|| self.0.set_admission(&admission));
    }

    /// The bandwidth for answers over datagrams, bytes per s; None: no limit.
    fn set_budget(&self, bytes_per_s: Option<u64>) {
        self.0.set_budget(bytes_per_s);
    }

    /// Asks all workers for their clients; the number of the question.
    fn ask_for_clients(&self) -> u64 {
        self.0.ask_for_clients()
    }

    /// The clients that ask most, of each worker and of the network driver; None: not all workers told yet.
    fn clients(&self, py: Python<'_>, question: u64) -> Option<Vec<Client>> {
        let rows = py.detach(|| self.0.clients(question))?;
        Some(rows.iter().map(|c| (c.address, c.answered, c.limited, c.withheld, c.silent_ns)).collect())
    }

    /// Tells all workers the state that they answer from. Errors: another number of words than the engine has.
    fn set_state(&self, words: Vec<u64>) -> PyResult<()> {
        let words = <[u64; STATE_WORDS]>::try_from(words)
            .map_err(|given| PyValueError::new_err(format!("{} words: {STATE_WORDS} are a state", given.len())))?;
        self.0.set_state(&words);
        Ok(())
    }

    /// How the program in the network driver runs: "native", "generic", or nothing; and why it does not, or not now.
    #[getter]
    fn driver(&self) -> (&'static str, String) {
        self.0.driver()
    }

    /// Its counters by name; None where there is no such program.
    fn driver_counters(&self) -> PyResult<Option<Words>> {
        let counted = self.0.driver_counters().transpose().map_err(|error| refused(&error))?;
        Ok(counted.map(BTreeMap::from))
    }

    /// What its rules counted, by name: denied, rate_limited, over_budget, kissed, clients_forgotten; None: it has none.
    fn driver_refusals(&self) -> PyResult<Option<Words>> {
        let counted = self.0.driver_refusals().transpose().map_err(|error| refused(&error))?;
        Ok(counted.map(BTreeMap::from))
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}

impl Server {
    /// The server, in the process that made it.
    fn here(&self) -> PyResult<&Serving> {
        if self.0.is_here() { Ok(&self.0) } else { Err(elsewhere("server")) }
    }
}

/// A server with known faults. Any number of threads may use it at once.
#[pyclass(module = "flatout._engine", frozen)]
pub struct FaultyServer(Faulty);

#[pymethods]
impl FaultyServer {
    #[new]
    #[pyo3(signature = (*, protocol, listen, cpus, drop, duplicate, corrupt, late, late_by_ns, reorder, delay_ns,
                        jitter_ns, capacity_per_s, stall_after_ns, stall_ns, die_after, seed))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        protocol: String,
        listen: Address,
        cpus: Vec<usize>,
        drop: f64,
        duplicate: f64,
        corrupt: f64,
        late: f64,
        late_by_ns: u64,
        reorder: f64,
        delay_ns: u64,
        jitter_ns: u64,
        capacity_per_s: f64,
        stall_after_ns: u64,
        stall_ns: u64,
        die_after: u64,
        seed: u64,
    ) -> PyResult<Self> {
        let faults = Faults {
            drop,
            duplicate,
            corrupt,
            late,
            late_by_ns,
            reorder,
            delay_ns,
            jitter_ns,
            capacity_per_s,
            stall_after_ns,
            stall_ns,
            die_after,
            seed,
        };
        let plan = ServePlan {
            protocol,
            options: Vec::new(),
            listen: vec![address(listen)],
            interface: None,
            free_bind: false,
            inherited: Vec::new(),
            by_client: false,
            admission: AdmissionPlan::default(),
            links: vec![Link::Udp],
            entries: Vec::new(),
            io: Io::Auto,
            connections: 0,
            idle_timeout_ns: None,
            workers: 1,
            cpus,
            driver: None,
        };
        run::faulty(&plan, faults).map(Self).map_err(raise)
    }

    #[getter]
    fn address(&self) -> Address {
        parts(self.0.address())
    }

    /// Why it could not go on; None: it could.
    #[getter]
    fn failure(&self) -> Option<String> {
        self.0.failure()
    }

    /// How often each fate was carried out; final once the server is stopped.
    fn done(&self) -> Words {
        let done = self.0.done();
        BTreeMap::from([
            ("received", done.received),
            ("sent", done.sent),
            ("dropped", done.dropped),
            ("duplicated", done.duplicated),
            ("corrupted", done.corrupted),
            ("late", done.late),
            ("reordered", done.reordered),
            ("over_capacity", done.over_capacity),
        ])
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}
