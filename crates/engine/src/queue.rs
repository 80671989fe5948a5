//! The bounded queue between the workers that receive and the handler of what they received.
//!
//! Method: each worker has a lane of blocks behind a lock of its own, taken once for all that one receive call brought.
//! A block goes to its decoder whole: nothing is copied twice but what fills less than half of one. One counter bounds
//! all lanes together.
//!
//! Laws: of each lane, `parsed = handed_over + dropped + queued`, at any time; what one lane took in leaves it in that
//! order; nothing leaves twice; never do more wait than there is room for.

mod block;
mod waiters;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use block::{Block, Remaining, Shape};
pub use block::{RecordBatch, Run};
use waiters::Waiters;

use crate::plan::WhenFull;

/// How long a worker waits for room before it looks again whether it should stop.
const WAIT: Duration = Duration::from_millis(50);
/// Emptied blocks that a lane keeps for later.
const SPARES: usize = 2;

/// What became of a lane's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// All that were right.
    pub parsed: u64,
    /// Those that a handler has taken.
    pub handed_over: u64,
    /// Those dropped because there was no room.
    pub dropped: u64,
    /// Those that wait.
    pub queued: u64,
    /// How often the worker waited for room.
    pub waited: u64,
    /// Memory of the blocks that wait or are kept, bytes.
    pub bytes: usize,
}

/// The queue.
#[derive(Debug)]
pub struct RecordQueue {
    shape: Shape,
    capacity: usize,
    when_full: WhenFull,
    shards: Vec<Shard>,
    /// Places taken, by messages that wait or are about to.
    taken: AtomicUsize,
    /// Messages that wait.
    ready: AtomicUsize,
    /// Which lane is looked at first.
    turn: AtomicUsize,
    call: Waiters,
}

#[derive(Debug, Default)]
struct Shard {
    state: Mutex<State>,
    freed: Condvar,
    waiting: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    blocks: VecDeque<Block>,
    spares: Vec<Block>,
    passed: Passed,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic with the lock held leaves a consistent queue: each step under it keeps the laws.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RecordQueue {
    /// Room for `capacity` messages of `size` bytes over all lanes. Errors: no descriptors left.
    pub fn new(shards: usize, size: usize, capacity: usize, when_full: WhenFull) -> io::Result<Self> {
        let capacity = capacity.max(1);
        Ok(Self {
            shape: Shape::new(size, capacity),
            capacity,
            when_full,
            shards: (0..shards).map(|_| Shard::default()).collect(),
            taken: AtomicUsize::new(0),
            ready: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            call: Waiters::new()?,
        })
    }

    /// Takes in what one receive call brought, `count` messages in all, by the policy; returns once that is done.
    pub fn offer<'a>(&self, shard: usize, runs: impl Iterator<Item = Run<'a>>, count: usize) {
        let Some(own) = self.shards.get(shard) else { return };
        match self.when_full {
            WhenFull::DropNewest => self.offer_for_newest(own, runs, count),
            WhenFull::DropOldest => self.offer_for_oldest(own, runs, count),
            WhenFull::Wait => self.offer_patiently(own, runs, count),
        }
        self.announce();
    }

