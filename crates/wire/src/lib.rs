//! The wire formats: each protocol's client, responder and decoder.
//!
//! Method: bytes and the time are arguments, bytes and verdicts are results. This crate borrows memory and owns
//! none of the packets; it has no I/O, no clock, no allocation and no `unsafe`, so every line can be tested and fuzzed.
//! It must never know who sends, when, or over what.
#![no_std]
#![forbid(unsafe_code)]

pub mod calendar;
pub mod dns;
mod driver;
pub mod echo;
pub mod ntp;
pub mod receiver_stats;
pub mod record;
mod scramble;
pub mod table;

pub(crate) use driver::Aligned;
pub use driver::{DRIVER_KEY, DRIVER_VALUE, DRIVER_WORDS, DriverEntry, DriverState};
pub use table::Table;

use core::net::{IpAddr, SocketAddr};

/// Calls the macro `$with` with the list of all protocols: `$with! { Type, … }`. One line a protocol.
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

/// A protocol: its name, its limits and its roles.
pub trait Protocol: 'static {
    /// The name on the command line: `flatout load NAME`.
    const NAME: &'static str;
    /// Datagrams longer than this are truncated on receive (bytes), by client and server.
    const DATAGRAM_MAX: usize;
    /// The protocol's own counters of answers, by the index that [`Reply`] carries.
    const TALLIES: &'static [&'static str];
    /// The counter of answers that [`Client::read`] accepts and [`Client::matches_query`] rejects.
    const MISMATCH: usize = 0;
    /// The transports it supports, the default first.
    const LINKS: &'static [Link] = &[Link::Udp];
    /// Bytes that [`Protocol::prefix`] puts before each message on a stream.
    const PREFIX: usize = 0;
    /// Whether answers may be longer than their requests.
    const AMPLIFIES: bool = false;
    /// A BPF object that answers in the network driver, from [`Responder::driver_state`]; empty: there is none.
    const DRIVER_PROGRAM: &'static [u8] = &[];
    /// An entry of the answer table as that program has it; `None`: the sockets alone have it.
    #[must_use]
    fn driver_entry(_key: &[u8], _value: &[u8]) -> Option<DriverEntry> {
        None
    }
    /// The client.
    type Client: Client;
    /// The responder.
    type Responder: Responder;
    /// The decoder of one-way messages; [`NoDecoder`] for protocols with answers.
    type Decoder: Decode;
    /// A client with these options; `secret` makes its requests unguessable and differs from run to run.
    fn client(options: &[ProtocolOption<'_>], secret: u64) -> Result<Self::Client, InvalidOption>;
    /// A responder with these options.
    fn responder(options: &[ProtocolOption<'_>]) -> Result<Self::Responder, InvalidOption>;
    /// A decoder with these options.
    fn decoder(_knobs: &[ProtocolOption<'_>]) -> Result<Self::Decoder, InvalidOption> {
        Err(InvalidOption { expected: "a one-way protocol: this one is answered, not received" })
    }
    /// Writes the length prefix of a message of `length` bytes into `out` (`PREFIX` long).
    fn prefix(_length: usize, _out: &mut [u8]) {}
    /// Compiles a line of a query file into a query for [`Client::fill`]; returns how many bytes of `out` (at least
    /// [`QUERY_LEN_MAX`] long) it takes, 0 for a blank line or a comment.
    fn compile(_line: &[u8], _out: &mut [u8]) -> Result<usize, InvalidLine> {
        Err(InvalidLine { expected: "nothing: this protocol has no query files" })
    }
}

/// The longest query (bytes).
pub const QUERY_LEN_MAX: usize = 512;

/// A client. `index` numbers the requests of one flow and comes back in what the server echoes.
pub trait Client: Clone + Send + 'static {
    /// How many of an index's low bits come back; this limits the outstanding requests of a flow.
    fn index_bits(&self) -> u32 {
        32
    }
    /// The longest request with these options (bytes).
    fn longest(&self) -> usize;
    /// Writes request `index` of `flow` for `query` into `out` (at least `longest` long); returns its length.
    ///
    /// `query` is a line compiled by [`Protocol::compile`], or empty without a query file.
    fn fill(&self, flow: u32, index: u32, query: &[u8], out: &mut [u8]) -> usize;
    /// Whether messages are one-way: only the receiver knows what has arrived.
    fn one_way(&self) -> bool {
        false
    }
    /// Writes one-way message number `sequence` of `sender`; otherwise as [`Client::fill`].
    fn fill_one_way(&self, sender: u32, sequence: u64, query: &[u8], out: &mut [u8]) -> usize {
        self.fill(sender, sequence as u32, query, out)
    }
    /// Whether requests carry their send time, which [`Client::stamp`] writes.
    fn stamped(&self) -> bool {
        false
    }
    /// Writes the send time, Unix time in ns, into a filled request.
    fn stamp(&self, _unix_ns: u64, _request: &mut [u8]) {}
    /// Whether each request leaves in a call of its own, over the next flow: its send time is then exact, and it can
    /// refer to its flow's last answer.
    fn alone(&self) -> bool {
        false
    }
    /// Whether requests refer to the last exchange of their flow, by [`Client::refer`].
    fn refers_back(&self) -> bool {
        false
    }
    /// Makes a filled request refer to the last exchange of its flow. Each exchange is referred to once.
    fn refer(&self, _flow: u32, _index: u32, _last: &Exchange, _request: &mut [u8]) {}
    /// What a later request refers to a valid answer by: [`Exchange::mark`].
    fn mark(&self, _reply: &[u8]) -> u64 {
        0
    }
    /// Whether answers say when the server received the request and sent the answer: [`Client::timing`].
    fn timed(&self) -> bool {
        false
    }
    /// Whether [`Client::timing`] looks at the times of exchanges, and not at their marks alone.
    fn needs_unix_times(&self) -> bool {
        false
    }
    /// What a valid answer, counted by `tally`, says of the server's time. `last` is the exchange that its request
    /// referred to. `None`: nothing.
    fn timing(&self, _reply: &[u8], _tally: usize, _this: &Exchange, _last: Option<&Exchange>) -> Option<Timing> {
        None
    }
    /// Parses an arrival on `flow`; on a stream `reply` is one whole message without its prefix.
    fn read(&self, flow: u32, reply: &[u8]) -> Reply;
    /// Which request of `flow` these bytes are; for requests quoted by ICMP errors.
    fn recognise(&self, flow: u32, request: &[u8]) -> Option<u32>;
    /// Whether an answer that [`Client::read`] accepts is an answer to this query.
    fn matches_query(&self, _subject: &[u8], _reply: &[u8]) -> bool {
        true
    }
    /// Finds the first answer in `bytes` of a stream.
    fn frame(&self, _bytes: &[u8]) -> Frame {
        Frame::Broken
    }
}

/// A request and its answer; times are Unix time in ns, on this host's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// When the request left.
    pub sent_unix_ns: u64,
    /// When the answer arrived.
    pub seen_unix_ns: u64,
    /// What the protocol refers to the answer by.
    pub mark: u64,
}

/// What an answer says of the server's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// From the server's receive stamp to its transmit stamp, ns; 0 where the latter is earlier.
    pub response_ns: u64,
    /// How far the server's clock is ahead of this host's, ns; `None`: not asked for.
    pub offset_ns: Option<i64>,
}

/// A transport of requests and answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// UDP.
    #[default]
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

impl Link {
    /// Its name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// The first message in a stream's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// An incomplete message; at least `need` bytes in all are needed.
    Short {
        /// Bytes, more than there are.
        need: usize,
    },
    /// A message: `bytes[start..end]`. What follows begins at `end`.
    Whole {
        /// The start of the message, behind its prefix.
        start: usize,
        /// The end: at least 1.
        end: usize,
    },
    /// Not a message: the stream cannot be used further.
    Broken,
}

/// How many words a server's live state has.
pub const STATE_WORDS: usize = 12;

/// What the owner of a running server told it last; the protocol's Python file packs the words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveState {
    /// All 0 before it was told.
    pub words: [u64; STATE_WORDS],
    /// How long ago it was told, by a steady clock, ns.
    pub age_ns: u64,
    /// By how much the system clock has gone on faster than a steady clock since then, ns: its steps.
    pub stepped_ns: i64,
}

