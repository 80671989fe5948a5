//! Sending for Python: arrays of records, and the question what has arrived of them.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flatout_engine::net::BatchSender;
use flatout_engine::receiver_stats;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use flatout_engine::plan::python::address;

use super::load::Words;
use super::raise;

/// About so many bytes of an array are copied at once: enough for hundreds of system calls, little for a cache.
const COPIED: usize = 256 << 10;

/// Flows that send whole records out of arrays. Threads that share one take turns.
#[pyclass(module = "flatout._engine", frozen)]
pub struct Sender {
    outlet: Mutex<Option<BatchSender>>,
    size: usize,
}

#[pymethods]
impl Sender {
    #[new]
    #[pyo3(signature = (*, target, others, sources, flows, size, segmented))]
    fn new(
        target: (IpAddr, u16, u32),
        others: Vec<(IpAddr, u16, u32)>,
        sources: Vec<(IpAddr, u16, u32)>,
        flows: usize,
        size: usize,
        segmented: bool,
    ) -> PyResult<Self> {
        let targets: Vec<_> = std::iter::once(target).chain(others).map(address).collect();
        let sources: Vec<_> = sources.into_iter().map(address).collect();
        let outlet = BatchSender::open(&targets, &sources, flows, size, segmented).map_err(raise)?;
        Ok(Self { outlet: Mutex::new(Some(outlet)), size })
    }

    /// Sends whole records, one a datagram; returns how many sent. Waits while the socket is full, without the GIL.
    ///
    /// What is sent is a copy, made part by part with the GIL held: other threads may change or resize the array
    /// meanwhile, and no part is torn by it.
    fn send(&self, py: Python<'_>, data: &Bound<'_, PyArray1<u8>>) -> PyResult<usize> {
        let most = (COPIED / self.size.max(1)).max(1) * self.size;
        let (mut copy, mut at, mut sent) = (Vec::new(), 0, 0);
        loop {
            // Borrowed anew for each part: a borrow must not outlive the array's present size.
            let view = data.try_readonly().map_err(|error| PyValueError::new_err(error.to_string()))?;
            let bytes = view.as_slice().map_err(|_| PyValueError::new_err("the bytes do not lie end to end"))?;
            if !bytes.len().is_multiple_of(self.size) {
                return Err(PyValueError::new_err("not a whole number of records"));
            }
            let remaining = bytes.get(at..).unwrap_or_default();
            if remaining.is_empty() {
                return Ok(sent);
            }
            copy.clear();
            copy.extend_from_slice(remaining.get(..most).unwrap_or(remaining));
            drop(view);
            let mut begun = 0;
            while let Some(rest) = copy.get(begun..).filter(|rest| !rest.is_empty()) {
                let gone = py.detach(|| self.lock().as_mut().map(|outlet| outlet.send(rest)));
                let gone = gone.ok_or_else(|| PyValueError::new_err("this sender is closed"))?.map_err(raise)?;
                sent += gone.sent;
                begun += gone.processed * self.size;
                py.check_signals()?;
            }
            at += begun;
        }
    }

    /// Records that have sent, that came back as refused, and that this machine's own queue dropped.
    fn counts(&self, py: Python<'_>) -> PyResult<Words> {
        let counts = |outlet: &mut BatchSender| Ok((outlet.sent(), outlet.refused()?, outlet.dropped()));
        let counted = py.detach(|| self.lock().as_mut().map(counts)).unwrap_or_else(|| Ok(Default::default()));
        let (sent, refused, dropped) = counted.map_err(raise)?;
        Ok(Words::from([("sent", sent), ("refused", refused), ("dropped", dropped)]))
    }

    /// Closes the flows.
    fn close(&self, py: Python<'_>) {
        py.detach(|| *self.lock() = None);
    }
}

impl Sender {
    fn lock(&self) -> MutexGuard<'_, Option<BatchSender>> {
        self.outlet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the receiver at `target` has counted since it began, and as `instance` which receiver that is; None: no
/// answers there.
///
/// ConnectionRefusedError: the port is closed.
#[pyfunction]
pub fn arrived(py: Python<'_>, target: (IpAddr, u16, u32), reset: bool, timeout_s: f64) -> PyResult<Option<Words>> {
    let at_most = Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
    let found = py.detach(|| receiver_stats::ask(address(target), reset, at_most)).map_err(raise)?;
    Ok(found.map(|reported| {
        reported
            .counters
            .words()
            .into_iter()
            .chain([("instance", reported.instance), ("places", reported.field_layout)])
            .collect()
    }))
}
