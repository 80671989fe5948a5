//! One worker over connections in the virtual world, and the laws that hold whatever its far ends do.
//!
//! Method: a script says what each far end does when it is wanted and when it is asked; requests reach it whole, however
//! they were sent. Times are the virtual clock's; the schedule begins at [`BEGIN`] where connecting is done by then.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use flatout_net::{CloseMode, CloseReason};
use flatout_wire::{Client, Frame, Protocol, ProtocolOption};

use super::fake::{FakeClock, World};
use super::fake_streams::{Act, FakeStreams, PeerAction, Reported as Deeded};
use super::rig::{self, MS, QUICK, fresh_path};
use crate::generator::WorkerOptions;
use crate::generator::opener::ConnectionPlan;
use crate::generator::start_barrier::{Begin, StartBarrier};
use crate::generator::stream::{Lengths, StreamClient, StreamParts};
use crate::histogram::Durations;
use crate::log::{Form, Log};
use crate::pace::{Arrivals, Pacer, Segment, Share};
use crate::published::PublishedRun;
use crate::query_set::{Cursor, QuerySet};
use crate::stream_layer::{Plain, StreamLayer};
use crate::tally::Connections;

/// When the schedule begins, unless connecting takes longer.
pub(super) const BEGIN: u64 = 100 * MS;
pub(super) const SECOND: u64 = 1_000 * MS;
const WHOLE: Share = Share { index: 0, of: 1 };

/// What others do.
pub(super) type Task = Box<dyn FnOnce()>;

/// How a run is set up.
pub(super) struct Streams {
    pub(super) per_s: f64,
    pub(super) seconds: f64,
    pub(super) arrivals: Arrivals,
    pub(super) warmup: u64,
    pub(super) timeout: u64,
    pub(super) slots: usize,
    pub(super) seed: u64,
    pub(super) connections: ConnectionPlan,
    /// Connections at once; nothing: as a plan would make it.
    pub(super) capacity: Option<usize>,
    pub(super) options: Vec<(&'static str, i64)>,
    pub(super) lines: Vec<String>,
    pub(super) held_up: Option<(u64, u64)>,
    /// How much may wait to leave on a connection.
    pub(super) block: usize,
    /// From then on every turn fails.
    pub(super) fails_from: Option<u64>,
    pub(super) barrier: Arc<StartBarrier>,
    pub(super) published: Arc<PublishedRun>,
    /// What others do, and when.
    pub(super) meanwhile: RefCell<Vec<(u64, Task)>>,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            per_s: 1_000.0,
            seconds: 1.0,
            arrivals: Arrivals::Constant,
            warmup: 0,
            timeout: 100 * MS,
            slots: 256,
            seed: 7,
            connections: ConnectionPlan { active: 5, hold: 0, per_s: 1e5, timeout: SECOND, churn: 0, reconnect: false },
            capacity: None,
            options: Vec::new(),
            lines: Vec::new(),
            held_up: None,
            block: 65_535 + 2,
            fails_from: None,
            barrier: Arc::new(StartBarrier::closed(1, BEGIN, 10 * MS)),
            published: Arc::default(),
            meanwhile: RefCell::default(),
        }
    }
}

/// A request that has reached its far end.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) at: u64,
    pub(super) far: usize,
    /// Which of all.
    pub(super) serial: u64,
    /// Which of this far end's.
    pub(super) nth: u64,
    /// All its bytes.
    pub(super) bytes: Vec<u8>,
}

impl Query {
    /// The right answer: DNS's without records, or an echo.
    pub(super) fn answer<P: Protocol>(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if P::PREFIX > 0 {
            bytes[P::PREFIX + 2] |= 0x80;
        }
        bytes
    }
}

/// What far ends do, told in virtual time: each deed with its delay.
pub(super) trait Script {
    /// Somebody connects.
    fn wanted(&mut self, _far: usize, _at: u64) -> Vec<(u64, PeerAction)> {
        vec![(QUICK, PeerAction::Accept)]
    }
    /// Somebody asks.
    fn asked(&mut self, query: &Query) -> Vec<(u64, PeerAction)>;
}

impl<F: FnMut(&Query) -> Vec<(u64, PeerAction)>> Script for F {
    fn asked(&mut self, query: &Query) -> Vec<(u64, PeerAction)> {
        self(query)
    }
}

/// A script whose far ends accept in a manner of their own.
pub(super) struct Manners<W, A>(pub(super) W, pub(super) A);

