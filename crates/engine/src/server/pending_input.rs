//! What connections leave unanswered for now: a message that is cut, or requests whose answers have no room yet.
//!
//! Method: memory is held only while there is something to keep, and taken from a few spare pieces, so that a client
//! that cuts every message costs no allocation for each. All of it together is counted and bounded.

/// All that one worker keeps, in bytes: far more than honest clients leave, far less than a machine has.
const MOST: usize = 256 << 20;
/// Spare pieces, and how long one may be.
const SPARE: usize = 64;
const SPARE_LENGTH: usize = 128 << 10;
/// Reserved at once for a message whose length is known; a longer one is believed as it comes.
const BELIEVED: usize = 4 << 10;

/// Bytes of one connection that wait.
#[derive(Debug, Default)]
pub(crate) struct PendingInput {
    bytes: Vec<u8>,
    done: usize,
}

impl PendingInput {
    /// What waits.
    pub(crate) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.done..).unwrap_or_default()
    }

    /// The first `count` bytes are dealt with.
    pub(crate) fn advance(&mut self, count: usize) {
        self.done = (self.done + count).min(self.bytes.len());
        if self.done == self.bytes.len() {
            self.bytes.clear();
            self.done = 0;
        }
    }
}

/// The memory of one worker's rests.
#[derive(Debug)]
#[allow(clippy::vec_box, reason = "a rest moves between here and its connection, which has room for a pointer only")]
pub(crate) struct PendingBudget {
    spare: Vec<Box<PendingInput>>,
    bytes: usize,
    most: usize,
}

impl Default for PendingBudget {
    fn default() -> Self {
        Self::up_to(MOST)
    }
}

impl PendingBudget {
    /// One that keeps no more than `most` bytes.
    pub(crate) fn up_to(most: usize) -> Self {
        Self { spare: Vec::new(), bytes: 0, most }
    }

    /// Adds `more` to what waits, of which `need` bytes make a message; returns whether there is memory for it.
    pub(crate) fn keep(&mut self, pending: &mut Option<Box<PendingInput>>, more: &[u8], need: usize) -> bool {
        if more.is_empty() {
            return true;
        }
        if self.bytes + more.len() > self.most {
            return false;
        }
        let pending = pending.get_or_insert_with(|| self.spare.pop().unwrap_or_default());
        let before = pending.bytes.capacity();
        // What is done makes way once it is the larger part: each byte moves once on average.
        if pending.done > pending.bytes.len() / 2 {
            pending.bytes.drain(..pending.done);
            pending.done = 0;
        }
        pending.bytes.reserve(more.len().max(need.min(BELIEVED).saturating_sub(pending.bytes.len())));
        pending.bytes.extend_from_slice(more);
        self.bytes += pending.bytes.capacity() - before;
        true
    }

    /// Takes the memory back.
    pub(crate) fn give_back(&mut self, pending: Option<Box<PendingInput>>) {
        let Some(mut pending) = pending else { return };
        if self.spare.len() < SPARE && pending.bytes.capacity() <= SPARE_LENGTH {
            pending.advance(pending.bytes.len());
            self.spare.push(pending);
        } else {
            self.bytes -= pending.bytes.capacity();
        }
    }

    /// Memory held, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
