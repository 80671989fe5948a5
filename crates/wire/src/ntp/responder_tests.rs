//! The server's conformance suite: one test a rule of what to answer, what to drop, and what to say of the clock.
extern crate std;
use super::super::{HEADER, Ntp, NtpResponder, from_unix, put, stamp};
use crate::{
    AnswerStamps, DropReason, LiveState, Protocol, ProtocolOption, RequestContext, Responder, STATE_WORDS, Table,
};
use std::vec::Vec;

#[path = "interleaved_tests.rs"]
mod interleaved_tests;
#[path = "leap_tests.rs"]
mod leap_tests;

const SECOND: u64 = 1_000_000_000;
const NOW: u64 = 1_800_000_000_123_456_789;
const ORIGIN_SENT: [u8; 8] = [9, 8, 7, 6, 5, 4, 3, 2];

fn server(options: &[(&'static str, i64)]) -> NtpResponder {
    let options: Vec<_> = options.iter().map(|&(name, value)| ProtocolOption { name, value }).collect();
    Ntp::responder(&options).expect("known options")
}

/// A state of a clock at stratum 2 whose reference is 192.0.2.7.
#[derive(Clone, Copy)]
struct State {
    leap: u8,
    stratum: u8,
    reference: u64,
    delay: u64,
    dispersion: u64,
    rate: u64,
    correction: i64,
    correction_rate: i64,
    age_max: u64,
    leap_at: i64,
    leap_s: i64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            leap: 0,
            stratum: 2,
            reference: from_unix(NOW - 30 * SECOND),
            delay: 10_000_000,
            dispersion: 1_000_000,
            rate: 15_000,
            correction: 0,
            correction_rate: 0,
            age_max: 60 * SECOND,
            leap_at: 0,
            leap_s: 0,
        }
    }
}

impl State {
    fn words(&self) -> [u64; STATE_WORDS] {
        let mut words = [0; STATE_WORDS];
        words[0] = u64::from_le_bytes([1, self.leap, self.stratum, -20_i8 as u8, 192, 0, 2, 7]);
        words[1..10].copy_from_slice(&[
            self.reference,
            self.delay,
            self.dispersion,
            self.rate,
            self.correction as u64,
            self.correction_rate as u64,
            self.age_max,
            self.leap_at as u64,
            self.leap_s as u64,
        ]);
        words
    }

    fn live(&self, age_ns: u64, stepped_ns: i64) -> LiveState {
        LiveState { words: self.words(), age_ns, stepped_ns }
    }

