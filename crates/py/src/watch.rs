//! Counted traffic of ports for Python.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use flatout_engine::net;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::bpf::refused;

type Port = (Vec<u64>, Vec<u64>, Vec<u64>, [u64; 2]);
type Prefix = (usize, bool, u64, u64, u64);

/// Counts the packets of ports in this thread's network namespace, from when it is made until `stop`.
#[pyclass(module = "flatout._engine", frozen)]
pub struct TrafficCounter {
    counter: Mutex<Option<net::TrafficCounter>>,
}

#[pymethods]
impl TrafficCounter {
    /// Ports: IP protocol, number, kind of headers behind it.
    #[new]
    fn new(py: Python<'_>, ports: Vec<(u8, u16, u8)>, btf: PathBuf) -> PyResult<Self> {
        let ports: Vec<_> =
            ports.into_iter().map(|(ip_protocol, port, kind)| net::WatchedPort { ip_protocol, port, kind }).collect();
        let counter = py.detach(|| net::TrafficCounter::start(&ports, &btf)).map_err(|error| refused(&error))?;
        Ok(Self { counter: Mutex::new(Some(counter)) })
    }

    /// What counts at each device, by index, and at all others.
    fn set_devices(&self, devices: Vec<(u32, u32)>, usual: u32) -> PyResult<()> {
        self.running(|counter| counter.set_devices(&devices, usual))
    }

    /// One packet in so many is looked at for its prefix.
    fn set_sampling(&self, gap: u32) -> PyResult<()> {
        self.running(|counter| counter.set_sampling(gap))
    }

    /// Of each port: counters since the start; packets in and out by bin, bytes in and out, of a second.
    fn traffic(&self, second: u64) -> PyResult<Vec<Port>> {
        let found = self.running(|counter| counter.traffic(second))?;
        Ok(found.into_iter().map(|one| (one.counts.to_vec(), one.bins_in, one.bins_out, one.bytes)).collect())
    }

    /// Packets that each CPU has counted since the start.
    fn by_cpu(&self) -> PyResult<Vec<u64>> {
        self.running(|counter| counter.by_cpu())
    }

    /// Prefixes since the last call: port, whether IPv6, bits, packets, bytes; those with the most packets first.
    fn talkers(&self, most: usize) -> PyResult<Vec<Prefix>> {
        let found = self.running(|counter| counter.talkers(most))?;
        Ok(found.into_iter().map(|one| (one.port, one.is_v6, one.prefix, one.packets, one.bytes)).collect())
    }

    /// Takes the programs out of the kernel; further calls raise ValueError.
    fn stop(&self) {
        drop(self.lock().take());
    }
}

impl TrafficCounter {
    fn running<T>(&self, work: impl FnOnce(&mut net::TrafficCounter) -> Result<T, net::BpfError>) -> PyResult<T> {
        let mut held = self.lock();
        let counter = held.as_mut().ok_or_else(|| PyValueError::new_err("this counter is stopped"))?;
        work(counter).map_err(|error| refused(&error))
    }

    fn lock(&self) -> MutexGuard<'_, Option<net::TrafficCounter>> {
        self.counter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