impl<W: FnMut(usize, u64) -> Vec<(u64, PeerAction)>, A: FnMut(&Query) -> Vec<(u64, PeerAction)>> Script
    for Manners<W, A>
{
    fn wanted(&mut self, far: usize, at: u64) -> Vec<(u64, PeerAction)> {
        self.0(far, at)
    }

    fn asked(&mut self, query: &Query) -> Vec<(u64, PeerAction)> {
        self.1(query)
    }
}

/// All far ends answer rightly, so much later.
pub(super) fn after<P: Protocol>(delay: u64) -> impl FnMut(&Query) -> Vec<(u64, PeerAction)> {
    move |query| vec![(delay, PeerAction::Send(query.answer::<P>()))]
}

pub(super) fn refusing(_: usize, _: u64) -> Vec<(u64, PeerAction)> {
    vec![(QUICK, PeerAction::Fail(CloseReason::Refused))]
}

pub(super) fn silent(_: usize, _: u64) -> Vec<(u64, PeerAction)> {
    Vec::new()
}

/// What a run has told beside what every run tells.
pub(super) struct Reported {
    pub(super) run: rig::Reported,
    pub(super) connections: Connections,
    pub(super) connect: Durations,
    /// When each far end was wanted.
    pub(super) wanted: Vec<u64>,
    /// When each far end's connection was ended from here, and how.
    pub(super) closed: HashMap<usize, (u64, CloseMode)>,
    /// How often each far end was asked.
    pub(super) asked: HashMap<usize, u64>,
    /// When the schedule began.
    pub(super) began: Option<u64>,
    pub(super) failure: Option<String>,
}

impl Deref for Reported {
    type Target = rig::Reported;

    fn deref(&self) -> &rig::Reported {
        &self.run
    }
}

impl Reported {
    /// When the connections were ended from here, in the order of the far ends.
    pub(super) fn ended_times(&self) -> Vec<u64> {
        let mut all: Vec<_> = self.closed.iter().map(|(far, (at, _))| (*far, *at)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, at)| at).collect()
    }

    /// When the last connection was ended from here.
    pub(super) fn last_ended(&self) -> u64 {
        self.closed.values().map(|(at, _)| *at).max().unwrap_or(0)
    }

    fn hold_laws(&self) {
        let Connections { opened, established, failed, refused, timed_out, reset, closed, broken, .. } =
            self.connections;
        let Connections { peak, live, reopened, .. } = self.connections;
        assert_eq!(opened, established + failed, "every attempt has led to something: {:?}", self.connections);
        assert_eq!(established, self.connect.count());
        assert!(refused + timed_out <= failed && live <= peak && peak <= established && reopened <= opened);
        assert!(live + reset + closed + broken <= established);
        assert_eq!(opened, self.wanted.len() as u64, "every attempt is one that a far end has seen");
    }
}

impl Streams {
    pub(super) fn over(connections: usize) -> Self {
        let rig = Self::default();
        Self { connections: ConnectionPlan { active: connections, ..rig.connections }, ..rig }
    }

    pub(super) fn connections(self, change: impl FnOnce(&mut ConnectionPlan)) -> Self {
        let mut connections = self.connections;
        change(&mut connections);
        Self { connections, ..self }
    }

    pub(super) fn meanwhile(self, at: u64, what: impl FnOnce() + 'static) -> Self {
        self.meanwhile.borrow_mut().push((at, Box::new(what)));
        self
    }

    pub(super) fn run<P: Protocol>(&self, script: impl Script) -> Reported {
        self.run_over::<P, _, _>(Plain, |client, notes| far_ends(client, script, notes))
    }

