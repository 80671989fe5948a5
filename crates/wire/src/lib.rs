//! The bytes of each protocol, both ends: what a request looks like, what a right answer is.
//!
//! Method: bytes and the time come in as arguments, bytes and verdicts go out. This crate borrows memory and owns
//! none of the packets; it has no I/O, no clock, no allocation and no `unsafe`, so every line can be tested and fuzzed.
//! It must never know who sends, when, or over what.
#![no_std]
#![forbid(unsafe_code)]

pub mod dns;
pub mod echo;
pub mod ntp;
pub mod receiver_stats;
pub mod record;
mod scramble;
pub mod table;

pub use table::Table;

/// Hands the list of all protocols to the macro named: `$with! { Type, … }`. One line a protocol.
#[macro_export]
macro_rules! protocols {
    ($with:ident) => {
        $with! {
            $crate::ntp::Ntp,
            $crate::dns::Dns,
            $crate::echo::Echo,
            $crate::record::Record,
        }
    };
}

/// A protocol: its name, its limits, and its ends.
pub trait Protocol: 'static {
    /// As people write it: `flatout load NAME`.
    const NAME: &'static str;
    /// A datagram longer than this is truncated when received (bytes), at either end.
    const DATAGRAM_MAX: usize;
    /// The protocol's own counters of answers, by the number that [`Reply`] carries.
    const TALLIES: &'static [&'static str];
    /// Which of them counts answers that [`Client::read`] takes for right and [`Client::matches_query`] does not.
    const MISMATCH: usize = 0;
    /// What it travels over, the usual one first.
    const LINKS: &'static [Link] = &[Link::Udp];
    /// Bytes that [`Protocol::prefix`] puts before each message on a stream.
    const PREFIX: usize = 0;
    /// Whether answers may be longer than their requests.
    const AMPLIFIES: bool = false;
    /// The asking end.
    type Client: Client;
    /// The answering end.
    type Responder: Responder;
    /// The end that takes in what goes one way; [`NoDecoder`] where answers come back.
    type Decoder: Decode;
    /// The asking end with these options; `secret` makes its requests unguessable and differs from run to run.
    fn client(options: &[ProtocolOption<'_>], secret: u64) -> Result<Self::Client, InvalidOption>;
    /// The answering end with these options.
    fn responder(options: &[ProtocolOption<'_>]) -> Result<Self::Responder, InvalidOption>;
    /// The end that takes in, with these options.
    fn decoder(_knobs: &[ProtocolOption<'_>]) -> Result<Self::Decoder, InvalidOption> {
        Err(InvalidOption { expected: "a protocol that goes one way: this one is answered, not received" })
    }
    /// Announces a message of `length` bytes in `out` (`PREFIX` long).
    fn prefix(_length: usize, _out: &mut [u8]) {}
    /// Turns a line of a query file into a query that [`Client::fill`] asks about: how many bytes of `out` (at least
    /// [`QUERY_LEN_MAX`] long) it takes, 0 for a blank line or a comment.
    fn compile(_line: &[u8], _out: &mut [u8]) -> Result<usize, InvalidLine> {
        Err(InvalidLine { expected: "nothing: this protocol has no query files" })
    }
}

/// No query is longer (bytes).
pub const QUERY_LEN_MAX: usize = 512;

/// The end that asks. `index` numbers the requests of one flow and comes back in what the far end echoes.
pub trait Client: Clone + Send + 'static {
    /// How many of an index's low bits come back: no more requests than that many bits can name wait at once in a flow.
    fn index_bits(&self) -> u32 {
        32
    }
    /// The longest request with these options (bytes), the bound of what [`Client::fill`] writes.
    fn longest(&self) -> usize;
    /// Writes request `index` of `flow` about `query` into `out` (at least `longest` long); returns its length.
    ///
    /// `query` is what [`Protocol::compile`] made of a line, or empty where there are no lines.
    fn fill(&self, flow: u32, index: u32, query: &[u8], out: &mut [u8]) -> usize;
    /// Whether nothing comes back: what has arrived only the far end knows.
    fn one_way(&self) -> bool {
        false
    }
    /// Writes message number `sequence` of `sender`, where nothing comes back; otherwise as [`Client::fill`].
    fn fill_one_way(&self, sender: u32, sequence: u64, query: &[u8], out: &mut [u8]) -> usize {
        self.fill(sender, sequence as u32, query, out)
    }
    /// Whether requests carry the time of their sending, which [`Client::stamp`] writes.
    fn stamped(&self) -> bool {
        false
    }
    /// Writes the time of sending, Unix time in ns, into a filled request.
    fn stamp(&self, _unix_ns: u64, _request: &mut [u8]) {}
    /// What an arrival on `flow` says; on a stream `reply` is one whole message without what frames it.
    fn read(&self, flow: u32, reply: &[u8]) -> Reply;
    /// Which request of `flow` these bytes are: an ICMP error quotes what it refuses.
    fn recognise(&self, flow: u32, request: &[u8]) -> Option<u32>;
    /// Whether an answer that [`Client::read`] takes for right is one to this query.
    fn matches_query(&self, _subject: &[u8], _reply: &[u8]) -> bool {
        true
    }
    /// Where the first answer in `bytes` of a stream lies.
    fn frame(&self, _bytes: &[u8]) -> Frame {
        Frame::Broken
    }
}

/// What carries requests and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
    /// Streams under TLS.
    Tls,
}

impl Link {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// What lies at the beginning of a stream's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message that is not whole yet; `need` bytes in all would make it so, as far as can be told.
    Short {
        /// Bytes, more than there are.
        need: usize,
    },
    /// A message: `bytes[start..end]`. What follows begins at `end`.
    Whole {
        /// Where the message begins, behind its prefix.
        start: usize,
        /// Where it ends: at least 1.
        end: usize,
    },
    /// No message can begin so: the stream is of no further use.
    Broken,
}

/// The end that answers.
pub trait Responder: Send + Sync + 'static {
    /// Turns the request in `packet[..length]` into its answer in place; returns the answer's length.
    ///
    /// `shared` is what the server was given to answer from. Never longer than the request, unless the protocol
    /// [`Protocol::AMPLIFIES`]; never longer than `packet`.
    fn answer(
        &self,
        shared: Table<'_>,
        context: &RequestContext,
        packet: &mut [u8],
        length: usize,
    ) -> Result<usize, DropReason>;
    /// How long a packet must be to hold the answer to `request`: at least as long as the request.
    fn room(&self, _shared: Table<'_>, request: &[u8]) -> usize {
        request.len()
    }
    /// Where the first request in `bytes` of a stream lies.
    fn frame(&self, _bytes: &[u8]) -> Frame {
        Frame::Broken
    }
}

/// The end that takes in what goes one way: fixed-size messages that nobody answers.
pub trait Decode: Clone + Send + 'static {
    /// Bytes of every message.
    fn size(&self) -> usize;
    /// How many bits a sequence number has before it wraps; 0: messages have none.
    fn sequence_bits(&self) -> u32;
    /// Whether messages name who sent them; else the address they came from does.
    fn carries_sender_id(&self) -> bool;
    /// Where a message says who sent it (low half) and its number (high half), as its options say it; 0: nowhere.
    fn field_layout(&self) -> u64;
    /// What a message says, whatever its length.
    fn decode(&self, message: &[u8]) -> Result<Decoded, Malformed>;
    /// Takes messages that lie end to end, each of the right size, up to the first that is none; tells what each says and
    /// returns how many were right.
    fn decode_all(&self, messages: &[u8], mut tell: impl FnMut(Decoded)) -> usize {
        let right = |message: &&[u8]| {
            self.decode(message).is_ok_and(|taken| {
                tell(taken);
                true
            })
        };
        messages.chunks_exact(self.size().max(1)).take_while(right).count()
    }
    /// How long a right message was under way (ns, negative where the clocks differ by more): nothing without a time.
    fn delay_ns(&self, message: &[u8], arrived_unix_ns: u64) -> Option<i64>;
}

