//! One whole run in the virtual world, and the laws that hold for every run whatever happens in it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flatout_net::Datagrams;
use flatout_wire::ntp::Ntp;
use flatout_wire::{Protocol, ProtocolOption};

use super::departure_tests::QueuedLink;
use super::fake::{Asked, FakeClock, FakeLink, SendOutcome, World};
use crate::generator::{DatagramClient, DatagramParts, Times, WorkerOptions};
use crate::histogram::Recorder;
use crate::log::{Form, Log, Row};
use crate::pace::{Arrivals, Pacer, Segment, Share};
use crate::plan::Wait;
use crate::published::{PublishedRun, Second};
use crate::query_set::{Cursor, QuerySet};
use crate::tally::{Counts, Outcome, Unsent};

pub(super) const US: u64 = 1_000;
pub(super) const MS: u64 = 1_000_000;
/// What most answers take here.
pub(super) const QUICK: u64 = 50 * US;
/// When the schedule begins on the virtual clock, so that "before the run" exists.
const BEGIN: u64 = 2 * MS;
const WHOLE: Share = Share { index: 0, of: 1 };

/// How a run is set up. Times of `held_up` count from the schedule's beginning, as those of scripts do.
pub(super) struct Rig {
    pub(super) profile: Vec<Segment>,
    pub(super) arrivals: Arrivals,
    pub(super) warmup: u64,
    pub(super) timeout: u64,
    pub(super) flows: usize,
    pub(super) first_flow: u32,
    pub(super) slots: usize,
    pub(super) stamps: bool,
    pub(super) step: u64,
    pub(super) held_up: Option<(u64, u64)>,
    pub(super) send_cost: u64,
    pub(super) most_a_call: usize,
    pub(super) ping_pong: Option<Wait>,
    pub(super) shares_cpus: bool,
    pub(super) queued: bool,
    pub(super) failing: Option<(u64, &'static str)>,
    pub(super) options: Vec<(&'static str, i64)>,
    pub(super) published: Arc<PublishedRun>,
}

impl Default for Rig {
    fn default() -> Self {
        Self {
            profile: vec![Segment { seconds: 1.0, from_per_s: 1_000.0, to_per_s: 1_000.0 }],
            arrivals: Arrivals::Constant,
            warmup: 0,
            timeout: 100 * MS,
            flows: 1,
            first_flow: 0,
            slots: 4096,
            stamps: true,
            step: 200,
            held_up: None,
            send_cost: 0,
            most_a_call: usize::MAX,
            ping_pong: None,
            shares_cpus: false,
            queued: false,
            failing: None,
            options: Vec::new(),
            published: Arc::default(),
        }
    }
}

/// What a run has told.
pub(super) struct Reported {
    pub(super) counts: Counts,
    pub(super) totals: Recorder,
    pub(super) seconds: Vec<Second>,
    /// In the order of the schedule.
    pub(super) rows: Vec<Row>,
    /// When the worker was done, from the schedule's beginning.
    pub(super) ended: u64,
    schedule: Vec<u64>,
}

impl Rig {
    pub(super) fn steady(per_s: f64, seconds: f64) -> Self {
        Self { profile: vec![Segment { seconds, from_per_s: per_s, to_per_s: per_s }], ..Self::default() }
    }

    /// Runs to the end and holds the laws against what was told.
    pub(super) fn run(&self, mut script: impl FnMut(Asked) -> SendOutcome) -> Reported {
        let world = World::new(self.step, self.held_up.map(|(from, until)| (BEGIN + from, BEGIN + until)));
        let path = fresh_path();
        let log = Log::create(&path, Form::Flatout).unwrap();
        let script = move |asked: Asked| script(Asked { at: asked.at - BEGIN, ..asked });
        let mut link = FakeLink::new(Rc::clone(&world), self.flows, script);
        (link.send_cost, link.most_a_call) = (self.send_cost, self.most_a_call);
        link.failing = self.failing.map(|(from, call)| (BEGIN + from, call));
        let counts = if self.queued {
            self.drive(QueuedLink::new(link, Rc::clone(&world)), &world, &log)
        } else {
            self.drive(link, &world, &log)
        };
        log.close().unwrap();
        let reported = Reported::of(&self.published, counts, self.pacer(), &path, world.now() - BEGIN);
        if self.ping_pong.is_none() {
            reported.rows_follow_the_schedule();
        }
        reported
    }

    fn drive<L: Datagrams>(&self, link: L, world: &Rc<World>, log: &Log) -> Counts {
        DatagramClient::<Ntp, _, _>::new(DatagramParts {
            client: Ntp::client(&self.options(), 0x5eed).unwrap(),
            cursor: Cursor::new(QuerySet::compile::<Ntp>(&[], None).unwrap(), 0, 1),
            link,
            clock: FakeClock(Rc::clone(world)),
            warmup: self.warmup_pacer(),
            pacer: self.pacer(),
            timeout: self.timeout,
            options: WorkerOptions {
                stamps: self.stamps,
                slots: self.slots,
                first_flow: self.first_flow,
                ping_pong: self.ping_pong,
                shares_cpus: self.shares_cpus,
                ..WorkerOptions::default()
            },
            published: Arc::clone(&self.published),
            log_writer: Some(log.log_writer()),
        })
        .run(Some(self.times()))
    }

    fn options(&self) -> Vec<ProtocolOption<'static>> {
        self.options.iter().map(|&(name, value)| ProtocolOption { name, value }).collect()
    }

    fn pacer(&self) -> Pacer {
        if self.ping_pong.is_some() {
            return Pacer::nothing();
        }
        Pacer::new(&self.profile, self.arrivals, WHOLE, 7)
    }

    fn warmup_pacer(&self) -> Pacer {
        if self.ping_pong.is_some() {
            return Pacer::nothing();
        }
        let per_s = self.profile[0].from_per_s;
        let seconds = self.warmup as f64 / 1e9;
        Pacer::new(&[Segment { seconds, from_per_s: per_s, to_per_s: per_s }], self.arrivals, WHOLE, 8)
    }

    fn times(&self) -> Times {
        let seconds: f64 = self.profile.iter().map(|segment| segment.seconds).sum();
        let counted_from = BEGIN + self.warmup;
        let end = counted_from + (seconds * 1e9) as u64;
        Times { begin: BEGIN, counted_from, end, timeout: self.timeout }
    }
}

impl Reported {
    /// What a worker has left on its board and in the log at `path`, held against the laws.
    pub(super) fn of(published: &PublishedRun, counts: Counts, mut pacer: Pacer, path: &Path, ended: u64) -> Self {
        let schedule = std::iter::from_fn(|| pacer.draw()).collect();
        let seconds = published.take_done();
        let mut totals = Recorder::default();
        seconds.iter().for_each(|second| totals.add(&second.recorder));
        let reported = Self { counts, totals, seconds, rows: read_rows(path), ended, schedule };
        std::fs::remove_file(path).unwrap();
        reported.hold_laws(published);
        reported
    }

