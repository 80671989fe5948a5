//! The requests of each flow that may still be answered: bounded rings of fixed slots, matched by index.
//!
//! Method: all rings lie in one run of slots, for there may be a million of them. Laws: indices count up from 0 and
//! wrap; a slot is taken only when its last request can no longer wait; each request settles at most once; what cannot
//! be matched is counted for the end, never guessed at.

use crate::tally::Outcome;

/// What a slot knows of its request. Times in ns of the run's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// When it was due.
    pub due: u64,
    /// When it left.
    pub sent: u64,
    /// What it asked about: its place in the query set.
    pub query: u32,
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

/// The slots of all flows.
#[derive(Clone, Debug)]
pub struct Rings {
    heads: Box<[Head]>,
    slots: Box<[Slot]>,
    size: usize,
}

/// What a flow's ring knows beside its slots.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head {
    next: u32,
    oldest_waiting: u32,
    highest: Option<u32>,
    /// Counted requests that left and have not settled.
    pub open: u32,
    /// Arrivals that named no request of this flow.
    pub unmatched: u32,
    /// Arrivals that named one older than the ring remembers.
    pub forgotten: u32,
}

/// One flow's ring.
#[derive(Debug)]
pub struct Ring<'a> {
    /// What it knows beside its slots.
    pub head: &'a mut Head,
    slots: &'a mut [Slot],
}

impl Rings {
    /// A ring for at least `slots` requests for each of `flows`.
    #[must_use]
    pub fn new(flows: usize, slots: usize) -> Self {
        let size = slots.clamp(4, 1 << 24).next_power_of_two();
        let heads = vec![Head::default(); flows].into_boxed_slice();
        Self { heads, slots: vec![Slot::default(); flows * size].into_boxed_slice(), size }
    }

    /// How many flows there are.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.heads.len()
    }

    /// The ring of a flow.
    pub fn of(&mut self, flow: usize) -> Ring<'_> {
        let slots = &mut self.slots[flow * self.size..][..self.size];
        Ring { head: &mut self.heads[flow], slots }
    }

    /// What the rings know beside their slots.
    #[must_use]
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The rings as if so many requests had left over each before.
    #[cfg(test)]
    pub(crate) fn beginning_at(mut self, index: u32) -> Self {
        self.heads.fill(Head { next: index, oldest_waiting: index, ..Head::default() });
        self
    }

    /// The memory they take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.slots) + size_of_val(&*self.heads)
    }
}

impl Ring<'_> {
    /// The index that the request after the next `ahead` ones will have, if there is a slot for it.
    #[must_use]
    pub fn vacancy(&self, ahead: u32) -> Option<u32> {
        let index = self.head.next.wrapping_add(ahead);
        ((ahead as usize) < self.slots.len() && self.slot(index).state != State::Waiting).then_some(index)
    }

    /// Notes that the request at the vacancy has left; returns the request that its slot held, if that was never
    /// answered, and its index.
    pub fn sent(&mut self, due: u64, sent: u64, query: u32) -> Option<(u32, Slot)> {
        let index = self.head.next;
        let at = self.index(index);
        let before = std::mem::replace(&mut self.slots[at], Slot { due, sent, query, state: State::Waiting });
        self.head.next = index.wrapping_add(1);
        (before.state == State::TimedOut).then_some((index.wrapping_sub(self.slots.len() as u32), before))
    }

    /// Request `index`, while the ring remembers it, left at `at` only.
    pub fn left(&mut self, index: u32, at: u64) {
        if self.remembers(index) {
            let place = self.index(index);
            self.slots[place].sent = at;
        }
    }

    /// The newest index whose low `bits` are those of `low`: what an answer that echoes no more can mean.
    #[must_use]
    pub fn widen(&self, low: u32, bits: u32) -> u32 {
        let mask = 1_u32.checked_shl(bits).map_or(u32::MAX, |one| one - 1);
        let newest = self.head.next.wrapping_sub(1);
        newest.wrapping_sub(newest.wrapping_sub(low) & mask)
    }

    /// Whether so many requests have not left yet; told only while fewer than 2^32 have.
    #[must_use]
    pub fn never_asked(&self, index: u32) -> bool {
        let age = self.head.next.wrapping_sub(index);
        age == 0 || age > self.head.next
    }

    /// What request `index` asked about, while the ring remembers it.
    #[must_use]
    pub fn query(&self, index: u32) -> Option<u32> {
        let slot = self.slot(index);
        (self.remembers(index) && slot.state != State::Free).then_some(slot.query)
    }

    /// What an arrival at `seen` makes of request `index`.
    pub fn settle(&mut self, index: u32, seen: u64, timeout: u64, answer: Outcome) -> Settled {
        if !self.remembers(index) {
            return Settled::Forgotten;
        }
        let at = self.index(index);
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
        match self.head.highest {
            Some(highest) if (index.wrapping_sub(highest) as i32) < 0 => true,
            _ => {
                self.head.highest = Some(index);
                false
            }
        }
    }

    /// Notes the time-outs of all requests that left before `before`; tells each.
    pub fn expire(&mut self, before: u64, mut tell: impl FnMut(&Slot)) {
        self.forget_the_overwritten();
        while self.head.oldest_waiting != self.head.next {
            let at = self.index(self.head.oldest_waiting);
            let slot = &mut self.slots[at];
            if slot.state == State::Waiting {
                if slot.sent >= before {
                    return;
                }
                slot.state = State::TimedOut;
                tell(slot);
            }
            self.head.oldest_waiting = self.head.oldest_waiting.wrapping_add(1);
        }
    }

    /// How many of the `newest` requests nothing has answered, in time or not, as far as the ring remembers them.
    #[must_use]
    pub fn unsettled(&self, newest: u32) -> u32 {
        let held = newest.min(self.slots.len() as u32);
        let open = |n| matches!(self.slot(self.head.next.wrapping_sub(n)).state, State::Waiting | State::TimedOut);
        (1..=held).filter(|n| open(*n)).count() as u32
    }

    /// Takes out all requests that the ring still holds and that nothing answered, oldest first, with their indices.
    ///
    /// `tell` also learns whether the request was still in time to be answered.
    pub fn abandon(&mut self, mut tell: impl FnMut(u32, &Slot, bool)) {
        for n in (1..=self.slots.len() as u32).rev() {
            let index = self.head.next.wrapping_sub(n);
            let at = self.index(index);
            let state = std::mem::replace(&mut self.slots[at].state, State::Settled);
            match state {
                State::Waiting | State::TimedOut => tell(index, &self.slots[at], state == State::Waiting),
                State::Free | State::Settled => self.slots[at].state = state,
            }
        }
        self.head.oldest_waiting = self.head.next;
    }

    fn remembers(&self, index: u32) -> bool {
        let age = self.head.next.wrapping_sub(index);
        age != 0 && age as usize <= self.slots.len()
    }

    fn forget_the_overwritten(&mut self) {
        let held = self.slots.len() as u32;
        if self.head.next.wrapping_sub(self.head.oldest_waiting) > held {
            self.head.oldest_waiting = self.head.next.wrapping_sub(held);
        }
    }

    fn index(&self, index: u32) -> usize {
        index as usize & (self.slots.len() - 1)
    }

    fn slot(&self, index: u32) -> &Slot {
        &self.slots[self.index(index)]
    }
}
