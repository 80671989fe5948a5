//! One worker that takes in, over a virtual socket and in virtual time: what it counts, hands over and answers.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flatout_net::{CallError, DatagramReceiver, Local, Peer, ReceiveRing};
use flatout_wire::receiver_stats::{LENGTH, ReceiverCounters, StatsRequest};
use flatout_wire::record::{Record, RecordDecoder};
use flatout_wire::{Decode, Protocol, ProtocolOption};

use crate::histogram::LONGEST_NS;
use crate::pace::Random;
use crate::plan::WhenFull;
use crate::queue::RecordQueue;
use crate::receiver::sequence::SequenceTracker;
use crate::receiver::sources::{AtHand, Sources, UNKNOWN};
use crate::receiver::stats::{Drops, ReceiverStats, TrackedSenders};
use crate::receiver::worker::{PollOrSleep, Worker};

/// Sender, number and time of 8 bytes, and a constant.
const SIZE: usize = 25;
const UNIX: u64 = 1_800_000_000_000_000_000;

/// What was answered, and to whom.
type Answers = Arc<Mutex<Vec<(Vec<u8>, SocketAddr)>>>;

/// Answers go into a list.
struct Nowhere(Answers);

impl DatagramReceiver for Nowhere {
    /// Every call fails.
    fn receive(&mut self, _: &mut ReceiveRing, _: bool) -> Result<usize, CallError> {
        Err(CallError { call: "recvmsg", errno: 1 })
    }

    fn answer(&mut self, bytes: &[u8], to: Peer) {
        self.0.lock().unwrap().push((bytes.to_vec(), to.address));
    }
}

/// A worker and what can be seen of it.
struct Rig {
    stats: Arc<ReceiverStats>,
    worker: Worker<RecordDecoder, Nowhere>,
    answers: Answers,
    now: u64,
}

type Arrival<'a> = (&'a [u8], usize, u16);

impl Rig {
    fn new(named: bool, queue: usize, tracked: usize) -> Self {
        Self::telling(named, queue, tracked, true)
    }

    fn telling(named: bool, queue: usize, tracked: usize, tells: bool) -> Self {
        let decoder = decoder(named);
        let queue = RecordQueue::new(1, SIZE, queue, WhenFull::DropNewest).unwrap();
        let followings = vec![TrackedSenders::new(SequenceTracker::new(tracked, decoder.sequence_bits(), false))];
        let parts = (1, followings, vec![Drops::new(|| 5)]);
        let stats = ReceiverStats::new(queue, Sources::new(tracked), parts, (SIZE, 64, decoder.field_layout()));
        let answers = Answers::default();
        let arrivals = ReceiveRing::new(1, true, true);
        let inflow = (Nowhere(Arc::clone(&answers)), arrivals);
        let worker = Worker::new(0, decoder, inflow, Arc::clone(&stats), tells);
        Self { stats, worker, answers, now: UNIX }
    }

