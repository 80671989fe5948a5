//! How a sender learns what has arrived of messages that nobody answers: it asks the receiver, on the port they go to.
//!
//! Question and answer are [`LENGTH`] bytes, so that nobody gains anything by asking in another's name.
//!
//! ```text
//! 0   8  "flatout?" asks, "flatout!" answers
//! 8   1  version, 2; what has another one, or another length, is neither question nor answer
//! 9   1  what is wanted: 0 the counters; 1 the counters, and sequence numbers begin anew
//! 10  6  zero
//! 16  8  a number of the asker's, echoed
//! 24  8  which receiver tells: a number drawn when it began; zero in a question
//! 32  8  where it reads who sent a message, and its number: `Decode::field_layout`; zero in a question
//! 40     the counters, in the order of `ReceiverCounters::words`; zero in a question
//! ```
//!
//! Numbers are little endian and have 8 bytes.

/// Bytes of a question and of its answer.
pub const LENGTH: usize = HEAD + 8 + 8 + 8 * COUNTERS;
/// What a question says; all behind it is zero there.
const HEAD: usize = 24;
const ASKS: &[u8; 8] = b"flatout?";
const ANSWERS: &[u8; 8] = b"flatout!";
const VERSION: u8 = 2;

/// What a sender wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsRequest {
    /// Whether what comes from now on is a new beginning: no sequence number continues an earlier one.
    pub reset_sequences: bool,
    /// Comes back in the answer.
    pub nonce: u64,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsReply {
    /// Which receiver tells. The same at all its addresses; another one after it was started again.
    pub instance: u64,
    /// Where it reads who sent a message and its number, as [`crate::Decode::field_layout`] has it.
    pub field_layout: u64,
    /// What it has counted.
    pub counters: ReceiverCounters,
}

/// Declares the counters once: the fields, their words, their order in a datagram and their sum.
macro_rules! receiver_counters {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        const COUNTERS: usize = [$(stringify!($field)),*].len();

        /// What a receiver has counted since it began, over all its workers.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct ReceiverCounters {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl ReceiverCounters {
            /// The words and numbers.
            #[must_use]
            pub fn words(&self) -> [(&'static str, u64); COUNTERS] {
                [$((stringify!($field), self.$field),)*]
            }

            /// Adds what another worker of the same receiver has counted; `size` and `sequence_bits` are the receiver's.
            pub fn add(&mut self, other: &Self) {
                let (size, sequence_bits) = (other.size, other.sequence_bits);
                $(self.$field += other.$field;)*
                (self.size, self.sequence_bits) = (size, sequence_bits);
            }

            fn of([$($field,)*]: [u64; COUNTERS]) -> Self {
                Self { $($field,)* }
            }
        }
    };
}

receiver_counters! {
    /// Messages that came, right or not.
    received,
    /// Messages that were right.
    parsed,
    /// Messages that were not.
    malformed,
    /// Right messages whose sequence number had come before.
    duplicate,
    /// Right messages that came after a later one of their sender.
    reordered,
    /// Sequence numbers left out so far; one that comes late is taken off again.
    missing,
    /// Senders whose numbers jumped too far to be a gap: begun again, or in another byte order.
    restarts,
    /// Right messages whose sender there was no room to follow.
    untracked,
    /// What the kernel dropped at the sockets; messages that it would have handed over as one count as one.
    kernel_drops,
    /// What the kernel handed over, messages that came as one counted once.
    arrivals,
    /// Right messages that the handler has taken.
    handed_over,
    /// Right messages dropped because the queue to the handler was full.
    dropped,
    /// Right messages that wait for the handler.
    queued,
    /// Senders that began: each once more after every new beginning of numbers.
    senders,
    /// Bytes of all messages.
    bytes,
    /// CPU time of the workers, ns.
    cpu_ns,
    /// How many workers there are.
    workers,
    /// Bytes that a message must have.
    size,
    /// Bits of a sequence number; 0: there is none.
    sequence_bits,
}

impl StatsRequest {
    /// The question as a datagram.
    #[must_use]
    pub fn write(&self) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        head(&mut out, ASKS, self.reset_sequences, self.nonce);
        out
    }

    /// A question, if the datagram is one.
    #[must_use]
    pub fn read(datagram: &[u8]) -> Option<Self> {
        let datagram = datagram.first_chunk::<LENGTH>().filter(|_| datagram.len() == LENGTH)?;
        let (reset_sequences, nonce) = read_head(datagram, ASKS)?;
        datagram[HEAD..].iter().all(|byte| *byte == 0).then_some(Self { reset_sequences, nonce })
    }

    /// The answer to it.
    #[must_use]
    pub fn reply(&self, stats: &StatsReply) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        head(&mut out, ANSWERS, self.reset_sequences, self.nonce);
        let counts = stats.counters.words().map(|(_, count)| count);
        for (place, number) in
            out[HEAD..].chunks_exact_mut(8).zip([stats.instance, stats.field_layout].into_iter().chain(counts))
        {
            place.copy_from_slice(&number.to_le_bytes());
        }
        out
    }

    /// What an answer to this question says, if the datagram is one.
    #[must_use]
    pub fn read_reply(&self, datagram: &[u8]) -> Option<StatsReply> {
        let datagram = datagram.first_chunk::<LENGTH>().filter(|_| datagram.len() == LENGTH)?;
        let mine = read_head(datagram, ANSWERS)? == (self.reset_sequences, self.nonce);
        let mut numbers = datagram[HEAD..].chunks_exact(8).map(number);
        let (instance, places) = (numbers.next()?, numbers.next()?);
        let mut words = [0; COUNTERS];
        words.iter_mut().zip(numbers).for_each(|(word, reply)| *word = reply);
        mine.then(|| StatsReply { instance, field_layout: places, counters: ReceiverCounters::of(words) })
    }
}

fn head(out: &mut [u8; LENGTH], magic: &[u8; 8], reset_sequences: bool, nonce: u64) {
    out[..8].copy_from_slice(magic);
    (out[8], out[9]) = (VERSION, u8::from(reset_sequences));
    out[16..HEAD].copy_from_slice(&nonce.to_le_bytes());
}

fn read_head(datagram: &[u8; LENGTH], magic: &[u8; 8]) -> Option<(bool, u64)> {
    let reset_sequences = match datagram[9] {
        0 => false,
        1 => true,
        _ => return None,
    };
    let sound = datagram.starts_with(magic) && datagram[8] == VERSION && datagram[10..16] == [0; 6];
    sound.then_some((reset_sequences, number(&datagram[16..HEAD])))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
#[path = "receiver_stats_tests.rs"]
mod tests;
