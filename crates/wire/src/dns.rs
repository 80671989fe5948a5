//! DNS over UDP, TCP and TLS (RFC 1035, EDNS: RFC 6891): client and test server.
//!
//! Method: the client copies a query (a question compiled before the run) behind a header whose id is the
//! request's number under a key of the flow; the server echoes the id, so matching an answer is arithmetic. It parses
//! each answer once to check that it is complete, and compares the question. The responder looks up precompiled
//! answers: keys and values, as follows.
//!
//! ```text
//! key                            value is the answer
//! NAME TYPE                      to this question; NAME as in a packet, in lower case; TYPE 2 bytes, big endian
//! NAME 0 0                       where the name exists without the type asked for (no data, or an alias)
//! 01 "*" NAME ...                as above, for names below NAME that do not exist
//! FE NAME                        where a name at or below NAME, which is the top of a zone, does not exist
//! FF TYPE                        to this type, for any name outside all zones
//! FF 0 0                         to other types, for any name outside all zones
//! FD                             (any value) there are zones; without it keys that begin with NAME are not looked for
//!
//! value: number of answer records (2 bytes, big endian), of authority records (2), flags (1; 1: authoritative), answer
//!        code (1), then the records as in a packet; an owner that is the name asked for is the pointer C0 0C.
//! ```
//!
//! Delegations, zone transfers, DNSSEC (beyond records in the zone) and dynamic updates are not supported.

mod client;
mod driver;
mod message;
mod query;
mod responder;
mod types;

pub use client::DnsClient;
pub use responder::DnsResponder;

use crate::{Aligned, DriverEntry, Frame, InvalidLine, InvalidOption, Link, Protocol, ProtocolOption};
use message::{HEADER, OPT, QUESTION_MAX};

/// The default EDNS size: fits every path (DNS flag day 2020).
const UDP_SIZE: u16 = 1232;
/// The smallest EDNS size, and the limit without EDNS.
const UDP_LEAST: u16 = 512;
const UDP_MOST: u16 = 4096;
const BAD_SIZE: InvalidOption = InvalidOption { expected: "udp_size: 512 to 4096 bytes" };

/// The longest query message (bytes).
pub const QUERY_MAX: usize = HEADER + QUESTION_MAX + OPT;

static DRIVER: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../bpf/dns.bpf.o"));

/// The protocol.
pub struct Dns;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Tally {
    NoError,
    FormErr,
    ServFail,
    NxDomain,
    NotImp,
    Refused,
    OtherCode,
    Truncated,
    NotAResponse,
    Malformed,
    WrongQuestion,
    Echoed,
}

impl Protocol for Dns {
    const NAME: &'static str = "dns";
    const DATAGRAM_MAX: usize = UDP_MOST as usize;
    const DRIVER_PROGRAM: &'static [u8] = &DRIVER.0;
    const TALLIES: &'static [&'static str] = &[
        "noerror",
        "formerr",
        "servfail",
        "nxdomain",
        "notimp",
        "refused",
        "other_code",
        "truncated",
        "not_a_response",
        "malformed",
        "wrong_question",
        "echoed",
    ];
    const MISMATCH: usize = Tally::WrongQuestion as usize;
    const LINKS: &'static [Link] = &[Link::Udp, Link::Tcp, Link::Tls];
    const PREFIX: usize = 2;
    const AMPLIFIES: bool = true;
    type Client = DnsClient;
    type Responder = DnsResponder;
    type Decoder = crate::NoDecoder;

    fn client(options: &[ProtocolOption<'_>], secret: u64) -> Result<DnsClient, InvalidOption> {
        DnsClient::new(options, secret)
    }

    fn responder(options: &[ProtocolOption<'_>]) -> Result<DnsResponder, InvalidOption> {
        DnsResponder::new(options)
    }

    fn driver_entry(key: &[u8], value: &[u8]) -> Option<DriverEntry> {
        driver::entry(key, value)
    }

    fn prefix(length: usize, out: &mut [u8]) {
        if let Some(prefix) = out.first_chunk_mut() {
            *prefix = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        }
    }

    fn compile(line: &[u8], out: &mut [u8]) -> Result<usize, InvalidLine> {
        query::compile(line, out)
    }
}

/// RFC 7766: each message follows its length in two bytes.
fn frame(bytes: &[u8]) -> Frame {
    let Some(prefix) = bytes.first_chunk() else { return Frame::Short { need: Dns::PREFIX + HEADER } };
    let (length, start) = (usize::from(u16::from_be_bytes(*prefix)), Dns::PREFIX);
    match start + length {
        _ if length < HEADER => Frame::Broken,
        end if bytes.len() < end => Frame::Short { need: end },
        end => Frame::Whole { start, end },
    }
}

/// The value of an option that is a datagram size.
fn udp_size(option: &ProtocolOption<'_>) -> Result<u16, InvalidOption> {
    u16::try_from(option.value).ok().filter(|size| (UDP_LEAST..=UDP_MOST).contains(size)).ok_or(BAD_SIZE)
}

#[cfg(test)]
#[path = "dns/client_tests.rs"]
mod client_tests;

#[cfg(test)]
#[path = "dns/responder_tests.rs"]
mod responder_tests;

#[cfg(test)]
#[path = "dns/query_tests.rs"]
mod query_tests;

#[cfg(test)]
#[path = "dns/wire_golden.rs"]
mod golden;
