//! `flatout._engine`: the engine for Python. Exports only; nothing is decided here.

mod bpf;
mod histogram;
mod load;
mod receive;
mod send;
mod serve;
mod watch;

use std::collections::BTreeMap;
use std::io;

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use flatout_engine::{net, run};

/// The kernel's errors become OSError, a value that the engine does not take becomes ValueError.
fn raise(error: io::Error) -> PyErr {
    match error.kind() {
        io::ErrorKind::InvalidInput if error.raw_os_error().is_none() => PyValueError::new_err(error.to_string()),
        // With its number the error becomes the fitting subclass, and callers can tell the kernel's reasons apart.
        _ => match error.raw_os_error() {
            Some(number) => PyOSError::new_err((number, reason(&error))),
            None => PyOSError::new_err(error.to_string()),
        },
    }
}

/// What is used in a fork has no threads there, and what they held stays locked.
fn elsewhere(what: &str) -> PyErr {
    PyRuntimeError::new_err(format!("this {what} runs in the process that made it, not in a fork: make one here"))
}

/// The kernel's words without the number that Rust puts behind them.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// The names of all protocols of this engine.
#[pyfunction]
fn protocols() -> Vec<&'static str> {
    run::protocols().collect()
}

/// What this kernel can do, found by trying.
#[pyfunction]
fn kernel() -> BTreeMap<&'static str, bool> {
    let found = net::kernel();
    BTreeMap::from([
        ("segmentation", found.segmentation),
        ("stamps", found.stamps),
        ("uring", found.uring),
        ("epoll_pwait2", found.epoll_pwait2),
        ("recvmmsg", found.recvmmsg),
        ("sendmmsg", found.sendmmsg),
    ])
}

/// Raises the soft limit on descriptors to the hard one; returns what it is now.
#[pyfunction]
fn raise_descriptor_limit() -> PyResult<u64> {
    net::raise_descriptor_limit().map_err(raise)
}

/// The engine.
#[pymodule(gil_used = false)]
mod _engine {
    #[pymodule_export]
    use super::bpf::{BpfError, DropCounter};
    #[pymodule_export]
    use super::histogram::Histogram;
    #[pymodule_export]
    use super::load::LoadRun;
    #[pymodule_export]
    use super::receive::Receiver;
    #[pymodule_export]
    use super::send::{Sender, arrived};
    #[pymodule_export]
    use super::serve::{FaultyServer, Server};
    #[pymodule_export]
    use super::watch::TrafficCounter;
    #[pymodule_export]
    use super::{kernel, protocols, raise_descriptor_limit};
}
