//! The ring of waiting requests: its laws one by one, then all of them at random against a naive model.

use std::collections::HashMap;

use crate::flow::{Rings, Settled};
use crate::pace::Random;
use crate::tally::Outcome;

const SLOTS: u32 = 16;
const TIMEOUT: u64 = 100;

/// A ring with so many requests, the n-th left at n.
fn ring(left: u64) -> Rings {
    let mut ring = Rings::new(1, SLOTS as usize);
    for n in 0..left {
        leave(&mut ring, n);
    }
    ring
}

fn leave(ring: &mut Rings, at: u64) {
    assert!(ring.of(0).vacancy(0).is_some());
    ring.of(0).sent(at, at, 0);
}

fn answer(ring: &mut Rings, index: u32, seen: u64) -> Settled {
    ring.of(0).settle(index, seen, TIMEOUT, Outcome::Answered)
}

fn outcome(settled: Settled) -> Option<Outcome> {
    match settled {
        Settled::As(outcome, _) => Some(outcome),
        _ => None,
    }
}

fn unanswered(ring: &mut Rings) -> Vec<u64> {
    let mut reported = Vec::new();
    ring.of(0).abandon(|_, slot, _| reported.push(slot.sent));
    reported
}

fn expired(ring: &mut Rings, before: u64) -> Vec<u64> {
    let mut reported = Vec::new();
    ring.of(0).expire(before, |slot| reported.push(slot.sent));
    reported
}

#[test]
fn a_ring_has_at_least_the_slots_asked_for() {
    for (asked, slots) in [(0, 4), (16, 16), (17, 32), (1_000, 1_024)] {
        let mut ring = Rings::new(1, asked);
        let mut held = 0;
        while ring.of(0).vacancy(0).is_some() {
            leave(&mut ring, held);
            held += 1;
        }
        assert_eq!(held, slots);
        assert_eq!(ring.bytes(), slots as usize * size_of::<crate::flow::Slot>() + size_of::<crate::flow::Head>());
    }
}

#[test]
fn indices_are_handed_out_in_order_and_looked_up_ahead() {
    let mut ring = ring(10);
    assert_eq!((ring.of(0).vacancy(0), ring.of(0).vacancy(5), ring.of(0).vacancy(6)), (Some(10), Some(15), None));
    answer(&mut ring, 0, 20);
    assert_eq!((ring.of(0).vacancy(6), ring.of(0).vacancy(7)), (Some(16), None));
    answer(&mut ring, 2, 20);
    assert_eq!(ring.of(0).vacancy(SLOTS), None);
}

#[test]
fn an_answer_settles_once() {
    let mut ring = ring(3);
    assert!(
        matches!(answer(&mut ring, 1, 50), Settled::As(Outcome::Answered, slot) if slot.sent == 1 && slot.due == 1)
    );
    assert!(matches!(answer(&mut ring, 1, 60), Settled::Duplicate(slot) if slot.sent == 1));
    assert!(matches!(ring.of(0).settle(1, 60, TIMEOUT, Outcome::Refused), Settled::Duplicate(_)));
}

#[test]
fn only_right_answers_can_be_late() {
    let mut ring = ring(4);
    assert_eq!(outcome(answer(&mut ring, 0, TIMEOUT)), Some(Outcome::Answered));
    assert_eq!(outcome(answer(&mut ring, 1, TIMEOUT + 2)), Some(Outcome::Late));
    assert_eq!(outcome(ring.of(0).settle(2, 9_999, TIMEOUT, Outcome::Invalid)), Some(Outcome::Invalid));
    assert_eq!(outcome(ring.of(0).settle(3, 9_999, TIMEOUT, Outcome::Refused)), Some(Outcome::Refused));
}

#[test]
fn what_was_never_asked_or_is_too_old_is_forgotten() {
    let mut ring = ring(10);
    for index in [10, 11, 1_000, u32::MAX, u32::MAX - 3] {
        assert_eq!(answer(&mut ring, index, 20), Settled::Forgotten, "{index}");
    }
    for index in 0..10 {
        assert!(outcome(answer(&mut ring, index, 20)).is_some());
    }
    for n in 10..26 {
        leave(&mut ring, n);
    }
    for index in 0..10 {
        assert_eq!(answer(&mut ring, index, 30), Settled::Forgotten, "{index}");
    }
    assert!(outcome(answer(&mut ring, 10, 30)).is_some());
}

