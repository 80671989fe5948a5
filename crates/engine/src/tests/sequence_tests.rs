//! Sequence numbers: each rule by itself, then all at random against a naive model; memory that is bounded.

use std::collections::{HashMap, HashSet};

use crate::pace::Random;
use crate::receiver::sequence::{SequenceCounters, SequenceTracker};

const TICK: u64 = 1 << 24;

fn tracked(bits: u32, numbers: &[u64]) -> SequenceCounters {
    let mut tracker = SequenceTracker::new(64, bits, false);
    tracker.begin(0, 0);
    numbers.iter().for_each(|number| tracker.follow(7, *number));
    tracker.counts()
}

fn one() -> SequenceCounters {
    SequenceCounters { senders: 1, begun: 1, ..SequenceCounters::default() }
}

#[test]
fn numbers_in_order_say_nothing() {
    assert_eq!(tracked(32, &[5, 6, 7, 8, 9]), one());
    assert_eq!(tracked(32, &(0..1_000).collect::<Vec<_>>()), one());
}

#[test]
fn a_gap_is_missing_until_what_was_left_out_comes() {
    assert_eq!(tracked(32, &[5, 9]), SequenceCounters { missing: 3, ..one() });
    assert_eq!(tracked(32, &[5, 9, 7]), SequenceCounters { missing: 2, reordered: 1, ..one() });
    assert_eq!(tracked(32, &[5, 9, 7, 7, 6, 8]), SequenceCounters { reordered: 3, duplicate: 1, ..one() });
    assert_eq!(tracked(32, &[0, 1 << 22]), SequenceCounters { missing: (1 << 22) - 1, ..one() });
    assert_eq!(tracked(32, &[0, (1 << 22) + 1]), SequenceCounters { restarts: 1, ..one() });
}

#[test]
fn what_comes_before_the_beginning_was_not_missed() {
    assert_eq!(tracked(32, &[5, 4, 4]), SequenceCounters { reordered: 1, duplicate: 1, ..one() });
    assert_eq!(tracked(32, &[5, 6, 7, 4]), SequenceCounters { reordered: 1, ..one() });
}

#[test]
fn numbers_wrap_where_the_field_does() {
    assert_eq!(tracked(8, &[254, 255, 0, 1]), one());
    assert_eq!(tracked(16, &[65_534, 1, 65_535, 0]), SequenceCounters { reordered: 2, ..one() });
    assert_eq!(tracked(64, &[u64::MAX - 1, u64::MAX, 0, 1]), one());
    let round: Vec<_> = (0..1_000).map(|number| number % 256).collect();
    assert_eq!(tracked(8, &round), one());
}

#[test]
fn a_jump_is_counted_and_followed_once_it_goes_on() {
    assert_eq!(tracked(32, &[1_000, 1_001, 0, 1, 2, 3]), SequenceCounters { restarts: 1, ..one() });
    assert_eq!(
        tracked(32, &[0, 1, 9_000_000, 9_000_003, 9_000_004]),
        SequenceCounters { restarts: 1, missing: 2, ..one() }
    );
    // The same number again does not follow itself.
    assert_eq!(tracked(32, &[1_000, 0, 0, 1]), SequenceCounters { restarts: 2, ..one() });
}

#[test]
fn a_straggler_changes_nothing() {
    let mut numbers: Vec<_> = (0..500).filter(|number| *number != 100).collect();
    numbers.extend([100, 500, 501]);
    assert_eq!(tracked(32, &numbers), SequenceCounters { missing: 1, restarts: 1, ..one() });
}

#[test]
fn stragglers_in_a_row_look_like_a_new_beginning_until_the_others_go_on() {
    let mut numbers: Vec<_> = (0..500).filter(|number| !(100..105).contains(number)).collect();
    numbers.extend([100, 101, 102, 103, 104, 500, 501, 502]);
    assert_eq!(tracked(32, &numbers), SequenceCounters { missing: 5, restarts: 1, ..one() });
}

#[test]
fn of_several_readers_one_may_be_far_behind() {
    let mut tracker = SequenceTracker::new(64, 32, true);
    let held_up = 1_000..1_064;
    let numbers = (0..9_000).filter(|number| !held_up.contains(number)).chain(held_up.clone()).chain(9_000..9_010);
    numbers.for_each(|number| tracker.follow(1, number));
    assert_eq!(tracker.counts(), SequenceCounters { reordered: 64, ..one() });
}

#[test]
fn the_other_byte_order_is_seen() {
    let swapped: Vec<_> = (1_u32..200).map(|number| u64::from(number.swap_bytes())).collect();
    assert_eq!(tracked(32, &swapped).restarts, 198);
}

#[test]
fn numbers_restart_with_an_epoch() {
    let mut tracker = SequenceTracker::new(64, 32, false);
    for epoch in 0..600 {
        tracker.begin(0, epoch);
        for number in [90_000, 90_001] {
            tracker.follow(1, number + epoch * 1_000);
        }
    }
    assert_eq!(tracker.counts(), SequenceCounters { begun: 600, ..one() }, "one sender, however often it begins");
}

