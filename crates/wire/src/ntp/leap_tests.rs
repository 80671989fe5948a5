//! Leap seconds in the server's conformance suite: announced, left out, smeared.
use super::*;

/// The end of the leap second of 2026-12-31, as if there were one.
const LEAP_AT: u64 = 1_798_761_600;

#[test]
fn rule_2b_leap_bits_are_announced_or_left_out() {
    let noon = (LEAP_AT - 43_200) * SECOND;
    for leap in [1, 2] {
        let state = State { leap, reference: 0, ..State::default() };
        assert_eq!(state.answer(&[], 0, noon)[0] >> 6, leap);
        assert_eq!(state.answer(&[("leap", 1)], 0, noon)[0] >> 6, 0, "smeared by others");
        assert_eq!(state.answer(&[("leap", 2)], 0, noon)[0] >> 6, 0, "smeared here");
    }
}

#[test]
fn rule_2b_while_a_leap_second_is_in_progress_there_is_no_time() {
    let announced = State { leap: 1, reference: 0, ..State::default() };
    for (offset, expected) in [(-2_i64, false), (-1, true), (0, true), (1, false)] {
        let now = (LEAP_AT.wrapping_add_signed(offset)) * SECOND;
        assert_eq!(is_unsynchronised(&announced.answer(&[], 0, now)), expected, "{offset} s");
        let smeared = State { leap: 0, leap_at: LEAP_AT as i64, leap_s: 1, ..announced };
        assert_eq!(is_unsynchronised(&smeared.answer(&[("leap", 2)], 0, now)), expected, "smear, {offset} s");
    }
    for offset in [-1_i64, 0] {
        let now = LEAP_AT.wrapping_add_signed(offset) * SECOND;
        assert!(!is_unsynchronised(&announced.answer(&[("leap", 1)], 0, now)), "smeared by others, {offset} s");
    }
    let quiet = State { reference: 0, ..State::default() };
    assert!(!is_unsynchronised(&quiet.answer(&[], 0, LEAP_AT * SECOND)), "a midnight as any other");
}

#[test]
fn rule_2b_leap_seconds_are_at_the_end_of_a_month_only() {
    let announced = State { leap: 1, reference: 0, ..State::default() };
    let ends = |days: u64| {
        let at = |second: u64| is_unsynchronised(&announced.answer(&[], 0, second * SECOND));
        let (midnight, before) = (at(days * 86_400), at(days * 86_400 - 1));
        assert_eq!(midnight, before, "day {days}");
        midnight
    };
    // 2024 to 2027 and 2096 to 2103: with leap days, and the one that 2100 does not have.
    for (first_day, first_year) in [(19_723_u64, 2024_u64), (46_021, 2096)] {
        let (mut begins, mut expected) = (first_day, Vec::new());
        for year in first_year..first_year + 8 {
            let february = if year % 4 == 0 && year != 2100 { 29 } else { 28 };
            for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
                expected.push(begins);
                begins += days;
            }
        }
        assert_eq!((first_day..begins).filter(|&days| ends(days)).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_smear_is_linear_from_noon_to_noon_and_continuous() {
    for sign in [1_i64, -1] {
        let state = State { reference: 0, leap_at: LEAP_AT as i64, leap_s: sign, ..State::default() };
        let smeared = |now: u64| {
            let transmit = stamp(&state.answer(&[("leap", 2)], 0, now), 40);
            let exact = from_unix(now);
            (transmit.wrapping_sub(exact) as i64) as f64 / 4_294_967_296.0
        };
        let at = |seconds: i64| smeared(LEAP_AT.wrapping_add_signed(seconds) * SECOND);
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
        near(at(-43_200), 0.0);
        near(at(-21_600), -0.25 * sign as f64);
        near(at(-3), -0.5 * sign as f64);
        near(at(3), 0.5 * sign as f64);
        near(at(21_600), 0.25 * sign as f64);
        near(at(43_200), 0.0);
        near(at(-86_400), 0.0);
        assert_eq!(
            state.answer(&[], 0, (LEAP_AT - 21_600) * SECOND)[40..],
            from_unix((LEAP_AT - 21_600) * SECOND).to_be_bytes()
        );
    }
}
