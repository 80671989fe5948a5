//! Tests of the DNS client.
extern crate std;
use super::{Dns, DnsClient, QUERY_MAX, Tally};
use crate::scramble::scramble;
use crate::{Client, Frame, Protocol, ProtocolOption, Reply};
use std::vec::Vec;

const FLOW: u32 = 3;
const INDEX: u32 = 4711;
const WWW: &[u8] = b"\x03wWw\x07example\x03com\0\0\x1c\0\x01";
const A: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";
const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";

fn client(options: &[(&str, i64)]) -> DnsClient {
    let options: Vec<_> = options.iter().map(|(name, value)| ProtocolOption { name, value: *value }).collect();
    Dns::client(&options, 0xfeed_f00d).expect("known options")
}

fn query(client: &DnsClient, index: u32, query: &[u8]) -> Vec<u8> {
    let mut out = std::vec![0xa5; client.longest()];
    let length = client.fill(FLOW, index, query, &mut out);
    out.truncate(length);
    out
}

/// An answer to the request about WWW: flags and code, the counts of records, and what follows the question.
fn reply(flags: u16, counts: [u8; 3], rest: &[&[u8]]) -> Vec<u8> {
    let id = &query(&client(&[]), INDEX, WWW)[..2];
    let [answers, authority, additional] = counts;
    let head = [id, &flags.to_be_bytes(), &[0, 1, 0, answers, 0, authority, 0, additional]].concat();
    [&head, WWW, &rest.concat()].concat()
}

fn read(reply: &[u8]) -> Reply {
    client(&[]).read(FLOW, reply)
}

fn right(tally: Tally) -> Reply {
    Reply::Valid { index: INDEX, tally: tally as usize }
}

fn wrong(tally: Tally) -> Reply {
    Reply::Invalid { index: INDEX, tally: tally as usize }
}

#[test]
fn a_query_is_a_header_and_the_question() {
    let plain = query(&client(&[]), INDEX, WWW);
    assert_eq!(plain[2..], [b"\x01\0\0\x01\0\0\0\0\0\0", WWW].concat());
    assert_eq!(query(&client(&[("recursion", 0)]), INDEX, WWW)[2..4], [0, 0]);
    let edns = query(&client(&[("edns", 1)]), INDEX, WWW);
    assert_eq!(edns[2..], [b"\x01\0\0\x01\0\0\0\0\0\x01", WWW, OPT].concat());
    let signed = query(&client(&[("dnssec_ok", 1), ("udp_size", 4096)]), INDEX, WWW);
    assert_eq!(signed[12 + WWW.len()..], *b"\0\0\x29\x10\0\0\0\x80\0\0\0");
}

#[test]
fn without_a_subject_example_com_is_asked_for() {
    let query = query(&client(&[]), INDEX, &[]);
    assert_eq!(query[12..], *b"\x07example\x03com\0\0\x01\0\x01");
    assert_eq!(query.len() + Dns::PREFIX, 31, "the length of tcpscaler's");
    let answer = [&query[..2], b"\x81\x80\0\x01\0\x01\0\0\0\0", &query[12..], A].concat();
    assert_eq!(read(&answer), right(Tally::NoError));
    assert!(client(&[]).matches_query(&[], &answer));
}

#[test]
fn ids_name_requests_and_differ_between_flows_and_runs() {
    let client = client(&[]);
    let mut ids: Vec<_> = (0..65_536).map(|index| query(&client, index, WWW)[..2].to_vec()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 65_536);
    assert_eq!(client.index_bits(), 16);
    let first = |flow| {
        let mut out = [0; 300];
        client.fill(flow, 0, WWW, &mut out);
        [out[0], out[1]]
    };
    assert!((0..64).any(|flow| first(flow) != first(64)));
    let other = Dns::client(&[], 1).expect("no options");
    assert_ne!(query(&other, 0, WWW)[..2], query(&client, 0, WWW)[..2]);
    assert_eq!(query(&client, 65_536 + INDEX, WWW), query(&client, INDEX, WWW), "the low 16 bits travel");
}

