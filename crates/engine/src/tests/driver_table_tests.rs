//! The program that answers DNS in the network driver, in this kernel: byte for byte the sockets' answers, or the frame
//! as it was. Without root there is nothing to test.

use std::collections::BTreeMap;

use flatout_net::{
    DriverAnswer, DriverCounters, DriverResponder, DriverRoom, DriverRules, Obstacle, Place, clock_offsets,
};
use flatout_wire::dns::{Dns, DnsResponder};
use flatout_wire::{Protocol, RequestContext, Responder};

use super::driver_rig::{DEVICE, Frame, PASS, PORT, TX, VLAN};
use crate::answer_table::AnswerTable;
use crate::pace::Random;

const A: u16 = 1;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const ANY: u16 = 255;

fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').filter(|label| !label.is_empty());
    labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).chain([0]).collect()
}

fn key(text: &str, kind: u16) -> Vec<u8> {
    [name(text), kind.to_be_bytes().to_vec()].concat()
}

/// An answer with one record of so many bytes of data.
fn value(kind: u16, data: usize) -> Vec<u8> {
    let mut value = vec![0, 1, 0, 0, 1, 0, 0xc0, 0x0c];
    value.extend([kind.to_be_bytes(), [0, 1], [0, 0], [1, 44], (data as u16).to_be_bytes()].concat());
    value.extend((0..data).map(|n| n as u8));
    value
}

/// No such record: an authority record, and code 0.
fn nothing() -> Vec<u8> {
    [&[0, 0, 0, 1, 1, 0, 0xc0, 0x0c][..], &[0, 6, 0, 1, 0, 0, 0, 60, 0, 3, 1, 2, 3]].concat()
}

fn zone() -> Vec<(Vec<u8>, Vec<u8>)> {
    vec![
        (vec![0xfd], vec![]),
        (key("www.example", A), value(A, 4)),
        (key("www.example", TXT), value(TXT, 33)),
        (key("www.example", 0), nothing()),
        (key("ww.example", A), value(A, 4)),
        (key("ww.example", AAAA), value(AAAA, 16)),
        (key("much.example", TXT), value(TXT, 484)),
        (key("more.example", TXT), value(TXT, 485)),
        (key("more.example", 0), nothing()),
        (key("", A), value(A, 4)),
        (key(&format!("{}.example", "a".repeat(54)), A), value(A, 5)),
        (key(&format!("{}.example", "b".repeat(55)), A), value(A, 5)),
        (key("*.wild.example", A), value(A, 4)),
        (key("wild.example", 0), nothing()),
        ([&[0xfe][..], &name("example")].concat(), nothing()),
    ]
}

fn anything() -> Vec<(Vec<u8>, Vec<u8>)> {
    vec![(vec![0xff, 0, 1], value(A, 4)), (vec![0xff, 0, 0], nothing())]
}

struct Rig {
    program: DriverResponder,
    counters: DriverCounters,
    responder: DnsResponder,
    table: AnswerTable,
}

impl Rig {
    fn new(entries: &[(Vec<u8>, Vec<u8>)]) -> Option<Self> {
        let known: Vec<_> = entries
            .iter()
            .filter_map(|(key, value)| Dns::driver_entry(key, value))
            .map(|entry| (entry.key, entry.value))
            .collect();
        let (mut program, counters) = match DriverResponder::load(Dns::DRIVER_PROGRAM, &[PORT], false, None, &known) {
            Ok(loaded) => loaded,
            Err(error) if error.obstacle == Obstacle::Failed => panic!("{error}"),
            Err(error) => {
                eprintln!("skipped: {error}");
                return None;
            }
        };
        let place = |address: &str, vlan| (Place { address: address.parse().unwrap(), port: PORT, vlan }, true);
        let own = ["198.51.100.1", "2001:db8:1::1"].map(|at| [place(at, 0), place(at, VLAN)]);
        program.set_places(&own.into_iter().flatten().collect::<BTreeMap<_, _>>()).unwrap();
        let (responder, table) = (Dns::responder(&[]).unwrap(), AnswerTable::build(entries).unwrap());
        let (clocks, state) = (clock_offsets(), responder.driver_state(table.table()).unwrap());
        let answer = DriverAnswer {
            valid_until: clocks.steady_ns + 60_000_000_000,
            told: clocks.steady_ns,
            device: DEVICE,
            words: state.words,
            ..DriverAnswer::default()
        };
        program.tell(&answer).unwrap();
        Some(Self { program, counters, responder, table })
    }

