//! Which answer a transmit stamp belongs to: the kernel numbers the stamps of a socket, and this counts along.
//!
//! Method: each answer that is to be stamped takes the next number, in the order of sending. Whether one that could not
//! be sent took a number is not known; then all that is awaited is given up, stamps that were asked for before have time
//! to come, and one more is asked for, whose number is the next. A stamp is never taken for one of another answer: it
//! would tell a client a wrong time. No clock; times are arguments, Unix time in ns.

use std::collections::VecDeque;

use flatout_net::TxStamp;

/// Stamps awaited at once, at most; the kernel keeps unread ones in the receive buffer's memory.
const AWAITED: usize = 256;
/// After so many turns of the loop a stamp will not come.
const PATIENCE: u32 = 64;
/// How long the kernel is not asked where it gave no stamps.
pub(super) const RETRY_NS: u64 = 10_000_000_000;
/// How long stamps asked for before may take: answers wait in the queue of a network card.
const QUIET_NS: u64 = 100_000_000;

/// An answer of which the kernel's stamp is awaited.
#[derive(Debug)]
struct Awaited<T> {
    number: u32,
    /// The clock before the call that sent it: its stamp cannot be earlier.
    before_ns: u64,
    purpose: T,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    /// No stamps are asked for on this socket.
    Never,
    Known(u32),
    /// Not known; until then none is asked for.
    Unknown {
        until_ns: u64,
    },
    /// One was asked for after this time, and its number will tell.
    Asked {
        before_ns: u64,
    },
}

/// One socket's; `T`: what a stamp is for.
#[derive(Debug)]
pub(super) struct StampNumbers<T> {
    next: Next,
    awaited: VecDeque<Awaited<T>>,
    /// Turns of the loop without a stamp while some were awaited.
    turns: u32,
    /// Until then the kernel is not asked: it gave none.
    silent_until_ns: u64,
}

impl<T> StampNumbers<T> {
    /// For a socket that may have been another worker's before; `asks`: its stamps come to this worker, and no other.
    pub(super) fn new(asks: bool) -> Self {
        let next = if asks { Next::Unknown { until_ns: 0 } } else { Next::Never };
        let room = if asks { AWAITED } else { 0 };
        Self { next, awaited: VecDeque::with_capacity(room), turns: 0, silent_until_ns: 0 }
    }

    /// From now on nothing is asked for: another worker does.
    pub(super) fn retire(&mut self) {
        self.next = Next::Never;
        self.awaited.clear();
    }

    /// Whether the kernel may be asked for another stamp, beside `asked` ones of the same call.
    #[inline]
    pub(super) fn may_ask(&self, now_ns: u64, asked: usize) -> bool {
        // A clock that was set back must not stop the stamps.
        let silent = |until_ns: u64, most_ns: u64| now_ns < until_ns && until_ns - now_ns <= most_ns;
        match self.next {
            Next::Never | Next::Asked { .. } => false,
            Next::Known(_) => !silent(self.silent_until_ns, RETRY_NS) && self.awaited.len() + asked < AWAITED,
            Next::Unknown { until_ns } => {
                asked == 0 && !silent(self.silent_until_ns, RETRY_NS) && !silent(until_ns, QUIET_NS)
            }
        }
    }

    /// An answer left whose stamp was asked for; in the order of sending.
    #[inline]
    pub(super) fn left(&mut self, purpose: T, before_ns: u64) {
        match self.next {
            Next::Known(number) => {
                self.awaited.push_back(Awaited { number, before_ns, purpose });
                self.next = Next::Known(number.wrapping_add(1));
            }
            Next::Unknown { .. } => self.next = Next::Asked { before_ns },
            Next::Never | Next::Asked { .. } => {}
        }
    }

    /// An answer whose stamp was asked for could not be sent: it may have taken a number, or not.
    #[cold]
    pub(super) fn lose(&mut self, now_ns: u64) {
        if !matches!(self.next, Next::Never) {
            self.awaited.clear();
            self.next = Next::Unknown { until_ns: now_ns + QUIET_NS };
        }
    }

    /// Whether a stamp is awaited.
    #[inline]
    pub(super) fn waits(&self) -> bool {
        matches!(self.next, Next::Asked { .. }) || !self.awaited.is_empty()
    }

    /// What this stamp is for; `None`: nothing, or nothing any more. Those before it will not come.
    pub(super) fn take(&mut self, stamp: &TxStamp) -> Option<T> {
        self.turns = 0;
        match self.next {
            Next::Never | Next::Unknown { .. } => None,
            Next::Asked { before_ns } => {
                if stamp.unix_ns >= before_ns {
                    self.next = Next::Known(stamp.id.wrapping_add(1));
                }
                None
            }
            Next::Known(next) => self.find(stamp, next),
        }
    }