#[test]
fn no_query_is_longer_than_said() {
    let longest = [&[63; 64 * 3][..], &[61; 62], b"\0\0\x01\0\x01"].concat();
    assert_eq!(longest.len(), 255 + 4);
    for options in [&[("edns", 0)], &[("edns", 1)]] {
        let client = client(options);
        assert_eq!(query(&client, 1, &longest).len(), client.longest());
        assert!(client.longest() <= QUERY_MAX);
        for length in 0..client.longest() {
            assert_eq!(client.fill(FLOW, 1, &longest, &mut std::vec![0; length]), 0, "no room for it");
        }
    }
}

#[test]
fn codes_are_told_apart() {
    assert_eq!(read(&reply(0x8180, [1, 0, 0], &[A])), right(Tally::NoError));
    assert_eq!(read(&reply(0x8400, [0, 0, 0], &[])), right(Tally::NoError), "no data");
    assert_eq!(read(&reply(0x8183, [0, 0, 1], &[OPT])), right(Tally::NxDomain));
    assert_eq!(read(&reply(0x8380, [0, 0, 0], &[])), right(Tally::Truncated));
    assert_eq!(read(&reply(0x8382, [0, 0, 0], &[])), wrong(Tally::ServFail), "a code goes before TC");
    let codes = [Tally::FormErr, Tally::ServFail, Tally::NxDomain, Tally::NotImp, Tally::Refused, Tally::OtherCode];
    for (code, tally) in (1..).zip(codes) {
        let reply = reply(0x8180 | code, [0, 0, 0], &[]);
        assert_eq!(client(&[("any_code", 1)]).read(FLOW, &reply), right(tally));
        assert_eq!(read(&reply), if code == 3 { right(tally) } else { wrong(tally) });
    }
}

#[test]
fn edns_adds_bits_to_the_code() {
    let badvers = b"\0\0\x29\x04\xd0\x01\0\0\0\0\0";
    assert_eq!(read(&reply(0x8180, [0, 0, 1], &[badvers])), wrong(Tally::OtherCode));
    assert_eq!(read(&reply(0x8180, [0, 0, 2], &[OPT, OPT])), wrong(Tally::Malformed), "twice");
    assert_eq!(read(&reply(0x8180, [1, 0, 0], &[OPT])), wrong(Tally::Malformed), "among the answers");
}

#[test]
fn what_is_no_response() {
    assert_eq!(read(&query(&client(&[]), INDEX, WWW)), wrong(Tally::NotAResponse), "an echo server");
    assert_eq!(read(&reply(0x8980, [0, 0, 0], &[])), wrong(Tally::NotAResponse), "another operation");
    assert_eq!(client(&[("any_code", 1)]).read(FLOW, &query(&client(&[]), INDEX, WWW)), wrong(Tally::NotAResponse));
}

#[test]
fn what_does_not_fit_its_header_is_malformed() {
    let whole = reply(0x8180, [1, 0, 1], &[A, OPT]);
    assert_eq!(read(&whole), right(Tally::NoError));
    assert_eq!((read(&[]), read(&whole[..1])), (Reply::Unmatched, Reply::Unmatched));
    for length in 2..whole.len() {
        assert_eq!(read(&whole[..length]), wrong(Tally::Malformed), "{length} bytes");
    }
    assert_eq!(read(&[&whole[..], &[0]].concat()), wrong(Tally::Malformed), "more than was announced");
    assert_eq!(read(&reply(0x8180, [255, 255, 255], &[A])), wrong(Tally::Malformed));
    let owner = |bytes: &[u8]| read(&reply(0x8180, [1, 0, 0], &[bytes, &A[2..]]));
    assert_eq!(owner(b"\x01a\xc0\x0c"), right(Tally::NoError));
    assert_eq!(owner(b"\xc0\xff"), wrong(Tally::Malformed), "a pointer ahead");
    assert_eq!(owner(b"\xc0\x00"), wrong(Tally::Malformed), "a pointer into the header");
    assert_eq!(owner(b"\x40a"), wrong(Tally::Malformed), "a label of a kind that nobody has");
    assert_eq!(owner(&[&[63; 320][..], &[0]].concat()), wrong(Tally::Malformed), "320 bytes");
    let mut two = whole;
    two[5] = 2;
    assert_eq!(read(&two), wrong(Tally::Malformed), "two questions");
}

