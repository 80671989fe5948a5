//! Tests of the DNS responder, over a small zone and over an answer for any name.
extern crate std;
use super::{Dns, DnsResponder};
use crate::scramble::scramble;
use crate::{DropReason, Frame, Link, Protocol, ProtocolOption, RequestContext, Responder, Table};
use std::vec::Vec;

const A: u16 = 1;
const AAAA: u16 = 28;
const ANY: u16 = 255;
/// Owner as asked, type A, class IN, a minute, an address.
const ADDRESS: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";
/// As authority; its data is no real SOA's, which nobody here looks at.
const SOA: &[u8] = b"\x07example\0\0\x06\0\x01\0\0\0\x3c\0\x01\0";
const OPT: &[u8] = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";

/// Entries laid out as the engine does, and their table.
struct Zone {
    places: Vec<u32>,
    entries: Vec<u8>,
    longest: usize,
}

impl Zone {
    fn new(entries: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in entries {
            bytes.extend((key.len() as u16).to_le_bytes());
            bytes.extend((value.len() as u32).to_le_bytes());
            bytes.extend([&key[..], value].concat());
        }
        let mut places = std::vec![0; Table::slots(entries.len())];
        let longest = Table::build(&mut places, &bytes).expect("small");
        Self { places, entries: bytes, longest }
    }

    fn table(&self) -> Table<'_> {
        Table::new(&self.places, &self.entries, self.longest)
    }
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).chain([0]).collect()
}

fn key(name: &str, kind: u16) -> Vec<u8> {
    [&wire(name)[..], &kind.to_be_bytes()].concat()
}

fn value(answers: u8, authority: u8, code: u8, records: &[u8]) -> Vec<u8> {
    [&[0, answers, 0, authority, 1, code], records].concat()
}

/// Zone `example`: www, two.labels (and so labels), *.star, and big with 600 bytes.
fn zone() -> Zone {
    let nodata = || value(0, 1, 0, SOA);
    let big = [b"\xc0\x0c\0\x10\0\x01\0\0\0\x3c\x02\x58".as_slice(), &[7; 600]].concat();
    Zone::new(&[
        (std::vec![0xfd], Vec::new()),
        ([&[0xfe], &wire("example")[..]].concat(), value(0, 1, 3, SOA)),
        (key("example", 0), nodata()),
        (key("www.example", A), value(1, 0, 0, ADDRESS)),
        (key("www.example", 0), nodata()),
        (key("two.labels.example", A), value(2, 0, 0, &[ADDRESS, ADDRESS].concat())),
        (key("two.labels.example", 0), nodata()),
        (key("labels.example", 0), nodata()),
        (key("star.example", 0), nodata()),
        (key("*.star.example", A), value(1, 0, 0, ADDRESS)),
        (key("*.star.example", 0), nodata()),
        (key("there.star.example", 0), nodata()),
        (key("big.example", 16), value(1, 0, 0, &big)),
        (key("big.example", 0), nodata()),
    ])
}

fn anywhere() -> Zone {
    Zone::new(&[(std::vec![0xff, 0, 1], value(1, 0, 0, ADDRESS)), (std::vec![0xff, 0, 0], value(0, 0, 0, &[]))])
}

fn query(name: &str, kind: u16, edns: &[u8]) -> Vec<u8> {
    let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!edns.is_empty())];
    [&head[..], &key(name, kind), &[0, 1], edns].concat()
}

fn context(stream: bool) -> RequestContext {
    RequestContext {
        client: Some(([192, 0, 2, 1], 40_000).into()),
        link: if stream { Link::Tcp } else { Link::Udp },
        ..RequestContext::default()
    }
}

fn server() -> DnsResponder {
    Dns::responder(&[]).expect("no options")
}

fn over(stream: bool, zone: &Zone, request: &[u8]) -> Result<Vec<u8>, DropReason> {
    let room = server().room(zone.table(), request);
    assert!(room >= request.len());
    let mut packet = std::vec![0xa5; room];
    packet[..request.len()].copy_from_slice(request);
    let length = server().answer(zone.table(), &context(stream), &mut packet, request.len())?;
    packet.truncate(length);
    Ok(packet)
}

fn ask(zone: &Zone, request: &[u8]) -> Vec<u8> {
    over(false, zone, request).expect("answered")
}

/// The answer to `request` with these flags and code, counts, and records behind the question.
fn said(request: &[u8], flags: u16, counts: [u8; 3], records: &[&[u8]]) -> Vec<u8> {
    let [answers, authority, additional] = counts;
    let end = super::message::after_question(request, 12).expect("a question");
    let head = [0, 1, 0, answers, 0, authority, 0, additional];
    [&request[..2], &flags.to_be_bytes(), &head, &request[12..end], &records.concat()].concat()
}

