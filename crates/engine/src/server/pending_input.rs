//! What connections leave unanswered for now: a message that is cut, or requests whose answers have no room yet.
//!
//! Method: memory is held only while there is something to keep, and taken from a few spare pieces, so that a client
//! that cuts every message costs no allocation for each. All of it together is counted and bounded. Two lists name the
//! oldest input, by when it began and by when bytes were last added: who holds memory longest loses it first, and a
//! client that adds a byte now and then gets no younger by it.

use flatout_net::Conn;

use super::age_list::AgeList;

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
    /// Its key in the lists of ages.
    key: u32,
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
    /// By when each began.
    began: AgeList,
    /// By when bytes were last added to each.
    progressed: AgeList,
    /// Keys of the lists: those that are free, and the first that was never used.
    free_keys: Vec<u32>,
    next_key: u32,
}

impl Default for PendingBudget {
    fn default() -> Self {
        Self::up_to(MOST)
    }
}

impl PendingBudget {
    /// One that keeps no more than `most` bytes.
    pub(crate) fn up_to(most: usize) -> Self {
        Self {
            spare: Vec::new(),
            bytes: 0,
            most,
            began: AgeList::default(),
            progressed: AgeList::default(),
            free_keys: Vec::new(),
            next_key: 0,
        }
    }

    /// Adds `more` to what waits of `owner`, of which `need` bytes make a message; returns whether there is memory.
    pub(crate) fn keep(
        &mut self,
        pending: &mut Option<Box<PendingInput>>,
        (owner, now_ms): (Conn, u32),
        more: &[u8],
        need: usize,
    ) -> bool {
        if more.is_empty() {
            return true;
        }
        while self.bytes + more.len() > self.most {
            let Some(spare) = self.spare.pop() else { return false };
            self.bytes -= spare.bytes.capacity();
        }
        let pending = match pending {
            Some(pending) => {
                self.progressed.touch(pending.key, now_ms);
                pending
            }
            None => pending.insert(self.begin(owner, now_ms)),
        };
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

    /// An empty one for `owner`, which is the youngest.
    fn begin(&mut self, owner: Conn, now_ms: u32) -> Box<PendingInput> {
        let mut pending = self.spare.pop().unwrap_or_default();
        pending.key = self.free_keys.pop().unwrap_or_else(|| {
            self.next_key += 1;
            self.next_key - 1
        });
        self.began.insert(pending.key, owner, now_ms);
        self.progressed.insert(pending.key, owner, now_ms);
        pending
    }

    /// Whose input began first.
    pub(crate) fn oldest(&self) -> Option<Conn> {
        self.began.oldest()
    }

    /// Whose input has had no more bytes for longest, if that is longer than `age_ms`.
    pub(crate) fn stuck(&self, age_ms: u32, now_ms: u32) -> Option<Conn> {
        self.progressed.older_than(age_ms, now_ms)
    }

    /// Its clock of progress begins anew.
    pub(crate) fn touch(&mut self, pending: &PendingInput, now_ms: u32) {
        self.progressed.touch(pending.key, now_ms);
    }

    /// Takes the memory back.
    pub(crate) fn give_back(&mut self, pending: Option<Box<PendingInput>>) {
        let Some(mut pending) = pending else { return };
        self.began.remove(pending.key);
        self.progressed.remove(pending.key);
        self.free_keys.push(pending.key);
        if self.spare.len() < SPARE && pending.bytes.capacity() <= SPARE_LENGTH {
            pending.advance(pending.bytes.len());
            self.spare.push(pending);
        } else {
            self.bytes -= pending.bytes.capacity();
        }
    }

    /// Memory held, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let lists = self.began.bytes() + self.progressed.bytes() + self.free_keys.capacity() * size_of::<u32>();
        self.bytes + lists
    }
}
