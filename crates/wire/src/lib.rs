//! The bytes of each protocol, both ends: what a request looks like, what a right answer is.
//!
//! Method: bytes and the time come in as arguments, bytes and verdicts go out. This crate borrows memory and owns
//! none of the packets; it has no I/O, no clock, no allocation and no `unsafe`, so every line can be tested and fuzzed.
//! It must never know who sends, when, or over what.
#![no_std]
#![forbid(unsafe_code)]

pub mod ntp;

/// Hands the list of all protocols to the macro named: `$with! { Type, … }`. One line a protocol.
#[macro_export]
macro_rules! protocols {
    ($with:ident) => {
        $with! {
            $crate::ntp::Ntp,
        }
    };
}

/// A protocol: its name, its limits, and its two ends.
pub trait Protocol: 'static {
    /// As people write it: `flatout load NAME`.
    const NAME: &'static str;
    /// No request that [`Ask::fill`] writes is longer (bytes).
    const REQUEST_MAX: usize;
    /// A datagram longer than this is truncated when received (bytes), at either end.
    const DATAGRAM_MAX: usize;
    /// The protocol's own counters of answers, by the number that [`Reading`] carries.
    const TALLIES: &'static [&'static str];
    /// The asking end.
    type Asker: Ask;
    /// The answering end.
    type Answerer: Answer;
    /// The asking end with these knobs; `secret` makes its requests unguessable and differs from run to run.
    fn asker(knobs: &[Knob<'_>], secret: u64) -> Result<Self::Asker, BadKnob>;
    /// The answering end with these knobs.
    fn answerer(knobs: &[Knob<'_>]) -> Result<Self::Answerer, BadKnob>;
}

/// The end that asks. `index` numbers the requests of one flow and comes back in what the far end echoes.
pub trait Ask: Clone + Send + 'static {
    /// Writes request `index` of `flow` into `out` (at least `REQUEST_MAX` long); returns its length.
    fn fill(&self, flow: u32, index: u32, out: &mut [u8]) -> usize;
    /// What an arrival on `flow` says.
    fn read(&self, flow: u32, reply: &[u8]) -> Reading;
    /// Which request of `flow` these bytes are: an ICMP error quotes what it refuses.
    fn recognise(&self, flow: u32, request: &[u8]) -> Option<u32>;
}

/// The end that answers.
pub trait Answer: Send + Sync + 'static {
    /// Turns the request in `packet[..length]` into its answer in place; returns the answer's length.
    ///
    /// Never longer than the request.
    fn answer(&self, moment: &Moment, packet: &mut [u8], length: usize) -> Result<usize, Refusal>;
}

/// What an arrival says. `tally` counts in [`Protocol::TALLIES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A right answer to request `index`.
    Answer {
        /// Which request of the flow.
        index: u32,
        /// Which of the protocol's own counters.
        tally: usize,
    },
    /// An answer to request `index` that is not right.
    Wrong {
        /// Which request of the flow.
        index: u32,
        /// Which of the protocol's own counters.
        tally: usize,
    },
    /// Nothing that names a request of this flow.
    Stranger,
}

/// When and from where a request came: Unix time in ns, and the port it was sent from.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The kernel's stamp of the arrival.
    pub received_unix_ns: u64,
    /// Now, just before the answer leaves; never earlier than `received_unix_ns`.
    pub now_unix_ns: u64,
    /// The asker's port.
    pub peer_port: u16,
}

/// Why a datagram gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Refusal {
    /// Shorter than any request.
    Short,
    /// A version that is not spoken.
    Version,
    /// Not a request: answering could loop between two servers.
    NotARequest,
    /// What follows the request makes no sense.
    Malformed,
    /// Authenticated, and no key is known.
    Authenticated,
}

impl Refusal {
    /// The words for it, by number.
    pub const WORDS: [&'static str; 5] = ["short", "version", "not_a_request", "malformed", "authenticated"];
}

/// One of a protocol's own settings, as resolved from flags or a file.
#[derive(Clone, Copy, Debug)]
pub struct Knob<'a> {
    /// As in the protocol's Python file.
    pub name: &'a str,
    /// Whole numbers only: words become numbers before they come here.
    pub value: i64,
}

/// A knob that the protocol does not know, or a value out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKnob {
    /// What was expected.
    pub expected: &'static str,
}
