//! Sending for Python: arrays of records, and the question what has arrived of them.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flatout_engine::inquiry;
use flatout_engine::net::Outlet;
use flatout_engine::python::address;
use numpy::PyReadonlyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::load::Words;
use super::raise;

/// Flows that send whole records out of arrays. Threads that share one take turns.
#[pyclass(module = "flatout._engine", frozen)]
pub struct Sender {
    outlet: Mutex<Option<Outlet>>,
    size: usize,
}

#[pymethods]
impl Sender {
    #[new]
    #[pyo3(signature = (*, target, others, sources, flows, size, segmented))]
    fn new(
        target: (IpAddr, u16, u32),
        others: Vec<(IpAddr, u16, u32)>,
        sources: Vec<IpAddr>,
        flows: usize,
        size: usize,
        segmented: bool,
    ) -> PyResult<Self> {
        let targets: Vec<_> = std::iter::once(target).chain(others).map(address).collect();
        let outlet = Outlet::open(&targets, &sources, flows, size, segmented).map_err(raise)?;
        Ok(Self { outlet: Mutex::new(Some(outlet)), size })
    }

    /// Sends whole records, one a datagram; returns how many left. Waits while the socket is full, without the GIL.
    fn send(&self, py: Python<'_>, data: PyReadonlyArray1<'_, u8>) -> PyResult<usize> {
        let bytes = data.as_slice().map_err(|_| PyValueError::new_err("the bytes do not lie end to end"))?;
        if !bytes.len().is_multiple_of(self.size) {
            return Err(PyValueError::new_err("not a whole number of records"));
        }
        let (mut rest, mut left) = (bytes, 0);
        while !rest.is_empty() {
            let gone = py.detach(|| self.lock().as_mut().map(|outlet| outlet.send(rest)));
            let gone = gone.ok_or_else(|| PyValueError::new_err("this sender is closed"))?.map_err(raise)?;
            left += gone.left;
            rest = rest.get(gone.dealt * self.size..).unwrap_or_default();
            py.check_signals()?;
        }
        Ok(left)
    }

    /// Records that have left, that came back as refused, and that this machine's own queue dropped.
    fn counts(&self, py: Python<'_>) -> Words {
        let counts = |outlet: &mut Outlet| (outlet.sent(), outlet.refused(), outlet.dropped());
        let (sent, refused, dropped) = py.detach(|| self.lock().as_mut().map(counts)).unwrap_or_default();
        Words::from([("sent", sent), ("refused", refused), ("dropped", dropped)])
    }

    /// Closes the flows.
    fn close(&self, py: Python<'_>) {
        py.detach(|| *self.lock() = None);
    }
}

impl Sender {
    fn lock(&self) -> MutexGuard<'_, Option<Outlet>> {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the receiver at `target` has counted since it began, and as `instance` which receiver that is; None: nobody
/// answers there.
///
/// ConnectionRefusedError: nobody listens there.
#[pyfunction]
pub fn arrived(py: Python<'_>, target: (IpAddr, u16, u32), anew: bool, timeout_s: f64) -> PyResult<Option<Words>> {
    let at_most = Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
    let found = py.detach(|| inquiry::ask(address(target), anew, at_most)).map_err(raise)?;
    Ok(found.map(|told| {
        told.arrived.words().into_iter().chain([("instance", told.instance), ("places", told.places)]).collect()
    }))
}