#[test]
fn what_is_in_the_zone_is_answered() {
    let request = query("www.example", A, &[]);
    assert_eq!(ask(&zone(), &request), said(&request, 0x8500, [1, 0, 0], &[ADDRESS]));
    let mixed = query("wWw.EXAMPLE", A, &[]);
    assert_eq!(ask(&zone(), &mixed), said(&mixed, 0x8500, [1, 0, 0], &[ADDRESS]), "the question as it was asked");
    let two = query("two.labels.example", A, &[]);
    assert_eq!(ask(&zone(), &two), said(&two, 0x8500, [2, 0, 0], &[ADDRESS, ADDRESS]));
    let mut still = query("www.example", A, &[]);
    still[2] = 0;
    assert_eq!(ask(&zone(), &still)[2], 0x84, "recursion is desired only where it was");
}

#[test]
fn names_without_the_type_have_no_data() {
    for name in ["www.example", "labels.example", "example", "there.star.example", "LABELS.example"] {
        let request = query(name, AAAA, &[]);
        assert_eq!(ask(&zone(), &request), said(&request, 0x8500, [0, 1, 0], &[SOA]), "{name}");
    }
}

#[test]
fn names_that_are_not_there_do_not_exist() {
    for name in ["no.example", "a.b.c.example", "below.www.example", "x.there.star.example", "x.labels.example"] {
        let request = query(name, A, &[]);
        assert_eq!(ask(&zone(), &request), said(&request, 0x8503, [0, 1, 0], &[SOA]), "{name}");
    }
    for name in ["", "com", "notexample", "www.example.com"] {
        let request = query(name, A, &[]);
        assert_eq!(ask(&zone(), &request), said(&request, 0x8105, [0, 0, 0], &[]), "{name}: not ours");
    }
}

#[test]
fn a_star_speaks_for_names_below_it_that_do_not_exist() {
    for name in ["x.star.example", "x.y.Z.star.example", "*.star.example"] {
        let request = query(name, A, &[]);
        assert_eq!(ask(&zone(), &request), said(&request, 0x8500, [1, 0, 0], &[ADDRESS]), "{name}");
        let request = query(name, AAAA, &[]);
        assert_eq!(ask(&zone(), &request), said(&request, 0x8500, [0, 1, 0], &[SOA]), "{name}");
    }
}

#[test]
fn one_answer_for_any_name() {
    for name in ["", "www.example", "a.b.c.d.e"] {
        let request = query(name, A, &[]);
        assert_eq!(ask(&anywhere(), &request), said(&request, 0x8500, [1, 0, 0], &[ADDRESS]), "{name}");
        let request = query(name, AAAA, &[]);
        assert_eq!(ask(&anywhere(), &request), said(&request, 0x8500, [0, 0, 0], &[]), "{name}");
    }
    let nothing = Zone::new(&[]);
    let request = query("www.example", A, &[]);
    assert_eq!(ask(&nothing, &request), said(&request, 0x8105, [0, 0, 0], &[]));
}

#[test]
fn any_gets_one_small_record() {
    let small = b"\xc0\x0c\0\x0d\0\x01\0\0\x0e\x10\0\x09\x07RFC8482\0";
    for (zone, name) in [(zone(), "www.example"), (zone(), "q.star.example"), (anywhere(), "x.y")] {
        let request = query(name, ANY, &[]);
        assert_eq!(ask(&zone, &request)[12..], said(&request, 0, [1, 0, 0], &[small])[12..], "{name}");
    }
    let request = query("no.example", ANY, &[]);
    assert_eq!(ask(&zone(), &request), said(&request, 0x8503, [0, 1, 0], &[SOA]));
}

#[test]
fn edns_is_answered_with_edns() {
    let request = query("www.example", A, b"\0\0\x29\x10\0\0\0\x80\0\0\0");
    let ours = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0";
    assert_eq!(ask(&zone(), &request), said(&request, 0x8500, [1, 0, 1], &[ADDRESS, ours]), "DO comes back");
    let cookie = query("www.example", A, b"\0\0\x29\x02\0\0\0\0\0\0\x0c\0\x0a\0\x0812345678");
    assert_eq!(ask(&zone(), &cookie), said(&cookie, 0x8500, [1, 0, 1], &[ADDRESS, OPT]), "options are passed over");
    let version = query("www.example", A, b"\0\0\x29\x04\xd0\0\x01\0\0\0\0");
    let badvers = b"\0\0\x29\x04\xd0\x01\0\0\0\0\0";
    assert_eq!(ask(&zone(), &version), said(&version, 0x8100, [0, 0, 1], &[badvers]));
}

