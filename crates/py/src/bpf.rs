//! Programs in the kernel for Python.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use flatout_engine::net;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;

create_exception!(
    flatout._engine,
    BpfError,
    PyException,
    "A BPF program that could not be started: (kind of obstacle, sentence for the user)."
);

pub(crate) fn refused(error: &net::BpfError) -> PyErr {
    BpfError::new_err((error.obstacle.word(), error.text.clone()))
}

type Row = (u32, String, bool, bool, String, u64);

/// Counts dropped packets of one exchange by reason, from when it is made until `stop`.
#[pyclass(module = "flatout._engine", frozen)]
pub struct DropCounter {
    counter: Mutex<Option<net::DropCounter>>,
}

#[pymethods]
impl DropCounter {
    #[new]
    #[pyo3(signature = (*, ip_version, ip_protocol, ports, addresses, ignored, btf))]
    fn new(
        py: Python<'_>,
        ip_version: u8,
        ip_protocol: u8,
        ports: Vec<u16>,
        addresses: Vec<IpAddr>,
        ignored: Vec<String>,
        btf: PathBuf,
    ) -> PyResult<Self> {
        let filter = net::DropFilter { ip_version, ip_protocol, ports, addresses, ignored };
        let counter = py.detach(|| net::DropCounter::start(&filter, &btf)).map_err(|error| refused(&error))?;
        Ok(Self { counter: Mutex::new(Some(counter)) })
    }

    /// Rows: network namespace, reason, towards the port, known address, device, packets.
    fn counts(&self) -> PyResult<Vec<Row>> {
        let found = self.running(net::DropCounter::counts)?;
        Ok(found
            .into_iter()
            .map(|one| (one.netns, one.reason, one.towards, one.known, one.device, one.count))
            .collect())
    }

    /// Drops that were seen and not counted, because there were too many different ones.
    fn uncounted(&self) -> PyResult<u64> {
        self.running(net::DropCounter::uncounted)
    }

    /// Takes the program out of the kernel; further calls do nothing.
    fn stop(&self) {
        drop(self.lock().take());
    }
}

impl DropCounter {
    fn running<T>(&self, read: impl FnOnce(&net::DropCounter) -> Result<T, net::BpfError>) -> PyResult<T> {
        let held = self.lock();
        let counter = held.as_ref().ok_or_else(|| PyValueError::new_err("this counter is stopped"))?;
        read(counter).map_err(|error| refused(&error))
    }

    fn lock(&self) -> MutexGuard<'_, Option<net::DropCounter>> {
        self.counter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
