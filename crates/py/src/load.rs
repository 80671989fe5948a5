//! A run for Python: started from a plan, looked at on a tick.

use std::collections::BTreeMap;
use std::time::Duration;

use flatout_engine::plan::LoadPlan;
use flatout_engine::run;
use flatout_engine::tally::{Counts, Unsent};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::histogram::Histogram;
use super::raise;

/// Counters by the contract's words.
pub(crate) type Words = BTreeMap<&'static str, u64>;

/// A run that has begun.
#[pyclass(module = "flatout._engine")]
pub struct LoadRun(run::LoadRun);

#[pymethods]
impl LoadRun {
    #[new]
    fn new(py: Python<'_>, plan: LoadPlan) -> PyResult<Self> {
        let sensible = plan.workers > 0 && plan.flows >= plan.workers && plan.node.index < plan.node.of;
        check(sensible && !plan.profile.is_empty() && !plan.targets.is_empty())?;
        py.detach(|| run::LoadRun::start(&plan)).map(Self).map_err(raise)
    }

    /// Waits until the run is over, at most so many seconds; returns whether it is.
    fn wait(&mut self, py: Python<'_>, seconds: f64) -> bool {
        py.detach(|| self.0.wait(Duration::try_from_secs_f64(seconds).unwrap_or_default()))
    }

    fn stop(&self) {
        self.0.stop();
    }

    /// From now on workers sleep instead of spinning: the target needs their CPUs.
    fn share_cpus(&self) {
        self.0.share_cpus();
    }

    fn counts(&self) -> Words {
        words(&self.0.counts())
    }

    fn unsent_because(&self) -> Words {
        let counts = self.0.counts();
        Unsent::WORDS.into_iter().zip(counts.unsent).collect()
    }

    fn tallies(&self) -> Words {
        let counts = self.0.counts();
        self.0.tallies().iter().copied().zip(counts.tallies).collect()
    }

    /// The seconds that are over, from the n-th on: (end in ns, counters, p50, p99, p99 of lateness).
    #[allow(clippy::type_complexity)]
    fn intervals(&self, first: usize) -> Vec<(u64, Words, Option<u64>, Option<u64>, Option<u64>)> {
        let remaining = self.0.intervals().get(first..).unwrap_or_default();
        remaining.iter().map(|i| (i.until_ns, words(&i.counts), i.p50, i.p99, i.lateness_p99)).collect()
    }

    /// (from due, from sent, lateness, reading) over all seconds that are over, and from opening to standing once all is
    /// over.
    fn distributions(&self) -> (Histogram, Histogram, Histogram, Histogram, Histogram) {
        let totals = self.0.totals();
        let [due, sent, lateness, reading] =
            [&totals.from_due, &totals.from_sent, &totals.lateness, &totals.reading].map(|d| Histogram(d.clone()));
        (due, sent, lateness, reading, Histogram(self.0.connect()))
    }

    /// Of all threads that send, once they are done: ns that they waited for a CPU (None: not counted by this kernel),
    /// and switches that they did not ask for.
    fn contention(&self) -> (Option<u64>, u64) {
        let sum = self.0.contention();
        (sum.run_delay_ns, sum.involuntary_switches)
    }

    /// Once all is over: the length of a subinterval in ns, and for each (sent, unsent, answered, slow, largest lateness
    /// in ns) of what was due in it.
    #[allow(clippy::type_complexity)]
    fn subintervals(&self) -> (u64, Vec<(u64, u64, u64, u64, u64)>) {
        let sum = self.0.subintervals();
        let rows = sum.all().iter().map(|one| (one.sent, one.unsent, one.answered, one.slow, one.lateness_max));
        (sum.length_ns(), rows.collect())
    }

    fn connections(&self) -> Words {
        self.0.connections().words().collect()
    }

    #[getter]
    fn backend(&self) -> &'static str {
        self.0.backend()
    }

    #[getter]
    fn elapsed_ns(&self) -> Option<i64> {
        self.0.elapsed_ns()
    }

    #[getter]
    fn started_unix_ns(&self) -> u64 {
        self.0.started_unix_ns()
    }

    #[getter]
    fn slot_bytes(&self) -> usize {
        self.0.bytes()
    }

    /// Why a worker could not go on; None: all could.
    #[getter]
    fn gave_up(&self) -> Option<String> {
        self.0.gave_up()
    }

    #[getter]
    fn failures(&self) -> Vec<String> {
        self.0.failures()
    }
}

fn check(sensible: bool) -> PyResult<()> {
    let needs = "a run needs a target, a profile, a worker, a flow for each worker, and a node below their number";
    if sensible { Ok(()) } else { Err(PyValueError::new_err(needs)) }
}

fn words(counts: &Counts) -> Words {
    counts.words().collect()
}
