//! The queue to the handler: its laws at random against a naive model, each policy, and with threads at both ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::pace::Random;
use crate::plan::WhenFull;
use crate::queue::{RecordBatch, RecordQueue, Run};

/// A message is its number, and its lane in the last byte.
const SIZE: usize = 9;
const PATIENCE: Duration = Duration::from_secs(20);

fn message(number: u64, shard: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.push(shard as u8);
    bytes
}

/// Offers messages `from..from + count` in runs of up to `longest`.
fn offer(queue: &RecordQueue, shard: usize, from: u64, count: u64, longest: u64) {
    let runs: Vec<(Vec<u8>, u64)> = (from..from + count)
        .step_by(longest.max(1) as usize)
        .map(|at| ((at..(at + longest).min(from + count)).flat_map(|n| message(n, shard)).collect(), at))
        .collect();
    let runs = runs.iter().map(|(bytes, at)| Run { bytes, arrived: *at, source: shard as u32 });
    queue.offer(shard, runs, count as usize);
}

/// The numbers in a batch, which must be of one lane and whole.
fn numbers(handed: &RecordBatch) -> Vec<u64> {
    let all: Vec<u64> = handed
        .bytes
        .chunks(SIZE)
        .map(|bytes| {
            assert_eq!(usize::from(bytes[8]), handed.worker);
            u64::from_le_bytes(bytes[..8].try_into().unwrap())
        })
        .collect();
    assert_eq!((all.len(), all.len()), (handed.arrived.len(), handed.source.len()));
    assert!(handed.source.iter().all(|source| *source as usize == handed.worker));
    assert!(all.iter().zip(&handed.arrived).all(|(number, arrived)| number >= arrived));
    all
}

fn now(queue: &RecordQueue, most: usize) -> Option<Vec<u64>> {
    queue.take(most, Duration::ZERO, Duration::ZERO).map(|handed| numbers(&handed))
}

/// All that waits.
fn all_now(queue: &RecordQueue) -> Vec<u64> {
    std::iter::from_fn(|| now(queue, usize::MAX)).flatten().collect()
}

/// Checks the law of one lane, and returns what waits in all.
fn waiting(queue: &RecordQueue, shards: usize) -> u64 {
    let all = (0..shards).map(|shard| {
        let passed = queue.passed(shard);
        assert_eq!(passed.parsed, passed.handed_over + passed.dropped + passed.queued, "{passed:?}");
        passed.queued
    });
    all.sum()
}

#[test]
fn what_is_offered_is_taken_in_order() {
    let queue = RecordQueue::new(1, SIZE, 100, WhenFull::DropOldest).unwrap();
    assert_eq!(now(&queue, 10), None);
    offer(&queue, 0, 0, 25, 4);
    assert_eq!(now(&queue, 10), Some((0..10).collect()));
    offer(&queue, 0, 25, 5, 1);
    assert_eq!(now(&queue, 100), Some((10..30).collect()));
    assert_eq!(now(&queue, 100), None);
    assert_eq!(queue.passed(0).handed_over, 30);
}

#[test]
fn the_policy_decides_what_is_dropped() {
    for (policy, kept) in [(WhenFull::DropOldest, 15..25), (WhenFull::DropNewest, 0..10)] {
        let queue = RecordQueue::new(1, SIZE, 10, policy).unwrap();
        for at in [0, 8, 16] {
            offer(&queue, 0, at, if at == 16 { 9 } else { 8 }, 3);
        }
        assert_eq!(all_now(&queue), kept.collect::<Vec<_>>(), "{policy:?}");
        assert_eq!((queue.passed(0).parsed, queue.passed(0).dropped), (25, 15));
    }
}

#[test]
fn more_than_there_can_ever_be_room_for_keeps_the_right_end() {
    for (policy, kept) in [(WhenFull::DropOldest, 90..100), (WhenFull::DropNewest, 0..10)] {
        let queue = RecordQueue::new(1, SIZE, 10, policy).unwrap();
        offer(&queue, 0, 0, 100, 64);
        assert_eq!(all_now(&queue), kept.collect::<Vec<_>>());
        assert_eq!(queue.passed(0).dropped, 90);
    }
}

#[test]
fn a_lane_makes_room_for_another() {
    let queue = RecordQueue::new(3, SIZE, 10, WhenFull::DropOldest).unwrap();
    offer(&queue, 0, 0, 6, 6);
    offer(&queue, 1, 0, 4, 4);
    offer(&queue, 2, 0, 7, 2);
    assert_eq!(waiting(&queue, 3), 10);
    assert_eq!((queue.passed(0).dropped, queue.passed(1).dropped, queue.passed(2).dropped), (6, 1, 0));
}