/// What a message that was taken in says; 0 where it has no such field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Who sent it.
    pub sender: u64,
    /// Its number among that sender's.
    pub sequence: u64,
}

/// Why a message is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Malformed {
    /// Too few bytes, perhaps none.
    Short,
    /// Too many.
    Long,
    /// A field that is the same in all messages is not: another format, or the other byte order.
    Constant,
}

impl Malformed {
    /// The words for it, by number.
    pub const WORDS: [&'static str; 3] = ["short", "long", "wrong_constant"];
}

/// For protocols that do not go one way: there is no such end.
#[derive(Clone, Copy, Debug)]
pub enum NoDecoder {}

impl Decode for NoDecoder {
    fn size(&self) -> usize {
        match *self {}
    }

    fn sequence_bits(&self) -> u32 {
        match *self {}
    }

    fn carries_sender_id(&self) -> bool {
        match *self {}
    }

    fn field_layout(&self) -> u64 {
        match *self {}
    }

    fn decode(&self, _: &[u8]) -> Result<Decoded, Malformed> {
        match *self {}
    }

    fn delay_ns(&self, _: &[u8], _: u64) -> Option<i64> {
        match *self {}
    }
}

/// What an arrival says. `tally` counts in [`Protocol::TALLIES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A right answer to request `index`.
    Valid {
        /// Which request of the flow.
        index: u32,
        /// Which of the protocol's own counters.
        tally: usize,
    },
    /// An answer to request `index` that is not right.
    Invalid {
        /// Which request of the flow.
        index: u32,
        /// Which of the protocol's own counters.
        tally: usize,
    },
    /// Nothing that names a request of this flow.
    Unmatched,
}

/// When and how a request came: Unix time in ns, the ports it was sent from and to.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestContext {
    /// The kernel's stamp of the arrival.
    pub received_unix_ns: u64,
    /// Now, just before the answer leaves; never earlier than `received_unix_ns`.
    pub now_unix_ns: u64,
    /// The asker's port.
    pub peer_port: u16,
    /// The port asked.
    pub own_port: u16,
    /// Whether it came over a stream: the asker's address is proven, and no datagram bounds the answer.
    pub stream: bool,
}

/// Why a datagram gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DropReason {
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

impl DropReason {
    /// The words for it, by number.
    pub const WORDS: [&'static str; 5] = ["short", "version", "not_a_request", "malformed", "authenticated"];
}

/// One of a protocol's own settings, as resolved from flags or a file.
#[derive(Clone, Copy, Debug)]
pub struct ProtocolOption<'a> {
    /// As in the protocol's Python file.
    pub name: &'a str,
    /// Whole numbers only: words become numbers before they come here.
    pub value: i64,
}

/// A option that the protocol does not know, or a value out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidOption {
    /// What was expected.
    pub expected: &'static str,
}

/// A line of a query file that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidLine {
    /// What was expected.
    pub expected: &'static str,
}
