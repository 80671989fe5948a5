//! The client: what it asks with each option, and what it makes of real answers; keys as in tests/packets/ntp/README.md.
extern crate std;
use super::client_tests::support::*;
use super::*;
use crate::{Client, Exchange, Reply, Timing};
use std::vec::Vec;

mod support {
    extern crate std;
    use crate::ProtocolOption;
    use std::vec::Vec;

    macro_rules! packet {
        ($name:literal) => {
            bytes(include_str!(concat!("../../../tests/packets/ntp/", $name, ".hex")))
        };
    }
    pub(super) use packet;

    pub fn bytes(hex: &str) -> Vec<u8> {
        hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")).collect()
    }

    /// The bytes from 0 on, as many as the key has, in the engine's form.
    pub fn key(kind: i64, id: i64, length: i64) -> Vec<ProtocolOption<'static>> {
        let words = [0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f, 0x1011_1213_0000_0000];
        let words = words.into_iter().take(length.unsigned_abs().div_ceil(8) as usize);
        let mut options = [("key_type", kind), ("key_id", id), ("key_length", length)].map(of).to_vec();
        options.extend(words.map(|word| of(("key", word))));
        options
    }

    pub fn of((name, value): (&'static str, i64)) -> ProtocolOption<'static> {
        ProtocolOption { name, value }
    }
}

const FLOW: u32 = 5;
const INDEX: u32 = 77;

fn client(options: &[ProtocolOption<'_>]) -> NtpClient {
    Ntp::client(options, 0xfeed).expect("options that it has")
}

fn asked(client: &NtpClient) -> Vec<u8> {
    let mut packet = std::vec![0xa5; client.longest()];
    let length = client.fill(FLOW, INDEX, &[], &mut packet);
    assert_eq!(length, packet.len(), "as long as announced");
    packet
}

/// A captured answer as if it had been to our request: only its origin is ours.
fn judged(client: &NtpClient, mut answer: Vec<u8>) -> Reply {
    answer[ORIGIN..RECEIVE].copy_from_slice(&asked(client)[TRANSMIT..HEADER]);
    client.read(FLOW, &answer)
}

fn valid(tally: Tally) -> Reply {
    Reply::Valid { index: INDEX, tally: tally as usize }
}

fn invalid(tally: Tally) -> Reply {
    Reply::Invalid { index: INDEX, tally: tally as usize }
}

fn number(packet: &[u8], at: usize) -> u64 {
    stamp(packet.first_chunk().expect("48 bytes"), at)
}

#[test]
fn mode_1_expects_mode_2() {
    let passive = client(&[of(("mode", 1))]);
    assert_eq!(asked(&passive)[0], 4 << 3 | 1);
    assert_eq!(judged(&passive, packet!("chrony_mode1_answer")), valid(Tally::Basic));
    assert_eq!(judged(&passive, packet!("chrony_v4_answer")), invalid(Tally::WrongMode));
    assert_eq!(judged(&client(&[]), packet!("chrony_mode1_answer")), invalid(Tally::WrongMode));
}

#[test]
fn extension_fields_are_where_they_belong() {
    let with = client(&[of(("field", 0xf323_001c)), of(("field", 0x7777_0010))]);
    let packet = asked(&with);
    assert_eq!(packet.len(), HEADER + 28 + 16);
    assert_eq!(packet[HEADER..HEADER + 4], [0xf3, 0x23, 0, 28]);
    assert_eq!(packet[HEADER + 28..][..4], [0x77, 0x77, 0, 16]);
    assert!(packet[HEADER + 4..HEADER + 28].iter().all(|byte| *byte == 0));
    assert_eq!(asked(&client(&[of(("field", 0x7777_001c))]))[HEADER..], packet!("chrony_field_request")[HEADER..]);
    assert_eq!(judged(&with, packet!("chrony_field_answer")), valid(Tally::Basic), "an answer without any");
    for wrong in [0x7777_000c_i64, 0x7777_0011, 0x7777_1000] {
        assert!(Ntp::client(&[of(("field", wrong))], 0).is_err(), "{wrong:x}");
    }
    assert!(Ntp::client(&[of(("field", 0x7777_001c)), of(("version", 3))], 0).is_err(), "version 3 has no fields");
}

/// Each algorithm: our code on the captured request's header is the one that chronyd took for right, and its answer's
/// code is right for us.
#[test]
fn keys_are_those_of_others() {
    let captured = [
        (key(1, 1, 16), 4, packet!("chrony_md5_request"), packet!("chrony_md5_answer")),
        (key(1, 1, 16), 3, packet!("chrony_v3_md5_request"), packet!("chrony_v3_md5_answer")),
        (key(2, 2, 20), 4, packet!("chrony_sha1_request"), packet!("chrony_sha1_answer")),
        (key(3, 3, 16), 4, packet!("chrony_aes128_request"), packet!("chrony_aes128_answer")),
    ];
    for (mut options, version, request, answer) in captured {
        options.push(of(("version", version)));
        let with = client(&options);
        let mut packet = request.clone();
        packet[HEADER..].fill(0);
        let sealed = with.options.key.as_ref().expect("a key").seal(&mut packet, HEADER);
        assert_eq!((sealed, &packet), (request.len(), &request));
        let is_right = |answer: &[u8]| {
            with.options.key.as_ref().is_some_and(|key| key.verify(&answer[..HEADER], &answer[HEADER..]))
        };
        assert!(is_right(&answer));
        let mut forged = answer.clone();
        forged[40] ^= 1;
        assert!(!is_right(&forged));
    }
}

#[test]
fn answers_without_the_right_code_are_told_apart() {
    let with = client(&key(2, 2, 20));
    let mut right = packet!("chrony_sha1_answer");
    right[ORIGIN..RECEIVE].copy_from_slice(&asked(&with)[TRANSMIT..HEADER]);
    with.options.key.as_ref().expect("a key").seal(&mut right, HEADER);
    assert_eq!(with.read(FLOW, &right), valid(Tally::Basic));
    assert_eq!(with.read(FLOW, &right[..HEADER]), invalid(Tally::Unauthenticated), "no code");
    assert_eq!(with.read(FLOW, &[&right[..HEADER], &[0; 4]].concat()), invalid(Tally::CryptoNak));
    let mut other_key = right.clone();
    other_key[HEADER + 3] = 7;
    assert_eq!(with.read(FLOW, &other_key), invalid(Tally::Unauthenticated));
    right[45] ^= 1;
    assert_eq!(with.read(FLOW, &right), invalid(Tally::Unauthenticated), "changed on its way");
}

#[test]
fn keys_that_make_no_sense_are_refused() {
    let short = [("key_type", 3), ("key_id", 1), ("key_length", 8), ("key", 1)].map(of);
    assert!(Ntp::client(&short, 0).is_err(), "AES-128 takes 16 bytes");
    assert!(Ntp::client(&[("key_type", 1), ("key_length", 0)].map(of), 0).is_err());
    assert!(Ntp::client(&[of(("key", 1)); 9], 0).is_err());
}

#[test]
fn old_references_and_great_distances_are_told_apart() {
    let spoiled = |at: usize, bytes: &[u8]| {
        let mut answer = packet!("chrony_v4_answer");
        answer[at..at + bytes.len()].copy_from_slice(bytes);
        judged(&client(&[]), answer)
    };
    let transmit = number(&packet!("chrony_v4_answer"), TRANSMIT);
    assert_eq!(spoiled(16, &[0; 8]), invalid(Tally::StaleReference), "none");
    assert_eq!(spoiled(16, &(transmit + 1).to_be_bytes()), invalid(Tally::StaleReference), "later than the answer");
    assert_eq!(spoiled(16, &(transmit - (130_000 << 32)).to_be_bytes()), valid(Tally::Basic));
    assert_eq!(spoiled(16, &(transmit - (132_000 << 32)).to_be_bytes()), invalid(Tally::StaleReference));
    assert_eq!(spoiled(8, &[0, 16, 0, 1]), invalid(Tally::RootDistance));
    assert_eq!(spoiled(4, &[0, 31, 0, 0]), valid(Tally::Basic), "half of the delay counts");
}

#[test]
fn an_interleaved_answer_completes_the_exchange_before() {
    let crossed = client(&[("interleaved", 1), ("offset", 1), ("correction_ns", 5)].map(of));
    assert!(crossed.alone() && crossed.refers_back());
    let mut request = asked(&crossed);
    assert_eq!((number(&request, ORIGIN), number(&request, RECEIVE)), (0, 0), "the first refers to nothing");
    let before = 1_800_000_000_000_000_000;
    let last = Exchange { sent_unix_ns: before, seen_unix_ns: before + 5000, mark: from_unix(before + 1_001_000) };
    crossed.refer(FLOW, INDEX, &last, &mut request);
    assert_eq!(number(&request, ORIGIN), last.mark);
    assert!(number(&request, RECEIVE) != 0 && number(&request, RECEIVE) != number(&request, TRANSMIT));
    assert_eq!(crossed.recognise(FLOW, &request), Some(INDEX));
    let mut answer = packet!("chrony_interleaved_answer");
    answer[ORIGIN..RECEIVE].copy_from_slice(&request[RECEIVE..TRANSMIT]);
    assert_eq!(crossed.read(FLOW, &answer), valid(Tally::Interleaved));
    assert_eq!(crossed.read(FLOW + 1, &answer), Reply::Unmatched);
    assert_eq!(client(&[]).read(FLOW, &answer), Reply::Unmatched, "nothing that a basic client asked");
    assert_eq!(crossed.mark(&answer), number(&answer, RECEIVE));

    answer[TRANSMIT..HEADER].copy_from_slice(&from_unix(before + 1_004_000).to_be_bytes());
    let this = Exchange { sent_unix_ns: before + 9_000_000, ..Exchange::default() };
    let timing = crossed.timing(&answer, Tally::Interleaved as usize, &this, Some(&last));
    // The server is 1 ms ahead, and both ways took 1 µs; an NTP stamp is cut to 0.23 ns.
    let Timing { response_ns, offset_ns } = timing.expect("both stamps");
    let offset_ns = offset_ns.expect("both requests");
    assert!((response_ns as i64 - 3000).abs() <= 1 && (offset_ns - 999_995).abs() <= 1, "{timing:?}");
    assert_eq!(crossed.timing(&answer, Tally::Interleaved as usize, &this, None), None);
}

#[test]
fn offsets_are_those_of_rfc_5905() {
    let measured = client(&[of(("offset", 1))]);
    let now = 1_800_000_000_123_456_789;
    let mut answer = packet!("chrony_v4_answer");
    let mut said = |receive: u64, transmit: u64| {
        answer[RECEIVE..TRANSMIT].copy_from_slice(&from_unix(receive).to_be_bytes());
        answer[TRANSMIT..HEADER].copy_from_slice(&from_unix(transmit).to_be_bytes());
        let this = Exchange { sent_unix_ns: now, seen_unix_ns: now + 10_000, mark: 0 };
        measured.timing(&answer, 0, &this, None).and_then(|timing| timing.offset_ns).expect("measured")
    };
    assert!(said(now + 4000, now + 6000).abs() <= 1, "the same clock");
    let hour = 3_600_000_000_000;
    assert!((said(now + hour + 4000, now + hour + 6000) - hour as i64).abs() <= 1);
    assert!((said(now - hour + 4000, now - hour + 6000) + hour as i64).abs() <= 1);
    let plain = client(&[]).timing(&packet!("chrony_v4_answer"), 0, &Exchange::default(), None);
    assert_eq!(plain.map(|timing| timing.offset_ns), Some(None), "only where asked for");
    // 2036: the server's clock is in the next era, this host's 2 s before it.
    let eve = ((1_u64 << 32) - 2_208_988_800 - 1) * 1_000_000_000;
    answer[RECEIVE..TRANSMIT].copy_from_slice(&from_unix(eve + 2_000_000_000).to_be_bytes());
    answer[TRANSMIT..HEADER].copy_from_slice(&from_unix(eve + 2_000_000_000).to_be_bytes());
    let this = Exchange { sent_unix_ns: eve, seen_unix_ns: eve, mark: 0 };
    let timing = measured.timing(&answer, 0, &this, None).and_then(|timing| timing.offset_ns);
    assert_eq!(timing, Some(2_000_000_000));
}

#[test]
fn interleaved_requests_are_version_4s() {
    assert!(Ntp::client(&[("interleaved", 1), ("version", 3)].map(of), 0).is_err());
    assert!(Ntp::client(&[("interleaved", 1), ("mode", 1)].map(of), 0).is_err());
    assert!(!client(&[]).alone() && !client(&[]).refers_back());
}
