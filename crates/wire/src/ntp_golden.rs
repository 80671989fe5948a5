//! Packets of real implementations, both ways; where they come from is in tests/packets/ntp/README.md.
extern crate std;
use super::*;
use crate::{Client, DropReason, Reply, RequestContext, Responder, Table};
use std::vec::Vec;

const FLOW: u32 = 5;
const INDEX: u32 = 77;

macro_rules! packet {
    ($name:literal) => {
        bytes(include_str!(concat!("../../../tests/packets/ntp/", $name, ".hex")))
    };
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")).collect()
}

fn first(packet: &[u8]) -> &[u8; HEADER] {
    packet.first_chunk().expect("48 bytes")
}

fn client(version: i64) -> NtpClient {
    Ntp::client(&[ProtocolOption { name: "version", value: version }], 0xfeed).expect("a version from 1 to 4")
}

fn server() -> NtpResponder {
    Ntp::responder(&[]).expect("no options")
}

/// A captured answer as if it had been to request INDEX of ours: only its origin is ours.
fn judged(version: i64, mut answer: Vec<u8>) -> Reply {
    let mut ours = [0; HEADER];
    client(version).fill(FLOW, INDEX, &[], &mut ours);
    answer[ORIGIN..RECEIVE].copy_from_slice(&ours[TRANSMIT..]);
    client(version).read(FLOW, &answer)
}

#[test]
fn requests_of_others_are_answered() {
    let requests = [
        packet!("chrony_v4_request"),
        packet!("chrony_v3_request"),
        packet!("chrony_interleaved_request"),
        packet!("ntpdig_request"),
        packet!("ntpd_request"),
        packet!("timesyncd_request"),
        packet!("ntplib_v2_request"),
        packet!("windows_v3_request"),
        packet!("windows_v3_symmetric_request"),
        packet!("cisco_v3_request"),
        packet!("cisco_v4_request"),
        packet!("arduino_v4_request"),
        packet!("iot_v1_request"),
        packet!("iot_v1_modeless_request"),
        packet!("sntp_v3_request"),
        packet!("busybox_request"),
    ];
    let context = RequestContext {
        received_unix_ns: 1_795_000_000_000_000_000,
        now_unix_ns: 1_795_000_000_000_001_000,
        client: Some(([192, 0, 2, 1], 4242).into()),
        ..RequestContext::default()
    };
    for request in requests {
        let mut packet = request.clone();
        let length = packet.len();
        assert_eq!(server().answer(Table::default(), &context, &mut packet, length), Ok(HEADER));
        let mode = if request[0] & 7 == 1 { 2 } else { SERVER };
        assert_eq!(packet[0], (request[0] & 0x38) | mode, "leap 0, the version that was asked with, a server's mode");
        assert_eq!(packet[1], 10);
        assert_eq!(packet[2], request[2], "the poll that was asked with");
        assert_eq!(packet[ORIGIN..RECEIVE], request[TRANSMIT..HEADER]);
    }
}

#[test]
fn answers_of_others_are_not_answered() {
    let context = RequestContext {
        received_unix_ns: 1,
        now_unix_ns: 2,
        client: Some(([192, 0, 2, 1], 4242).into()),
        ..RequestContext::default()
    };
    for mut answer in
        [packet!("chrony_v4_answer"), packet!("chrony_v3_answer"), packet!("chrony_unsynchronised_answer")]
    {
        let length = answer.len();
        assert_eq!(server().answer(Table::default(), &context, &mut answer, length), Err(DropReason::NotARequest));
    }
}

#[test]
fn answers_of_others_are_right() {
    let right = Reply::Valid { index: INDEX, tally: Tally::Basic as usize };
    assert_eq!(judged(4, packet!("chrony_v4_answer")), right);
    assert_eq!(judged(3, packet!("chrony_v3_answer")), right);
    assert_eq!(judged(4, packet!("ntpdig_answer")), right);
}

#[test]
fn answers_of_others_that_are_not_right_are_told_apart() {
    let wrong = |tally: Tally| Reply::Invalid { index: INDEX, tally: tally as usize };
    assert_eq!(judged(4, packet!("chrony_unsynchronised_answer")), wrong(Tally::Unsynchronised));
    assert_eq!(judged(4, packet!("chrony_v3_answer")), wrong(Tally::WrongVersion));
    // As an answer in basic mode: in interleaved mode the transmit stamp is that of the answer before.
    assert_eq!(judged(4, packet!("chrony_interleaved_answer")), wrong(Tally::TickedBackwards));
    assert_eq!(judged(3, packet!("chrony_v4_answer")), wrong(Tally::WrongVersion));
    assert_eq!(judged(4, packet!("chrony_v4_request")), wrong(Tally::WrongMode));
    assert_eq!(client(4).read(FLOW, &packet!("chrony_v4_answer")), Reply::Unmatched, "an answer to somebody else");
}

#[test]
fn captured_pairs_belong_together() {
    let echoed = |request: &[u8], answer: &[u8]| stamp(first(answer), ORIGIN) == stamp(first(request), TRANSMIT);
    assert!(echoed(&packet!("chrony_v4_request"), &packet!("chrony_v4_answer")));
    assert!(echoed(&packet!("chrony_v3_request"), &packet!("chrony_v3_answer")));
    assert!(echoed(&packet!("ntpdig_request"), &packet!("ntpdig_answer")));
    let (request, answer) = (packet!("chrony_interleaved_request"), packet!("chrony_interleaved_answer"));
    assert!(!echoed(&request, &answer));
    assert_eq!(stamp(first(&answer), ORIGIN), stamp(first(&request), RECEIVE), "interleaved mode");
}
