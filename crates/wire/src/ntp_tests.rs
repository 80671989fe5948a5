//! Tests of NTP; the golden packets of real implementations are in tests/packets.
extern crate std;
use super::*;
use crate::scramble::scramble;
use crate::{Client, DropReason, Reply, RequestContext, Responder, Table};
use std::vec::Vec;

const NOW: u64 = 1_800_000_000_123_456_789;

fn client() -> NtpClient {
    Ntp::client(&[], 0x1234_5678_9abc_def0).expect("no options")
}

fn server() -> NtpResponder {
    Ntp::responder(&[]).expect("no options")
}

fn context() -> RequestContext {
    RequestContext {
        received_unix_ns: NOW - 1000,
        now_unix_ns: NOW,
        client: Some(([192, 0, 2, 1], 40_000).into()),
        ..RequestContext::default()
    }
}

fn request(first_byte: u8, extra: &[u8]) -> Vec<u8> {
    let mut packet = std::vec![0; HEADER];
    packet[0] = first_byte;
    packet[2] = 6;
    packet[TRANSMIT..HEADER].copy_from_slice(&[9, 8, 7, 6, 5, 4, 3, 2]);
    packet.extend_from_slice(extra);
    packet
}

fn ask(first_byte: u8, extra: &[u8]) -> Result<Vec<u8>, DropReason> {
    let mut packet = request(first_byte, extra);
    let length = packet.len();
    server().answer(Table::default(), &context(), &mut packet, length).map(|n| packet[..n].to_vec())
}

fn exchange(flow: u32, index: u32) -> [u8; HEADER] {
    let mut packet = [0; HEADER];
    let length = client().fill(flow, index, &[], &mut packet);
    server().answer(Table::default(), &context(), &mut packet, length).expect("a request is answered");
    packet
}

#[test]
fn an_answer_names_its_request() {
    for (flow, index) in [(0, 0), (7, 123_456), (u32::MAX, u32::MAX)] {
        assert_eq!(client().read(flow, &exchange(flow, index)), Reply::Valid { index, tally: 0 });
        assert_eq!(client().read(flow ^ 1, &exchange(flow, index)), Reply::Unmatched);
    }
}

#[test]
fn a_quoted_request_is_recognised() {
    let mut packet = [0; HEADER];
    client().fill(3, 99, &[], &mut packet);
    assert_eq!(client().recognise(3, &packet), Some(99));
    assert_eq!(client().recognise(4, &packet), None);
    assert_eq!(client().recognise(3, &packet[..47]), None);
}

#[test]
fn requests_look_random() {
    let mut seen = Vec::new();
    for index in 0..1000 {
        let mut packet = [0; HEADER];
        client().fill(0, index, &[], &mut packet);
        seen.push(stamp(&packet, TRANSMIT));
    }
    let ones: u32 = seen.iter().map(|s| s.count_ones()).sum();
    assert!((30_000..34_000).contains(&ones), "{ones} of 64000 bits set");
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 1000);
}

#[test]
fn the_answer_follows_figure_31() {
    let answer = ask(0x23, &[]).expect("answered");
    assert_eq!(answer.len(), HEADER);
    assert_eq!(answer[0], 0x24, "leap 0, version 4, mode 4");
    assert_eq!((answer[1], answer[2]), (10, 6), "stratum, and the poll that was asked");
    assert_eq!(&answer[12..16], b"LOCL");
    assert_eq!(&answer[24..32], &[9, 8, 7, 6, 5, 4, 3, 2], "origin is the request's transmit stamp");
    let packet: &[u8; HEADER] = answer.first_chunk().expect("48 bytes");
    assert_eq!(stamp(packet, RECEIVE), from_unix(NOW - 1000));
    assert_eq!(stamp(packet, TRANSMIT), from_unix(NOW));
    let reference = stamp(packet, 16);
    assert!(reference != 0 && from_unix(NOW) - reference < 20 << 32);
}

#[test]
fn versions_and_modes() {
    for version in 1..=4u8 {
        assert_eq!(ask(version << 3 | 3, &[]).expect("client")[0], version << 3 | 4);
        assert_eq!(ask(version << 3 | 1, &[]).expect("symmetric active")[0], version << 3 | 2);
        for mode in [2, 4, 5, 6, 7] {
            assert_eq!(ask(version << 3 | mode, &[]), Err(DropReason::NotARequest));
        }
    }
    for version in [0, 5, 6, 7u8] {
        assert_eq!(ask(version << 3 | 3, &[]), Err(DropReason::Version));
    }
    assert_eq!(ask(1 << 3, &[]).expect("version 1 has no modes")[0], 1 << 3 | 4);
    assert_eq!(ask(2 << 3, &[]), Err(DropReason::NotARequest));
}