    /// What has no room is dropped.
    fn offer_for_newest<'a>(&self, own: &Shard, runs: impl Iterator<Item = Run<'a>>, count: usize) {
        let mut state = lock(&own.state);
        let room = self.reserve(count);
        state.note(count, count - room);
        self.append(&mut state, &mut Remaining::new(runs, self.shape.size, 0), room);
    }

    /// What waits longest makes room, in this lane first.
    fn offer_for_oldest<'a>(&self, own: &Shard, runs: impl Iterator<Item = Run<'a>>, count: usize) {
        let mut state = lock(&own.state);
        let mut room = self.reserve(count);
        room += self.evict(&mut state, count - room);
        if room < count {
            drop(state);
            for shard in self.shards.iter().filter(|shard| !std::ptr::eq(*shard, own)) {
                room += self.evict(&mut lock(&shard.state), count - room);
            }
            state = lock(&own.state);
            // More than can ever wait, or others were quicker: what has no room now is dropped, the oldest first.
            room += self.reserve(count - room);
        }
        state.note(count, count - room);
        self.append(&mut state, &mut Remaining::new(runs, self.shape.size, count - room), room);
    }

    /// The worker waits for room; meanwhile the kernel keeps what comes, and drops what it cannot keep.
    fn offer_patiently<'a>(&self, own: &Shard, runs: impl Iterator<Item = Run<'a>>, count: usize) {
        let mut remaining = Remaining::new(runs, self.shape.size, 0);
        let mut remaining_count = count;
        let mut state = lock(&own.state);
        loop {
            let room = self.reserve(remaining_count);
            remaining_count -= room;
            state.note(room, 0);
            self.append(&mut state, &mut remaining, room);
            if remaining_count == 0 {
                return;
            }
            if self.call.stopped() {
                state.note(remaining_count, remaining_count);
                return;
            }
            self.announce();
            own.waiting.store(true, Ordering::SeqCst);
            // Checked again after announcing the wait: a handler that makes room later sees the announcement.
            if self.taken.load(Ordering::SeqCst) >= self.capacity {
                state.passed.waited += 1;
                state = own.freed.wait_timeout(state, WAIT).unwrap_or_else(PoisonError::into_inner).0;
            }
            own.waiting.store(false, Ordering::SeqCst);
        }
    }

    /// Takes up to `count` places; returns how many there were.
    fn reserve(&self, count: usize) -> usize {
        let granted = |taken: usize| count.min(self.capacity.saturating_sub(taken));
        let take = |taken| Some(taken + granted(taken));
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).map_or(0, granted)
    }

    /// Drops up to `count` of a lane's oldest messages; their places go to the caller.
    fn evict(&self, state: &mut State, count: usize) -> usize {
        let mut evicted = 0;
        while evicted < count {
            let Some(block) = state.blocks.front_mut() else { break };
            let some = block.len().min(count - evicted);
            block.advance(some);
            evicted += some;
            if block.len() == 0 {
                let empty = state.blocks.pop_front();
                state.keep(empty);
            }
        }
        state.passed.queued -= evicted as u64;
        state.passed.dropped += evicted as u64;
        self.ready.fetch_sub(evicted, Ordering::SeqCst);
        evicted
    }

    /// Appends the next `count` messages, which have places.
    fn append<'a, I: Iterator<Item = Run<'a>>>(
        &self,
        state: &mut State,
        remaining: &mut Remaining<'a, I>,
        count: usize,
    ) {
        let mut remaining_count = count;
        while remaining_count > 0 {
            if state.blocks.back().is_none_or(|block| block.room(&self.shape) == 0) {
                let block = state.spares.pop().unwrap_or_else(|| Block::new(&self.shape));
                state.blocks.push_back(block);
            }
            let Some(block) = state.blocks.back_mut() else { break };
            let Some((run, some)) = remaining.next(remaining_count.min(block.room(&self.shape))) else { break };
            block.append(&run, some);
            remaining_count -= some;
        }
        state.passed.queued += (count - remaining_count) as u64;
        self.ready.fetch_add(count - remaining_count, Ordering::SeqCst);
    }

    #[inline]
    fn announce(&self) {
        let ready = self.ready.load(Ordering::SeqCst);
        if ready > 0 {
            self.call.announce(ready);
        }
    }

    /// Takes up to `most` messages of one lane. Waits up to `wait` for the first, then up to `linger` for more.
    ///
    /// Nothing: none came in that time, another decoder was quicker, or none will come any more.
    pub fn take(&self, most: usize, wait: Duration, linger: Duration) -> Option<RecordBatch> {
        self.await_some(most, wait, linger);
        let handed = self.take_now(most.max(1));
        // What is left is for the next who waits.
        self.announce();
        handed
    }

    fn await_some(&self, most: usize, wait: Duration, linger: Duration) {
        if self.ready.load(Ordering::SeqCst) == 0 && !wait.is_zero() {
            self.call.wait(wait, &self.ready);
        }
        // With half of the room full there is no time to linger.
        let enough = most.min(self.capacity.div_ceil(2));
        if !linger.is_zero() && (1..enough).contains(&self.ready.load(Ordering::SeqCst)) {
            self.call.linger(linger, enough, &self.ready);
        }
    }

    fn take_now(&self, most: usize) -> Option<RecordBatch> {
        if self.ready.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let shards = self.shards.len();
        let mut turns = (0..shards).map(|n| first.wrapping_add(n) % shards);
        turns.find_map(|worker| self.take_of(worker, most))
    }

    fn take_of(&self, worker: usize, most: usize) -> Option<RecordBatch> {
        let shard = self.shards.get(worker)?;
        let mut state = lock(&shard.state);
        let front = state.blocks.front_mut()?;
        if front.len() > most {
            let handed = front.copy(most, &self.shape, worker);
            front.advance(most);
            self.note_taken(&mut state, most);
            drop(state);
            self.tell_of_room();
            return Some(handed);
        }
        let block = state.blocks.pop_front()?;
        self.note_taken(&mut state, block.len());
        drop(state);
        self.tell_of_room();
        let (handed, emptied) = block.hand_over(&self.shape, worker);
        if emptied.is_some() {
            lock(&shard.state).keep(emptied);
        }
        Some(handed)
    }

    /// Takes all that wait and throws them away: for a handler that only counts. Returns how many there were. Waits as
    /// [`RecordQueue::take`] does.
    pub fn discard(&self, wait: Duration, linger: Duration) -> usize {
        self.await_some(usize::MAX, wait, linger);
        let mut all = 0;
        for shard in &self.shards {
            let mut state = lock(&shard.state);
            while let Some(block) = state.blocks.pop_front() {
                all += block.len();
                self.note_taken(&mut state, block.len());
                state.keep(Some(block));
            }
        }
        self.tell_of_room();
        all
    }

    /// Notes that a handler has `count` messages of a lane.
    fn note_taken(&self, state: &mut State, count: usize) {
        state.passed.queued -= count as u64;
        state.passed.handed_over += count as u64;
        self.ready.fetch_sub(count, Ordering::SeqCst);
        self.taken.fetch_sub(count, Ordering::SeqCst);
    }

    /// Calls the workers that wait for room.
    fn tell_of_room(&self) {
        for shard in self.shards.iter().filter(|shard| shard.waiting.load(Ordering::SeqCst)) {
            // A worker between looking and sleeping holds the lock: behind it the worker sleeps, and hears the call.
            drop(lock(&shard.state));
            shard.freed.notify_one();
        }
    }

    /// Has [`RecordQueue::descriptor`] readable at the next message; false where some wait already or none will come.
    pub fn arm(&self) -> bool {
        self.call.arm(&self.ready)
    }

    /// What event loops wait for.
    #[must_use]
    pub fn descriptor(&self) -> i32 {
        self.call.descriptor()
    }

    /// Closes the queue: all waiting workers and handlers return.
    pub fn stop(&self) {
        self.call.stop();
        for shard in &self.shards {
            drop(lock(&shard.state));
            shard.freed.notify_one();
        }
    }

    /// What became of a lane's messages.
    #[must_use]
    pub fn passed(&self, shard: usize) -> Passed {
        let Some(shard) = self.shards.get(shard) else { return Passed::default() };
        let state = lock(&shard.state);
        let bytes = state.blocks.iter().chain(&state.spares).map(Block::bytes).sum();
        Passed { bytes, ..state.passed }
    }

    /// How many messages may wait.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

impl State {
    fn note(&mut self, parsed: usize, dropped: usize) {
        self.passed.parsed += parsed as u64;
        self.passed.dropped += dropped as u64;
    }

    /// Keeps an emptied block for later.
    fn keep(&mut self, block: Option<Block>) {
        if let Some(mut block) = block.filter(|_| self.spares.len() < SPARES) {
            block.clear();
            self.spares.push(block);
        }
    }
}
