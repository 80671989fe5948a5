//! Rule 2f of the server's conformance suite: interleaved mode (RFC 9769).
use super::*;

/// An answer to a request that refers to `origin` and has `receive`, and what its stamps need.
fn refer(server: &NtpResponder, first_byte: u8, origin: u64, receive: u64) -> ([u8; HEADER], AnswerStamps) {
    let mut packet = request(first_byte);
    put(&mut packet, 24, origin);
    put(&mut packet, 32, receive);
    server.answer(Table::default(), &context(NOW), &mut packet, HEADER).expect("answered");
    (packet, server.stamps())
}

const BASIC: AnswerStamps = AnswerStamps { at_send: true, tell: None };

#[test]
fn rule_2f_the_answer_before_is_told_when_it_left_once() {
    let server = server(&[("interleaved", 1)]);
    let (first, stamps) = refer(&server, 0x23, 0, 0);
    assert_eq!(stamps, BASIC, "a basic client stores nothing");
    let received = stamp(&first, 32);
    assert_eq!((received & 1, stamp(&first, 40) & 1), (1, 0), "the stamps can be told apart");
    // The second request refers to the first answer, of which nothing is known; so it is answered in basic mode.
    let (second, stamps) = refer(&server, 0x23, received, 77);
    let received = stamp(&second, 32);
    assert_eq!(stamps, AnswerStamps { at_send: true, tell: Some(received) });
    assert_eq!(second[24..32], ORIGIN_SENT);
    server.left(received, NOW + 20_000);
    let (third, stamps) = refer(&server, 0x23, received, 78);
    assert_eq!((stamp(&third, 24), stamp(&third, 40)), (78, from_unix(NOW + 20_000) & !1));
    assert_eq!(stamps, AnswerStamps { at_send: false, tell: Some(stamp(&third, 32)) });
    let (again, stamps) = refer(&server, 0x23, received, 79);
    assert_eq!(again[24..32], ORIGIN_SENT, "an answer is referred to once");
    assert!(stamps.at_send);
}

#[test]
fn rule_2f_only_interleaved_requests_of_version_4_count_as_such() {
    let interleaving = server(&[("interleaved", 1)]);
    let transmit = u64::from_be_bytes(ORIGIN_SENT);
    for (first_byte, origin, receive) in [(0x1b, 5, 6), (0x23, 4, 6), (0x23, 5, transmit), (0x21, 5, 6)] {
        assert_eq!(refer(&interleaving, first_byte, origin, receive).1, BASIC);
    }
    assert_eq!(refer(&server(&[]), 0x23, 5, 6).1, BASIC, "not offered");
    let unsynchronised = server(&[("interleaved", 1), ("stated", 1)]);
    assert_eq!(refer(&unsynchronised, 0x23, 5, 6).1, BASIC);
}

#[test]
fn rule_2f_a_departure_that_cannot_be_is_not_believed() {
    let server = server(&[("interleaved", 1)]);
    for left in [NOW - 3600 * SECOND, NOW - 2000, NOW + 2 * SECOND, NOW + 3600 * SECOND, 0] {
        let (answer, _) = refer(&server, 0x23, 5, 6);
        server.left(stamp(&answer, 32), left);
        assert!(refer(&server, 0x23, stamp(&answer, 32), 7).1.at_send, "{left}");
    }
    server.left(0, 0);
    assert!(refer(&server, 0x23, 1, 7).1.at_send);
}

#[test]
fn rule_2f_a_kiss_is_basic_and_keeps_the_departure_for_the_next_answer() {
    let server = server(&[("interleaved", 1)]);
    let (first, _) = refer(&server, 0x23, 5, 6);
    let received = stamp(&first, 32);
    server.left(received, NOW + 20_000);
    let mut packet = request(0x23);
    put(&mut packet, 24, received);
    put(&mut packet, 32, 77);
    server.kiss(Table::default(), &context(NOW), &mut packet, HEADER).expect("a kiss");
    assert_eq!((packet[0] >> 6, packet[1], &packet[12..16]), (3, 0, &b"RATE"[..]));
    assert!([24, 32, 40].iter().all(|&at| packet[at..at + 8] == ORIGIN_SENT), "the request's transmit stamp");
    assert_eq!(server.stamps(), BASIC);
    let (next, stamps) = refer(&server, 0x23, received, 78);
    assert_eq!((stamp(&next, 24), stamp(&next, 40)), (78, from_unix(NOW + 20_000) & !1));
    assert!(!stamps.at_send);
}

#[test]
fn rule_2f_memory_is_bounded() {
    let mut server = server(&[("interleaved", 1)]);
    server.seed(3);
    let mut received = Vec::new();
    for n in 0..10_000 {
        let at = RequestContext { received_unix_ns: NOW + n * 1000, now_unix_ns: NOW + n * 1000, ..context(NOW) };
        let mut packet = request(0x23);
        put(&mut packet, 24, 1);
        server.answer(Table::default(), &at, &mut packet, HEADER).expect("answered");
        received.push(stamp(&packet, 32));
        server.left(stamp(&packet, 32), NOW + n * 1000 + 500);
    }
    let known = received.iter().filter(|&&received| !refer(&server, 0x23, received, 7).1.at_send).count();
    assert!((2000..=4096).contains(&known), "{known} of 4096 places are taken");
    assert!(size_of::<NtpResponder>() < 70_000);
}
