//! Which sender's one-way message is next, with which number, over which flow.
//!
//! Laws: a sender has one flow, so that its messages keep their order; its numbers are given to what leaves, so that a
//! receiver misses nothing but what was lost on the way; a message that stays here uses up its sender's turn.
//! Senders take turns by number. Neighbours have one flow where there are fewer flows than senders, and then share
//! calls; where each has its own, and its ticks are too short to tell apart, each sends a few in a row. No flow is left
//! out where there are senders enough, for each may lead somewhere else.

/// The senders of one worker.
#[derive(Debug)]
pub struct Senders {
    /// The number that each sends next.
    next: Box<[u64]>,
    first: u32,
    step: u32,
    /// Flows in use.
    flows: usize,
    in_a_row: usize,
    turn: usize,
    row: usize,
}

impl Senders {
    /// `count` senders named `first`, `first + step`, …, over `flows` flows; each sends `in_a_row` messages in its turn.
    #[must_use]
    pub fn new(names: (u32, u32), count: usize, flows: usize, in_a_row: usize) -> Self {
        Self {
            next: vec![0; count.max(1)].into_boxed_slice(),
            first: names.0,
            step: names.1,
            flows: flows.clamp(1, count.max(1)),
            in_a_row: in_a_row.max(1),
            turn: 0,
            row: 0,
        }
    }

    /// Their memory, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.next)
    }

    /// The flow of the sender whose turn it is.
    #[must_use]
    pub fn flow(&self) -> usize {
        self.turn * self.flows / self.next.len()
    }

    /// Gives out a name and a number for a message that is about to leave.
    pub fn number(&mut self) -> (u32, u64) {
        let id = self.first.wrapping_add(self.step.wrapping_mul(self.turn as u32));
        let Some(next) = self.next.get_mut(self.turn) else { return (id, 0) };
        let sequence = *next;
        *next += 1;
        self.pass();
        (id, sequence)
    }

    /// The next message will not leave.
    pub fn pass(&mut self) {
        self.row += 1;
        if self.row == self.in_a_row {
            self.row = 0;
            self.turn = if self.turn + 1 == self.next.len() { 0 } else { self.turn + 1 };
        }
    }

    /// The last `count` messages that were given numbers have not left: they have their turns still before them.
    pub fn take_back(&mut self, count: usize) {
        for _ in 0..count {
            if self.row == 0 {
                self.turn = self.turn.checked_sub(1).unwrap_or(self.next.len() - 1);
                self.row = self.in_a_row;
            }
            self.row -= 1;
            if let Some(next) = self.next.get_mut(self.turn) {
                *next -= 1;
            }
        }
    }
}
