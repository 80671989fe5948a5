//! The statistics protocol between a sender of one-way messages and their receiver.
//!
//! The sender asks on the port that its messages go to. Request and reply have [`LENGTH`] bytes each, so that a spoofed
//! source address gains no amplification.
//!
//! ```text
//! 0   8  "flatout?" in a request, "flatout!" in a reply
//! 8   1  version, 2; a datagram with another version or length is neither request nor reply
//! 9   1  0: read the counters; 1: read the counters and reset the sequence numbers
//! 10  6  zero
//! 16  8  the sender's nonce, echoed
//! 24  8  the receiver's instance id, random for each start; zero in a request
//! 32  8  the fields of sender id and sequence number: `Decode::field_layout`; zero in a request
//! 40     the counters, in the order of `ReceiverCounters::words`; zero in a request
//! ```
//!
//! Numbers are little endian and have 8 bytes.

/// Bytes of a request and of its reply.
pub const LENGTH: usize = HEAD + 8 + 8 + 8 * COUNTERS;
/// Bytes of a request's fields; the rest is zero.
const HEAD: usize = 24;
const REQUEST: &[u8; 8] = b"flatout?";
const REPLY: &[u8; 8] = b"flatout!";
const VERSION: u8 = 2;

/// A request from a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsRequest {
    /// Reset sequence tracking: no later number continues an earlier one.
    pub reset_sequences: bool,
    /// Echoed in the reply.
    pub nonce: u64,
}

/// The reply of a receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsReply {
    /// The receiver's instance id: the same at all its addresses, another one after a restart.
    pub instance: u64,
    /// The fields of sender id and sequence number, as in [`crate::Decode::field_layout`].
    pub field_layout: u64,
    /// Its counters.
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
    /// Messages received, valid or not.
    received,
    /// Valid messages.
    parsed,
    /// Malformed messages.
    malformed,
    /// Valid messages with a sequence number seen before.
    duplicate,
    /// Valid messages that came after a later one of their sender.
    reordered,
    /// Sequence numbers missing so far; one that arrives late is subtracted again.
    missing,
    /// Jumps of a sender's numbers too large for a gap: a restart, or another byte order.
    restarts,
    /// Valid messages of senders beyond the tracking table's size.
    untracked,
    /// Drops of the sockets; coalesced messages count once.
    kernel_drops,
    /// Arrivals from the kernel; coalesced messages count once.
    arrivals,
    /// Valid messages that the handler has received.
    handed_over,
    /// Valid messages dropped because the queue to the handler was full.
    dropped,
    /// Valid messages in the queue to the handler.
    queued,
    /// Senders seen; each counts again after a reset of sequence numbers.
    senders,
    /// Bytes of all messages.
    bytes,
    /// CPU time of the workers, ns.
    cpu_ns,
    /// How many workers there are.
    workers,
    /// The size of a message, bytes.
    size,
    /// Bits of a sequence number; 0: none.
    sequence_bits,
}

impl StatsRequest {
    /// The request as a datagram.
    #[must_use]
    pub fn write(&self) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        head(&mut out, REQUEST, self.reset_sequences, self.nonce);
        out
    }

    /// A request, if the datagram is one.
    #[must_use]
    pub fn read(datagram: &[u8]) -> Option<Self> {
        let datagram = datagram.first_chunk::<LENGTH>().filter(|_| datagram.len() == LENGTH)?;
        let (reset_sequences, nonce) = read_head(datagram, REQUEST)?;
        datagram[HEAD..].iter().all(|byte| *byte == 0).then_some(Self { reset_sequences, nonce })
    }

    /// The reply to it as a datagram.
    #[must_use]
    pub fn reply(&self, stats: &StatsReply) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        head(&mut out, REPLY, self.reset_sequences, self.nonce);
        let counts = stats.counters.words().map(|(_, count)| count);
        for (field, number) in
            out[HEAD..].chunks_exact_mut(8).zip([stats.instance, stats.field_layout].into_iter().chain(counts))
        {
            field.copy_from_slice(&number.to_le_bytes());
        }
        out
    }

    /// The reply to this request, if the datagram is one.
    #[must_use]
    pub fn read_reply(&self, datagram: &[u8]) -> Option<StatsReply> {
        let datagram = datagram.first_chunk::<LENGTH>().filter(|_| datagram.len() == LENGTH)?;
        let matches = read_head(datagram, REPLY)? == (self.reset_sequences, self.nonce);
        let mut numbers = datagram[HEAD..].chunks_exact(8).map(number);
        let (instance, field_layout) = (numbers.next()?, numbers.next()?);
        let mut words = [0; COUNTERS];
        words.iter_mut().zip(numbers).for_each(|(word, reply)| *word = reply);
        matches.then(|| StatsReply { instance, field_layout, counters: ReceiverCounters::of(words) })
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