    fn by_socket(&self, request: &[u8]) -> Vec<u8> {
        let table = self.table.table();
        let mut packet = vec![0; 4096.max(self.responder.room(table, request))];
        packet[..request.len()].copy_from_slice(request);
        let length =
            self.responder.answer(table, &RequestContext::default(), &mut packet, request.len()).unwrap_or_default();
        packet[..length].to_vec()
    }

    /// Whether the driver answered; fails unless it did so as the sockets would, or left the frame alone.
    fn ask(&mut self, frame: &Frame) -> bool {
        let (bytes, answered) = (frame.bytes(), self.counters.read().unwrap()[0]);
        let (decision, after) = self.program.run_on(&bytes).unwrap();
        if decision == TX {
            let right = frame.answered(&self.by_socket(&frame.payload));
            assert_eq!(after, right, "{frame:?}");
            assert_eq!(self.counters.read().unwrap()[0], answered + 1);
            return true;
        }
        assert_eq!((decision, &after), (PASS, &bytes), "{frame:?}");
        assert_eq!(self.counters.read().unwrap()[0], answered);
        false
    }

    /// The same of all frames that may carry a request.
    fn all(&mut self, request: &[u8]) -> bool {
        let plain = [Frame::v4(request), Frame::v6(request)];
        let tagged = plain.clone().map(|frame| Frame { vlan: Some(VLAN), ..frame });
        let done: Vec<_> = plain.iter().chain(&tagged).map(|frame| self.ask(frame)).collect();
        assert!(done.iter().all(|one| *one == done[0]), "{request:x?}: {done:?}");
        done[0]
    }
}

fn query(text: &str, kind: u16) -> Vec<u8> {
    let mut query = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(name(text));
    query.extend([kind.to_be_bytes(), [0, 1]].concat());
    query
}

/// With an EDNS record of this size, flags and options.
fn edns(query: &[u8], size: u16, flags: u16, options: &[u8]) -> Vec<u8> {
    let mut query = query.to_vec();
    query[11] = 1;
    query.extend([0, 0, 41]);
    query.extend([size.to_be_bytes(), [0, 0], flags.to_be_bytes(), (options.len() as u16).to_be_bytes()].concat());
    query.extend(options);
    query
}

#[test]
fn what_is_in_the_table_gets_the_sockets_answers() {
    let Some(mut rig) = Rig::new(&zone()) else { return };
    for (text, kind) in [("www.example", A), ("WwW.eXample", TXT), ("www.example", AAAA), ("ww.example", A), ("", A)] {
        let plain = query(text, kind);
        assert!(rig.all(&plain), "{text}");
        for size in [0, 511, 512, 513, 1232, 1233, 65535] {
            for flags in [0, 0x8000, 0x7fff] {
                assert!(rig.all(&edns(&plain, size, flags, &[])), "{text} {size}");
            }
        }
        assert!(rig.all(&edns(&plain, 1232, 0, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8])), "a cookie");
        let mut not_recursive = plain.clone();
        (not_recursive[2], not_recursive[3]) = (0x06, 0xff);
        assert!(rig.all(&not_recursive));
    }
    assert!(rig.all(&query(&format!("{}.example", "a".repeat(54)), A)), "the longest name");
}

#[test]
fn long_answers_are_cut_off_or_left_to_the_sockets() {
    let Some(mut rig) = Rig::new(&zone()) else { return };
    let long = query("much.example", TXT);
    assert!(rig.all(&long), "cut off");
    assert_eq!(rig.by_socket(&long)[2] & 2, 2);
    assert!(rig.all(&edns(&long, 1232, 0, &[])), "whole");
    assert_eq!(rig.by_socket(&edns(&long, 1232, 0, &[]))[2] & 2, 0);
    assert!(!rig.all(&query("more.example", TXT)), "longer than the table has");
    assert!(rig.all(&query("more.example", A)), "and no other type is taken for it");
}

#[test]
fn what_is_not_in_the_table_is_for_the_sockets() {
    let Some(mut rig) = Rig::new(&zone()) else { return };
    for text in ["no.example", "x.wild.example", "elsewhere", &format!("{}.example", "b".repeat(55))] {
        assert!(!rig.all(&query(text, A)), "{text}");
    }
    for kind in [ANY, 249, 250, 252, 254] {
        assert!(!rig.all(&query("www.example", kind)), "{kind}");
    }
    assert!(rig.all(&query("www.example", 248)));
    assert!(rig.all(&query("wild.example", A)));
    assert!(rig.all(&query("*.wild.example", A)), "a name like any other");
}

