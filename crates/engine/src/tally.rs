//! The counters: where every request went, in the words of the contract.

use std::ops::{AddAssign, Sub};

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

/// Cumulative counters: an interval is a difference, several workers are a sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that came due.
    pub planned: u64,
    /// Requests that left.
    pub sent: u64,
    /// Requests that never left, by [`Unsent`].
    pub unsent: [u64; UNSENT],
    /// Requests by outcome.
    pub answered: u64,
    /// A right answer after the time-out.
    pub late: u64,
    /// Requests whose time-out passed; at the end, those to which nothing came.
    pub lost: u64,
    /// Refusals that came back.
    pub refused: u64,
    /// Answers that are no right answers.
    pub invalid: u64,
    /// Further answers to a request that had one.
    pub duplicate: u64,
    /// Answers overtaken by the answer to a later request of their flow (RFC 4737).
    pub reordered: u64,
    /// Arrivals that named no request of their flow; at the end they stand for requests that got nothing else.
    pub unmatched: u64,
    /// Arrivals that the kernel did not stamp although asked to.
    pub unstamped: u64,
    /// Arrivals dropped here because they were not received in time.
    pub own_drops: u64,
    /// CPU time of the workers, ns.
    pub cpu_ns: u64,
    /// The protocol's own counters.
    pub tallies: [u64; TALLIES],
}

impl Counts {
    /// All that never left.
    #[must_use]
    pub fn all_unsent(&self) -> u64 {
        self.unsent.iter().sum()
    }

    fn zip(&mut self, other: &Self, join: impl Fn(&mut u64, u64)) {
        for (mine, its) in self.fields().into_iter().zip(other.clone().fields()) {
            join(mine, *its);
        }
    }

    fn fields(&mut self) -> [&mut u64; 35] {
        let Self {
            planned,
            sent,
            unsent,
            answered,
            late,
            lost,
            refused,
            invalid,
            duplicate,
            reordered,
            unmatched,
            unstamped,
            own_drops,
            cpu_ns,
            tallies,
        } = self;
        let [u0, u1, u2, u3, u4, u5] = unsent;
        let [t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14, t15] = tallies;
        [
            planned, sent, u0, u1, u2, u3, u4, u5, answered, late, lost, refused, invalid, duplicate, reordered,
            unmatched, unstamped, own_drops, cpu_ns, t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, t13, t14,
            t15,
        ]
    }
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        self.zip(other, |mine, its| *mine += its);
    }
}

impl Sub for Counts {
    type Output = Counts;

    /// The interval from `earlier` to this.
    fn sub(mut self, earlier: Counts) -> Counts {
        self.zip(&earlier, |mine, its| *mine = mine.saturating_sub(its));
        self
    }
}

/// What became of connections; cumulative but for `live` and `peak`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Attempts to open one.
    pub opened: u64,
    /// Attempts that led to a connection ready for requests.
    pub established: u64,
    /// Attempts that did not, for whatever reason.
    pub failed: u64,
    /// Of these: nobody listened.
    pub refused: u64,
    /// Of these: it took too long.
    pub timed_out: u64,
    /// Of these: this host had no port, descriptor, memory or permission for it.
    pub local: u64,
    /// Cut off by the far end after they stood.
    pub reset: u64,
    /// Ended by the far end after they stood.
    pub closed: u64,
    /// Closed here after they stood, because what came made no sense.
    pub broken: u64,
    /// Attempts that replaced an earlier connection.
    pub reopened: u64,
    /// The most that stood at once.
    pub peak: u64,
    /// Those that stand now.
    pub live: u64,
}

impl Connections {
    /// The words and numbers.
    #[must_use]
    pub fn words(&self) -> [(&'static str, u64); 12] {
        [
            ("opened", self.opened),
            ("established", self.established),
            ("failed", self.failed),
            ("refused", self.refused),
            ("timed_out", self.timed_out),
            ("local", self.local),
            ("reset", self.reset),
            ("closed", self.closed),
            ("broken", self.broken),
            ("reopened", self.reopened),
            ("peak", self.peak),
            ("live", self.live),
        ]
    }
}

impl AddAssign<&Connections> for Connections {
    fn add_assign(&mut self, other: &Connections) {
        self.opened += other.opened;
        self.established += other.established;
        self.failed += other.failed;
        self.refused += other.refused;
        self.timed_out += other.timed_out;
        self.local += other.local;
        self.reset += other.reset;
        self.closed += other.closed;
        self.broken += other.broken;
        self.reopened += other.reopened;
        self.peak += other.peak;
        self.live += other.live;
    }
}
