//! One whole one-way run in the virtual world, and the laws that hold for every such run.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use flatout_net::{Batch, CallError, Datagrams, Refused, SendResult};
use flatout_wire::record::Record;
use flatout_wire::{Decode, Protocol, ProtocolOption};

use super::fake::{FakeClock, World};
use super::rig::{MS, fresh_path};
use crate::clock::Clock;
use crate::generator::one_way::{OneWayParts, OneWaySender};
use crate::generator::senders::Senders;
use crate::generator::{Times, WorkerOptions};
use crate::histogram::Recorder;
use crate::log::{Form, Log};
use crate::pace::{Arrivals, Pacer, Segment, Share, Ticks};
use crate::published::PublishedRun;
use crate::query_set::{Cursor, QuerySet};
use crate::tally::{Counts, Unsent};

const BEGIN: u64 = 2 * MS;
const ECONNREFUSED: i32 = 111;

/// `id:u4 seq:u4 sent:u8`, as knobs.
const KNOBS: [(&str, i64); 4] = [("size", 16), ("identity", 4 << 16), ("sequence", 4 | 4 << 16), ("sent", 8 | 8 << 16)];

/// What the link does with a call, by how many it has seen before: a wish for each call.
pub(super) type Script = Box<dyn FnMut(u64, u64) -> LinkAction>;

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkAction {
    /// At most so many leave.
    Accept(usize),
    /// Something else happens, and nothing leaves.
    Else(SendResult),
    /// As [`SendResult::Refused`], with so many refusals to read.
    Refuse(usize),
}

/// One message as it left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departed {
    pub(super) at: u64,
    pub(super) flow: usize,
    pub(super) sender: u64,
    pub(super) sequence: u64,
    pub(super) stamp: u64,
    pub(super) call: u64,
}

/// Takes everything, and tells it afterwards.
pub(super) struct Sink {
    world: Rc<World>,
    flows: usize,
    script: Script,
    calls: u64,
    refusals: usize,
    left: Rc<std::cell::RefCell<Vec<Departed>>>,
    cost: u64,
}

impl Datagrams for Sink {
    fn flows(&self) -> usize {
        self.flows
    }

    fn send(&mut self, flow: usize, batch: &mut Batch, count: usize, length: usize) -> SendResult {
        assert!(flow < self.flows && count > 0);
        let call = self.calls;
        self.calls += 1;
        let many = match (self.script)(call, self.world.now() - BEGIN) {
            LinkAction::Accept(many) => many.min(count),
            LinkAction::Else(sent) => return sent,
            LinkAction::Refuse(many) => {
                self.refusals += many;
                return SendResult::Refused;
            }
        };
        let decoder = Record::decoder(&options()).unwrap();
        for slot in 0..many {
            let bytes = &batch.slot(slot)[..length];
            let taken = decoder.decode(bytes).unwrap();
            let stamp = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
            let at = self.world.now() - BEGIN;
            let (sender, sequence) = (taken.sender, taken.sequence);
            self.left.borrow_mut().push(Departed { at, flow, sender, sequence, stamp, call });
        }
        self.world.pass(self.cost);
        SendResult::Sent(many)
    }

    fn poll(&mut self, wait: Duration) -> Result<usize, CallError> {
        self.world.pass(wait.as_nanos() as u64);
        Ok(0)
    }

    fn ready(&self, _: usize) -> (usize, bool) {
        (0, false)
    }

    fn receive(&mut self, _: usize, _: &mut Batch) -> Result<usize, CallError> {
        panic!("what comes back is not read")
    }

    fn refused(&mut self, _: usize, _: &mut [u8]) -> Result<Option<Refused>, CallError> {
        let Some(remaining) = self.refusals.checked_sub(1) else { return Ok(None) };
        self.refusals = remaining;
        Ok(Some(Refused { quoted: 0, errno: ECONNREFUSED }))
    }

    fn drops(&self) -> u64 {
        7
    }
}

fn options() -> [ProtocolOption<'static>; 4] {
    KNOBS.map(|(name, value)| ProtocolOption { name, value })
}

/// How a run is set up. Times count from the schedule's beginning.
pub(super) struct OneWayRig {
    pub(super) profile: Vec<Segment>,
    pub(super) arrivals: Arrivals,
    pub(super) ticks: Ticks,
    pub(super) share: Share,
    pub(super) flows: usize,
    pub(super) in_a_row: usize,
    pub(super) step: u64,
    pub(super) held_up: Option<(u64, u64)>,
    pub(super) call_cost: u64,
    pub(super) published: Arc<PublishedRun>,
}

impl Default for OneWayRig {
    fn default() -> Self {
        Self {
            profile: vec![Segment { seconds: 1.0, from_per_s: 1_000.0, to_per_s: 1_000.0 }],
            arrivals: Arrivals::Constant,
            ticks: Ticks { senders: 1, spread: 1.0 },
            share: Share { index: 0, of: 1 },
            flows: 1,
            in_a_row: 1,
            step: 200,
            held_up: None,
            call_cost: 0,
            published: Arc::default(),
        }
    }
}

