//! Servers for Python: the real one and the one with known faults.

use std::collections::BTreeMap;
use std::net::IpAddr;

use flatout_engine::faulty::{Faults, Faulty};
use flatout_engine::plan::ServePlan;
use flatout_engine::run;
use flatout_engine::serve::{DROPPED, Served, Serving};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::load::{Words, address};
use super::raise;

type Address = (IpAddr, u16, u32);

/// A server that answers until it is stopped.
#[pyclass(module = "flatout._engine")]
pub struct Server(Serving);

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (*, protocol, knobs, listen, workers, cpus))]
    fn new(
        protocol: String,
        knobs: Vec<(String, i64)>,
        listen: Address,
        workers: usize,
        cpus: Vec<usize>,
    ) -> PyResult<Self> {
        if workers == 0 {
            return Err(PyValueError::new_err("a server needs a worker"));
        }
        let plan = ServePlan { protocol, knobs, listen: address(listen), workers, cpus };
        run::serve(&plan).map(Self).map_err(raise)
    }

    #[getter]
    fn address(&self) -> (IpAddr, u16) {
        (self.0.address().ip(), self.0.address().port())
    }

    #[getter]
    fn alive(&self) -> bool {
        self.0.alive()
    }

    /// Each worker's counters: received, answered, kernel_drops, cpu_ns.
    fn served(&self) -> Vec<Words> {
        self.0.served().iter().map(words).collect()
    }

    /// Datagrams without answer, over all workers, by reason.
    fn dropped(&self) -> Words {
        let mut sum: BTreeMap<_, _> = DROPPED.into_iter().map(|reason| (reason, 0)).collect();
        for served in self.0.served() {
            for (reason, count) in DROPPED.into_iter().zip(served.dropped) {
                *sum.entry(reason).or_default() += count;
            }
        }
        sum
    }

    fn stop(&mut self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}

fn words(served: &Served) -> Words {
    BTreeMap::from([
        ("received", served.received),
        ("answered", served.answered),
        ("dropped", served.dropped.iter().sum()),
        ("kernel_drops", served.kernel_drops),
        ("cpu_ns", served.cpu_ns),
    ])
}

/// A server with known faults.
#[pyclass(module = "flatout._engine")]
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
        let plan = ServePlan { protocol, knobs: Vec::new(), listen: address(listen), workers: 1, cpus };
        run::faulty(&plan, faults).map(Self).map_err(raise)
    }

    #[getter]
    fn address(&self) -> (IpAddr, u16) {
        (self.0.address().ip(), self.0.address().port())
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

    fn stop(&mut self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}
