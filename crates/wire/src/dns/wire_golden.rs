//! Packets of real implementations, both ways; where they come from is in tests/packets/dns/README.md.
extern crate std;
use super::message::{HEADER, after_question};
use super::{Dns, DnsClient, QUERY_MAX, Tally};
use crate::{Client, Frame, Protocol, ProtocolOption, QUERY_LEN_MAX, Reply, RequestContext, Responder, Table};
use std::vec::Vec;

const FLOW: u32 = 5;
const INDEX: u32 = 77;

macro_rules! packet {
    ($($name:literal),*) => {
        bytes(include_str!(concat!("../../../../tests/packets/dns/", $($name,)* ".hex")))
    };
}

macro_rules! pair {
    ($name:literal) => {
        (packet!($name, "_request"), packet!($name, "_answer"))
    };
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")).collect()
}

fn client(options: &[(&str, i64)]) -> DnsClient {
    let options: Vec<_> = options.iter().map(|(name, value)| ProtocolOption { name, value: *value }).collect();
    Dns::client(&options, 0xfeed).expect("known options")
}

fn compiled(line: &str) -> Vec<u8> {
    let mut out = [0; QUERY_LEN_MAX];
    let length = Dns::compile(line.as_bytes(), &mut out).expect("a name and a type");
    out[..length].to_vec()
}

fn query(options: &[(&str, i64)], line: &str) -> Vec<u8> {
    let mut out = [0; QUERY_MAX];
    let length = client(options).fill(FLOW, INDEX, &compiled(line), &mut out);
    out[..length].to_vec()
}

/// A captured answer as if it had been to request INDEX of ours: only its id is ours.
fn judged(mut answer: Vec<u8>) -> Reply {
    answer[..2].copy_from_slice(&query(&[], ". NS")[..2]);
    client(&[]).read(FLOW, &answer)
}

/// The messages of one direction of a stream.
fn messages(stream: &[u8]) -> Vec<&[u8]> {
    let (mut rest, mut found) = (stream, Vec::new());
    while !rest.is_empty() {
        let whole = match client(&[]).frame(rest) {
            Frame::Whole { start, end } => Some((start, end)),
            _ => None,
        };
        let (start, end) = whole.expect("a message and no bytes left over");
        found.push(&rest[start..end]);
        rest = &rest[end..];
    }
    found
}

#[test]
fn our_queries_are_those_of_others() {
    assert_eq!(query(&[], "www.example.com A")[2..], packet!("dnsperf_plain_request")[2..]);
    let large = ("udp_size", 4096);
    assert_eq!(query(&[("edns", 1), large], "www.example.com A")[2..], packet!("dnsperf_edns_request")[2..]);
    let signed = query(&[("dnssec_ok", 1), large], "www.example.com AAAA");
    assert_eq!(signed[2..], packet!("dnsperf_dnssec_request")[2..]);
    let mut kdig = packet!("knot_edns_request");
    kdig[3] &= !0x20;
    assert_eq!(query(&[("dnssec_ok", 1), large, ("recursion", 0)], "www.example.com AAAA")[2..], kdig[2..], "less AD");
}

#[test]
fn answers_of_others_are_right() {
    let right = |tally: Tally| Reply::Valid { index: INDEX, tally: tally as usize };
    for (name, (request, answer), tally) in [
        ("knot_address", pair!("knot_address"), Tally::NoError),
        ("knot_edns", pair!("knot_edns"), Tally::NoError),
        ("knot_alias", pair!("knot_alias"), Tally::NoError),
        ("nsd_address", pair!("nsd_address"), Tally::NoError),
        ("unbound_address", pair!("unbound_address"), Tally::NoError),
        ("knot_nxdomain", pair!("knot_nxdomain"), Tally::NxDomain),
        ("nsd_nxdomain", pair!("nsd_nxdomain"), Tally::NxDomain),
        ("unbound_nxdomain", pair!("unbound_nxdomain"), Tally::NxDomain),
        ("knot_truncated", pair!("knot_truncated"), Tally::Truncated),
        ("nsd_truncated", pair!("nsd_truncated"), Tally::Truncated),
    ] {
        let end = after_question(&request, HEADER).expect("a question");
        assert!(client(&[]).matches_query(&request[HEADER..end], &answer), "{name}");
        assert!(!client(&[]).matches_query(&compiled("other.example.com A"), &answer), "{name}");
        assert_eq!(judged(answer), right(tally), "{name}");
    }
}