/// What a run has told.
pub(super) struct Reported {
    pub(super) counts: Counts,
    pub(super) totals: Recorder,
    pub(super) left: Vec<Departed>,
    pub(super) schedule: Vec<u64>,
    pub(super) ended: u64,
    pub(super) rows: String,
    /// When each second ended.
    pub(super) until: Vec<u64>,
}

impl OneWayRig {
    pub(super) fn steady(per_s: f64, seconds: f64) -> Self {
        Self { profile: vec![Segment { seconds, from_per_s: per_s, to_per_s: per_s }], ..Self::default() }
    }

    /// Runs with a link that takes all, and holds the laws against what was told.
    pub(super) fn run(&self) -> Reported {
        self.run_with(Box::new(|_, _| LinkAction::Accept(usize::MAX)))
    }

    /// The same with a link that does as `script` says.
    pub(super) fn run_with(&self, script: Script) -> Reported {
        let world = World::new(self.step, self.held_up.map(|(from, until)| (BEGIN + from, BEGIN + until)));
        let left = Rc::default();
        let path = fresh_path();
        let log = Log::create(&path, Form::Flatout).unwrap();
        let mine = (self.share.index..self.ticks.senders).step_by(self.share.of as usize).count();
        let counts = OneWaySender::<Record, _, _>::new(OneWayParts {
            client: Record::client(&options(), 1).unwrap(),
            cursor: Cursor::new(QuerySet::compile::<Record>(&[], None).unwrap(), 0, 1),
            link: Sink {
                world: Rc::clone(&world),
                flows: self.flows,
                script,
                calls: 0,
                refusals: 0,
                left: Rc::clone(&left),
                cost: self.call_cost,
            },
            clock: FakeClock(Rc::clone(&world)),
            pacer: self.pacer(),
            senders: Senders::new((self.share.index, self.share.of), mine, self.flows, self.in_a_row),
            timeout: self.times().timeout,
            options: WorkerOptions::default(),
            published: Arc::clone(&self.published),
            log_writer: Some(log.log_writer()),
        })
        .run(Some(self.times()));
        log.close().unwrap();
        let rows = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let mut pacer = self.pacer();
        let schedule = std::iter::from_fn(|| pacer.draw()).collect();
        let ended = world.now() - BEGIN;
        let reported = Reported {
            counts,
            totals: Recorder::default(),
            left: left.take(),
            schedule,
            ended,
            rows,
            until: Vec::new(),
        };
        reported.held_against_the_laws(&self.published, FakeClock(world).unix_offset())
    }

    fn pacer(&self) -> Pacer {
        let pacer = Pacer::new(&self.profile, self.arrivals, self.share, 7);
        if self.arrivals == Arrivals::Poisson { pacer } else { pacer.at_ticks(self.ticks) }
    }

    fn times(&self) -> Times {
        let seconds: f64 = self.profile.iter().map(|segment| segment.seconds).sum();
        Times { begin: BEGIN, counted_from: BEGIN, end: BEGIN + (seconds * 1e9) as u64, timeout: MS }
    }
}

impl Reported {
    fn held_against_the_laws(mut self, published: &PublishedRun, unix_offset: u64) -> Self {
        let c = self.counts;
        let mut sum = Counts::default();
        for second in published.take_done() {
            sum += &second.counts;
            self.totals.add(&second.recorder);
            self.until.push(second.until);
        }
        assert_eq!(Counts { cpu_ns: c.cpu_ns, ..sum }, c, "seconds add up");
        assert!(self.until.is_sorted_by(|one, next| one + MS <= *next), "each second has a length");
        assert_eq!(c.planned, c.sent + c.all_unsent());
        assert_eq!(c.sent, self.left.len() as u64);
        assert_eq!((c.answered, c.late, c.lost, c.invalid, c.own_drops), (0, 0, 0, 0, 0));
        assert_eq!(self.totals.lateness.count(), c.planned);
        assert_eq!(self.totals.from_due.count() + self.totals.from_sent.count(), 0, "there is no latency");
        assert!(published.finished());
        let word = |word| self.rows.lines().filter(|row| row.contains(word)).count() as u64;
        assert_eq!((word(",sent,"), word(",unsent,")), (c.sent, c.all_unsent()), "one row a message");
        for left in &self.left {
            assert!(left.stamp.abs_diff(left.at + BEGIN + unix_offset) < MS, "the time in it is when it left");
        }
        self.numbers_have_no_gap();
        self
    }

    /// A receiver that misses a number can be sure that its message was lost on the way.
    fn numbers_have_no_gap(&self) {
        let mut next = std::collections::HashMap::new();
        let mut flows = std::collections::HashMap::new();
        for left in &self.left {
            let expected = next.entry(left.sender).or_insert(0);
            assert_eq!(left.sequence, *expected, "of sender {}", left.sender);
            *expected += 1;
            assert_eq!(*flows.entry(left.sender).or_insert(left.flow), left.flow, "a sender has one flow");
        }
    }

    /// How many messages each sender sent, by name.
    pub(super) fn by_sender(&self, senders: u64) -> Vec<u64> {
        (0..senders).map(|sender| self.left.iter().filter(|left| left.sender == sender).count() as u64).collect()
    }

    /// How many left because of what.
    pub(super) fn unsent(&self, why: Unsent) -> u64 {
        self.counts.unsent[why as usize]
    }
}