#[test]
fn one_answer_for_all_names() {
    let Some(mut rig) = Rig::new(&anything()) else { return };
    for text in ["www.example", "Any.Other", ""] {
        assert!(rig.all(&query(text, A)));
        assert!(rig.all(&edns(&query(text, AAAA), 1400, 0x8000, &[])));
    }
    let Some(mut rig) = Rig::new(&[]) else { return };
    assert!(!rig.all(&query("www.example", A)), "no answer at all");
}

#[test]
fn requests_that_are_not_plain_are_for_the_sockets() {
    let Some(mut rig) = Rig::new(&zone()) else { return };
    let plain = query("www.example", A);
    let changed = |at: usize, value: u8| {
        let mut request = plain.clone();
        request[at] = value;
        request
    };
    // A response, another opcode, other counts, another class, a pointer, a label that is too long.
    for (at, value) in
        [(2, 0x81), (2, 0x09), (5, 0), (5, 2), (4, 1), (7, 1), (9, 1), (11, 1), (11, 2), (28, 3), (12, 0xc0), (12, 64)]
    {
        assert!(!rig.all(&changed(at, value)), "{at} {value}");
    }
    assert!(!rig.all(&[&plain[..], &[0]].concat()), "a byte behind the question");
    for length in 0..plain.len() {
        assert!(!rig.all(&plain[..length]), "{length}");
    }
    let with = edns(&plain, 1232, 0, &[]);
    for (at, value) in [(0, 1), (1, 1), (2, 42), (6, 1), (9, 1), (10, 1)] {
        let mut request = with.clone();
        request[plain.len() + at] = value;
        assert!(!rig.all(&request), "{at}");
    }
    assert!(!rig.all(&edns(&plain, 1232, 0, &[0; 200])), "too long");
}

#[test]
fn wrong_checksums_are_for_the_sockets() {
    let Some(mut rig) = Rig::new(&zone()) else { return };
    for frame in [Frame::v4(&query("www.example", A)), Frame::v6(&query("www.example", A))] {
        let mut bytes = frame.bytes();
        bytes[frame.udp_at() + 6] ^= 1;
        assert_eq!(rig.program.run_on(&bytes).unwrap(), (PASS, bytes.clone()));
        bytes[frame.udp_at() + 6..frame.udp_at() + 8].fill(0);
        let decision = rig.program.run_on(&bytes).unwrap().0;
        assert_eq!(decision, if frame.to.is_ipv4() { TX } else { PASS }, "none at all");
    }
}

#[test]
fn the_kernel_takes_it_with_limits_too() {
    let room = DriverRoom::new(64, &DriverRules::default(), 1);
    match DriverResponder::load(Dns::DRIVER_PROGRAM, &[PORT], true, Some(room), &[]) {
        Err(error) if error.obstacle == Obstacle::Failed => panic!("{error}"),
        Err(error) => eprintln!("skipped: {error}"),
        Ok((mut program, _)) => assert!(program.take_limits().is_some()),
    }
}

#[test]
fn whatever_comes_is_answered_as_by_the_sockets_or_left_alone() {
    let Some(mut rig) = Rig::new(&zone()) else { return };
    let mut random = Random::new(7);
    let mut answered = 0;
    let texts = ["www.example", "ww.example", "much.example", "more.example", "", "wild.example", "no.example"];
    for _ in 0..20_000 {
        let kinds = [A, TXT, AAAA, ANY, 0, 41];
        let pick = |random: &mut Random, of: usize| (random.bits() % of as u64) as usize;
        let mut request = query(texts[pick(&mut random, texts.len())], kinds[pick(&mut random, kinds.len())]);
        if random.bits() & 1 == 0 {
            let options = vec![0; pick(&mut random, 20)];
            request = edns(&request, random.bits() as u16, random.bits() as u16, &options);
        }
        for _ in 0..pick(&mut random, 3) {
            let at = pick(&mut random, request.len());
            request[at] ^= 1 << pick(&mut random, 8);
        }
        let frame = if random.bits() & 1 == 0 { Frame::v4(&request) } else { Frame::v6(&request) };
        answered += u32::from(rig.ask(&frame));
    }
    assert!(answered > 4_000, "{answered}");
}