    /// Lets one batch arrive: bytes, the length of its segments, the port it came from.
    fn arrive(&mut self, batch: &[Arrival<'_>]) {
        for (slot, (bytes, segment, port)) in batch.iter().enumerate() {
            self.worker.arrivals().deliver(slot, bytes, *segment, at(*port), None);
        }
        self.now += 1_000;
        self.worker.turn(batch.len(), self.now);
    }

    fn arrived(&self) -> ReceiverCounters {
        let all = self.stats.reported().counters;
        assert_eq!(all.received, all.parsed + all.malformed, "{all:?}");
        assert_eq!(all.parsed, all.handed_over + all.dropped + all.queued, "{all:?}");
        all
    }

    fn words(&self) -> Vec<(&'static str, u64)> {
        self.stats.received()[0].words()
    }

    fn word(&self, name: &str) -> u64 {
        self.words().iter().find(|(word, _)| *word == name).unwrap().1
    }

    fn taken(&self) -> Vec<u8> {
        let one = || self.stats.queue.take(usize::MAX, Duration::ZERO, Duration::ZERO);
        std::iter::from_fn(one).flat_map(|handed| handed.bytes).collect()
    }
}

fn decoder(named: bool) -> RecordDecoder {
    let offset = |at: i64, width: i64| at | width << 16;
    let mut options = vec![("size", SIZE as i64), ("sequence", offset(8, 8)), ("sent", offset(16, 8)), ("unit", 1)];
    options.extend([("constant", offset(24, 1)), ("value", 42)]);
    if named {
        options.push(("identity", offset(0, 8)));
    }
    let options: Vec<_> = options.into_iter().map(|(name, value)| ProtocolOption { name, value }).collect();
    Record::decoder(&options).unwrap()
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn message(sender: u64, number: u64, sent: u64) -> Vec<u8> {
    [&sender.to_le_bytes()[..], &number.to_le_bytes(), &sent.to_le_bytes(), &[42]].concat()
}

fn messages(sender: u64, numbers: std::ops::Range<u64>) -> Vec<u8> {
    numbers.flat_map(|number| message(sender, number, UNIX)).collect()
}

#[test]
fn a_receiving_call_that_keeps_failing_ends_the_worker_with_its_name() {
    let rig = Rig::new(true, 1_000, 100);
    let ended = rig.worker.run(&AtomicBool::new(false));
    assert_eq!(ended, Err("recvmsg: Operation not permitted".to_owned()));
}

#[test]
fn what_came_as_one_is_cut_apart_and_handed_over_whole() {
    let mut rig = Rig::new(true, 1_000, 100);
    let (many, last) = (messages(1, 0..64), messages(2, 0..1));
    rig.arrive(&[(&many, SIZE, 1), (&last, 0, 2)]);
    assert_eq!(rig.taken(), [many, last].concat());
    let arrived = rig.arrived();
    assert_eq!((arrived.received, arrived.handed_over, arrived.senders, arrived.missing), (65, 65, 2, 0));
    assert_eq!((arrived.bytes, arrived.kernel_drops), (65 * SIZE as u64, 5));
    assert_eq!(rig.word("arrivals"), 2);
}

#[test]
fn each_kind_of_wrong_message_is_counted_and_the_right_ones_around_it_kept() {
    let mut rig = Rig::new(true, 1_000, 100);
    let mut spoiled = messages(1, 0..5);
    spoiled[2 * SIZE + 24] = 41;
    spoiled.truncate(5 * SIZE - 1);
    let (long, right) = (vec![0; SIZE + 1], messages(1, 5..6));
    rig.arrive(&[(&spoiled, SIZE, 1), (&[], 0, 1), (&long, 0, 1), (&right, 0, 1)]);
    let kept = [messages(1, 0..2), messages(1, 3..4), messages(1, 5..6)].concat();
    assert_eq!(rig.taken(), kept);
    assert_eq!((rig.arrived().received, rig.arrived().malformed, rig.arrived().missing), (8, 4, 2));
    assert_eq!((rig.word("short"), rig.word("long"), rig.word("wrong_constant")), (2, 1, 1));
}

#[test]
fn without_an_identity_the_address_is_the_sender() {
    let mut rig = Rig::new(false, 1_000, 2);
    for port in [1, 2, 3] {
        rig.arrive(&[(&messages(9, 0..3), SIZE, port)]);
    }
    let handed = || rig.stats.queue.take(9, Duration::ZERO, Duration::ZERO).unwrap().source;
    assert_eq!(handed(), [[0; 3], [1; 3], [UNKNOWN; 3]].concat());
    let arrived = rig.arrived();
    // The third address found no room: its numbers say nothing.
    assert_eq!((arrived.senders, arrived.untracked, arrived.duplicate), (2, 3, 0));
    assert_eq!(rig.stats.sources.address(1), Some(at(2)));
    assert_eq!(rig.stats.sources.peers(&[1, 7, 0, UNKNOWN]), [Peer::from(at(2)), Peer::from(at(1))]);
}

#[test]
fn only_whoever_sends_something_right_has_a_number() {
    let mut rig = Rig::new(false, 1_000, 2);
    let question = StatsRequest { reset_sequences: false, nonce: 7 }.write();
    for port in 10..20 {
        rig.arrive(&[(&question, 0, port), (b"junk", 0, port + 10), (&[], 0, port + 20)]);
    }
    rig.arrive(&[(&messages(9, 0..3), SIZE, 1), (&[b"j".repeat(SIZE), messages(9, 0..1)].concat(), SIZE, 2)]);
    let handed = rig.stats.queue.take(9, Duration::ZERO, Duration::ZERO).unwrap();
    assert_eq!(handed.source, [0, 0, 0, 1]);
    assert_eq!(rig.stats.sources.peers(&[0, 1, 2]), [Peer::from(at(1)), Peer::from(at(2))]);
    assert_eq!((rig.arrived().senders, rig.arrived().untracked, rig.arrived().malformed), (2, 0, 21));
}

#[test]
fn a_question_is_answered_with_what_was_counted_and_is_no_message() {
    let mut rig = Rig::new(true, 10, 100);
    let question = StatsRequest { reset_sequences: false, nonce: 77 };
    rig.arrive(&[(&messages(1, 0..20), SIZE, 1), (&question.write(), 0, 5), (&messages(1, 22..23), 0, 1)]);
    let answers = rig.answers.lock().unwrap().clone();
    let (answer, to) = &answers[0];
    assert_eq!((answer.len(), *to, answers.len()), (LENGTH, at(5), 1));
    let reported = question.read_reply(answer).unwrap();
    assert_eq!(reported, rig.stats.reported());
    assert_ne!(
        reported.instance,
        Rig::new(true, 10, 100).stats.reported().instance,
        "no two receivers are taken for one"
    );
    let reported = reported.counters;
    assert_eq!(
        (reported.received, reported.missing, reported.queued, reported.dropped, reported.size),
        (21, 2, 10, 11, 25)
    );
}

#[test]
fn where_nobody_tells_a_question_is_a_message_like_any_other() {
    let mut rig = Rig::telling(true, 10, 100, false);
    let question = StatsRequest { reset_sequences: true, nonce: 77 }.write();
    rig.arrive(&[(&question, 0, 5), (&[question, question].concat(), LENGTH, 5), (&messages(1, 0..2), SIZE, 1)]);
    assert_eq!((rig.arrived().received, rig.word("long"), rig.arrived().parsed), (5, 3, 2));
    assert_eq!(rig.arrived().bytes, (3 * LENGTH + 2 * SIZE) as u64);
    assert!(rig.answers.lock().unwrap().is_empty());
}

#[test]
fn a_new_beginning_forgets_the_numbers_once_for_each_question() {
    let mut rig = Rig::new(true, 1_000, 100);
    let question = |nonce| StatsRequest { reset_sequences: true, nonce }.write();
    rig.arrive(&[(&messages(1, 90_000..90_010), SIZE, 1), (&question(1), 0, 5)]);
    rig.arrive(&[(&messages(1, 0..10), SIZE, 1)]);
    assert_eq!((rig.arrived().restarts, rig.arrived().senders), (0, 2), "who asks learns who has begun since");
    rig.arrive(&[(&question(1), 0, 5)]);
    rig.arrive(&[(&messages(1, 0..10), SIZE, 1)]);
    assert_eq!((rig.arrived().duplicate, rig.arrived().senders), (10, 2), "a question that came twice");
    rig.arrive(&[(&question(2), 0, 5)]);
    rig.arrive(&[(&messages(1, 0..10), SIZE, 1)]);
    assert_eq!((rig.arrived().duplicate, rig.arrived().senders), (10, 3));
    assert_eq!(rig.word("senders"), 1, "it was one sender all the while");
}

#[test]
fn delays_are_those_of_the_first_of_each_arrival() {
    let mut rig = Rig::new(true, 1_000, 100);
    let (soon, late) = (message(1, 0, UNIX - 4_000), message(1, 1, UNIX - 9_000));
    let from_the_future = message(1, 2, UNIX + 900_000);
    rig.arrive(&[(&[soon, late.clone()].concat(), SIZE, 1), (&late, 0, 1), (&from_the_future, 0, 1)]);
    let delays = rig.stats.delays();
    assert_eq!((delays.count(), delays.min(), delays.max()), (2, 5_000, 10_007));
    assert_eq!(rig.word("ahead"), 1);
}

#[test]
fn a_delay_that_the_histogram_does_not_reach_is_none() {
    let mut rig = Rig::new(true, 1_000, 100);
    for before in [LONGEST_NS - 2_000, LONGEST_NS, 30 * 60_000_000_000] {
        rig.arrive(&[(&message(1, 0, rig.now - before), 0, 1)]);
    }
    // A µs passed until the first was read.
    assert_eq!(rig.stats.delays().count(), 1);
    assert_eq!(rig.word("ahead"), 0);
}

#[test]
fn addresses_are_numbered_from_0_and_found_again_whatever_is_at_hand() {
    let all = Sources::new(10_000);
    let (mut one, mut other) = (AtHand::new(), AtHand::new());
    for round in 0..2 {
        for n in 0..5_000_u32 {
            let address = SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 4_000));
            assert_eq!(one.number(&all, address.into()), (n, round == 0));
            assert_eq!(other.number(&all, address.into()), (n, false));
        }
    }
}

