//! When things happen: what a stall of either end shows, what is measured, what falls into which second.

use super::fake::SendOutcome;
use super::rig::{MS, QUICK, Reported, Rig, US};
use crate::generator::UNSENT_AFTER_NS;
use crate::histogram::Durations;
use crate::pace::{Arrivals, Random, Segment};
use crate::tally::{Outcome, Unsent};

/// 200 ms that begin and end half-way between two requests of 1000/s: those numbered 501 to 700 are due within.
const FROM: u64 = 500 * MS + 500 * US;
const UNTIL: u64 = 700 * MS + 500 * US;

/// Each of the 200 waits 200 ms less what had passed when it was due.
fn has_the_stall_at_full_height(durations: &Durations) {
    for height in [50, 100, 150, 199] {
        assert_eq!(durations.count_above(height * MS), 200 - height, "above {height} ms");
    }
    assert!(durations.max().abs_diff(UNTIL - 501 * MS) < 200 * US, "{}", durations.max());
}

fn near(measured: u64, truth: u64, within: u64) {
    assert!(measured.abs_diff(truth) <= within, "{measured} is not within {within} of {truth}");
}

fn lateness_of_sent(reported: &Reported) -> u64 {
    reported.rows.iter().filter_map(|row| Some(row.sent? - row.due)).max().unwrap_or(0)
}

#[test]
fn a_generator_that_was_held_up_says_so() {
    let rig = Rig { held_up: Some((FROM, UNTIL)), ..Rig::default() };
    let reported = rig.run(|_| SendOutcome::Answer(QUICK));
    has_the_stall_at_full_height(&reported.totals.lateness);
    has_the_stall_at_full_height(&reported.totals.from_due);
    assert!(reported.totals.from_sent.max() < 2 * QUICK, "{}", reported.totals.from_sent.max());
    assert_eq!(reported.counts.unsent[Unsent::Late as usize], 199);
    assert_eq!(reported.numbers(Outcome::Unsent), (501..700).collect::<Vec<_>>());
}

#[test]
fn what_left_late_is_late_from_due_alone() {
    let rig = Rig { held_up: Some((499 * MS + 900 * US, 500 * MS + 900 * US)), ..Rig::default() };
    let reported = rig.run(|_| SendOutcome::Answer(QUICK));
    assert_eq!(reported.counts.answered, 1_000);
    near(reported.totals.lateness.max(), 900 * US, 5 * US);
    near(reported.totals.from_due.max(), 900 * US + QUICK, 5 * US);
    near(reported.totals.from_sent.max(), QUICK, US);
}

#[test]
fn a_server_that_stalls_shows_at_full_height() {
    let rig = Rig { timeout: 1_000 * MS, ..Rig::default() };
    let reported = rig.run(|asked| SendOutcome::stalled(asked, FROM, UNTIL, QUICK));
    assert_eq!(reported.counts.answered, 1_000);
    has_the_stall_at_full_height(&reported.totals.from_due);
    has_the_stall_at_full_height(&reported.totals.from_sent);
    assert!(reported.totals.lateness.max() < 10 * US, "{}", reported.totals.lateness.max());
}

#[test]
fn a_server_that_stalls_past_the_timeout_makes_answers_late() {
    let rig = Rig { timeout: 50 * MS, ..Rig::default() };
    let reported = rig.run(|asked| SendOutcome::stalled(asked, FROM, UNTIL, QUICK));
    assert_eq!((reported.counts.late, reported.counts.lost, reported.counts.answered), (150, 0, 850));
    assert_eq!(reported.numbers(Outcome::Late), (501..651).collect::<Vec<_>>());
}

#[test]
fn a_generator_that_cannot_keep_up_leaves_requests_out_and_stays_on_time() {
    let rig = Rig { send_cost: 150 * US, ..Rig::steady(10_000.0, 0.5) };
    let reported = rig.run(|_| SendOutcome::Answer(QUICK));
    assert!(reported.is_whole());
    assert!(lateness_of_sent(&reported) <= UNSENT_AFTER_NS, "{}", lateness_of_sent(&reported));
    let (sent, late) = (reported.counts.sent, reported.counts.unsent[Unsent::Late as usize]);
    assert_eq!(sent + late, 5_000);
    near(sent, 5_000 * 100 / 150, 100);
    near(reported.totals.lateness.count_above(UNSENT_AFTER_NS), late, late / 10);
}

#[test]
fn a_run_that_is_held_up_at_its_end_still_hears_what_came_in_time() {
    let rig = Rig { flows: 16, timeout: 500 * MS, held_up: Some((1_005 * MS, 3_000 * MS)), ..Rig::default() };
    let reported = rig.run(|_| SendOutcome::Answer(40 * MS));
    assert_eq!((reported.counts.answered, reported.counts.lost), (1_000, 0));
    near(reported.totals.from_sent.max(), 40 * MS, 40 * US);
}

#[test]
fn an_answer_in_the_last_moment_of_the_timeout_is_heard() {
    let reported = Rig::default().run(|asked| match asked.serial {
        999 => SendOutcome::Answer(100 * MS),
        998 => SendOutcome::Drop,
        _ => SendOutcome::Answer(QUICK),
    });
    assert_eq!((reported.counts.answered, reported.counts.lost), (999, 1));
}

/// A skewed distribution: 100 µs to 10 ms, most of it short, in no order. Returns the delays.
fn skewed(count: usize) -> Vec<u64> {
    let mut random = Random::new(3);
    (0..count).map(|_| 100 * US + (9_900_000.0 * random.unit().powi(4)) as u64).collect()
}