#[test]
fn big_blocks_are_moved_and_small_ones_give_their_memory_back() {
    let queue = RecordQueue::new(1, SIZE, 1 << 20, WhenFull::DropOldest).unwrap();
    offer(&queue, 0, 0, 16_384, 64);
    let held = queue.passed(0).bytes;
    let whole = queue.take(1 << 20, Duration::ZERO, Duration::ZERO).unwrap();
    assert_eq!(numbers(&whole), (0..16_384).collect::<Vec<_>>());
    assert_eq!(queue.passed(0).bytes, 0, "the block itself was handed over, of {held} bytes");
    offer(&queue, 0, 0, 10, 10);
    let few = queue.take(1 << 20, Duration::ZERO, Duration::ZERO).unwrap();
    assert_eq!(few.bytes.capacity(), 10 * SIZE);
    for round in 0..1_000 {
        offer(&queue, 0, round, 10, 10);
        assert!(now(&queue, 100).is_some());
    }
    assert_eq!(queue.passed(0).bytes, held, "one block does for all");
}

#[test]
fn at_random_nothing_is_lost_or_doubled_and_each_lane_keeps_its_order() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut below = |most: u64| random.bits() % most;
        let (shards, capacity) = (1 + below(3) as usize, 1 + below(60) as usize);
        let policy = [WhenFull::DropOldest, WhenFull::DropNewest][below(2) as usize];
        let queue = RecordQueue::new(shards, SIZE, capacity, policy).unwrap();
        let mut model = vec![VecDeque::new(); shards];
        let mut next = vec![0; shards];
        for _ in 0..300 {
            let shard = below(shards as u64) as usize;
            if below(3) < 2 {
                let count = below(30);
                offer(&queue, shard, next[shard], count, 1 + below(9));
                model[shard].extend(next[shard]..next[shard] + count);
                next[shard] += count;
                trim(&mut model, (shard, count as usize), capacity, policy);
            } else if let Some(handed) = queue.take(1 + below(40) as usize, Duration::ZERO, Duration::ZERO) {
                let taken = numbers(&handed);
                let expected: Vec<u64> = model[handed.worker].drain(..taken.len()).collect();
                assert_eq!(taken, expected, "seed {seed}");
            }
            assert_eq!(waiting(&queue, shards) as usize, model.iter().map(VecDeque::len).sum::<usize>());
        }
    }
}

/// Drops what a queue of `capacity` would have dropped now that `shard` was offered `count` more.
fn trim(model: &mut [VecDeque<u64>], (shard, count): (usize, usize), capacity: usize, policy: WhenFull) {
    let shards = model.len();
    let mut over = model.iter().map(VecDeque::len).sum::<usize>().saturating_sub(capacity);
    if policy == WhenFull::DropNewest {
        let kept = model[shard].len() - over;
        model[shard].truncate(kept);
        return;
    }
    // The lane's own oldest, but of what has just come only what can never wait; then the others' in turn.
    for other in std::iter::once(shard).chain((0..shards).filter(|other| *other != shard)) {
        let newest = if other == shard { count.min(capacity) } else { 0 };
        let some = over.min(model[other].len() - newest);
        model[other].drain(..some);
        over -= some;
    }
}

/// Offers from `shards` threads to `decoders` threads; returns what each decoder got, by lane.
fn with_threads(
    queue: &Arc<RecordQueue>,
    shards: usize,
    decoders: usize,
    each: u64,
    linger: Duration,
) -> Vec<Vec<Vec<u64>>> {
    let (done, taken) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let consume = || {
            let mut got = vec![Vec::new(); shards];
            loop {
                let last = done.load(Ordering::SeqCst);
                match queue.take(50, Duration::from_millis(1), linger) {
                    Some(handed) => {
                        taken.fetch_add(handed.arrived.len() as u64, Ordering::SeqCst);
                        got[handed.worker].extend(numbers(&handed));
                    }
                    None if last => return got,
                    None => {}
                }
            }
        };
        let consumers: Vec<_> = (0..decoders).map(|_| scope.spawn(consume)).collect();
        let producers: Vec<_> = (0..shards)
            .map(|shard| {
                scope.spawn(move || (0..each).step_by(7).for_each(|at| offer(queue, shard, at, 7.min(each - at), 3)))
            })
            .collect();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        done.store(true, Ordering::SeqCst);
        consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect()
    })
}