/// What is to be done with the stamps of an answer over datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerStamps {
    /// [`Responder::stamp`] is to be called just before it is sent.
    pub at_send: bool,
    /// [`Responder::left`] is to be told under this key when the kernel sent it; `None`: nothing.
    pub tell: Option<u64>,
}

impl Default for AnswerStamps {
    fn default() -> Self {
        Self { at_send: true, tell: None }
    }
}

/// A responder. Each worker has its own.
pub trait Responder: Clone + Send + 'static {
    /// Whether it answers from a live state and stamps its answers: [`Responder::refresh`] and [`Responder::stamp`].
    const LIVE: bool = false;
    /// Turns the request in `packet[..length]` into its answer in place; returns the answer's length.
    ///
    /// `shared` is the server's answer table. The answer is never longer than `packet`, and longer than the request
    /// only with [`Protocol::AMPLIFIES`].
    fn answer(
        &self,
        shared: Table<'_>,
        context: &RequestContext,
        packet: &mut [u8],
        length: usize,
    ) -> Result<usize, DropReason>;
    /// Whether it has kiss-o'-death packets: answers that ask a client to be slower.
    const KISSES: bool = false;
    /// Turns the request in `packet[..length]` into a kiss-o'-death in place, as [`Responder::answer`] into an answer.
    fn kiss(
        &self,
        _shared: Table<'_>,
        _context: &RequestContext,
        _packet: &mut [u8],
        _length: usize,
    ) -> Result<usize, DropReason> {
        Err(DropReason::NotARequest)
    }
    /// The buffer size that the answer to `request` needs: at least the request's length.
    fn room(&self, _shared: Table<'_>, request: &[u8]) -> usize {
        request.len()
    }
    /// Finds the first request in `bytes` of a stream.
    fn frame(&self, _bytes: &[u8]) -> Frame {
        Frame::Broken
    }
    /// Begins a worker's own sequence of random numbers.
    fn seed(&mut self, _seed: u64) {}
    /// Takes the live state as it is before a batch of datagrams is answered, once one was told.
    fn refresh(&mut self, _state: &LiveState, _now_unix_ns: u64) {}
    /// Writes when it is sent, Unix time in ns, into an answer over datagrams, just before that.
    fn stamp(&self, _now_unix_ns: u64, _answer: &mut [u8]) {}
    /// What the last answer needs.
    fn stamps(&self) -> AnswerStamps {
        AnswerStamps::default()
    }
    /// Takes when an answer left, by the kernel's stamp: Unix time in ns.
    fn left(&self, _key: u64, _unix_ns: u64) {}
    /// What [`Protocol::DRIVER_PROGRAM`] answers from, as of the last refresh; `None`: sockets alone answer now.
    ///
    /// `shared` is the server's answer table.
    fn driver_state(&self, _shared: Table<'_>) -> Option<DriverState> {
        None
    }
}