#[test]
fn what_does_not_fit_is_cut() {
    let plain = query("big.example", 16, &[]);
    assert_eq!(ask(&zone(), &plain), said(&plain, 0x8700, [0, 0, 0], &[]), "512 bytes without EDNS");
    assert_eq!(over(true, &zone(), &plain).map(|answer| answer.len()), Ok(plain.len() + 612), "no bound on a stream");
    let size = |size: u16| [b"\0\0\x29".as_slice(), &size.to_be_bytes(), &[0; 6]].concat();
    for (asked, fits) in [(0, false), (511, false), (651, false), (652, true), (u16::MAX, true)] {
        let request = query("big.example", 16, &size(asked));
        let answer = ask(&zone(), &request);
        assert_eq!(answer.len() == request.len() + 612, fits, "{asked}: {} bytes", answer.len());
        assert_eq!(answer[2] & 2 == 0, fits);
        assert!(fits || answer == said(&request, 0x8700, [0, 0, 1], &[OPT]));
    }
    let least = query("www.example", A, &size(0));
    assert_eq!(ask(&zone(), &least)[2] & 2, 0, "no EDNS means less than 512 bytes");
    let small = Dns::responder(&[ProtocolOption { name: "udp_size", value: 640 }]).expect("640 is allowed");
    let request = query("big.example", 16, &size(4096));
    let mut packet = [&request[..], &[0; 4096]].concat();
    assert_eq!(small.answer(zone().table(), &context(false), &mut packet, request.len()), Ok(request.len()));
    let mut tight = [&request[..], &[0; 100]].concat();
    assert_eq!(server().answer(zone().table(), &context(true), &mut tight, request.len()), Ok(request.len()));
    assert_eq!(tight[2] & 2, 2, "no room in the packet");
}

#[test]
fn what_is_no_request_gets_no_answer() {
    let mut response = query("www.example", A, &[]);
    response[2] |= 0x80;
    assert_eq!(over(false, &zone(), &response), Err(DropReason::NotARequest));
    for length in 0..12 {
        assert_eq!(over(false, &zone(), &query("www.example", A, &[])[..length]), Err(DropReason::Short));
    }
    assert_eq!(server().answer(zone().table(), &context(false), &mut [0; 20], 21), Err(DropReason::Malformed));
}

#[test]
fn what_makes_no_sense_is_said() {
    let formerr = |request: &[u8]| {
        let bare = [&request[..2], &[request[2] & 1 | 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(ask(&zone(), request), bare, "{request:x?}");
    };
    let whole = query("www.example", A, OPT);
    for length in 12..whole.len() {
        formerr(&whole[..length]);
    }
    formerr(&[&whole[..], &[0]].concat());
    for (count, value) in [(5, 0), (5, 2), (7, 1), (9, 1), (11, 0), (11, 2)] {
        let mut request = whole.clone();
        request[count] = value;
        formerr(&request);
    }
    let twice = [&whole[..], OPT].concat();
    formerr(&[&twice[..11], &[2], &twice[12..]].concat());
    formerr(&[&whole[..12], b"\xc0\x0c\0\x01\0\x01"].concat());
}

#[test]
fn what_is_not_done_is_said() {
    for opcode in 1..16_u8 {
        let mut request = query("www.example", A, OPT);
        request[2] = opcode << 3 | 1;
        assert_eq!(ask(&zone(), &request), [&request[..2], &[0x81 | opcode << 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]].concat());
    }
    for kind in 249..=254 {
        let request = query("example", kind, &[]);
        assert_eq!(ask(&zone(), &request), said(&request, 0x8104, [0, 0, 0], &[]), "type {kind}");
    }
    for class in [0, 3, 254, 255] {
        let mut request = query("www.example", A, &[]);
        *request.last_mut().expect("a class") = class;
        assert_eq!(ask(&zone(), &request), said(&request, 0x8105, [0, 0, 0], &[]), "class {class}");
    }
}

#[test]
fn there_is_room_for_every_answer() {
    let long = Zone::new(&[
        (std::vec![0xff, 0, 1], value(1, 0, 0, ADDRESS)),
        (std::vec![0xff, 0, 16], [&value(1, 0, 0, &[]), &[7; 60_000][..]].concat()),
    ]);
    let text = query("x", 16, OPT);
    assert_eq!(over(true, &long, &text).map(|answer| answer.len()), Ok(text.len() + 60_000));
    assert!(server().room(long.table(), &query("x", A, OPT)) < 100, "no more than it takes");
    assert!(server().room(zone().table(), &[]) > 600, "asking costs more than room");
}

#[test]
fn any_bytes_get_an_answer_that_fits_or_none() {
    let (zone, mut random) = (zone(), 1_u64);
    for n in 0..50_000_usize {
        let whole = query(["a.star.example", "big.example", "no.www.example"][n % 3], [A, 16][n % 2], OPT);
        let mut request = whole.clone();
        for _ in 0..n % 4 {
            random = scramble(random, 7);
            request[random as usize % whole.len()] = (random >> 40) as u8;
        }
        request.truncate((random >> 16) as usize % (2 * whole.len()));
        for stream in [false, true] {
            if let Ok(answer) = over(stream, &zone, &request) {
                assert!(answer.len() >= 12 && answer[..2] == request[..2] && answer[2] & 0x80 != 0);
                assert!(stream || answer.len() <= 1232);
                assert!(super::message::Header::read(&answer).is_some());
            }
        }
    }
}

#[test]
fn frames_and_knobs() {
    assert_eq!(server().frame(b"\0\x0c"), Frame::Short { need: 14 });
    assert_eq!(server().frame(b"\0\x0b"), Frame::Broken);
    let made = |name, value| Dns::responder(&[ProtocolOption { name, value }]).is_ok();
    assert!(made("udp_size", 512) && made("udp_size", 4096) && !made("udp_size", 511) && !made("udp_size", 4097));
    assert!(!made("zone", 1));
}