    fn hold_laws(&self, published: &PublishedRun) {
        let c = &self.counts;
        assert_eq!(c.planned, c.sent + c.all_unsent(), "every planned request is sent or unsent");
        assert_eq!(c.sent, c.answered + c.late + c.lost + c.refused + c.invalid, "every request sent ends once");
        assert_eq!(self.totals.lateness.count(), c.planned);
        assert_eq!(self.totals.from_sent.count(), c.answered);
        assert_eq!(self.totals.from_due.count(), c.answered + c.unsent[Unsent::Late as usize]);
        assert!(published.finished());
        assert_eq!(published.live(), *c);
        self.seconds_add_up();
        self.rows_fit();
    }

    fn seconds_add_up(&self) {
        let mut sum = Counts::default();
        self.seconds.iter().for_each(|second| sum += &second.counts);
        // What is lost so far may be heard of later, so only the end's number holds: the contract says so. CPU time
        // passes after the last second, too.
        let (sum, counts) = (Counts { lost: 0, cpu_ns: 0, ..sum }, Counts { lost: 0, cpu_ns: 0, ..self.counts });
        assert_eq!(sum, counts);
        assert!(self.seconds.iter().enumerate().all(|(n, second)| second.index == n));
    }

    pub(super) fn rows_follow_the_schedule(&self) {
        let due: Vec<_> = self.rows.iter().map(|row| row.due).collect();
        assert_eq!(due, self.schedule[..due.len()], "each row is one request of the schedule");
    }

    fn rows_fit(&self) {
        let c = &self.counts;
        assert_eq!(self.rows.len() as u64, c.planned, "one row per planned request");
        let rows = |outcome| self.rows.iter().filter(|row| row.outcome == outcome).count() as u64;
        assert_eq!(rows(Outcome::Answered), c.answered);
        assert_eq!(rows(Outcome::Refused), c.refused);
        assert_eq!(rows(Outcome::Unsent), c.all_unsent());
        // What came unnamed counts for a request that got nothing; which one, no row can say.
        assert_eq!(rows(Outcome::Lost), c.lost + (c.invalid - rows(Outcome::Invalid)) + (c.late - rows(Outcome::Late)));
    }

    /// That the whole schedule was dealt with.
    pub(super) fn is_whole(&self) -> bool {
        self.rows.len() == self.schedule.len()
    }

    /// The n-th request's outcome.
    pub(super) fn outcome(&self, n: u64) -> Outcome {
        self.rows[n as usize].outcome
    }

    /// The requests by number that ended so.
    pub(super) fn numbers(&self, outcome: Outcome) -> Vec<u64> {
        (0..self.rows.len() as u64).filter(|&n| self.outcome(n) == outcome).collect()
    }
}

pub(super) fn fresh_path() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("flatout-engine-{}-{}.csv", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(name)
}

fn read_rows(path: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("due_ns,sent_ns,answered_ns,outcome,flow"));
    let mut rows: Vec<_> = lines.map(read_row).collect();
    rows.sort_by_key(|row| row.due);
    rows
}

fn read_row(line: &str) -> Row {
    use Outcome::{Answered, Invalid, Late, Lost, Refused, Unsent};
    let words =
        HashMap::from([Answered, Late, Lost, Refused, Invalid, Unsent].map(|outcome| (outcome.word(), outcome)));
    let cells: Vec<_> = line.split(',').collect();
    let time = |cell: &str| (!cell.is_empty()).then(|| cell.parse().unwrap());
    Row {
        due: time(cells[0]).unwrap(),
        sent: time(cells[1]),
        answered: time(cells[2]),
        outcome: words[cells[3]],
        flow: cells[4].parse().unwrap(),
        index: 0,
    }
}
