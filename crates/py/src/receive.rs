//! A receiver for Python: batches cross as arrays that own what they hold.

use std::net::IpAddr;
use std::time::Duration;

use flatout_engine::plan::{ReceivePlan, WhenFull, XdpReceivePlan};
use flatout_engine::receiver::Receiving;
use flatout_engine::run;
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::histogram::Histogram;
use flatout_engine::plan::python::{address, one_of, parts};

use super::load::Words;
use super::{elsewhere, raise};

/// The words for what happens when the queue is full.
const WHEN_FULL: [(&str, WhenFull); 3] =
    [("drop-oldest", WhenFull::DropOldest), ("drop-newest", WhenFull::DropNewest), ("wait", WhenFull::Wait)];

/// Messages' bytes, when each arrived, the number of each one's source, and the worker.
type Taken<'py> = (Bound<'py, PyArray1<u8>>, Bound<'py, PyArray1<u64>>, Bound<'py, PyArray1<u32>>, usize);

/// A receiver that takes in until it is stopped.
#[pyclass(module = "flatout._engine", frozen)]
pub struct Receiver(Receiving);

#[pymethods]
impl Receiver {
    #[new]
    #[pyo3(signature = (*, protocol, options, listen, workers, shared, cpus, coalesced, stamps, buffer, queue, when_full,
                        tracked, tells, xdp=None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        protocol: String,
        options: Vec<(String, i64)>,
        listen: (IpAddr, u16, u32),
        workers: usize,
        shared: bool,
        cpus: Vec<usize>,
        coalesced: bool,
        stamps: bool,
        buffer: usize,
        queue: usize,
        when_full: &str,
        tracked: usize,
        tells: bool,
        xdp: Option<(u32, u32, usize, u32)>,
    ) -> PyResult<Self> {
        if workers == 0 || queue == 0 || tracked == 0 {
            let needs = "a receiver needs a worker, room for a message, and a sender to follow";
            return Err(PyValueError::new_err(needs));
        }
        let plan = ReceivePlan {
            protocol,
            options,
            listen: address(listen),
            workers,
            shared,
            cpus,
            coalesced,
            stamps,
            buffer,
            queue,
            when_full: one_of(when_full, &WHEN_FULL)?,
            tracked,
            tells,
            xdp: xdp.map(|(interface, queues, mtu, frames)| XdpReceivePlan { interface, queues, mtu, frames }),
        };
        py.detach(|| run::receive(&plan)).map(Self).map_err(raise)
    }

    #[getter]
    fn address(&self) -> (IpAddr, u16, u32) {
        parts(self.0.address())
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

    /// With AF_XDP: whether the program is generic, zero copy, queues, and why it is not native; else None.
    #[getter]
    fn link(&self) -> Option<(bool, bool, u32, String)> {
        self.0.link().map(|link| (link.generic, link.zero_copy, link.queues, link.refused.clone()))
    }

    /// Bytes of every message.
    #[getter]
    fn size(&self) -> usize {
        self.0.size()
    }

    /// Up to `most` messages of one worker, moved out of the engine; None: none came in that time.
    fn take<'py>(&self, py: Python<'py>, most: usize, wait_s: f64, linger_s: f64) -> PyResult<Option<Taken<'py>>> {
        let receiving = self.here()?;
        let Some(handed) = py.detach(|| receiving.take(most, seconds(wait_s), seconds(linger_s))) else {
            return Ok(None);
        };
        let (bytes, arrived, source) = (handed.bytes, handed.arrived, handed.source);
        Ok(Some((bytes.into_pyarray(py), arrived.into_pyarray(py), source.into_pyarray(py), handed.worker)))
    }

    /// What event loops wait for.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.here()?.queue().descriptor())
    }

    /// Has it readable at the next message; False where some wait already or none will come.
    fn arm(&self) -> PyResult<bool> {
        Ok(self.here()?.queue().arm())
    }

    fn drain(&self) -> PyResult<()> {
        self.here()?.drain().map_err(raise)
    }

    fn source(&self, number: u32) -> PyResult<Option<(IpAddr, u16, u32)>> {
        let source = self.here()?.source(number).map(parts);
        Ok(source.map(|(ip, port, scope)| (ip.to_canonical(), port, scope)))
    }

    /// Sends one datagram to each of these sources; returns how many left. What is sent is a copy, made with the GIL
    /// held: other threads may change or resize the arrays meanwhile.
    fn send(&self, py: Python<'_>, data: PyReadonlyArray1<'_, u8>, to: PyReadonlyArray1<'_, u32>) -> PyResult<usize> {
        let receiving = self.here()?;
        let copies = (data.as_slice().map_err(not_whole)?.to_vec(), to.as_slice().map_err(not_whole)?.to_vec());
        // A borrow must not outlive the array's present size.
        drop((data, to));
        Ok(py.detach(|| receiving.send(&copies.0, &copies.1)))
    }

    /// Each worker's numbers, by their words.
    fn received(&self) -> PyResult<Vec<Words>> {
        Ok(self.here()?.received().iter().map(|received| received.words().into_iter().collect()).collect())
    }

    fn delays(&self) -> PyResult<Histogram> {
        Ok(Histogram(self.here()?.delays()))
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}

impl Receiver {
    /// The receiver, in the process that made it.
    fn here(&self) -> PyResult<&Receiving> {
        if self.0.is_here() { Ok(&self.0) } else { Err(elsewhere("receiver")) }
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn not_whole(_: impl std::error::Error) -> PyErr {
    PyValueError::new_err("an array without gaps is needed")
}
