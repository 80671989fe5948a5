//! The counters: where every request went, in the words of the contract.

/// Room for a protocol's own counters.
pub const TALLIES: usize = 16;
const UNSENT: usize = 6;

/// Why a request never left, by number in [`Counts::unsent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Unsent {
    /// The generator came to it more than 1 ms after it was due.
    Late,
    /// This machine's own queue dropped it (ENOBUFS).
    Dropped,
    /// All slots of its flow still wait for answers.
    NoSlot,
    /// The kernel would not send it.
    Failed,
    /// No connection stands that it could go over.
    NoConnection,
    /// The far end takes nothing more: what waits on the connection fills its block.
    Blocked,
}

impl Unsent {
    /// The words for it, by number.
    pub const WORDS: [&'static str; UNSENT] =
        ["late", "dropped_here", "no_slot", "send_failed", "no_connection", "blocked"];
}

/// How one request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// A right answer within the time-out.
    Answered,
    /// A right answer after it.
    Late,
    /// Nothing came.
    Lost,
    /// The network or the far end said no.
    Refused,
    /// What came is no right answer.
    Invalid,
    /// It never left.
    Unsent,
    /// It left, and nothing comes back: what became of it the receiver knows.
    Sent,
}

impl Outcome {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Late => "late",
            Self::Lost => "lost",
            Self::Refused => "refused",
            Self::Invalid => "invalid",
            Self::Unsent => "unsent",
            Self::Sent => "sent",
        }
    }
}

counters! {
    /// Cumulative counters: an interval is a difference, several workers are a sum.
    pub struct Counts {
        /// Requests that came due.
        planned: u64,
        /// Requests that left.
        sent: u64,
        /// Requests that never left, by [`Unsent`].
        unsent: [u64; UNSENT],
        /// Requests by outcome.
        answered: u64,
        /// A right answer after the time-out.
        late: u64,
        /// Requests whose time-out passed; at the end, those to which nothing came.
        lost: u64,
        /// Refusals that came back.
        refused: u64,
        /// Answers that are no right answers.
        invalid: u64,
        /// Further answers to a request that had one.
        duplicate: u64,
        /// Answers overtaken by the answer to a later request of their flow (RFC 4737).
        reordered: u64,
        /// Arrivals that named no request of their flow; at the end they stand for requests that got nothing else.
        unmatched: u64,
        /// Arrivals that the kernel did not stamp although asked to.
        unstamped: u64,
        /// Arrivals dropped here because they were not received in time.
        own_drops: u64,
        /// CPU time of the workers, ns.
        cpu_ns: u64,
        /// The protocol's own counters.
        tallies: [u64; TALLIES],
    }
}

impl Counts {
    /// All that never left.
    #[must_use]
    pub fn all_unsent(&self) -> u64 {
        self.unsent.iter().sum()
    }
}

counters! {
    /// What became of connections; cumulative but for `live` and `peak`.
    pub struct Connections {
        /// Attempts to open one.
        opened: u64,
        /// Attempts that led to a connection ready for requests.
        established: u64,
        /// Attempts that did not, for whatever reason.
        failed: u64,
        /// Of these: refused, the port was closed.
        refused: u64,
        /// Of these: it took too long.
        timed_out: u64,
        /// Of these: this host had no port, descriptor, memory or permission for it.
        local: u64,
        /// Of the local ones: no port was left (EADDRNOTAVAIL).
        no_port: u64,
        /// Cut off by the far end after they stood.
        reset: u64,
        /// Ended by the far end after they stood.
        closed: u64,
        /// Closed here after they stood, because what came made no sense.
        broken: u64,
        /// Attempts that replaced an earlier connection.
        reopened: u64,
        /// The most that stood at once.
        peak: u64,
        /// Those that stand now.
        live: u64,
    }
}