#[test]
fn answers_of_others_that_are_not_right_are_told_apart() {
    for (name, answer, tally) in [
        ("knot_refused", packet!("knot_refused_answer"), Tally::Refused),
        ("nsd_refused", packet!("nsd_refused_answer"), Tally::Refused),
        ("unbound_refused", packet!("unbound_refused_answer"), Tally::Refused),
        ("unbound_servfail", packet!("unbound_servfail_answer"), Tally::ServFail),
        ("knot_badvers", packet!("knot_badvers_answer"), Tally::OtherCode),
        ("nsd_formerr", packet!("nsd_formerr_answer"), Tally::FormErr),
        ("unbound_formerr", packet!("unbound_formerr_answer"), Tally::Malformed),
        // They repeat the operation, which was not a query.
        ("knot_notimp", packet!("knot_notimp_answer"), Tally::NotAResponse),
        ("nsd_notimp", packet!("nsd_notimp_answer"), Tally::NotAResponse),
        ("unbound_notimp", packet!("unbound_notimp_answer"), Tally::NotAResponse),
        ("a query", packet!("knot_address_request"), Tally::NotAResponse),
    ] {
        assert_eq!(judged(answer), Reply::Invalid { index: INDEX, tally: tally as usize }, "{name}");
    }
}

#[test]
fn streams_of_others_are_cut_where_they_cut_them() {
    let (asked, answered) = pair!("dnsperf_stream");
    let (asked, answered) = (messages(&asked), messages(&answered));
    assert_eq!((asked.len(), answered.len()), (3, 3));
    for (request, answer) in asked.iter().zip(answered) {
        assert_eq!(request[..2], answer[..2]);
        assert!(client(&[]).matches_query(&request[HEADER..], answer));
    }
    let (asked, answered) = pair!("knot_stream");
    let lengths: Vec<_> = messages(&answered).iter().map(|message| message.len()).collect();
    assert_eq!((messages(&asked).len(), lengths.len()), (3, 3));
    assert_eq!(lengths[1], messages(&asked)[1].len() + 60 * 16, "sixty addresses do not fit into a datagram");
    assert_eq!(judged(messages(&answered)[1].to_vec()), Reply::Valid { index: INDEX, tally: 0 });
}

/// Without anything to answer from, our server says what a server says that knows no zone.
#[test]
fn requests_of_others_are_answered() {
    let server = Dns::responder(&[]).expect("no options");
    let context = RequestContext { client: Some(([192, 0, 2, 1], 40_000).into()), ..RequestContext::default() };
    let ours = |request: &[u8]| {
        let mut packet = [request, &[0; 64]].concat();
        let length = server.answer(Table::default(), &context, &mut packet, request.len()).expect("a request");
        packet[..length].to_vec()
    };
    for (name, (request, answer)) in [
        ("knot_refused", pair!("knot_refused")),
        ("nsd_refused", pair!("nsd_refused")),
        ("nsd_notimp", pair!("nsd_notimp")),
        ("nsd_formerr", pair!("nsd_formerr")),
    ] {
        assert_eq!(ours(&request), answer, "{name}: byte for byte");
    }
    let (request, answer) = pair!("knot_badvers");
    let said = ours(&request);
    assert_eq!((said.len(), said[3] & 0x0f, said[11]), (answer.len(), answer[3] & 0x0f, answer[11]));
    assert_eq!(said[said.len() - 6], 1, "16: one in EDNS, zero in the header");
    for request in
        [packet!("dnsperf_plain_request"), packet!("dnsperf_edns_request"), packet!("unbound_notimp_request")]
    {
        assert!(matches!(ours(&request)[..4], [_, _, 0x81, 5] | [_, _, 0x90, 4]));
    }
    let mut answer = packet!("knot_address_answer");
    let length = answer.len();
    let refused = server.answer(Table::default(), &context, &mut answer, length);
    assert_eq!(refused, Err(crate::DropReason::NotARequest));
}
