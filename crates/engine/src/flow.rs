//! The requests of one flow that may still be answered: a bounded ring of fixed slots, matched by index.
//!
//! Laws: indices count up from 0 and wrap; a slot is taken only when its last request can no longer wait; each request
//! settles at most once; what cannot be matched is counted for the end, never guessed at.

use crate::tally::Outcome;

/// What a slot knows of its request. Times in ns of the run's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// When it was due.
    pub due: u64,
    /// When it left.
    pub sent: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Free,
    Waiting,
    TimedOut,
    Settled,
}

/// What an arrival does to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It ends so.
    As(Outcome, Slot),
    /// It had ended already.
    Duplicate(Slot),
    /// It is older than the ring remembers, or was never asked.
    Forgotten,
}

/// A flow's slots.
#[derive(Debug)]
pub struct Ring {
    slots: Box<[Slot]>,
    next: u32,
    oldest_waiting: u32,
    highest: Option<u32>,
    /// Counted requests that left and have not settled.
    pub open: u64,
    /// Arrivals that named no request of this flow.
    pub strangers: u64,
    /// Arrivals that named one older than the ring remembers.
    pub forgotten: u64,
}

impl Ring {
    /// A ring for at least `slots` requests.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        let size = slots.clamp(16, 1 << 24).next_power_of_two();
        let slots = vec![Slot::default(); size].into_boxed_slice();
        Self { slots, next: 0, oldest_waiting: 0, highest: None, open: 0, strangers: 0, forgotten: 0 }
    }

    /// This ring as if so many requests had left before.
    #[cfg(test)]
    pub(crate) fn beginning_at(self, index: u32) -> Self {
        Self { next: index, oldest_waiting: index, ..self }
    }

    /// The memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }

    /// The index that the request after the next `ahead` ones will have, if there is a slot for it.
    #[must_use]
    pub fn vacancy(&self, ahead: u32) -> Option<u32> {
        let index = self.next.wrapping_add(ahead);
        ((ahead as usize) < self.slots.len() && self.slot(index).state != State::Waiting).then_some(index)
    }

    /// Notes that the request at the vacancy has left; returns the request that its slot held, if that was never answered.
    pub fn left(&mut self, due: u64, sent: u64) -> Option<Slot> {
        let at = self.place(self.next);
        let before = std::mem::replace(&mut self.slots[at], Slot { due, sent, state: State::Waiting });
        self.next = self.next.wrapping_add(1);
        (before.state == State::TimedOut).then_some(before)
    }

    /// What an arrival at `seen` makes of request `index`.
    pub fn settle(&mut self, index: u32, seen: u64, timeout: u64, answer: Outcome) -> Settled {
        let age = self.next.wrapping_sub(index);
        if age == 0 || age as usize > self.slots.len() {
            return Settled::Forgotten;
        }
        let at = self.place(index);
        let slot = self.slots[at];
        match slot.state {
            State::Free => Settled::Forgotten,
            State::Settled => Settled::Duplicate(slot),
            State::Waiting | State::TimedOut => {
                self.slots[at].state = State::Settled;
                let late = answer == Outcome::Answered && seen.saturating_sub(slot.sent) > timeout;
                Settled::As(if late { Outcome::Late } else { answer }, slot)
            }
        }
    }

    /// Whether an answer to `index` comes after one to a later request of this flow.
    pub fn overtaken(&mut self, index: u32) -> bool {
        match self.highest {
            Some(highest) if (index.wrapping_sub(highest) as i32) < 0 => true,
            _ => {
                self.highest = Some(index);
                false
            }
        }
    }

    /// Notes the time-outs of all requests that left before `before`; tells each.
    pub fn expire(&mut self, before: u64, mut tell: impl FnMut(&Slot)) {
        self.forget_the_overwritten();
        while self.oldest_waiting != self.next {
            let at = self.place(self.oldest_waiting);
            let slot = &mut self.slots[at];
            if slot.state == State::Waiting {
                if slot.sent >= before {
                    return;
                }
                slot.state = State::TimedOut;
                tell(slot);
            }
            self.oldest_waiting = self.oldest_waiting.wrapping_add(1);
        }
    }

    /// Whether any request may still be answered in time.
    #[must_use]
    pub fn waits(&mut self) -> bool {
        self.forget_the_overwritten();
        (0..self.next.wrapping_sub(self.oldest_waiting))
            .any(|n| self.slot(self.oldest_waiting.wrapping_add(n)).state == State::Waiting)
    }

    /// All requests that the ring still holds and that nothing answered.
    pub fn unanswered(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| matches!(slot.state, State::Waiting | State::TimedOut))
    }

    fn forget_the_overwritten(&mut self) {
        let held = self.slots.len() as u32;
        if self.next.wrapping_sub(self.oldest_waiting) > held {
            self.oldest_waiting = self.next.wrapping_sub(held);
        }
    }

    fn place(&self, index: u32) -> usize {
        index as usize & (self.slots.len() - 1)
    }

    fn slot(&self, index: u32) -> &Slot {
        &self.slots[self.place(index)]
    }
}