#[test]
fn a_million_senders_take_no_more_memory_than_was_said() {
    let mut tracker = SequenceTracker::new(1_000, 32, false);
    for sender in 0..1_000_000_u64 {
        tracker.begin(sender << 14, 0);
        tracker.follow(sender.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0);
    }
    // Whoever came after the thousandth had another forgotten, or belonged to a set where nobody was.
    let counts = tracker.counts();
    assert_eq!(counts.untracked, 999_000);
    assert!((900_000..=1_000_000).contains(&counts.senders), "{counts:?}");
    assert!(tracker.bytes() <= 2_048 * 32 + 4_096, "{}", tracker.bytes());
}

#[test]
fn senders_numbered_densely_lie_densely() {
    let mut tracker = SequenceTracker::new(1 << 20, 32, false);
    for sender in 0..10_000 {
        tracker.follow(sender, 0);
    }
    assert_eq!(tracker.counts(), SequenceCounters { senders: 10_000, begun: 10_000, ..SequenceCounters::default() });
    assert!(tracker.bytes() < 10_000 * 32 + 3 * 4_096, "{}", tracker.bytes());
}

#[test]
fn whoever_is_heard_of_stays_and_the_oldest_goes() {
    let mut tracker = SequenceTracker::new(1, 32, false);
    for n in 0..100 {
        tracker.begin(n * TICK, 0);
        tracker.follow(1, n);
        assert_eq!(tracker.counts().senders, 1);
    }
    tracker.begin(200 * TICK, 0);
    tracker.follow(2, 0);
    assert_eq!(
        tracker.counts(),
        SequenceCounters { senders: 2, begun: 2, untracked: 1, ..SequenceCounters::default() }
    );

    let mut tracker = SequenceTracker::new(4, 32, false);
    for n in 0..10_000 {
        tracker.begin(n * TICK, 0);
        tracker.follow(1, n);
        tracker.follow(8 * n + 3, 0);
    }
    // Sender 1 is heard of in each tick: it was never forgotten, or it would have begun again.
    assert_eq!((tracker.counts().senders, tracker.counts().untracked), (10_001, 10_001 - 4));
}

/// All that can be known of one sender, without bounds.
struct Known {
    highest: u64,
    /// How far back its beginning is.
    age: u64,
    seen: HashSet<u64>,
    suspect: Option<u64>,
}

struct Model {
    mask: u64,
    far: u64,
    known: HashMap<u64, Known>,
    counts: SequenceCounters,
}

impl Model {
    fn follow(&mut self, sender: u64, number: u64) {
        let mask = self.mask;
        let Some(known) = self.known.get_mut(&sender) else {
            self.begin(sender, number);
            return;
        };
        let (ahead, behind) = (number.wrapping_sub(known.highest) & mask, known.highest.wrapping_sub(number) & mask);
        let after = known.suspect.map(|s| number.wrapping_sub(s) & mask).filter(|after| (1..=64).contains(after));
        if ahead > 0 && (ahead <= 64 || (ahead <= self.far && after.is_none())) {
            self.counts.missing += ahead - 1;
            (known.highest, known.age) = (number, known.age + ahead);
            known.seen.insert(number);
        } else if behind < 64 {
            if !known.seen.insert(number) {
                self.counts.duplicate += 1;
            } else {
                self.counts.reordered += 1;
                self.counts.missing -= u64::from(behind < known.age);
            }
        } else if let Some(after) = after {
            let (suspect, left) = (known.suspect.unwrap(), Some(known.highest));
            self.counts.missing += after - 1;
            *known = Known { highest: number, age: after + 1, seen: HashSet::from([suspect, number]), suspect: left };
        } else {
            self.counts.restarts += 1;
            known.suspect = Some(number);
        }
        let highest = known.highest;
        known.seen.retain(|number| highest.wrapping_sub(*number) & mask < 64);
    }

    fn begin(&mut self, sender: u64, number: u64) {
        let known = Known { highest: number, age: 1, seen: HashSet::from([number]), suspect: None };
        self.known.insert(sender, known);
        self.counts.senders += 1;
        self.counts.begun += 1;
    }
}

#[test]
fn at_random_it_finds_what_a_model_without_bounds_finds() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let bits = [8, 16, 32, 64][seed as usize % 4];
        let mask = u64::MAX >> (64 - bits);
        let mut tracker = SequenceTracker::new(4_096, bits, false);
        let mut model = Model {
            mask,
            far: (1 << 22).min(mask / 4 + 1),
            known: HashMap::new(),
            counts: SequenceCounters::default(),
        };
        let mut latest = [0_u64; 40];
        for step in 0..4_000 {
            tracker.begin(step * TICK / 3, 0);
            let sender = random.bits() % 40;
            let at = &mut latest[sender as usize];
            let roll = random.bits() % 1_000;
            let away = random.bits();
            let number = match roll {
                0..800 => at.wrapping_add(1),
                800..860 => at.wrapping_add(away % 70),
                860..900 => at.wrapping_add(away % 70_000),
                900..985 => at.wrapping_sub(away % 80),
                985..990 => away,
                _ => 0,
            } & mask;
            if !(900..985).contains(&roll) {
                *at = number;
            }
            let sender = sender * 0x1_0001;
            tracker.follow(sender, number);
            model.follow(sender, number);
            assert_eq!(tracker.counts(), model.counts, "seed {seed}, step {step}, {bits} bits, number {number}");
        }
        assert!(model.counts.missing > 0 && model.counts.duplicate > 0 && model.counts.reordered > 0);
    }
}
