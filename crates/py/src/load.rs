//! A run for Python: started from a plan, looked at on a tick.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use flatout_engine::pace::{Arrivals, Segment, Share, Ticks};
use flatout_engine::plan::{ConnectionPolicy, Io, Link, LoadPlan, Log, PingPong, Tls, Wait};
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
    #[pyo3(signature = (*, protocol, options, targets, ticks, link, sources, flows, lines, queries, connect_per_s,
                        connect_timeout_ns, churn, hold, reconnect, io, tls, node, start_at_unix_ns, profile, warmup_ns,
                        timeout_ns, poisson, ping_pong, seed, workers, cpus, stamps, segmented, log))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        protocol: String,
        options: Vec<(String, i64)>,
        targets: Vec<(IpAddr, u16, u32)>,
        ticks: (u32, f64),
        link: &str,
        sources: Vec<IpAddr>,
        flows: usize,
        lines: Vec<String>,
        queries: Option<PathBuf>,
        connect_per_s: f64,
        connect_timeout_ns: u64,
        churn: u32,
        hold: usize,
        reconnect: bool,
        io: &str,
        tls: Option<TlsWords>,
        node: (u32, u32),
        start_at_unix_ns: Option<u64>,
        profile: Vec<(f64, f64, f64)>,
        warmup_ns: u64,
        timeout_ns: u64,
        poisson: bool,
        ping_pong: Option<(String, u32)>,
        seed: u64,
        workers: usize,
        cpus: Vec<usize>,
        stamps: bool,
        segmented: bool,
        log: Option<(PathBuf, String)>,
    ) -> PyResult<Self> {
        check(workers > 0 && flows >= workers && !profile.is_empty() && node.0 < node.1 && !targets.is_empty())?;
        let plan = LoadPlan {
            protocol,
            options,
            targets: targets.into_iter().map(address).collect(),
            ticks: Ticks { senders: ticks.0, spread: ticks.1 },
            link: one_of(link, &LINKS)?,
            sources,
            flows,
            lines,
            queries,
            policy: ConnectionPolicy {
                connect_per_s,
                connect_timeout_ns,
                churn,
                hold,
                reconnect,
                io: of_io(io)?,
                tls: of_tls(tls),
            },
            node: Share { index: node.0, of: node.1 },
            start_at_unix_ns,
            profile: profile.into_iter().map(segment).collect(),
            warmup_ns,
            timeout_ns,
            ping_pong: ping_pong.map(of_ping_pong).transpose()?,
            arrivals: if poisson { Arrivals::Poisson } else { Arrivals::Constant },
            seed,
            workers,
            cpus,
            stamps,
            segmented,
            log: log.map(of_log).transpose()?,
        };
        py.detach(|| run::LoadRun::start(&plan)).map(Self).map_err(raise)
    }

    /// Waits until the run is over, at most so many seconds; returns whether it is.
    fn wait(&mut self, py: Python<'_>, seconds: f64) -> bool {
        py.detach(|| self.0.wait(Duration::try_from_secs_f64(seconds).unwrap_or_default()))
    }

    fn stop(&self) {
        self.0.stop();
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

    fn connections(&self) -> Words {
        self.0.connections().words().into_iter().collect()
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

    #[getter]
    fn failures(&self) -> Vec<String> {
        self.0.failures()
    }
}

fn check(sensible: bool) -> PyResult<()> {
    let needs = "a run needs a target, a profile, a worker, a flow for each worker, and a node below their number";
    if sensible { Ok(()) } else { Err(PyValueError::new_err(needs)) }
}

fn of_ping_pong((wait, busy_poll_us): (String, u32)) -> PyResult<PingPong> {
    Ok(PingPong { wait: one_of(&wait, &WAITS)?, busy_poll_us })
}

fn of_log((path, format): (PathBuf, String)) -> PyResult<Log> {
    Ok(Log { path, tcpscaler: one_of(&format, &FORMATS)? })
}

fn of_io(word: &str) -> PyResult<Io> {
    one_of(word, &IOS)
}

fn segment((seconds, from_per_s, to_per_s): (f64, f64, f64)) -> Segment {
    Segment { seconds, from_per_s, to_per_s }
}

type TlsWords = (String, bool, Option<PathBuf>, bool);

fn of_tls(words: Option<TlsWords>) -> Tls {
    words.map_or_else(Tls::default, |(name, verify, authorities, resume)| Tls { name, verify, authorities, resume })
}

/// The words for what carries requests.
pub(crate) const LINKS: [(&str, Link); 3] = [("udp", Link::Udp), ("tcp", Link::Tcp), ("tls", Link::Tls)];
/// The words for what carries streams.
pub(crate) const IOS: [(&str, Io); 3] = [("auto", Io::Auto), ("io_uring", Io::Uring), ("epoll", Io::Epoll)];

/// The words for how the answer to the one request under way is awaited.
const WAITS: [(&str, Wait); 2] = [("sleep", Wait::Sleep), ("spin", Wait::Spin)];

/// The words for the rows of a log: whether they are tcpscaler's.
const FORMATS: [(&str, bool); 2] = [("flatout", false), ("tcpscaler", true)];

/// What a word stands for.
pub(crate) fn one_of<T: Copy>(word: &str, words: &[(&str, T)]) -> PyResult<T> {
    let found = words.iter().find(|(name, _)| *name == word).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(name, _)| *name).collect();
        PyValueError::new_err(format!("'{word}' is not one of {}", known.join(", ")))
    })
}

/// A socket's address from its parts: IP address, port, and for link-local IPv6 the interface's number.
pub(crate) fn address((ip, port, scope): (IpAddr, u16, u32)) -> SocketAddr {
    let mut address = SocketAddr::new(ip, port);
    if let SocketAddr::V6(v6) = &mut address {
        v6.set_scope_id(scope);
    }
    address
}

fn words(counts: &Counts) -> Words {
    counts.words().collect()
}
