//! Distributions of durations for Python: queries and exact merging.

use flatout_engine::histogram::Durations;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A distribution of durations in ns, HDR with 3 digits.
#[pyclass(module = "flatout._engine", skip_from_py_object)]
#[derive(Clone, Default)]
pub struct Histogram(pub Durations);

#[pymethods]
impl Histogram {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// From the V2 compressed form (not base64).
    #[staticmethod]
    fn decode(encoded: &[u8]) -> PyResult<Self> {
        Durations::from_bytes(encoded).map(Self).map_err(PyValueError::new_err)
    }

    fn encode(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    fn record(&mut self, ns: u64) {
        self.0.record(ns);
    }

    fn add(&mut self, other: &Self) {
        self.0.add(&other.0);
    }

    #[getter]
    fn count(&self) -> u64 {
        self.0.count()
    }

    #[getter]
    fn min(&self) -> u64 {
        self.0.min()
    }

    #[getter]
    fn max(&self) -> u64 {
        self.0.max()
    }

    #[getter]
    fn mean(&self) -> f64 {
        self.0.mean()
    }

    fn quantile(&self, quantile: f64) -> u64 {
        self.0.quantile(quantile)
    }

    fn count_above(&self, ns: u64) -> u64 {
        self.0.count_above(ns)
    }
}