/// A decoder of one-way messages of fixed size.
pub trait Decode: Clone + Send + 'static {
    /// Bytes of every message.
    fn size(&self) -> usize;
    /// Bits of a sequence number; 0: messages have none.
    fn sequence_bits(&self) -> u32;
    /// Whether messages carry a sender id; else the source address identifies the sender.
    fn carries_sender_id(&self) -> bool;
    /// The fields of the sender id (low half) and the sequence number (high half), packed as in the options; 0: none.
    fn field_layout(&self) -> u64;
    /// Decodes one message of any length.
    fn decode(&self, message: &[u8]) -> Result<Decoded, Malformed>;
    /// Decodes consecutive messages of the right size up to the first malformed one; passes each to `tell` and returns
    /// how many were valid.
    fn decode_all(&self, messages: &[u8], mut tell: impl FnMut(Decoded)) -> usize {
        let right = |message: &&[u8]| {
            self.decode(message).is_ok_and(|taken| {
                tell(taken);
                true
            })
        };
        messages.chunks_exact(self.size().max(1)).take_while(right).count()
    }
    /// The one-way delay of a valid message (ns, negative where the clocks differ by more); `None` without a send time.
    fn delay_ns(&self, message: &[u8], arrived_unix_ns: u64) -> Option<i64>;
}

