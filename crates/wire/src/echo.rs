//! Echo (RFC 862) over UDP and TCP, on any port.
//!
//! Method: a message begins with its request's index, as many of its low bytes as there is room for, and goes on with a
//! pattern unique to this run, flow and index; so an altered message is distinguished from a foreign one. The responder
//! sends back any bytes; client and responder work with any other echo implementation.

use crate::scramble::scramble;
use crate::{
    Client, DropReason, Frame, InvalidOption, Link, Protocol, ProtocolOption, Reply, RequestContext, Responder, Table,
};

/// The longest message: what a datagram of IPv4 carries.
const LONGEST: usize = 65_507;
/// The length of tcpscaler's queries.
const SIZE: usize = 31;
/// Bytes of an index.
const INDEX: usize = 4;
/// Ports below are system services; some (echo, chargen, ...) answer anything.
const RESERVED: u16 = 1024;
/// Odd, so that all words of the pattern differ: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The protocol.
pub struct Echo;

/// The client.
#[derive(Clone, Debug)]
pub struct EchoClient {
    size: usize,
    key: u64,
}

/// The responder.
#[derive(Clone, Debug)]
pub struct EchoResponder;

#[derive(Clone, Copy)]
#[repr(usize)]
enum Tally {
    Echoed,
    Altered,
}

impl Protocol for Echo {
    const NAME: &'static str = "echo";
    const DATAGRAM_MAX: usize = LONGEST;
    const TALLIES: &'static [&'static str] = &["echoed", "altered"];
    const MISMATCH: usize = Tally::Altered as usize;
    const LINKS: &'static [Link] = &[Link::Tcp, Link::Udp];
    type Client = EchoClient;
    type Responder = EchoResponder;
    type Decoder = crate::NoDecoder;

    fn client(options: &[ProtocolOption<'_>], secret: u64) -> Result<EchoClient, InvalidOption> {
        let mut size = SIZE;
        for option in options {
            match (option.name, usize::try_from(option.value)) {
                ("size", Ok(bytes @ 1..=LONGEST)) => size = bytes,
                _ => return Err(InvalidOption { expected: "size: 1 to 65507 bytes" }),
            }
        }
        Ok(EchoClient { size, key: secret })
    }

    fn responder(options: &[ProtocolOption<'_>]) -> Result<EchoResponder, InvalidOption> {
        match options {
            [] => Ok(EchoResponder),
            _ => Err(InvalidOption { expected: "no option: echo has none" }),
        }
    }
}

impl Client for EchoClient {
    fn index_bits(&self) -> u32 {
        8 * self.size.min(INDEX) as u32
    }

    fn longest(&self) -> usize {
        self.size
    }

    fn fill(&self, flow: u32, index: u32, _subject: &[u8], out: &mut [u8]) -> usize {
        let Some(message) = out.get_mut(..self.size) else { return 0 };
        let (head, rest) = message.split_at_mut(self.size.min(INDEX));
        let index = index & self.index_mask();
        head.copy_from_slice(&index.to_le_bytes()[..head.len()]);
        let base = self.base(flow, index);
        for (at, bytes) in rest.chunks_mut(8).enumerate() {
            bytes.copy_from_slice(&word(base, at)[..bytes.len()]);
        }
        self.size
    }

    fn read(&self, flow: u32, reply: &[u8]) -> Reply {
        let Some(index) = self.index(reply) else { return Reply::Unmatched };
        let base = self.base(flow, index);
        let pattern = reply.get(INDEX..).unwrap_or_default();
        if reply.len() == self.size && intact(base, pattern) {
            return Reply::Valid { index, tally: Tally::Echoed as usize };
        }
        // The index may be what was altered: the pattern must confirm it.
        let confirmed =
            self.size <= INDEX || pattern.chunks_exact(8).enumerate().any(|(n, bytes)| bytes == word(base, n));
        if confirmed { Reply::Invalid { index, tally: Tally::Altered as usize } } else { Reply::Unmatched }
    }

    fn recognise(&self, flow: u32, request: &[u8]) -> Option<u32> {
        let index = self.index(request)?;
        let pattern = request.get(INDEX..).unwrap_or_default();
        (request.len() <= self.size && intact(self.base(flow, index), pattern)).then_some(index)
    }

    fn frame(&self, bytes: &[u8]) -> Frame {
        if bytes.len() < self.size {
            Frame::Short { need: self.size }
        } else {
            Frame::Whole { start: 0, end: self.size }
        }
    }
}

impl EchoClient {
    /// The mask of the index bits that fit into a message.
    fn index_mask(&self) -> u32 {
        u32::MAX >> (32 - self.index_bits())
    }

    fn index(&self, message: &[u8]) -> Option<u32> {
        let head = message.get(..self.size.min(INDEX))?;
        Some(head.iter().rev().fold(0, |index, byte| index << 8 | u32::from(*byte)))
    }

    fn base(&self, flow: u32, index: u32) -> u64 {
        scramble(u64::from(flow) << 32 | u64::from(index), self.key)
    }
}

/// Eight bytes of the pattern.
fn word(base: u64, at: usize) -> [u8; 8] {
    (base ^ (at as u64).wrapping_mul(STEP)).to_le_bytes()
}

fn intact(base: u64, pattern: &[u8]) -> bool {
    let mut words = pattern.chunks_exact(8);
    let whole = words.by_ref().enumerate().all(|(at, bytes)| bytes == word(base, at));
    whole && word(base, pattern.len() / 8).starts_with(words.remainder())
}

impl Responder for EchoResponder {
    fn answer(
        &self,
        _: Table<'_>,
        context: &RequestContext,
        packet: &mut [u8],
        length: usize,
    ) -> Result<usize, DropReason> {
        if length > packet.len() {
            return Err(DropReason::Malformed);
        }
        // Two echo servers, or one and an old service, would loop for ever.
        let port = context.client_port();
        let loops = port == context.local_port || port < RESERVED;
        if loops && !context.is_stream() { Err(DropReason::NotARequest) } else { Ok(length) }
    }

    fn frame(&self, bytes: &[u8]) -> Frame {
        match bytes.len() {
            0 => Frame::Short { need: 1 },
            end => Frame::Whole { start: 0, end },
        }
    }
}

#[cfg(test)]
#[path = "echo_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "echo_golden.rs"]
mod golden;
