//! Starts workers and gathers what they leave: the one place that knows all protocols, from one table.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use flatout_net::Contention;
use flatout_wire::Protocol;

use crate::clock::{Clock, SystemClock};
use crate::faulty::{Faults, Faulty};
use crate::generator::start;
use crate::generator::start_barrier::{Begin, StartBarrier};
use crate::generator::subinterval::Subintervals;
use crate::histogram::{Durations, Recorder};
use crate::log::{Form, Log, RunClock};
use crate::plan::{LoadPlan, ReceivePlan, ServePlan};
use crate::published::{PublishedRun, Second};
use crate::receiver::Receiving;
use crate::server::Serving;
use crate::tally::{Connections, Counts};
use crate::thread_group::ThreadGroup;

/// What one protocol brings: chosen by name before any loop begins.
struct Entry {
    name: &'static str,
    tallies: &'static [&'static str],
    load: fn(&LoadPlan) -> io::Result<LoadRun>,
    serve: fn(&ServePlan) -> io::Result<Serving>,
    faulty: fn(&ServePlan, Faults) -> io::Result<Faulty>,
    receive: fn(&ReceivePlan) -> io::Result<Receiving>,
}

macro_rules! table {
    ($($protocol:ty,)*) => {
        const TABLE: &[Entry] = &[$(Entry {
            name: <$protocol>::NAME,
            tallies: <$protocol>::TALLIES,
            load: LoadRun::start_with::<$protocol>,
            serve: Serving::start::<$protocol>,
            faulty: Faulty::start::<$protocol>,
            receive: Receiving::start::<$protocol>,
        },)*];
    };
}
flatout_wire::protocols!(table);

/// The names of all protocols.
pub fn protocols() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|entry| entry.name)
}

fn entry(name: &str) -> io::Result<&'static Entry> {
    let unknown = || io::Error::new(io::ErrorKind::InvalidInput, format!("unknown protocol '{name}'"));
    TABLE.iter().find(|entry| entry.name == name).ok_or_else(unknown)
}

/// Starts the servers of a plan.
pub fn serve(plan: &ServePlan) -> io::Result<Serving> {
    (entry(&plan.protocol)?.serve)(plan)
}

/// Starts a server that misbehaves as told.
pub fn faulty(plan: &ServePlan, faults: Faults) -> io::Result<Faulty> {
    (entry(&plan.protocol)?.faulty)(plan, faults)
}

/// Starts the receivers of a plan.
pub fn receive(plan: &ReceivePlan) -> io::Result<Receiving> {
    (entry(&plan.protocol)?.receive)(plan)
}

/// One second of all workers.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    /// Its end, ns since the counted beginning.
    pub until_ns: u64,
    /// The events that fell into it.
    pub counts: Counts,
    /// From due, ns.
    pub p50: Option<u64>,
    /// From due, ns.
    pub p99: Option<u64>,
    /// Of the generator's lateness, ns.
    pub lateness_p99: Option<u64>,
}

/// A run, from the outside.
#[derive(Debug)]
pub struct LoadRun {
    clock: SystemClock,
    /// Unix time minus the clock's when the begin was told: a clock that is set or slewed later does not move it.
    unix_offset: Option<u64>,
    barrier: Arc<StartBarrier>,
    warmup_ns: u64,
    published: Vec<Arc<PublishedRun>>,
    workers: ThreadGroup<Counts>,
    seconds: BTreeMap<usize, (usize, u64, Counts, Recorder)>,
    intervals: Vec<Interval>,
    bands: Vec<Vec<(u8, u64)>>,
    totals: Recorder,
    tallies: &'static [&'static str],
    log: Option<Log>,
    log_failure: Option<String>,
}

impl LoadRun {
    /// Opens all sockets, then starts all workers. Errors are the kernel's, or name an invalid option.
    pub fn start(plan: &LoadPlan) -> io::Result<Self> {
        let entry = entry(&plan.protocol)?;
        let mut run = (entry.load)(plan)?;
        run.tallies = entry.tallies;
        Ok(run)
    }

