//! knock, a toy over UDP: sixteen bytes out, the same sixteen bytes back with one bit set.
//!
//! ```text
//! 0  4  "FOP" and the kind: 1 asks, 0x81 answers
//! 4  4  the request's number, big endian
//! 8  8  the flow under the run's secret, so that an answer to another flow is rejected
//! ```

use crate::{
    Client, DropReason, InvalidOption, Link, NoDecoder, Protocol, ProtocolOption, Reply, RequestContext, Responder,
    Table,
};

/// Bytes of every request and answer.
pub const LENGTH: usize = 16;
const REQUEST: [u8; 4] = *b"FOP\x01";
const ANSWER: [u8; 4] = *b"FOP\x81";

/// The protocol.
pub struct Knock;

/// The client.
#[derive(Clone, Debug)]
pub struct KnockClient {
    secret: u64,
}

/// The responder.
#[derive(Clone, Debug)]
pub struct KnockResponder;

impl Protocol for Knock {
    const NAME: &'static str = "knock";
    const DATAGRAM_MAX: usize = 2048;
    const TALLIES: &'static [&'static str] = &["pong", "echo"];
    type Client = KnockClient;
    type Responder = KnockResponder;
    type Decoder = NoDecoder;

    fn client(options: &[ProtocolOption<'_>], secret: u64) -> Result<KnockClient, InvalidOption> {
        no_options(options).map(|()| KnockClient { secret })
    }

    fn responder(options: &[ProtocolOption<'_>]) -> Result<KnockResponder, InvalidOption> {
        no_options(options).map(|()| KnockResponder)
    }
}

fn no_options(options: &[ProtocolOption<'_>]) -> Result<(), InvalidOption> {
    if options.is_empty() { Ok(()) } else { Err(InvalidOption { expected: "no option: knock has none" }) }
}

impl Client for KnockClient {
    fn longest(&self) -> usize {
        LENGTH
    }

    fn fill(&self, flow: u32, index: u32, _: &[u8], out: &mut [u8]) -> usize {
        let Some(packet) = out.first_chunk_mut::<LENGTH>() else { return 0 };
        packet[..4].copy_from_slice(&REQUEST);
        packet[4..8].copy_from_slice(&index.to_be_bytes());
        packet[8..].copy_from_slice(&self.token(flow));
        LENGTH
    }

    fn read(&self, flow: u32, reply: &[u8]) -> Reply {
        let Some((kind, index)) = self.parse(flow, reply) else { return Reply::Unmatched };
        match kind {
            ANSWER => Reply::Valid { index, tally: 0 },
            REQUEST => Reply::Invalid { index, tally: 1 },
            _ => Reply::Unmatched,
        }
    }

    fn recognise(&self, flow: u32, request: &[u8]) -> Option<u32> {
        self.parse(flow, request).map(|(_, index)| index)
    }
}

impl KnockClient {
    fn token(&self, flow: u32) -> [u8; 8] {
        (self.secret ^ u64::from(flow)).to_be_bytes()
    }

    fn parse(&self, flow: u32, packet: &[u8]) -> Option<([u8; 4], u32)> {
        let (kind, rest) = packet.split_first_chunk()?;
        let (index, token) = rest.split_first_chunk()?;
        token.starts_with(&self.token(flow)).then_some((*kind, u32::from_be_bytes(*index)))
    }
}

impl Responder for KnockResponder {
    fn answer(&self, _: Table<'_>, _: &RequestContext, packet: &mut [u8], length: usize) -> Result<usize, DropReason> {
        if length < LENGTH {
            return Err(DropReason::Short);
        }
        let Some(kind) = packet.first_chunk_mut() else { return Err(DropReason::Short) };
        if *kind != REQUEST {
            return Err(DropReason::NotARequest);
        }
        *kind = ANSWER;
        Ok(LENGTH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &[u8; LENGTH] = include_bytes!("../../../tests/packets/knock/request.bin");
    const ANSWERED: &[u8; LENGTH] = include_bytes!("../../../tests/packets/knock/answer.bin");
    const CONTEXT: RequestContext = RequestContext::new(Link::Udp, None, 0);
    const CLIENT: KnockClient = KnockClient { secret: 0x0123_4567_89ab_cdef };

    #[test]
    fn golden_packets_both_ways() {
        let mut packet = [0; LENGTH];
        assert_eq!(CLIENT.fill(5, 42, &[], &mut packet), LENGTH);
        assert_eq!(&packet, ASKED);
        assert_eq!(KnockResponder.answer(Table::default(), &CONTEXT, &mut packet, LENGTH), Ok(LENGTH));
        assert_eq!(&packet, ANSWERED);
        assert_eq!(CLIENT.read(5, ANSWERED), Reply::Valid { index: 42, tally: 0 });
    }

    #[test]
    fn what_is_no_answer_and_no_request() {
        assert_eq!(CLIENT.read(5, ASKED), Reply::Invalid { index: 42, tally: 1 }, "its own request came back");
        assert_eq!(CLIENT.read(6, ANSWERED), Reply::Unmatched, "another flow's");
        assert_eq!(CLIENT.read(5, &ANSWERED[..15]), Reply::Unmatched);
        assert_eq!(CLIENT.recognise(5, ASKED), Some(42));
        let mut packet = *ANSWERED;
        assert_eq!(
            KnockResponder.answer(Table::default(), &CONTEXT, &mut packet, LENGTH),
            Err(DropReason::NotARequest)
        );
        assert_eq!(KnockResponder.answer(Table::default(), &CONTEXT, &mut packet, 15), Err(DropReason::Short));
    }
}