    /// Runs to the end and holds the laws against what was told; `far_ends` makes what plays them, byte by byte.
    pub(super) fn run_over<P: Protocol, W: StreamLayer, F: FnMut(Deeded<'_>) -> Vec<(u64, PeerAction)>>(
        &self,
        layer: W,
        far_ends: impl FnOnce(P::Client, Rc<RefCell<Notes>>) -> F,
    ) -> Reported {
        let path = fresh_path();
        let log = Log::create(&path, Form::Flatout).unwrap();
        let world = World::new(200, self.held_up);
        let notes = Rc::new(RefCell::new(Notes::default()));
        let client = self.client::<P>();
        let streams = self.streams(&world, far_ends(client.clone(), Rc::clone(&notes)));
        let counts = StreamClient::<P, _, _, W>::new(StreamParts {
            client,
            cursor: Cursor::new(QuerySet::compile::<P>(&self.lines, None).unwrap(), 0, 1),
            streams,
            layer,
            clock: FakeClock(Rc::clone(&world)),
            warmup: self.warmup_pacer(),
            pacer: self.pacer(),
            barrier: Arc::clone(&self.barrier),
            lengths: Lengths { warmup: self.warmup, counted: (self.seconds * 1e9) as u64, timeout: self.timeout },
            options: WorkerOptions { slots: self.slots, ..WorkerOptions::default() },
            connections: self.connections,
            target: SocketAddr::from(([192, 0, 2, 1], 53)),
            sources: Vec::new(),
            seed: self.seed,
            published: Arc::clone(&self.published),
            log_writer: Some(log.log_writer()),
        })
        .run();
        log.close().unwrap();
        let began = if let Begin::At(begin) = self.barrier.begin() { Some(begin) } else { None };
        let ended = world.now().saturating_sub(began.unwrap_or(0));
        let run = rig::Reported::of(&self.published, counts, self.pacer(), &path, ended);
        run.rows_follow_the_schedule();
        let Notes { wanted, closed, asked, .. } = notes.take();
        let (connections, connect) = (self.published.connections(), self.published.connect());
        let reported =
            Reported { run, connections, connect, wanted, closed, asked, began, failure: self.published.failure() };
        reported.hold_laws();
        reported
    }

    fn client<P: Protocol>(&self) -> P::Client {
        let options: Vec<_> = self.options.iter().map(|&(name, value)| ProtocolOption { name, value }).collect();
        P::client(&options, 0x5eed).unwrap()
    }

    fn streams<F: FnMut(Deeded<'_>) -> Vec<(u64, PeerAction)>>(&self, world: &Rc<World>, script: F) -> FakeStreams<F> {
        let ConnectionPlan { active, hold, churn, .. } = self.connections;
        let capacity = self.capacity.unwrap_or(active + hold + if churn > 0 { active } else { 0 });
        let mut streams = FakeStreams::new(Rc::clone(world), capacity, script);
        (streams.block, streams.fails_from) = (self.block, self.fails_from);
        self.meanwhile.take().into_iter().for_each(|(at, what)| streams.meanwhile(at, what));
        streams
    }

    fn pacer(&self) -> Pacer {
        let profile = [Segment { seconds: self.seconds, from_per_s: self.per_s, to_per_s: self.per_s }];
        Pacer::new(&profile, self.arrivals, WHOLE, self.seed)
    }

    fn warmup_pacer(&self) -> Pacer {
        let profile = [Segment { seconds: self.warmup as f64 / 1e9, from_per_s: self.per_s, to_per_s: self.per_s }];
        Pacer::new(if self.warmup > 0 { &profile } else { &[] }, self.arrivals, WHOLE, self.seed ^ 1)
    }
}

/// What has reached the far ends.
#[derive(Default)]
pub(super) struct Notes {
    wanted: Vec<u64>,
    closed: HashMap<usize, (u64, CloseMode)>,
    asked: HashMap<usize, u64>,
    partial: HashMap<usize, Vec<u8>>,
    serial: u64,
}

impl Notes {
    pub(super) fn want(&mut self, at: u64) {
        self.wanted.push(at);
    }

    pub(super) fn close(&mut self, far: usize, at: u64, how: CloseMode) {
        self.closed.insert(far, (at, how));
    }

    /// Puts requests together.
    pub(super) fn read_replies<A: Client>(&mut self, client: &A, far: usize, at: u64, bytes: &[u8]) -> Vec<Query> {
        let partial = self.partial.entry(far).or_default();
        partial.extend_from_slice(bytes);
        let mut queries = Vec::new();
        while let Frame::Whole { end, .. } = client.frame(partial) {
            let bytes = partial.drain(..end).collect();
            let nth = self.asked.entry(far).or_default();
            queries.push(Query { at, far, serial: self.serial, nth: *nth, bytes });
            (self.serial, *nth) = (self.serial + 1, *nth + 1);
        }
        queries
    }
}

/// Plays the far ends by a script that need not bother with bytes.
fn far_ends<A: Client>(
    client: A,
    mut script: impl Script,
    notes: Rc<RefCell<Notes>>,
) -> impl FnMut(Deeded<'_>) -> Vec<(u64, PeerAction)> {
    move |Deeded { at, far, act }| {
        let notes = &mut *notes.borrow_mut();
        match act {
            Act::Open(_) => {
                notes.want(at);
                script.wanted(far, at)
            }
            Act::Close(how) => {
                notes.close(far, at, how);
                Vec::new()
            }
            Act::Bytes(bytes) => {
                notes.read_replies(&client, far, at, bytes).iter().flat_map(|query| script.asked(query)).collect()
            }
        }
    }
}