    fn start_with<P: Protocol>(plan: &LoadPlan) -> io::Result<Self> {
        flatout_net::shorten_timeslice();
        let clock = SystemClock::begin();
        let barrier = start::barrier(plan, clock);
        let form = if plan.log.as_ref().is_some_and(|log| log.tcpscaler) {
            let times = RunClock { unix_offset: clock.unix_offset(), warmup: plan.warmup_ns };
            Form::Tcpscaler(Arc::clone(&barrier), times)
        } else {
            Form::Flatout
        };
        let log = plan.log.as_ref().map(|log| Log::create(&log.path, form)).transpose()?;
        let workers = start::workers::<P>(plan, clock, &barrier, log.as_ref())?;
        Ok(Self {
            clock,
            unix_offset: None,
            barrier,
            warmup_ns: plan.warmup_ns,
            published: workers.published,
            workers: workers.threads,
            seconds: BTreeMap::new(),
            intervals: Vec::new(),
            bands: Vec::new(),
            totals: Recorder::default(),
            tallies: &[],
            log,
            log_failure: None,
        })
    }

    /// Waits until the run is over, at most so long; returns whether it is.
    pub fn wait(&mut self, at_most: Duration) -> bool {
        const STEP: Duration = Duration::from_millis(5);
        let until = self.clock.now() + at_most.as_nanos() as u64;
        while !self.over() {
            let now = self.clock.now();
            if now >= until {
                break;
            }
            std::thread::sleep(Duration::from_nanos(until - now).min(STEP.max(at_most / 8)));
        }
        // Asked once and before gathering: a worker that ends meanwhile may have left a second that is not taken in.
        let over = self.over();
        self.gather(over);
        over
    }

    fn over(&self) -> bool {
        self.workers.is_over()
    }

    /// Asks all workers to stop; they end within a fraction of a second.
    pub fn stop(&self) {
        self.published.iter().for_each(|published| published.ask_to_stop());
    }

    /// Tells a held run when it begins, Unix time in ns: then, or as soon after it as its workers can. Counts once.
    pub fn start_at(&mut self, unix_ns: u64) {
        let offset = *self.unix_offset.get_or_insert_with(|| self.clock.unix_offset());
        self.barrier.release(self.clock.now(), unix_ns.saturating_sub(offset));
    }

    /// Whether all workers have opened what they can.
    #[must_use]
    pub fn standing(&self) -> bool {
        self.barrier.standing()
    }

    /// Tells all workers that the target needs their CPUs.
    pub fn share_cpus(&self) {
        self.published.iter().for_each(|published| published.ask_to_share_cpus());
    }

    /// Takes in the seconds that are over.
    fn gather(&mut self, over: bool) {
        for published in self.published.clone() {
            for second in published.take_done() {
                self.take_in(&published, second);
            }
        }
        let workers = self.published.len();
        while let Some(first) = self.seconds.first_entry() {
            if first.get().0 < workers && !over {
                break;
            }
            let (_, until, counts, recorder) = self.seconds.pop_first().map(|(_, second)| second).unwrap_or_default();
            self.end_interval(until, counts, recorder);
        }
        if over {
            self.close_log();
        }
    }

    fn take_in(&mut self, published: &PublishedRun, second: Second) {
        let entry = self.seconds.entry(second.index).or_default();
        entry.0 += 1;
        entry.1 = entry.1.max(second.until);
        entry.2 += &second.counts;
        if entry.0 == 1 && self.published.len() == 1 {
            entry.3 = second.recorder;
        } else {
            entry.3.add(&second.recorder);
            published.give_back(second.recorder);
        }
    }

