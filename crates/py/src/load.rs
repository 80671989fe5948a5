//! A run for Python: started from a plan, looked at on a tick.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
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

/// The longest pause between two looks at a run that is waited for.
const STEP: Duration = Duration::from_millis(5);

/// A run that has begun. Any number of threads may use it at once.
#[pyclass(module = "flatout._engine", frozen)]
pub struct LoadRun(Mutex<run::LoadRun>);

#[pymethods]
impl LoadRun {
    #[new]
    fn new(py: Python<'_>, plan: LoadPlan) -> PyResult<Self> {
        let sensible = plan.workers > 0 && plan.flows >= plan.workers && plan.node.index < plan.node.of;
        check(sensible && !plan.profile.is_empty() && !plan.targets.is_empty())?;
        py.detach(|| run::LoadRun::start(&plan)).map(|run| Self(Mutex::new(run))).map_err(raise)
    }

    /// Waits until the run is over, at most so many seconds; returns whether it is.
    fn wait(&self, py: Python<'_>, seconds: f64) -> bool {
        let mut remaining = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let step = STEP.max(remaining / 8);
        // The lock is free between two looks: other threads read and stop the run meanwhile.
        while !self.with(py, |run| run.wait(Duration::ZERO)) {
            if remaining.is_zero() {
                return false;
            }
            let pause = remaining.min(step);
            py.detach(|| std::thread::sleep(pause));
            remaining -= pause;
        }
        true
    }

    fn stop(&self, py: Python<'_>) {
        self.with(py, |run| run.stop());
    }

    /// Tells a held run when it begins, Unix time in ns.
    fn start_at(&self, py: Python<'_>, unix_ns: u64) {
        self.with(py, |run| run.start_at(unix_ns));
    }

    /// Whether all connections stand or have failed.
    #[getter]
    fn standing(&self, py: Python<'_>) -> bool {
        self.with(py, |run| run.standing())
    }

    /// From now on workers yield instead of spinning: the target needs their CPUs.
    fn share_cpus(&self, py: Python<'_>) {
        self.with(py, |run| run.share_cpus());
    }

    fn counts(&self, py: Python<'_>) -> Words {
        words(&self.with(py, |run| run.counts()))
    }

    fn unsent_because(&self, py: Python<'_>) -> Words {
        let counts = self.with(py, |run| run.counts());
        Unsent::WORDS.into_iter().zip(counts.unsent).collect()
    }

    fn tallies(&self, py: Python<'_>) -> Words {
        let (counts, tallies) = self.with(py, |run| (run.counts(), run.tallies()));
        tallies.iter().copied().zip(counts.tallies).collect()
    }

    /// The seconds that are over, from the n-th on: (end in ns, counters, p50, p99, p99 of lateness).
    #[allow(clippy::type_complexity)]
    fn intervals(&self, py: Python<'_>, first: usize) -> Vec<(u64, Words, Option<u64>, Option<u64>, Option<u64>)> {
        let remaining = self.with(py, |run| run.intervals().get(first..).unwrap_or_default().to_vec());
        remaining.iter().map(|i| (i.until_ns, words(&i.counts), i.p50, i.p99, i.lateness_p99)).collect()
    }

    /// Of the seconds that are over, from the n-th on: latencies from due as (band, samples); a band begins at
    /// 10^(band/10) ns.
    fn latency_bands(&self, py: Python<'_>, first: usize) -> Vec<Vec<(u8, u64)>> {
        self.with(py, |run| run.latency_bands().get(first..).unwrap_or_default().to_vec())
    }

    /// (from due, from sent, lateness, reading) over all seconds that are over, and from opening to standing once all is
    /// over.
    fn distributions(&self, py: Python<'_>) -> (Histogram, Histogram, Histogram, Histogram, Histogram) {
        self.with(py, |run| {
            let totals = run.totals();
            let [due, sent, lateness, reading] =
                [&totals.from_due, &totals.from_sent, &totals.lateness, &totals.reading].map(|d| Histogram(d.clone()));
            (due, sent, lateness, reading, Histogram(run.connect()))
        })
    }

    /// What answers say of the server's time: (from its receive stamp to its transmit stamp; how far its clock is behind
    /// this host's, and how far ahead), over all seconds that are over.
    fn server_times(&self, py: Python<'_>) -> (Histogram, Histogram, Histogram) {
        self.with(py, |run| {
            let totals = run.totals();
            let [response, behind, ahead] =
                [&totals.response, &totals.offset.behind, &totals.offset.ahead].map(|d| Histogram(d.clone()));
            (response, behind, ahead)
        })
    }

    /// Of all threads that send, once they are done: ns that they waited for a CPU (None: not counted by this kernel),
    /// and switches that they did not ask for.
    fn contention(&self, py: Python<'_>) -> (Option<u64>, u64) {
        let sum = self.with(py, |run| run.contention());
        (sum.run_delay_ns, sum.involuntary_switches)
    }

    /// Once all is over: the length of a subinterval in ns, and for each (sent, unsent, answered, slow, largest lateness
    /// in ns, longest wait of a thread of the target in ns) of what was due in it.
    #[allow(clippy::type_complexity)]
    fn subintervals(&self, py: Python<'_>) -> (u64, Vec<(u64, u64, u64, u64, u64, u64)>) {
        let sum = self.with(py, |run| run.subintervals());
        let rows = sum
            .all()
            .iter()
            .map(|one| (one.sent, one.unsent, one.answered, one.slow, one.lateness_max, one.target_waited));
        (sum.length_ns(), rows.collect())
    }

    fn connections(&self, py: Python<'_>) -> Words {
        self.with(py, |run| run.connections()).words().collect()
    }

    #[getter]
    fn backend(&self, py: Python<'_>) -> &'static str {
        self.with(py, |run| run.backend())
    }

    #[getter]
    fn elapsed_ns(&self, py: Python<'_>) -> Option<i64> {
        self.with(py, |run| run.elapsed_ns())
    }

    #[getter]
    fn started_unix_ns(&self, py: Python<'_>) -> u64 {
        self.with(py, |run| run.started_unix_ns())
    }

    #[getter]
    fn slot_bytes(&self, py: Python<'_>) -> usize {
        self.with(py, |run| run.bytes())
    }

    /// Why a worker could not go on; None: all could.
    #[getter]
    fn gave_up(&self, py: Python<'_>) -> Option<String> {
        self.with(py, |run| run.gave_up())
    }

    #[getter]
    fn failures(&self, py: Python<'_>) -> Vec<String> {
        self.with(py, |run| run.failures())
    }
}

impl LoadRun {
    /// Does something with the run, alone and without the GIL: who waits for the lock stops no other thread.
    fn with<T: Send>(&self, py: Python<'_>, act: impl FnOnce(&mut run::LoadRun) -> T + Send) -> T {
        py.detach(|| act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn check(sensible: bool) -> PyResult<()> {
    let needs = "a run needs a target, a profile, a worker, a flow for each worker, and a node below their number";
    if sensible { Ok(()) } else { Err(PyValueError::new_err(needs)) }
}

fn words(counts: &Counts) -> Words {
    counts.words().collect()
}
