//! The DNS client: writes queries, checks answers.

use super::message::{self, DNSSEC_OK, Edns, HEADER, Header, OPT, QUESTION_MAX, RECURSION, RESPONSE, TRUNCATED};
use super::{Tally, UDP_SIZE, frame, udp_size};
use crate::scramble::scramble;
use crate::{Client, Frame, InvalidOption, ProtocolOption, Reply};

/// The default query: example.com A, as in tcpscaler.
const EXAMPLE: &[u8] = b"\x07example\x03com\0\0\x01\0\x01";
const OPTIONS: InvalidOption =
    InvalidOption { expected: "edns, dnssec_ok, recursion, any_code, echo: 0 or 1; udp_size: 512 to 4096" };

/// The client: one question a message.
#[derive(Clone, Debug)]
pub struct DnsClient {
    key: u64,
    flags: u8,
    edns: Option<[u8; OPT]>,
    any_code: bool,
    echo: bool,
}

impl DnsClient {
    pub(super) fn new(options: &[ProtocolOption<'_>], secret: u64) -> Result<Self, InvalidOption> {
        let (mut edns, mut dnssec_ok, mut recursion, mut any_code) = (false, false, true, false);
        let (mut echo, mut size) = (false, UDP_SIZE);
        for option in options {
            let switch = match option.name {
                "udp_size" => {
                    size = udp_size(option)?;
                    continue;
                }
                "edns" => &mut edns,
                "dnssec_ok" => &mut dnssec_ok,
                "recursion" => &mut recursion,
                "any_code" => &mut any_code,
                "echo" => &mut echo,
                _ => return Err(OPTIONS),
            };
            *switch = match option.value {
                0 => false,
                1 => true,
                _ => return Err(OPTIONS),
            };
        }
        let flags = if dnssec_ok { DNSSEC_OK } else { 0 };
        let edns = (edns || dnssec_ok).then(|| Edns { size, flags, ..Edns::default() }.write());
        Ok(Self { key: secret, flags: if recursion { RECURSION } else { 0 }, edns, any_code, echo })
    }

    /// Maps an index to its id, and an id to its index.
    fn id_of(&self, flow: u32, number: u16) -> u16 {
        number ^ (scramble(u64::from(flow), self.key) >> 48) as u16
    }

    fn classify(&self, reply: &[u8]) -> Tally {
        let Some(header) = Header::read(reply) else { return Tally::Malformed };
        if self.echo && header.flags == self.flags {
            return Tally::Echoed;
        }
        if header.flags & RESPONSE == 0 || header.flags & message::OPCODE != 0 {
            return Tally::NotAResponse;
        }
        let records = match header.questions {
            0 => Some(HEADER),
            1 => message::after_name(reply, HEADER).map(|end| end + 4),
            _ => None,
        };
        let Some(edns) = records.and_then(|at| message::records(reply, at, header.records)) else {
            return Tally::Malformed;
        };
        let code = u16::from(edns.map_or(0, |edns| edns.code)) << 4 | u16::from(header.code);
        match code {
            0 | 3 if header.flags & TRUNCATED != 0 => Tally::Truncated,
            0 => Tally::NoError,
            1 => Tally::FormErr,
            2 => Tally::ServFail,
            3 => Tally::NxDomain,
            4 => Tally::NotImp,
            5 => Tally::Refused,
            _ => Tally::OtherCode,
        }
    }
}

impl Client for DnsClient {
    fn index_bits(&self) -> u32 {
        u16::BITS
    }

    fn longest(&self) -> usize {
        HEADER + QUESTION_MAX + self.edns.map_or(0, |opt| opt.len())
    }

    fn fill(&self, flow: u32, index: u32, query: &[u8], out: &mut [u8]) -> usize {
        let question = if query.is_empty() { EXAMPLE } else { query };
        let id = self.id_of(flow, index as u16);
        let records = [0, 0, u16::from(self.edns.is_some())];
        let header = Header { id, flags: self.flags, code: 0, questions: 1, records }.write();
        let Some((head, rest)) = out.split_first_chunk_mut() else { return 0 };
        let Some((asked, rest)) = rest.split_at_mut_checked(question.len()) else { return 0 };
        *head = header;
        asked.copy_from_slice(question);
        let length = HEADER + question.len();
        match (&self.edns, rest.first_chunk_mut()) {
            (None, _) => length,
            (Some(opt), Some(record)) => {
                *record = *opt;
                length + OPT
            }
            (Some(_), None) => 0,
        }
    }

    fn read(&self, flow: u32, reply: &[u8]) -> Reply {
        let Some(id) = message::number(reply, 0) else { return Reply::Unmatched };
        let index = u32::from(self.id_of(flow, id));
        let tally = self.classify(reply);
        let valid = match tally {
            Tally::NoError | Tally::NxDomain | Tally::Truncated | Tally::Echoed => true,
            Tally::NotAResponse | Tally::Malformed | Tally::WrongQuestion => false,
            _ => self.any_code,
        };
        let tally = tally as usize;
        if valid { Reply::Valid { index, tally } } else { Reply::Invalid { index, tally } }
    }

    fn recognise(&self, flow: u32, request: &[u8]) -> Option<u32> {
        let header = Header::read(request)?;
        let matches = header.flags == self.flags && header.questions == 1;
        matches.then(|| u32::from(self.id_of(flow, header.id)))
    }

    fn matches_query(&self, query: &[u8], reply: &[u8]) -> bool {
        let question = if query.is_empty() { EXAMPLE } else { query };
        match Header::read(reply) {
            // A server that could not parse the question need not repeat it.
            Some(Header { questions: 0, code, .. }) => code != 0,
            _ => reply.get(HEADER..).is_some_and(|rest| rest.starts_with(question)),
        }
    }

    fn frame(&self, bytes: &[u8]) -> Frame {
        frame(bytes)
    }
}