    fn end_interval(&mut self, until_ns: u64, counts: Counts, recorder: Recorder) {
        let quantile = |of: &crate::histogram::Durations, at| (of.count() > 0).then(|| of.quantile(at));
        self.intervals.push(Interval {
            until_ns,
            counts,
            p50: quantile(&recorder.from_due, 0.5),
            p99: quantile(&recorder.from_due, 0.99),
            lateness_p99: quantile(&recorder.lateness, 0.99),
        });
        self.bands.push(recorder.from_due.bands());
        self.totals.add(&recorder);
        if let Some(published) = self.published.first() {
            published.give_back(recorder);
        }
    }

    fn close_log(&mut self) {
        if let Some(log) = self.log.take() {
            self.log_failure = log.close().err().map(|error| error.to_string());
        }
    }

    /// The counters of all workers, as last left.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.published.iter().for_each(|published| sum += &published.live());
        sum
    }

    /// The seconds that are over.
    #[must_use]
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// The latency from due of each second that is over, in coarse bands: see [`Durations::bands`].
    #[must_use]
    pub fn latency_bands(&self) -> &[Vec<(u8, u64)>] {
        &self.bands
    }

    /// The distributions over all seconds that are over.
    #[must_use]
    pub fn totals(&self) -> &Recorder {
        &self.totals
    }

    /// The protocol's counters, by number.
    #[must_use]
    pub fn tallies(&self) -> &'static [&'static str] {
        self.tallies
    }

    /// Memory of all request slots and connections, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.published.iter().map(|published| published.bytes()).sum()
    }

    /// What became of connections, over all workers.
    #[must_use]
    pub fn connections(&self) -> Connections {
        let mut sum = Connections::default();
        self.published.iter().for_each(|published| sum += &published.connections());
        sum
    }

    /// How long opening connections took; empty until the workers are done.
    #[must_use]
    pub fn connect(&self) -> Durations {
        let mut sum = Durations::default();
        self.published.iter().for_each(|published| sum.add(&published.connect()));
        sum
    }

    /// How the workers' threads fared, added up; only those that are done count.
    #[must_use]
    pub fn contention(&self) -> Contention {
        let mut sum = Contention::default();
        self.published.iter().filter_map(|published| published.contention()).for_each(|one| sum.add(one));
        sum
    }

    /// What was due in each subinterval of the run; empty until the workers are done.
    #[must_use]
    pub fn subintervals(&self) -> Subintervals {
        let mut sum = Subintervals::default();
        self.published.iter().for_each(|published| sum.add(&published.subintervals()));
        sum
    }

    /// What carries the connections: empty where there are none.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        self.published.first().map_or("", |published| published.backend())
    }

    /// When counting begins on the run's clock, once that is known.
    fn counted_from(&self) -> Option<u64> {
        match self.barrier.begin() {
            Begin::At(begin) => Some(begin + self.warmup_ns),
            Begin::Wait | Begin::Never => None,
        }
    }

    /// Unix time in ns of the counted beginning; where it never came, of now.
    #[must_use]
    pub fn started_unix_ns(&self) -> u64 {
        self.unix_offset.unwrap_or_else(|| self.clock.unix_offset())
            + self.counted_from().unwrap_or_else(|| self.clock.now())
    }

    /// ns since the counted beginning; negative in warm-up, nothing while connections are being opened.
    #[must_use]
    pub fn elapsed_ns(&self) -> Option<i64> {
        Some(self.clock.now() as i64 - self.counted_from()? as i64)
    }

    /// Why a worker could not go on: a call that it depends on failed.
    #[must_use]
    pub fn gave_up(&self) -> Option<String> {
        self.published.iter().find_map(|published| published.gave_up())
    }

    /// What the kernel, the log or a worker would not do.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let log = self.log_failure.iter().map(|why| format!("the log could not be written: {why}"));
        let kernel = self.published.iter().filter_map(|published| published.failure());
        let ended = self.published.iter().filter(|published| self.over() && !published.finished());
        let ended = ended.map(|_| "a worker ended early, which is a fault of flatout".to_owned());
        log.chain(kernel).chain(ended).collect()
    }
}

impl Drop for LoadRun {
    fn drop(&mut self) {
        self.stop();
        self.workers.join();
    }
}