/// A decoded message; 0 where it has no such field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The sender's id.
    pub sender: u64,
    /// The sender's sequence number.
    pub sequence: u64,
}

/// Why a message is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Malformed {
    /// Too few bytes, perhaps none.
    Short,
    /// Too many.
    Long,
    /// A constant field has another value: another format, or the other byte order.
    Constant,
}

impl Malformed {
    /// Their names in results, by index.
    pub const WORDS: [&'static str; 3] = ["short", "long", "wrong_constant"];
}

/// The decoder of protocols without one-way messages: it cannot be constructed.
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

/// A parsed arrival. `tally` is an index into [`Protocol::TALLIES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A valid answer to request `index`.
    Valid {
        /// Which request of the flow.
        index: u32,
        /// Which of the protocol's own counters.
        tally: usize,
    },
    /// An invalid answer to request `index`.
    Invalid {
        /// Which request of the flow.
        index: u32,
        /// Which of the protocol's own counters.
        tally: usize,
    },
    /// It matches no request of this flow.
    Unmatched,
}

/// When, from where and how a request arrived; times are Unix time in ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestContext {
    /// The kernel's stamp of the arrival.
    pub received_unix_ns: u64,
    /// Now, just before the answer is sent; never earlier than `received_unix_ns`.
    pub now_unix_ns: u64,
    /// The client's address, v4-mapped on a dual-stack socket. Unverified over [`Link::Udp`]; `None` over streams, whose
    /// backends do not report it.
    pub client: Option<SocketAddr>,
    /// The server's address that the request was sent to, where it is known.
    pub local: Option<IpAddr>,
    /// The server's port.
    pub local_port: u16,
    /// The transport. Over a stream no datagram limits the length of the answer.
    pub link: Link,
}

impl RequestContext {
    /// The context of a request at an unknown time.
    #[must_use]
    pub const fn new(link: Link, client: Option<SocketAddr>, local_port: u16) -> Self {
        Self { received_unix_ns: 0, now_unix_ns: 0, client, local: None, local_port, link }
    }

    /// The client's port; 0 where its address is unknown.
    #[must_use]
    pub fn client_port(&self) -> u16 {
        self.client.map_or(0, |client| client.port())
    }

    /// Whether the request came over a stream, whose handshake has verified the client's address.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        !matches!(self.link, Link::Udp)
    }
}

/// Why a request is dropped without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DropReason {
    /// Shorter than any request.
    Short,
    /// An unsupported version.
    Version,
    /// Not a request: answering could loop between two servers.
    NotARequest,
    /// Malformed bytes behind the header.
    Malformed,
    /// Authenticated with an unknown key.
    Authenticated,
    /// From an address or port that an answer must not be sent to.
    Source,
    /// The server has no time to give, and is to be silent then.
    Unsynchronised,
}

impl DropReason {
    /// Their names in results, by index.
    pub const WORDS: [&'static str; 7] =
        ["short", "version", "not_a_request", "malformed", "authenticated", "source", "unsynchronised"];
}

/// One of a protocol's own options, from flags or a file.
#[derive(Clone, Copy, Debug)]
pub struct ProtocolOption<'a> {
    /// As in the protocol's Python file.
    pub name: &'a str,
    /// Integers only: names are converted before.
    pub value: i64,
}

/// An unknown option, or a value out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidOption {
    /// What was expected.
    pub expected: &'static str,
}

/// An invalid line of a query file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidLine {
    /// What was expected.
    pub expected: &'static str,
}