#[test]
fn time_outs_are_told_once_and_in_order() {
    let mut ring = ring(8);
    answer(&mut ring, 2, 10);
    assert_eq!(expired(&mut ring, 5), [0, 1, 3, 4]);
    assert_eq!(expired(&mut ring, 5), [0_u64; 0]);
    assert_eq!(expired(&mut ring, 100), [5, 6, 7]);
}

#[test]
fn a_request_past_its_timeout_can_still_be_answered_late() {
    let mut ring = ring(1);
    expired(&mut ring, 1);
    assert_eq!(outcome(answer(&mut ring, 0, TIMEOUT + 1)), Some(Outcome::Late));
    assert_eq!(unanswered(&mut ring), [0_u64; 0]);
}

#[test]
fn a_slot_is_recycled_only_once_its_request_cannot_wait() {
    let mut ring = ring(16);
    assert_eq!(ring.of(0).vacancy(0), None);
    expired(&mut ring, 2);
    assert_eq!((ring.of(0).vacancy(0), ring.of(0).vacancy(1), ring.of(0).vacancy(2)), (Some(16), Some(17), None));
    let before = ring.of(0).sent(16, 16, 0);
    assert!(before.is_some_and(|(_, slot)| slot.sent == 0), "what was never answered is told when its slot goes");
    answer(&mut ring, 1, 20);
    assert_eq!(ring.of(0).sent(17, 17, 0), None);
}

#[test]
fn time_outs_stay_in_order_after_recycling() {
    let mut ring = ring(16);
    for index in 0..16 {
        answer(&mut ring, index, 20);
    }
    for n in 16..40 {
        if n % 2 == 0 {
            answer(&mut ring, n as u32 - 16, 20);
        }
        expired(&mut ring, n - 15);
        leave(&mut ring, n);
    }
    let reported = expired(&mut ring, 1_000);
    assert!(reported.is_sorted() && reported.last() == Some(&39), "{reported:?}");
}

#[test]
fn what_nobody_answered_is_abandoned_once_in_order() {
    let mut ring = ring(4);
    answer(&mut ring, 1, 10);
    expired(&mut ring, 1);
    let mut reported = Vec::new();
    ring.of(0).abandon(|index, slot, waiting| reported.push((index, slot.sent, waiting)));
    assert_eq!(reported, [(0, 0, false), (2, 2, true), (3, 3, true)]);
    assert_eq!(unanswered(&mut ring), [0_u64; 0]);
    assert_eq!(expired(&mut ring, 1_000), [0_u64; 0]);
    assert!(matches!(answer(&mut ring, 2, 10), Settled::Duplicate(_)));
}

#[test]
fn an_index_is_known_by_its_low_bits() {
    let mut ring = Rings::new(1, 300);
    (0..300).for_each(|n| leave(&mut ring, n));
    assert_eq!([43, 44, 45, 255, 0].map(|low| ring.of(0).widen(low, 8)), [299, 44, 45, 255, 256]);
    assert_eq!(ring.of(0).widen(7, 32), 7);
    assert!(ring.of(0).never_asked(300) && !ring.of(0).never_asked(299) && !ring.of(0).never_asked(0));
}

#[test]
fn overtaken_is_measured_against_the_highest_so_far() {
    let mut ring = Rings::new(1, 16);
    let said: Vec<_> = [0, 2, 1, 5, 3, 4, 6, 6].map(|index| ring.of(0).overtaken(index)).into();
    assert_eq!(said, [false, false, true, false, true, true, false, false]);
    let mut ring = Rings::new(1, 16);
    let said: Vec<_> = [u32::MAX, 1, 0, 2, u32::MAX].map(|index| ring.of(0).overtaken(index)).into();
    assert_eq!(said, [false, false, true, false, true]);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    TimedOut,
    Settled,
}

/// What the ring should do, without a ring: every request ever, by number.
struct Model {
    next: u64,
    requests: HashMap<u64, (u64, State)>,
}

impl Model {
    fn held(&self) -> std::ops::Range<u64> {
        self.next.saturating_sub(u64::from(SLOTS))..self.next
    }

    fn recycles(&self, number: u64) -> Option<&(u64, State)> {
        self.requests.get(&number.checked_sub(u64::from(SLOTS))?)
    }

