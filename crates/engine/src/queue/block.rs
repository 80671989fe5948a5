//! Blocks: messages side by side, with when they arrived and where from.

/// Messages in a block at most, and bytes.
const MOST: usize = 16_384;
const MOST_BYTES: usize = 1 << 20;

/// Right messages that came together.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The messages, one behind the other.
    pub bytes: &'a [u8],
    /// When they arrived, Unix time in ns.
    pub arrived: u64,
    /// The number of the address that they came from.
    pub source: u32,
}

/// Messages that a handler has taken, and owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordBatch {
    /// The messages, one behind the other.
    pub bytes: Vec<u8>,
    /// When each arrived, Unix time in ns.
    pub arrived: Vec<u64>,
    /// The number of the address that each came from.
    pub source: Vec<u32>,
    /// Which worker received them.
    pub worker: usize,
}

/// How long messages are, and how many a block holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) size: usize,
    pub(super) most: usize,
}

impl Shape {
    pub(super) fn new(size: usize, capacity: usize) -> Self {
        let size = size.max(1);
        Self { size, most: MOST.min(MOST_BYTES / size).min(capacity).max(1) }
    }
}

/// Messages that wait, without the first `from`, which have left.
#[derive(Debug, Default)]
pub(super) struct Block {
    bytes: Vec<u8>,
    arrived: Vec<u64>,
    source: Vec<u32>,
    from: usize,
}

impl Block {
    /// An empty one with room for a whole block.
    pub(super) fn new(shape: &Shape) -> Self {
        Self {
            bytes: Vec::with_capacity(shape.most * shape.size),
            arrived: Vec::with_capacity(shape.most),
            source: Vec::with_capacity(shape.most),
            from: 0,
        }
    }

    /// Messages in it.
    pub(super) fn len(&self) -> usize {
        self.arrived.len() - self.from
    }

    /// How many more it has room for.
    pub(super) fn room(&self, shape: &Shape) -> usize {
        shape.most - self.arrived.len().min(shape.most)
    }

    /// Memory that it holds, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.capacity() + 8 * self.arrived.capacity() + 4 * self.source.capacity()
    }

    /// Appends `count` messages of one run.
    pub(super) fn append(&mut self, run: &Run<'_>, count: usize) {
        self.bytes.extend_from_slice(run.bytes);
        let length = self.arrived.len() + count;
        self.arrived.resize(length, run.arrived);
        self.source.resize(length, run.source);
    }

    /// Lets the first `count` go.
    pub(super) fn advance(&mut self, count: usize) {
        self.from += count;
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.arrived.clear();
        self.source.clear();
        self.from = 0;
    }

    /// The first `count` messages, copied.
    pub(super) fn copy(&self, count: usize, shape: &Shape, worker: usize) -> RecordBatch {
        let upto = self.from + count;
        RecordBatch {
            bytes: self.bytes.get(self.from * shape.size..upto * shape.size).unwrap_or_default().to_vec(),
            arrived: self.arrived.get(self.from..upto).unwrap_or_default().to_vec(),
            source: self.source.get(self.from..upto).unwrap_or_default().to_vec(),
            worker,
        }
    }

    /// All its messages: moved where they fill half of it or more; else copied, and the block is left to be used again.
    pub(super) fn hand_over(mut self, shape: &Shape, worker: usize) -> (RecordBatch, Option<Self>) {
        if self.len() * 2 < shape.most {
            return (self.copy(self.len(), shape, worker), Some(self));
        }
        self.bytes.drain(..self.from * shape.size);
        self.arrived.drain(..self.from);
        self.source.drain(..self.from);
        (RecordBatch { bytes: self.bytes, arrived: self.arrived, source: self.source, worker }, None)
    }
}

/// What is left of the runs of one receive call.
pub(super) struct Remaining<'a, I> {
    runs: I,
    run: Option<Run<'a>>,
    size: usize,
}

impl<'a, I: Iterator<Item = Run<'a>>> Remaining<'a, I> {
    /// All but the first `skipped` messages.
    pub(super) fn new(mut runs: I, size: usize, skipped: usize) -> Self {
        let run = runs.next();
        let mut remaining = Self { runs, run, size };
        let mut skipped = skipped;
        while skipped > 0 {
            let Some((_, count)) = remaining.next(skipped) else { break };
            skipped -= count;
        }
        remaining
    }

    /// Up to `most` messages of one run, and how many they are.
    pub(super) fn next(&mut self, most: usize) -> Option<(Run<'a>, usize)> {
        while self.run.is_some_and(|run| run.bytes.len() < self.size) {
            self.run = self.runs.next();
        }
        let run = self.run.as_mut()?;
        let count = (run.bytes.len() / self.size).min(most);
        let (now, later) = run.bytes.split_at_checked(count * self.size)?;
        let part = Run { bytes: now, ..*run };
        run.bytes = later;
        Some((part, count))
    }
}