#[test]
fn with_threads_at_both_ends_each_message_is_taken_or_dropped_once() {
    for (policy, linger) in [
        (WhenFull::Wait, Duration::ZERO),
        (WhenFull::Wait, Duration::from_micros(50)),
        (WhenFull::DropOldest, Duration::ZERO),
        (WhenFull::DropNewest, Duration::ZERO),
    ] {
        let queue = Arc::new(RecordQueue::new(3, SIZE, 64, policy).unwrap());
        let got = with_threads(&queue, 3, 2, 5_000, linger);
        for shard in 0..3 {
            let passed = queue.passed(shard);
            let mut all: Vec<u64> = got.iter().flat_map(|decoder| decoder[shard].iter().copied()).collect();
            // What one decoder got of a lane is in order; between decoders there is none.
            assert!(got.iter().all(|decoder| decoder[shard].is_sorted()), "{policy:?}");
            all.sort_unstable();
            all.dedup();
            assert_eq!((passed.parsed, passed.queued), (5_000, 0), "{policy:?}");
            assert_eq!(passed.handed_over, all.len() as u64, "{policy:?}");
            assert_eq!(passed.handed_over + passed.dropped, 5_000, "{policy:?}");
            assert!(policy != WhenFull::Wait || passed.dropped == 0);
        }
    }
}

#[test]
fn whoever_sleeps_is_called() {
    let queue = Arc::new(RecordQueue::new(1, SIZE, 64, WhenFull::DropOldest).unwrap());
    let (theirs, (tell, reported)) = (Arc::clone(&queue), mpsc::channel());
    // Not joined where it fails: nobody would wake it.
    let decoder = thread::spawn(move || {
        while let Some(handed) = theirs.take(10, Duration::from_secs(3_600), Duration::ZERO) {
            tell.send(numbers(&handed)).unwrap();
        }
    });
    for round in 0..2_000 {
        offer(&queue, 0, round, 1, 1);
        assert_eq!(reported.recv_timeout(PATIENCE).unwrap(), [round]);
    }
    queue.stop();
    decoder.join().unwrap();
}

#[test]
fn whoever_lingers_gets_more_and_no_later_than_enough_is_there() {
    let queue = Arc::new(RecordQueue::new(1, SIZE, 64, WhenFull::DropOldest).unwrap());
    thread::scope(|scope| {
        let decoder = scope.spawn(|| queue.take(20, PATIENCE, PATIENCE));
        (0..20).for_each(|n| offer(&queue, 0, n, 1, 1));
        assert_eq!(numbers(&decoder.join().unwrap().unwrap()).len(), 20);
    });
}

#[test]
fn a_stop_ends_all_waiting_and_what_waits_can_still_be_taken() {
    for policy in [WhenFull::Wait, WhenFull::DropOldest] {
        let queue = Arc::new(RecordQueue::new(1, SIZE, 4, policy).unwrap());
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| queue.take(10, PATIENCE, Duration::ZERO));
            queue.stop();
            assert_eq!(sleeper.join().unwrap(), None);
            scope.spawn(|| offer(&queue, 0, 0, 6, 6)).join().unwrap();
        });
        assert!(!queue.arm());
        let kept: Vec<_> = if policy == WhenFull::Wait { (0..4).collect() } else { (2..6).collect() };
        assert_eq!(all_now(&queue), kept);
        assert_eq!((queue.passed(0).parsed, queue.passed(0).dropped), (6, 2));
    }
}

#[test]
fn a_worker_that_waits_goes_on_when_there_is_room() {
    let queue = Arc::new(RecordQueue::new(2, SIZE, 4, WhenFull::Wait).unwrap());
    thread::scope(|scope| {
        offer(&queue, 0, 0, 4, 4);
        let worker = scope.spawn(|| offer(&queue, 1, 0, 9, 9));
        let mut taken = 0;
        while taken < 13 {
            taken += queue.take(3, PATIENCE, Duration::ZERO).map_or(0, |handed| handed.arrived.len());
            assert!(waiting(&queue, 2) <= 4);
        }
        worker.join().unwrap();
    });
    assert_eq!(queue.passed(1).handed_over, 9);
}

#[test]
fn an_armed_bell_is_rung_once() {
    let queue = RecordQueue::new(1, SIZE, 4, WhenFull::DropOldest).unwrap();
    assert!(queue.arm());
    offer(&queue, 0, 0, 1, 1);
    assert!(!queue.arm(), "something waits");
    assert_eq!(queue.discard(Duration::ZERO, Duration::ZERO), 1);
    assert!(queue.arm());
}