    fn in_state(&self, states: &[State]) -> Vec<u64> {
        let mut sent: Vec<_> = self
            .held()
            .filter_map(|number| self.requests.get(&number))
            .filter(|(_, state)| states.contains(state))
            .map(|(sent, _)| *sent)
            .collect();
        sent.sort_unstable();
        sent
    }

    fn settle(&mut self, number: u64, seen: u64, outcome: Outcome) -> Result<Outcome, &'static str> {
        if !self.held().contains(&number) {
            return Err("forgotten");
        }
        let (sent, state) = self.requests.get_mut(&number).unwrap();
        if *state == State::Settled {
            return Err("duplicate");
        }
        *state = State::Settled;
        let late = outcome == Outcome::Answered && seen - *sent > TIMEOUT;
        Ok(if late { Outcome::Late } else { outcome })
    }

    fn expire(&mut self, before: u64) -> Vec<u64> {
        let mut reported = Vec::new();
        for number in self.held() {
            let (sent, state) = self.requests.get_mut(&number).unwrap();
            if *state == State::Waiting && *sent < before {
                *state = State::TimedOut;
                reported.push(*sent);
            }
        }
        reported
    }
}

/// A ring and its model, kept alike; numbers become indices by wrapping at 2^32 soon after the beginning.
struct Pair {
    ring: Rings,
    model: Model,
    first: u32,
    now: u64,
}

impl Pair {
    fn index(&self, number: u64) -> u32 {
        self.first.wrapping_add(number as u32)
    }

    fn leave(&mut self) {
        let number = self.model.next;
        let before = self.model.recycles(number).copied();
        let free = before.is_none_or(|(_, state)| state != State::Waiting);
        assert_eq!(self.ring.of(0).vacancy(0), free.then_some(self.index(number)));
        if free {
            let reported = self.ring.of(0).sent(self.now, self.now, 0).map(|(_, slot)| slot.sent);
            assert_eq!(reported, before.filter(|(_, state)| *state == State::TimedOut).map(|(sent, _)| sent));
            self.model.requests.insert(number, (self.now, State::Waiting));
            self.model.next += 1;
        }
    }

    fn settle(&mut self, number: u64, outcome: Outcome) {
        let expected = self.model.settle(number, self.now, outcome);
        let index = self.index(number);
        let got = match self.ring.of(0).settle(index, self.now, TIMEOUT, outcome) {
            Settled::As(outcome, slot) => {
                assert_eq!(slot.sent, self.model.requests[&number].0);
                Ok(outcome)
            }
            Settled::Duplicate(_) => Err("duplicate"),
            Settled::Forgotten => Err("forgotten"),
        };
        assert_eq!(got, expected, "number {number} of {}", self.model.next);
    }

    fn expire(&mut self, before: u64) {
        assert_eq!(expired(&mut self.ring, before), self.model.expire(before));
    }

    fn compare(&self) {
        let (mut waiting, mut unanswered) = (Vec::new(), Vec::new());
        self.ring.clone().of(0).abandon(|index, slot, waits| {
            let number = u64::from(index.wrapping_sub(self.first));
            assert_eq!(self.model.requests[&number].0, slot.sent);
            unanswered.push(slot.sent);
            waiting.extend(waits.then_some(slot.sent));
        });
        assert_eq!(waiting, self.model.in_state(&[State::Waiting]));
        assert_eq!(unanswered, self.model.in_state(&[State::Waiting, State::TimedOut]));
    }
}

#[test]
fn a_ring_does_what_its_model_does() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let first = u32::MAX - (random.bits() % 500) as u32;
        let ring = Rings::new(1, SLOTS as usize).beginning_at(first);
        let mut pair = Pair { ring, model: Model { next: 0, requests: HashMap::new() }, first, now: 1 };
        for _ in 0..3_000 {
            pair.now += random.bits() % 12;
            match random.bits() % 10 {
                0..5 => pair.leave(),
                5..8 => {
                    let back = random.bits() % 24;
                    let number = (pair.model.next + 2).saturating_sub(back);
                    let outcome = [Outcome::Answered, Outcome::Answered, Outcome::Invalid, Outcome::Refused];
                    pair.settle(number, outcome[random.bits() as usize % 4]);
                }
                8 => pair.expire(pair.now.saturating_sub(random.bits() % (2 * TIMEOUT))),
                _ => pair.compare(),
            }
        }
        assert!(pair.model.next > 1_000, "the indices have wrapped: {}", pair.model.next);
    }
}