fn exact(delays: &[u64], quantile: f64) -> u64 {
    let mut sorted = delays.to_vec();
    sorted.sort_unstable();
    sorted[(quantile * sorted.len() as f64).ceil() as usize - 1]
}

#[test]
fn a_known_distribution_is_measured() {
    for stamps in [true, false] {
        let delays = skewed(5_000);
        let rig = Rig { stamps, flows: 4, ..Rig::steady(5_000.0, 1.0) };
        let reported = rig.run(|asked| SendOutcome::Answer(delays[asked.serial as usize]));
        for measured in [&reported.totals.from_due, &reported.totals.from_sent] {
            near(measured.quantile(0.5), exact(&delays, 0.5), 5 * US);
            near(measured.quantile(0.99), exact(&delays, 0.99), exact(&delays, 0.99) / 100);
            near(measured.max(), exact(&delays, 1.0), exact(&delays, 1.0) / 100);
        }
        let mean = delays.iter().sum::<u64>() as f64 / 5_000.0;
        assert!((reported.totals.from_sent.mean() / mean - 1.0).abs() < 0.01);
    }
}

#[test]
fn the_log_has_each_request_s_own_times() {
    let delays = skewed(1_000);
    let reported = Rig::default().run(|asked| SendOutcome::Answer(delays[asked.serial as usize]));
    for (n, row) in reported.rows.iter().enumerate() {
        let sent = row.sent.unwrap();
        assert_eq!(row.due, n as u64 * MS);
        assert!((row.due..row.due + 2 * US).contains(&sent), "request {n} left {} ns late", sent - row.due);
        assert_eq!(row.answered, Some(sent + delays[n]));
    }
}

#[test]
fn seconds_count_what_happened_in_them() {
    let reported = Rig::steady(400.0, 2.5).run(|asked| match asked.serial {
        100..140 => SendOutcome::Twice(QUICK, 3 * QUICK),
        // Asked in the first second, answered in the second.
        380..390 => SendOutcome::Answer(90 * MS),
        390..400 => SendOutcome::Drop,
        _ => SendOutcome::Answer(QUICK),
    });
    let of =
        |pick: fn(&crate::tally::Counts) -> u64| reported.seconds.iter().map(|s| pick(&s.counts)).collect::<Vec<_>>();
    assert_eq!(of(|counts| counts.planned), [400, 400, 200]);
    assert_eq!(of(|counts| counts.sent), [400, 400, 200]);
    assert_eq!(of(|counts| counts.answered), [380, 410, 200]);
    assert_eq!(of(|counts| counts.duplicate), [40, 0, 0]);
    assert_eq!(of(|counts| counts.lost), [0, 10, 0]);
    let samples: Vec<_> = reported.seconds.iter().map(|second| second.recorder.from_sent.count()).collect();
    assert_eq!(samples, [380, 410, 200]);
    assert_eq!(reported.seconds.iter().map(|s| s.until / (100 * MS)).collect::<Vec<_>>(), [10, 20, 25]);
}

#[test]
fn what_is_due_as_a_second_begins_belongs_to_it() {
    for step in 190..220 {
        let reported = Rig { step, ..Rig::steady(10.0, 2.0) }.run(|_| SendOutcome::Answer(QUICK));
        let planned: Vec<_> = reported.seconds.iter().map(|second| second.counts.planned).collect();
        assert_eq!(planned[..2], [10, 10], "step {step}");
    }
}

#[test]
fn a_generator_held_up_for_seconds_leaves_no_second_out() {
    let rig = Rig { held_up: Some((500 * MS, 3_500 * MS)), ..Rig::steady(100.0, 4.0) };
    let reported = rig.run(|_| SendOutcome::Answer(QUICK));
    assert_eq!(reported.seconds.len(), 5);
    assert_eq!(reported.counts.planned, 400);
    near(reported.totals.lateness.max(), 3_000 * MS, 15 * MS);
}

#[test]
fn random_arrivals_are_asked_as_drawn() {
    let rig = Rig { arrivals: Arrivals::Poisson, flows: 3, warmup: 100 * MS, ..Rig::steady(2_000.0, 1.0) };
    let reported = rig.run(|asked| if asked.serial % 9 == 0 { SendOutcome::Drop } else { SendOutcome::Answer(QUICK) });
    assert!(reported.is_whole());
    near(reported.counts.planned, 2_000, 150);
    assert_eq!(reported.counts.all_unsent(), 0);
    assert!(lateness_of_sent(&reported) < 5 * US, "{}", lateness_of_sent(&reported));
}

#[test]
fn a_profile_with_rests_is_asked_as_planned() {
    let segment = |seconds, from_per_s, to_per_s| Segment { seconds, from_per_s, to_per_s };
    let profile = vec![segment(0.5, 400.0, 400.0), segment(0.5, 0.0, 0.0), segment(0.5, 0.0, 800.0)];
    let reported = Rig { profile, ..Rig::default() }.run(|_| SendOutcome::Answer(QUICK));
    assert!(reported.is_whole());
    assert_eq!((reported.counts.planned, reported.counts.answered), (400, 400));
    assert!(lateness_of_sent(&reported) < 5 * US);
}

#[test]
fn the_run_ends_a_timeout_after_the_last_request_where_some_are_open() {
    let reported =
        Rig::default().run(|asked| if asked.serial == 7 { SendOutcome::Drop } else { SendOutcome::Answer(QUICK) });
    near(reported.ended, 999 * MS + 100 * MS, 2 * MS);
}

#[test]
fn a_run_of_nothing_ends() {
    let reported = Rig::steady(0.0, 0.2).run(|_| SendOutcome::Drop);
    assert_eq!(reported.counts.planned, 0);
    assert!((200 * MS..202 * MS).contains(&reported.ended), "{}", reported.ended);
}