#[test]
fn a_modeless_packet_from_a_server_port_is_not_answered() {
    let mut packet = request(1 << 3, &[]);
    let at = RequestContext { client: Some(([192, 0, 2, 1], 123).into()), ..context() };
    assert_eq!(server().answer(Table::default(), &at, &mut packet, HEADER), Err(DropReason::NotARequest));
}

#[test]
fn trailing_bytes() {
    let mut unknown = [0u8; 28];
    unknown[..4].copy_from_slice(&[0xF3, 0x23, 0, 28]);
    assert_eq!(ask(0x23, &unknown).expect("an unknown field is passed over").len(), HEADER);
    assert_eq!(ask(0x1b, &unknown), Err(DropReason::Authenticated), "version 3 has no fields");
    let mut nts = unknown;
    nts[..2].copy_from_slice(&[0x01, 0x04]);
    assert_eq!(ask(0x23, &nts), Err(DropReason::Authenticated));
    assert_eq!(ask(0x23, &[0; 20]), Err(DropReason::Authenticated));
    assert_eq!(ask(0x23, &[0; 24]), Err(DropReason::Authenticated));
    assert_eq!(ask(0x23, &[0; 28]), Err(DropReason::Malformed));
    assert_eq!(ask(0x23, &[0; 3]), Err(DropReason::Malformed));
    unknown[3] = 32;
    assert_eq!(ask(0x23, &unknown), Err(DropReason::Malformed), "a field longer than the packet");
}

#[test]
fn no_bytes_are_answered_longer_than_they_came_and_none_panics() {
    let mut random = 1u64;
    for length in 0..=2000 {
        for _ in 0..8 {
            let mut packet: Vec<u8> = (0..length)
                .map(|_| {
                    random = scramble(random, 7);
                    random as u8
                })
                .collect();
            let first = packet.first().copied().unwrap_or(0);
            if let Ok(answer) = server().answer(Table::default(), &context(), &mut packet, length) {
                assert!(answer <= length && answer == HEADER);
                assert!(matches!(first & 7, 0 | 1 | 3), "answered mode {}", first & 7);
            }
        }
    }
}

#[test]
fn wrong_answers_are_told_apart() {
    let spoiled = |at: usize, value: u8| {
        let mut packet = exchange(5, 6);
        packet[at] = value;
        client().read(5, &packet)
    };
    let wrong = |tally: Tally| Reply::Invalid { index: 6, tally: tally as usize };
    assert_eq!(spoiled(0, 0x23), wrong(Tally::WrongMode));
    assert_eq!(spoiled(0, 0x1c), wrong(Tally::WrongVersion));
    assert_eq!(spoiled(0, 0xe4), wrong(Tally::Unsynchronised));
    assert_eq!(spoiled(1, 16), wrong(Tally::Unsynchronised));
    assert_eq!(spoiled(1, 0), wrong(Tally::KissOther));
    assert_eq!(spoiled(RECEIVE, 0xff), wrong(Tally::TickedBackwards));
    assert_eq!(spoiled(ORIGIN, 0), Reply::Unmatched);
    assert_eq!(client().read(5, &exchange(5, 6)[..47]), Reply::Unmatched);
}

#[test]
fn stamps_are_distinct_and_ordered_whatever_the_clock_does() {
    let same = RequestContext {
        received_unix_ns: NOW,
        now_unix_ns: NOW,
        client: Some(([192, 0, 2, 1], 1).into()),
        ..RequestContext::default()
    };
    let mut packet = request(0x23, &[]);
    packet[TRANSMIT..].copy_from_slice(&from_unix(NOW).to_be_bytes());
    server().answer(Table::default(), &same, &mut packet, HEADER).expect("answered");
    let answer: &[u8; HEADER] = packet.first_chunk().expect("48 bytes");
    let (origin, receive, transmit) = (stamp(answer, ORIGIN), stamp(answer, RECEIVE), stamp(answer, TRANSMIT));
    assert!(receive != origin && transmit != origin && receive < transmit);
}

#[test]
fn time_goes_on_after_2036() {
    let seconds = |unix: u64| from_unix(unix * 1_000_000_000) >> 32;
    assert_eq!(seconds(0), UNIX_EPOCH);
    assert_eq!(seconds((1 << 32) - UNIX_EPOCH), 0, "era 1 begins 2036-02-07 06:28:16");
    assert_eq!(from_unix(500_000_000) & 0xffff_ffff, 1 << 31);
}

#[test]
fn options() {
    let version = |value| Ntp::client(&[ProtocolOption { name: "version", value }], 0).map(|a| a.first_byte);
    assert_eq!(version(3), Ok(0x1b));
    assert!(version(5).is_err() && version(0).is_err());
    assert!(Ntp::responder(&[ProtocolOption { name: "stratum", value: 1 }]).is_err());
}