#[test]
fn an_address_keeps_its_number_and_is_known_by_whichever_of_ours_it_asked_last() {
    let client = |port: u16, ours: u8| {
        let asked = Local { asked: [127, 0, 0, ours].into(), own: true, interface: 1 };
        Peer { address: at(port), asked: Some(asked) }
    };
    let (all, mut hand) = (Sources::new(100), AtHand::new());
    assert_eq!(hand.number(&all, at(1).into()), (0, true));
    for ours in [2, 3, 2] {
        for port in [5, 6] {
            assert_eq!(hand.number(&all, client(port, ours)).0, u32::from(port) - 4);
        }
        assert_eq!(all.peers(&[0, 2, 1]), [Peer::from(at(1)), client(6, ours), client(5, ours)]);
    }
}

#[test]
fn whatever_arrives_the_account_closes() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let mut below = move |most: u64| (random.bits() % most) as usize;
        let mut rig = Rig::new(seed % 2 == 0, 50, 20);
        let mut came = 0;
        for _ in 0..60 {
            let batch: Vec<_> = (0..below(20))
                .map(|_| {
                    let segment = [0, 1, 7, SIZE, SIZE + 1, 90][below(6)];
                    let bytes: Vec<u8> = match below(3) {
                        0 => messages(below(60) as u64, 0..below(9) as u64),
                        1 => (0..below(400)).map(|_| below(256) as u8).collect(),
                        _ => vec![42; below(120)],
                    };
                    came += if segment == 0 { 1 } else { bytes.len().div_ceil(segment).max(1) };
                    (bytes, segment, below(40) as u16)
                })
                .collect();
            let batch: Vec<_> = batch.iter().map(|(bytes, segment, port)| (&bytes[..], *segment, *port)).collect();
            rig.arrive(&batch);
            if below(3) == 0 {
                assert_eq!(rig.taken().len() % SIZE, 0);
            }
            assert_eq!(rig.arrived().received, came as u64, "seed {seed}");
        }
        let left = rig.taken().len() / SIZE;
        assert!(left <= 50 && rig.arrived().queued == 0);
    }
}

#[test]
fn a_worker_looks_on_for_a_moment_where_much_comes() {
    let mut poll_or_sleep = PollOrSleep::default();
    assert!(!poll_or_sleep.looks_on(0, 1_000_000), "nothing has come");
    assert!(!poll_or_sleep.looks_on(1, 2_000_000), "the first after a while");
    assert!(poll_or_sleep.looks_on(1, 2_009_000), "9 µs later");
    assert!(poll_or_sleep.looks_on(0, 2_028_000), "for 20 µs");
    assert!(!poll_or_sleep.looks_on(0, 2_029_000));
    assert!(!poll_or_sleep.looks_on(1, 2_040_000), "11 µs after the one before");
    assert!(poll_or_sleep.looks_on(64, 2_640_000), "64 in 600 µs");
    assert!(!poll_or_sleep.looks_on(0, 2_600_000), "a clock that is set back ends it");
}