#[test]
fn the_question_must_come_back_as_it_went() {
    let client = client(&[]);
    let whole = reply(0x8180, [1, 0, 0], &[A]);
    assert!(client.matches_query(WWW, &whole));
    assert!(!client.matches_query(&WWW.to_ascii_lowercase(), &whole), "0x20: capital letters count");
    assert!(!client.matches_query(b"\x03wWw\x07example\x03com\0\0\x01\0\x01", &whole));
    let without = |code: u8| [&whole[..2], &[0x81, 0x80 | code, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(client.read(FLOW, &without(1)), wrong(Tally::FormErr));
    assert!(client.matches_query(WWW, &without(1)), "what it could not read it need not repeat");
    assert!(!client.matches_query(WWW, &without(0)));
    assert!(!client.matches_query(WWW, &whole[..11]));
    assert_eq!(Dns::MISMATCH, Tally::WrongQuestion as usize);
}

#[test]
fn a_quoted_request_is_recognised() {
    let query = query(&client(&[]), INDEX, WWW);
    assert_eq!(client(&[]).recognise(FLOW, &query), Some(INDEX));
    assert_eq!(client(&[]).recognise(FLOW, &query[..12]), Some(INDEX));
    assert_eq!(client(&[]).recognise(FLOW, &query[..11]), None);
    assert_eq!(client(&[]).recognise(FLOW, &reply(0x8180, [1, 0, 0], &[A])), None, "an answer");
}

#[test]
fn frames_follow_their_length() {
    let frame = |bytes: &[u8]| client(&[]).frame(bytes);
    let mut prefix = [0; 2];
    Dns::prefix(0x1234, &mut prefix);
    assert_eq!(prefix, [0x12, 0x34]);
    assert_eq!((frame(&[]), frame(&[0])), (Frame::Short { need: 14 }, Frame::Short { need: 14 }));
    assert_eq!(frame(&[0, 11]), Frame::Broken);
    assert_eq!(frame(&[0, 12]), Frame::Short { need: 14 });
    assert_eq!(frame(&[0xff, 0xff, 0]), Frame::Short { need: 65_537 });
    assert_eq!(frame(&[&[0, 12][..], &[7; 40]].concat()), Frame::Whole { start: 2, end: 14 });
}

#[test]
fn any_bytes_are_read() {
    let mut random = 1_u64;
    let whole = reply(0x8180, [2, 1, 1], &[A, A, b"\x01b\xc0\x0c", &A[2..], OPT]);
    for _ in 0..50_000 {
        let mut spoiled = whole.clone();
        for _ in 0..3 {
            random = scramble(random, 7);
            spoiled[random as usize % whole.len()] = (random >> 40) as u8;
        }
        spoiled.truncate((random >> 20) as usize % (2 * whole.len()));
        match read(&spoiled) {
            Reply::Valid { tally, .. } => assert!([0, 3, 7].contains(&tally)),
            Reply::Invalid { tally, .. } => assert!((1..10).contains(&tally) && ![3, 7].contains(&tally)),
            Reply::Unmatched => assert!(spoiled.len() < 2),
        }
        let _ = client(&[]).matches_query(WWW, &spoiled);
    }
}

#[test]
fn options() {
    let made = |name, value| Dns::client(&[ProtocolOption { name, value }], 0).is_ok();
    assert!(made("udp_size", 512) && made("udp_size", 4096) && !made("udp_size", 511) && !made("udp_size", 4097));
    for name in ["edns", "dnssec_ok", "recursion", "any_code"] {
        assert!(made(name, 0) && made(name, 1) && !made(name, 2), "{name}");
    }
    assert!(!made("port", 53));
}

#[test]
fn from_a_target_that_echoes_the_query_itself_is_right_and_else_it_is_not() {
    for (echo, right) in [(0, false), (1, true)] {
        let client =
            DnsClient::new(&[ProtocolOption { name: "echo", value: echo }], 0x5eed).expect("an option that it has");
        let mut query = [0; 512];
        let length = client.fill(3, 77, &[], &mut query);
        let said = client.read(3, &query[..length]);
        assert_eq!(matches!(said, Reply::Valid { index: 77, tally } if tally == Tally::Echoed as usize), right);
        assert!(client.matches_query(&[], &query[..length]));
    }
}
