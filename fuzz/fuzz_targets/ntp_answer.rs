//! NTP's responder, given any datagram.
//!
//! Invariant: for any bytes, peer port and time it does not panic; and what it answers
//! - was a request: version 1 to 4, mode 1 or 3, or version 1's mode 0 from another port than 123;
//! - is 48 bytes and no longer than what came;
//! - says the request's version, mode 4 (to mode 1: 2), poll, and as origin the request's transmit stamp;
//! - carries receive and transmit stamps in this order, neither equal to the origin.
//!
//! A dropped request is left unchanged. From any state, told at any time, an answer says leap 3 if and only if it says
//! stratum 0. A kiss-o'-death is given for the same requests, and has nothing but the request's stamp.
#![no_main]

use flatout_wire::ntp::{HEADER, Ntp, from_unix};
use flatout_wire::{LiveState, Protocol, ProtocolOption, RequestContext, Responder, STATE_WORDS, Table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let (received, waited) = (number(datagram, 16), number(datagram, 8));
    let own_port = number(datagram, 2) as u16;
    for (received_unix_ns, waited_ns) in [(received, waited), (0, 0), (u64::MAX, 0), (1_800_000_000_000_000_000, 1000)]
    {
        for peer_port in [own_port, 123, 40_000] {
            let now_unix_ns = received_unix_ns.saturating_add(waited_ns);
            let context = RequestContext {
                received_unix_ns,
                now_unix_ns,
                client: Some(([192, 0, 2, 1], peer_port).into()),
                ..RequestContext::default()
            };
            check(datagram, &context);
            check_kiss(datagram, &context);
            check_state(datagram, &context);
            // A client whose stamp is the very time of ours: a fuzzer would not guess it.
            for same in [received_unix_ns, now_unix_ns] {
                let mut datagram = datagram.to_vec();
                if let Some(transmit) = datagram.get_mut(40..HEADER) {
                    transmit.copy_from_slice(&from_unix(same).to_be_bytes());
                    check(&datagram, &context);
                }
            }
        }
    }
});

/// Answers from a state made of the same bytes.
fn check_state(datagram: &[u8], context: &RequestContext) {
    let mut live =
        LiveState { age_ns: number(datagram, 24), stepped_ns: number(datagram, 32) as i64, ..LiveState::default() };
    for (n, word) in live.words.iter_mut().enumerate() {
        *word = number(datagram, 40 + 8 * n);
    }
    for (leap, plain) in [(0, false), (0, true), (1, true), (2, true)] {
        if plain {
            // A fuzzer would seldom guess that a state is there, and holds.
            live.words[0] = live.words[0] & !0xff | 1;
            live.words[7] = 0;
            live.words[4] &= 0xffff;
            live.words[3] &= 0xffff_ffff;
        }
        let options = [("stated", 1), ("leap", leap)].map(|(name, value)| ProtocolOption { name, value });
        let mut responder = Ntp::responder(&options).expect("known options");
        responder.seed(live.age_ns);
        responder.refresh(&live, context.now_unix_ns);
        let mut packet = [0; HEADER];
        packet[0] = 0x23;
        packet[40..].copy_from_slice(&context.received_unix_ns.to_be_bytes());
        let asked = RequestContext { client: Some(([192, 0, 2, 1], 4000).into()), ..*context };
        assert_eq!(responder.answer(Table::default(), &asked, &mut packet, HEADER), Ok(HEADER));
        assert_eq!(packet[0] >> 6 == 3, packet[1] == 0, "leap 3 and stratum 0 come together: {packet:?}");
        responder.stamp(context.now_unix_ns, &mut packet);
        let stamp = |at: usize| u64::from_be_bytes(packet[at..at + 8].try_into().expect("eight bytes"));
        assert!((stamp(40).wrapping_sub(stamp(32)) as i64) > 0, "receive is not before transmit");
    }
}

/// A server that offers interleaved mode asks a client to be slower.
fn check_kiss(datagram: &[u8], context: &RequestContext) {
    let responder = Ntp::responder(&[ProtocolOption { name: "interleaved", value: 1 }]).expect("a known option");
    let (mut kiss, mut answer) = (datagram.to_vec(), datagram.to_vec());
    let kissed = responder.kiss(Table::default(), context, &mut kiss, datagram.len());
    assert_eq!(kissed, responder.answer(Table::default(), context, &mut answer, datagram.len()));
    if kissed.is_ok() {
        assert_eq!((kiss[0], kiss[1], &kiss[12..16]), (answer[0] | 0xc0, 0, &b"RATE"[..]));
        assert!([24, 32, 40].iter().all(|&at| kiss[at..at + 8] == datagram[40..48]), "{kiss:?}");
    }
}

const _: () = assert!(STATE_WORDS >= 10);

/// The eight bytes that begin so far from the end, as a number: time and port are part of the input.
fn number(datagram: &[u8], from_end: usize) -> u64 {
    let rest = datagram.get(datagram.len().saturating_sub(from_end)..).unwrap_or_default();
    rest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn check(datagram: &[u8], context: &RequestContext) {
    let responder = Ntp::responder(&[]).expect("no options");
    // A receive buffer is longer than what came: bytes of earlier datagrams lie behind it.
    let mut packet = [0xa5; Ntp::DATAGRAM_MAX];
    packet[..datagram.len()].copy_from_slice(datagram);
    match responder.answer(Table::default(), context, &mut packet, datagram.len()) {
        Ok(length) => {
            assert!(length == HEADER && length <= datagram.len(), "{length} bytes for {}", datagram.len());
            check_answer(datagram, &packet[..length], context.client_port());
        }
        Err(_) => assert_eq!(&packet[..datagram.len()], datagram, "a refused datagram is left as it came"),
    }
    assert!(packet[datagram.len()..].iter().all(|byte| *byte == 0xa5), "written behind the datagram");
}

fn check_answer(request: &[u8], answer: &[u8], peer_port: u16) {
    let (version, mode) = (request[0] >> 3 & 7, request[0] & 7);
    let mode_of_answer = match (version, mode) {
        (1..=4, 3) => 4,
        (1..=4, 1) => 2,
        (1, 0) if peer_port != 123 => 4,
        _ => panic!("version {version} mode {mode} from port {peer_port} is no request"),
    };
    assert_eq!(
        (answer[0] >> 6, answer[0] >> 3 & 7, answer[0] & 7),
        (0, version, mode_of_answer),
        "leap, version, mode"
    );
    assert_eq!(answer[2], request[2], "poll");
    assert_eq!(answer[24..32], request[40..48], "origin");
    let stamp = |at: usize| u64::from_be_bytes(answer[at..at + 8].try_into().expect("eight bytes"));
    let (origin, receive, transmit) = (stamp(24), stamp(32), stamp(40));
    assert!((transmit.wrapping_sub(receive) as i64) > 0, "{receive:x} is not before {transmit:x}");
    assert!(receive != origin && transmit != origin, "{origin:x}, {receive:x}, {transmit:x}");
}
