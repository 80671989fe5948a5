//! What the engine is given: everything resolved, nothing left to look up.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::pace::{Arrivals, Segment};

/// A run to be done once.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// The protocol's name.
    pub protocol: String,
    /// Its knobs.
    pub knobs: Vec<(String, i64)>,
    /// Whom to ask.
    pub target: SocketAddr,
    /// Where to ask from, in turn; empty: the kernel chooses.
    pub sources: Vec<IpAddr>,
    /// How many sockets, over all workers.
    pub flows: usize,
    /// The counted schedule.
    pub profile: Vec<Segment>,
    /// How long to ask before counting, at the profile's first rate, ns.
    pub warmup_ns: u64,
    /// How long an answer may take, ns.
    pub timeout_ns: u64,
    /// How gaps are drawn.
    pub arrivals: Arrivals,
    /// Of the schedule's randomness.
    pub seed: u64,
    /// Threads that ask.
    pub workers: usize,
    /// Where to keep them, in turn; empty: the scheduler chooses.
    pub cpus: Vec<usize>,
    /// Whether arrivals carry the kernel's stamps.
    pub stamps: bool,
    /// Whether several datagrams of one flow leave in one call that the kernel cuts apart.
    pub segmented: bool,
    /// Where to write one row per request.
    pub log: Option<PathBuf>,
}

impl LoadPlan {
    /// The counted schedule's length in ns.
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        (self.profile.iter().map(|segment| segment.seconds).sum::<f64>() * 1e9) as u64
    }

    /// The highest rate of the schedule, per s.
    #[must_use]
    pub fn peak_per_s(&self) -> f64 {
        self.profile.iter().flat_map(|s| [s.from_per_s, s.to_per_s]).fold(0.0, f64::max)
    }

    /// Slots for each flow: what may wait, and where memory allows four times as much, so that late answers find theirs.
    #[must_use]
    pub fn slots_a_flow(&self) -> usize {
        const PLENTY: f64 = (2 << 20) as f64;
        const MOST: f64 = (32 << 20) as f64;
        let waiting = self.peak_per_s() * self.timeout_ns as f64 / 1e9 * 1.25;
        let remembered = (waiting * 4.0).max(self.peak_per_s() * 2.0).min(PLENTY);
        (waiting.max(remembered).min(MOST) / self.flows as f64) as usize + 16
    }
}

/// A server to be run until it is stopped.
#[derive(Clone, Debug)]
pub struct ServePlan {
    /// The protocol's name.
    pub protocol: String,
    /// Its knobs.
    pub knobs: Vec<(String, i64)>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Threads that answer, each with its own socket.
    pub workers: usize,
    /// Where to keep them, in turn; empty: the scheduler chooses.
    pub cpus: Vec<usize>,
}