    /// The answer at `now`, the state being so old.
    fn answer(&self, options: &[(&'static str, i64)], age_ns: u64, now: u64) -> [u8; HEADER] {
        let mut server = server(&[&[("stated", 1)], options].concat());
        server.refresh(&self.live(age_ns, 0), now);
        answer_at(&server, now)
    }
}

fn context(now: u64) -> RequestContext {
    RequestContext {
        received_unix_ns: now.saturating_sub(1000),
        now_unix_ns: now,
        client: Some(([192, 0, 2, 1], 40_000).into()),
        local: Some([198, 51, 100, 1].into()),
        local_port: 123,
        ..RequestContext::default()
    }
}

fn request(first_byte: u8) -> [u8; HEADER] {
    let mut packet = [0; HEADER];
    packet[0] = first_byte;
    packet[2] = 6;
    packet[40..].copy_from_slice(&ORIGIN_SENT);
    packet
}

fn answer_at(server: &NtpResponder, now: u64) -> [u8; HEADER] {
    let mut packet = request(0x23);
    server.answer(Table::default(), &context(now), &mut packet, HEADER).expect("answered");
    packet
}

fn fate(server: &NtpResponder, request: &[u8], context: &RequestContext) -> Result<usize, DropReason> {
    let mut packet = request.to_vec();
    server.answer(Table::default(), context, &mut packet, request.len())
}

fn is_unsynchronised(answer: &[u8; HEADER]) -> bool {
    assert!((answer[0] >> 6 == 3) == (answer[1] == 0), "leap 3 and stratum 0 come together: {answer:?}");
    answer[1] == 0
}

fn root_dispersion(answer: &[u8; HEADER]) -> u32 {
    u32::from_be_bytes([answer[8], answer[9], answer[10], answer[11]])
}

// --- 2a: what is answered ---

#[test]
fn rule_2a1_short_datagrams_are_dropped() {
    for length in 0..HEADER {
        assert_eq!(fate(&server(&[]), &request(0x23)[..length], &context(NOW)), Err(DropReason::Short));
    }
}

#[test]
fn rule_2a2_impossible_sources_are_dropped() {
    let from = |client: &str| {
        let context = RequestContext { client: client.parse().ok(), ..context(NOW) };
        assert!(context.client.is_some());
        fate(&server(&[]), &request(0x23), &context)
    };
    for client in [
        "192.0.2.1:0",
        "224.0.1.1:4000",
        "255.255.255.255:4000",
        "0.0.0.0:4000",
        "[ff02::101]:4000",
        "[::]:4000",
        "[::ffff:224.0.1.1]:4000",
        "198.51.100.1:123",
        "[::ffff:198.51.100.1]:123",
    ] {
        assert_eq!(from(client), Err(DropReason::Source), "{client}");
    }
    for client in ["198.51.100.1:4000", "192.0.2.1:123", "[2001:db8::1]:123"] {
        assert_eq!(from(client), Ok(HEADER), "{client}");
    }
}

#[test]
fn rule_2a3_versions_1_to_4_are_answered_in_kind() {
    for version in 0..8_u8 {
        let mut packet = request(version << 3 | 3);
        let done = server(&[]).answer(Table::default(), &context(NOW), &mut packet, HEADER);
        if (1..=4).contains(&version) {
            assert_eq!((done, packet[0]), (Ok(HEADER), version << 3 | 4));
        } else {
            assert_eq!(done, Err(DropReason::Version));
        }
    }
}

#[test]
fn rule_2a5_symmetric_active_is_answered_as_passive_unless_turned_off() {
    for version in 1..=4_u8 {
        let mut packet = request(version << 3 | 1);
        server(&[]).answer(Table::default(), &context(NOW), &mut packet, HEADER).expect("answered");
        assert_eq!(packet[0] & 0x3f, version << 3 | 2);
        let off = server(&[("symmetric", 0)]);
        assert_eq!(fate(&off, &request(version << 3 | 1), &context(NOW)), Err(DropReason::NotARequest));
    }
}

#[test]
fn rule_2a6_version_1_without_a_mode_is_a_client_unless_a_server_sent_it() {
    let from = |port| RequestContext { client: Some(([192, 0, 2, 1], port).into()), ..context(NOW) };
    let mut packet = request(1 << 3);
    server(&[]).answer(Table::default(), &from(4000), &mut packet, HEADER).expect("answered");
    assert_eq!(packet[0] & 7, 4, "never mode 0");
    assert_eq!(fate(&server(&[]), &request(1 << 3), &from(123)), Err(DropReason::NotARequest));
}

#[test]
fn rule_2a7_what_is_no_request_is_never_answered() {
    for version in 1..=4_u8 {
        for mode in [0, 2, 4, 5, 6, 7] {
            if (version, mode) != (1, 0) {
                let done = fate(&server(&[]), &request(version << 3 | mode), &context(NOW));
                assert_eq!(done, Err(DropReason::NotARequest), "version {version}, mode {mode}");
            }
        }
    }
}

#[test]
fn rule_2a10_no_other_field_of_the_client_matters() {
    // Random transmit stamps, odd precisions, a stratum of 16, a leap of 3: all are seen from real clients.
    for byte in 1..24 {
        for value in [0, 1, 0x20, 0x7f, 0xff] {
            let mut packet = request(0xe3);
            packet[byte] = value;
            assert_eq!(fate(&server(&[]), &packet, &context(NOW)), Ok(HEADER));
        }
    }
}

// --- 2b: the 48 bytes ---

#[test]
fn rule_2b_the_state_is_copied_unchanged() {
    let answer = State { leap: 1, ..State::default() }.answer(&[], 0, NOW);
    assert_eq!(answer[0], 1 << 6 | 4 << 3 | 4);
    assert_eq!((answer[1], answer[2], answer[3] as i8), (2, 6, -20), "stratum, the client's poll, precision");
    assert_eq!(answer[4..8], 656_u32.to_be_bytes(), "10 ms in 16.16 bits, rounded up");
    assert_eq!(root_dispersion(&answer), 66, "1 ms, rounded up");
    assert_eq!(answer[12..16], [192, 0, 2, 7]);
    assert_eq!(stamp(&answer, 16), from_unix(NOW - 30 * SECOND));
    assert_eq!(answer[24..32], ORIGIN_SENT);
    assert_eq!(stamp(&answer, 32), from_unix(NOW - 1000));
    assert_eq!(stamp(&answer, 40), from_unix(NOW));
}

#[test]
fn rule_2b_origin_is_the_clients_transmit_stamp_also_if_zero() {
    let mut packet = [0; HEADER];
    packet[0] = 0x1b;
    server(&[]).answer(Table::default(), &context(NOW), &mut packet, HEADER).expect("answered");
    assert_eq!(packet[24..32], [0; 8]);
}

#[test]
fn rule_2b_before_the_first_state_there_is_no_time() {
    assert!(is_unsynchronised(&answer_at(&server(&[("stated", 1)]), NOW)));
    let silent = server(&[("stated", 1), ("silent", 1)]);
    assert_eq!(fate(&silent, &request(0x23), &context(NOW)), Err(DropReason::Unsynchronised));
}

#[test]
fn rule_2b_a_stale_state_is_no_time() {
    let state = State::default();
    assert!(!is_unsynchronised(&state.answer(&[], 60 * SECOND, NOW)));
    assert!(is_unsynchronised(&state.answer(&[], 60 * SECOND + 1, NOW)));
    let mut silent = server(&[("stated", 1), ("silent", 1)]);
    silent.refresh(&state.live(61 * SECOND, 0), NOW);
    assert_eq!(fate(&silent, &request(0x23), &context(NOW)), Err(DropReason::Unsynchronised));
    silent.refresh(&state.live(SECOND, 0), NOW);
    assert_eq!(fate(&silent, &request(0x23), &context(NOW)), Ok(HEADER), "a new state ends the silence");
}

#[test]
fn rule_2b_a_state_without_limit_never_grows_stale() {
    let state = State { age_max: 0, rate: 0, ..State::default() };
    assert!(!is_unsynchronised(&state.answer(&[], 1000 * 86_400 * SECOND, NOW)));
}

#[test]
fn rule_2b_an_unsynchronised_daemon_is_passed_on_and_stratum_0_has_leap_3() {
    for leap in 0..4 {
        for stratum in [0, 1, 15, 16, 17, 255] {
            let answer = State { leap, stratum, ..State::default() }.answer(&[], 0, NOW);
            assert_eq!(is_unsynchronised(&answer), leap == 3 || !(1..=15).contains(&stratum), "{leap}, {stratum}");
        }
    }
}

#[test]
fn rule_2b_a_stepped_clock_is_no_time_until_the_next_state() {
    let state = State::default();
    for hours in [1, -1, 68 * 8766, -68 * 8766_i64] {
        let stepped_ns = hours * 3600 * SECOND as i64;
        let now = NOW.wrapping_add_signed(stepped_ns);
        let mut server = server(&[("stated", 1)]);
        server.refresh(&state.live(SECOND, stepped_ns), now);
        assert!(is_unsynchronised(&answer_at(&server, now)), "{hours} h");
    }
    let answer = |state: &State, age_ns, stepped_ns| {
        let mut server = server(&[("stated", 1)]);
        server.refresh(&state.live(age_ns, stepped_ns), NOW);
        answer_at(&server, NOW)
    };
    for stepped_ns in [4 * SECOND as i64, -129_000_000] {
        assert!(is_unsynchronised(&answer(&state, 50 * SECOND, stepped_ns)), "also a small step of an old state");
    }
    // 1 ms of the state, 15 µs of age and a step of 100 ms.
    for stepped_ns in [100_000_000, -100_000_000] {
        let stepped = answer(&state, SECOND, stepped_ns);
        assert!(!is_unsynchronised(&stepped), "ntpd does not step by so little");
        assert_eq!(root_dispersion(&stepped), 6621, "but clients are told of it");
    }
    let endless = State { age_max: 0, ..state };
    assert_eq!(root_dispersion(&answer(&endless, SECOND, i64::MIN)), 67, "a state that holds whatever the clock does");
}

#[test]
fn rule_2b_dispersion_grows_and_is_rounded_up() {
    let state = State { dispersion: 0, age_max: 0, ..State::default() };
    assert_eq!(root_dispersion(&state.answer(&[], 0, NOW)), 0);
    assert_eq!(root_dispersion(&state.answer(&[], 1, NOW)), 1, "1 ns old");
    assert_eq!(root_dispersion(&state.answer(&[], SECOND, NOW)), 1, "15 µs are 0.98 units");
    assert_eq!(root_dispersion(&state.answer(&[], 2 * SECOND, NOW)), 2);
    assert_eq!(root_dispersion(&state.answer(&[], 1000 * SECOND, NOW)), 984, "15 ms are 983.04 units");
    let skewed = State { rate: 100_000, ..state };
    assert_eq!(root_dispersion(&skewed.answer(&[], 10 * SECOND, NOW)), 66, "the skew told");
}

#[test]
fn rule_2b_dispersion_saturates_and_ends_in_unsynchronised() {
    let state = State { age_max: 0, ..State::default() };
    assert!(is_unsynchronised(&State { dispersion: 16 * SECOND, ..state }.answer(&[], 0, NOW)));
    assert!(!is_unsynchronised(&State { dispersion: 16 * SECOND - 1, ..state }.answer(&[], 0, NOW)));
    assert!(is_unsynchronised(&state.answer(&[], u64::MAX, NOW)));
    assert!(is_unsynchronised(&State { rate: u64::MAX, dispersion: u64::MAX, ..state }.answer(&[], u64::MAX, NOW)));
    let delay = State { delay: u64::MAX, ..state }.answer(&[], 0, NOW);
    assert_eq!(delay[4..8], [0xff; 4]);
}

#[test]
fn rule_2b_the_reference_stamp_is_never_zero_never_later_than_the_answer_never_old() {
    let none = State { reference: 0, ..State::default() }.answer(&[], 0, NOW);
    assert!(stamp(&none, 16) != 0 && from_unix(NOW) - stamp(&none, 16) < 20 << 32);
    let later = State { reference: from_unix(NOW + 5 * SECOND), ..State::default() }.answer(&[], 0, NOW);
    assert_eq!(stamp(&later, 16), stamp(&later, 32), "of a clock that was set back");
    let age = |seconds: u64| State { reference: from_unix(NOW - seconds * SECOND), ..State::default() };
    assert!(!is_unsynchronised(&age(131_000).answer(&[], 0, NOW)));
    assert!(is_unsynchronised(&age(131_100).answer(&[], 0, NOW)), "not set for 2^17 s");
}

#[test]
fn rule_2b_stamps_differ_and_are_in_order_whatever_the_clock_does() {
    for (received, now) in [(NOW, NOW), (NOW, NOW - 3600 * SECOND), (0, 0), (u64::MAX, u64::MAX), (NOW + 5, 0)] {
        for origin in [from_unix(received), from_unix(now), from_unix(received).wrapping_add(1), 0] {
            let mut packet = request(0x23);
            put(&mut packet, 40, origin);
            let at = RequestContext { received_unix_ns: received, now_unix_ns: now, ..context(now) };
            let server = server(&[]);
            server.answer(Table::default(), &at, &mut packet, HEADER).expect("answered");
            for _ in 0..2 {
                let (receive, transmit) = (stamp(&packet, 32), stamp(&packet, 40));
                assert_eq!(stamp(&packet, 24), origin);
                assert!((transmit.wrapping_sub(receive) as i64) > 0 && receive != origin && transmit != origin);
                server.stamp(now, &mut packet);
            }
        }
    }
}

#[test]
fn rule_2b_the_transmit_stamp_is_written_last() {
    let server = server(&[]);
    let mut packet = answer_at(&server, NOW);
    server.stamp(NOW + 70_000, &mut packet);
    assert_eq!((stamp(&packet, 32), stamp(&packet, 40)), (from_unix(NOW - 1000), from_unix(NOW + 70_000)));
    server.stamp(NOW, &mut packet[..47]);
}

#[test]
fn rule_2b_bits_below_the_precision_are_random_receive_not_early_transmit_not_late() {
    let state = State::default();
    let mut server = server(&[("stated", 1)]);
    server.seed(7);
    server.refresh(&state.live(0, 0), NOW);
    let (mut received, mut sent) = (Vec::new(), Vec::new());
    let now = NOW + SECOND;
    let at = RequestContext { received_unix_ns: NOW, now_unix_ns: now, ..context(now) };
    for _ in 0..1000 {
        let mut packet = request(0x23);
        server.answer(Table::default(), &at, &mut packet, HEADER).expect("answered");
        received.push(stamp(&packet, 32) - from_unix(NOW));
        sent.push(from_unix(now) - stamp(&packet, 40));
    }
    for mut bits in [received, sent] {
        assert!(bits.iter().all(|&bits| bits < 4096), "2^-20 s are 2^12 units");
        let ones: u32 = bits.iter().map(|bits| bits.count_ones()).sum();
        assert!((5500..6500).contains(&ones), "{ones} of 12000");
        bits.sort_unstable();
        bits.dedup();
        assert!(bits.len() > 800, "{} of 1000 differ", bits.len());
    }
}

#[test]
fn rule_2b_workers_have_random_bits_of_their_own() {
    let bits = |seed| {
        let mut server = server(&[]);
        server.seed(seed);
        (0..8).map(|_| stamp(&answer_at(&server, NOW), 32)).collect::<Vec<_>>()
    };
    assert_ne!(bits(1), bits(2));
    assert_eq!(bits(1), bits(1));
}

#[test]
fn rule_2b_eras_roll_over() {
    const ROLLOVER: u64 = (1 << 32) - super::super::UNIX_EPOCH;
    for seconds in [ROLLOVER - 1, ROLLOVER, ROLLOVER + 1, ROLLOVER + 86_400] {
        let now = seconds * SECOND + 500;
        let state = State { reference: from_unix(now - 64 * SECOND), ..State::default() };
        let answer = state.answer(&[], SECOND, now);
        assert!(!is_unsynchronised(&answer), "{seconds}");
        let (reference, receive, transmit) = (stamp(&answer, 16), stamp(&answer, 32), stamp(&answer, 40));
        assert_eq!(transmit, from_unix(now));
        assert_eq!(receive.wrapping_sub(reference) >> 32, 63, "{seconds}");
        assert!((transmit.wrapping_sub(receive) as i64) > 0);
    }
    let across = State { reference: from_unix((ROLLOVER - 10) * SECOND), ..State::default() };
    assert!(!is_unsynchronised(&across.answer(&[], 0, (ROLLOVER + 10) * SECOND)));
}

#[test]
fn the_daemons_correction_is_in_both_stamps_and_ends_at_zero() {
    let state = State { correction: -2_000_000, correction_rate: 100_000, ..State::default() };
    let stamps = |age| {
        let answer = state.answer(&[], age, NOW);
        (stamp(&answer, 32), stamp(&answer, 40))
    };
    assert_eq!(stamps(0), (from_unix(NOW - 1000 - 2_000_000), from_unix(NOW - 2_000_000)));
    assert_eq!(stamps(10 * SECOND).1, from_unix(NOW - 1_000_000), "100 ppm for 10 s");
    assert_eq!(stamps(30 * SECOND).1, from_unix(NOW), "it has ended");
    let extreme = State { correction: i64::MIN, correction_rate: i64::MIN, ..state };
    extreme.answer(&[], u64::MAX, NOW);
}

// --- 2c: trailing bytes ---

fn with_trailer(first_byte: u8, rest: &[u8]) -> Vec<u8> {
    [&request(first_byte)[..], rest].concat()
}

fn extension(kind: u16, length: u16) -> Vec<u8> {
    let mut field = std::vec![0; usize::from(length)];
    field[..2].copy_from_slice(&kind.to_be_bytes());
    field[2..4].copy_from_slice(&length.to_be_bytes());
    field
}

#[test]
fn rule_2c_unknown_extension_fields_get_the_plain_answer() {
    for field in [extension(0xf323, 28), extension(0x0204 ^ 1, 16), [extension(1, 16), extension(2, 400)].concat()] {
        assert_eq!(fate(&server(&[]), &with_trailer(0x23, &field), &context(NOW)), Ok(HEADER));
    }
}

#[test]
fn rule_2c_authenticated_requests_are_dropped_or_answered_without() {
    let mac = |length: usize| std::vec![7; length];
    let nts = [0x0104, 0x0204, 0x0304, 0x0404].map(|kind| with_trailer(0x23, &extension(kind, 36)));
    let macs = [
        with_trailer(0x23, &mac(20)),
        with_trailer(0x23, &mac(24)),
        with_trailer(0x23, &[0; 4]),
        with_trailer(0x1b, &mac(20)),
        with_trailer(0x0b, &mac(12)),
        with_trailer(0x23, &[extension(0xf323, 28), mac(20)].concat()),
    ];
    for request in nts.iter().chain(&macs) {
        assert_eq!(fate(&server(&[]), request, &context(NOW)), Err(DropReason::Authenticated));
        assert_eq!(fate(&server(&[("authenticated", 1)]), request, &context(NOW)), Ok(HEADER), "never longer");
    }
}

#[test]
fn rule_2c_broken_fields_are_dropped() {
    for rest in [extension(1, 15), extension(1, 18), extension(1, 28)[..27].to_vec(), std::vec![0; 28], std::vec![0; 3]]
    {
        let done = fate(&server(&[]), &with_trailer(0x23, &rest), &context(NOW));
        assert_eq!(done, Err(DropReason::Malformed), "{rest:?}");
    }
}

#[test]
fn no_options_but_the_known() {
    let made = |name, value| Ntp::responder(&[ProtocolOption { name, value }]);
    assert!(made("stratum", 1).is_err() && made("leap", 3).is_err() && made("silent", 2).is_err());
    assert!(made("leap", -1).is_err() && made("stated", 1).is_ok());
}
