//! DNS's client, given any reply.
//!
//! Invariant: for any bytes it does not panic, and
//! - it matches a request only by its id, and none without an id;
//! - a valid answer is a response to a query with an accepted code, and complete: shorter or longer by a byte it is
//!   malformed;
//! - `any_code` changes no tally, and only makes codes valid;
//! - a reply whose question is the query's, byte for byte, matches it; after a change in that question it does not.
#![no_main]

use flatout_wire::dns::{Dns, DnsClient};
use flatout_wire::{Client, Protocol, ProtocolOption, Reply};
use libfuzzer_sys::fuzz_target;

const HEADER: usize = 12;
const MALFORMED: usize = 9;
/// noerror, nxdomain, truncated.
const RIGHT: [usize; 3] = [0, 3, 7];

fuzz_target!(|reply: &[u8]| {
    let strict = client(0);
    for flow in [0, 1, u32::MAX] {
        let reading = strict.read(flow, reply);
        match reading {
            Reply::Valid { index, tally } => {
                assert!(RIGHT.contains(&tally) && reply[2] & 0xf8 == 0x80 && matches!(reply[3] & 0x0f, 0 | 3));
                assert_eq!(reply[..2], request(&strict, flow, index)[..2]);
                let malformed = Reply::Invalid { index, tally: MALFORMED };
                assert_eq!(strict.read(flow, &reply[..reply.len() - 1]), malformed);
                assert_eq!(strict.read(flow, &[reply, &[0]].concat()), malformed);
            }
            Reply::Invalid { index, tally } => {
                assert!(tally < Dns::TALLIES.len() && !RIGHT.contains(&tally));
                assert_eq!(reply[..2], request(&strict, flow, index)[..2]);
            }
            Reply::Unmatched => assert!(reply.len() < 2),
        }
        lenient(reading, client(1).read(flow, reply));
        if let Some(index) = strict.recognise(flow, reply) {
            assert_eq!(reply[..3], request(&strict, flow, index)[..3], "a quote of another request");
        }
    }
    fitting(&strict, reply);
});

fn lenient(strict: Reply, lenient: Reply) {
    match (strict, lenient) {
        (Reply::Invalid { index, tally }, Reply::Valid { index: same, tally: count }) => {
            assert!(index == same && tally == count && tally < 7, "a code, and nothing else");
        }
        (strict, lenient) => assert_eq!(strict, lenient),
    }
}

fn fitting(client: &DnsClient, reply: &[u8]) {
    let Some(rest) = reply.get(HEADER..).filter(|rest| !rest.is_empty()) else { return };
    let asked = reply[4..6] != [0, 0];
    let query = &rest[..rest.len().min(40)];
    assert_eq!(client.matches_query(query, reply), asked || reply[3] & 0x0f != 0);
    let mut other = query.to_vec();
    other[query.len() / 2] ^= 1;
    assert!(!asked || !client.matches_query(&other, reply));
}

fn client(any_code: i64) -> DnsClient {
    Dns::client(&[ProtocolOption { name: "any_code", value: any_code }], 0x0123_4567_89ab_cdef).expect("0 or 1")
}

fn request(client: &DnsClient, flow: u32, index: u32) -> [u8; 29] {
    let mut packet = [0xa5; 29];
    assert!(index < 1 << client.index_bits());
    assert_eq!(client.fill(flow, index, &[], &mut packet), 29);
    assert_eq!(client.recognise(flow, &packet), Some(index), "its own request");
    packet
}