    fn find(&mut self, stamp: &TxStamp, next: u32) -> Option<T> {
        let Some(found) = self.awaited.iter().position(|awaited| awaited.number == stamp.id) else {
            // One with a smaller number was given up; with a larger one the kernel has counted more answers.
            if next.wrapping_sub(stamp.id) as i32 <= 0 {
                self.lose(stamp.unix_ns);
            }
            return None;
        };
        let awaited = self.awaited.drain(..=found).next_back()?;
        if stamp.unix_ns < awaited.before_ns {
            self.lose(awaited.before_ns);
            return None;
        }
        Some(awaited.purpose)
    }

    /// A turn of the loop is over; returns whether a stamp that was awaited will not come.
    #[inline]
    pub(super) fn turn(&mut self) -> bool {
        self.turns = if self.waits() { self.turns + 1 } else { 0 };
        self.turns >= PATIENCE
    }

    /// Gives up what is awaited.
    #[cold]
    pub(super) fn give_up(&mut self, now_ns: u64) {
        self.turns = 0;
        self.awaited.clear();
        self.silent_until_ns = now_ns + RETRY_NS;
        if matches!(self.next, Next::Asked { .. }) {
            self.next = Next::Unknown { until_ns: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: u64 = 1_800_000_000_000_000_000;
    const MS: u64 = 1_000_000;

    fn stamp(id: u32, at_ns: u64) -> TxStamp {
        TxStamp { id, unix_ns: BEFORE + at_ns }
    }

    /// One whose next number is `next`, at `BEFORE`.
    fn known(next: u32) -> StampNumbers<&'static str> {
        let mut numbers = StampNumbers::new(true);
        assert!(numbers.may_ask(BEFORE, 0) && !numbers.may_ask(BEFORE, 1), "one, to learn its number");
        numbers.left("not told", BEFORE);
        assert!(!numbers.may_ask(BEFORE, 0), "it is awaited");
        let older = TxStamp { id: next.wrapping_sub(9), unix_ns: BEFORE - 1 };
        assert_eq!(numbers.take(&older), None, "one of another worker");
        assert!(numbers.waits());
        assert_eq!(numbers.take(&stamp(next.wrapping_sub(1), 5)), None);
        assert!(!numbers.waits() && numbers.may_ask(BEFORE, 0));
        numbers
    }

    #[test]
    fn stamps_are_found_by_number_and_lost_ones_given_up() {
        for next in [0, 7, u32::MAX - 1] {
            let mut numbers = known(next);
            ["a", "b", "c"].into_iter().for_each(|purpose| numbers.left(purpose, BEFORE));
            let nth = |n: u32| stamp(next.wrapping_add(n), 10);
            assert_eq!(numbers.take(&nth(1)), Some("b"));
            assert_eq!(numbers.take(&nth(0)), None, "it was given up");
            assert_eq!(numbers.take(&nth(2)), Some("c"));
            assert!(!numbers.waits() && numbers.may_ask(BEFORE, 0));
        }
    }

    #[test]
    fn after_a_failed_answer_no_stamp_is_taken_for_another_s() {
        let mut numbers = known(3);
        numbers.left("before it", BEFORE);
        numbers.lose(BEFORE);
        assert!(!numbers.waits(), "what was awaited is given up");
        assert!(!numbers.may_ask(BEFORE + 99 * MS, 0), "stamps that are on their way have time to come");
        assert_eq!(numbers.take(&stamp(3, 1)), None);
        assert!(numbers.may_ask(BEFORE + 100 * MS, 0) && numbers.may_ask(BEFORE - 1, 0), "also if the clock was set");
        numbers.left("for its number", BEFORE + 100 * MS);
        assert_eq!(numbers.take(&stamp(4, 2)), None, "it is older");
        assert_eq!(numbers.take(&stamp(5, 101 * MS)), None);
        numbers.left("told", BEFORE + 102 * MS);
        assert_eq!(numbers.take(&stamp(6, 103 * MS)), Some("told"));
    }

    #[test]
    fn a_stamp_from_before_its_answer_is_another_s() {
        let mut numbers = known(3);
        numbers.left("a", BEFORE + MS);
        assert_eq!(numbers.take(&stamp(3, 0)), None);
        assert!(!numbers.may_ask(BEFORE + MS, 0), "the numbers are learnt again");
        let mut numbers = known(3);
        numbers.left("a", BEFORE + MS);
        assert_eq!(numbers.take(&stamp(4, 2 * MS)), None, "the kernel has counted more");
        assert!(!numbers.waits() && !numbers.may_ask(BEFORE + 2 * MS, 0));
    }

    #[test]
    fn a_kernel_without_stamps_is_asked_again_after_a_while() {
        let mut numbers = StampNumbers::new(true);
        numbers.left("not told", BEFORE);
        assert!((1..PATIENCE).all(|_| !numbers.turn()) && numbers.turn());
        numbers.give_up(BEFORE);
        assert!(!numbers.waits() && !numbers.may_ask(BEFORE, 0) && numbers.may_ask(BEFORE + RETRY_NS, 0));
        let mut shared = StampNumbers::<()>::new(false);
        assert!(!shared.may_ask(BEFORE, 0) && !shared.waits());
        shared.lose(BEFORE);
        assert!(!shared.may_ask(BEFORE + RETRY_NS, 0));
    }
}
