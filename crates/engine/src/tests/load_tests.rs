//! Where requests go: every fate is reported exactly, and for the very request that met it.

use std::sync::Arc;

use flatout_wire::Protocol;
use flatout_wire::ntp::Ntp;

use super::fake::SendOutcome;
use super::rig::{MS, QUICK, Rig, US};
use crate::generator::subinterval::Subinterval;
use crate::tally::{Counts, Outcome, Unsent};

/// The byte of an answer that says version and mode, and one of those that name the request.
const MODE: usize = 0;
const NAMING: usize = 27;
/// A byte that a client cannot judge: the reference identifier.
const HARMLESS: usize = 13;

fn tally(word: &str) -> usize {
    Ntp::TALLIES.iter().position(|&name| name == word).unwrap()
}

#[test]
fn a_good_server_answers_all() {
    let reported = Rig::default().run(|_| SendOutcome::Answer(QUICK));
    assert!(reported.is_whole());
    assert_eq!((reported.counts.planned, reported.counts.answered), (1_000, 1_000));
    assert_eq!(reported.counts.tallies[tally("basic")], 1_000);
    assert_eq!((reported.counts.duplicate, reported.counts.reordered, reported.counts.unstamped), (0, 0, 0));
    assert!(reported.rows.iter().all(|row| row.sent.is_some() && row.answered.is_some()));
}

#[test]
fn offsets_are_those_of_each_answer_that_counts() {
    let options = vec![("offset", 1), ("correction_ns", 0)];
    let measured = Rig { options, warmup: 100 * MS, ..Rig::default() }.run(|_| SendOutcome::Answer(QUICK));
    // The server's stamps are those of the sending, so the way back alone takes time.
    let behind = &measured.totals.offset.behind;
    assert_eq!((measured.counts.answered, behind.count(), measured.totals.offset.ahead.count()), (1_000, 1_000, 0));
    let half = QUICK / 2;
    assert!(behind.min().abs_diff(half) < 50 && behind.max().abs_diff(half) < 50, "{} {}", behind.min(), behind.max());
    let plain = Rig::default().run(|_| SendOutcome::Answer(QUICK));
    assert_eq!((plain.totals.response.count(), plain.totals.offset.behind.count()), (1_000, 0), "where not asked for");
}

#[test]
fn requests_that_leave_alone_take_the_next_flow_each() {
    let flows = |options| {
        let mut seen = Vec::new();
        let rig = Rig { options, flows: 4, ..Rig::steady(200_000.0, 0.01) };
        let reported = rig.run(|asked| {
            seen.push(asked.flow);
            SendOutcome::Answer(QUICK)
        });
        assert_eq!(reported.counts.answered, 2_000);
        seen
    };
    assert!(flows(vec![("interleaved", 1)]).windows(2).all(|pair| pair[1] == (pair[0] + 1) % 4));
    assert!(flows(vec![]).windows(2).any(|pair| pair[0] == pair[1]), "others share a call");
}

#[test]
fn a_reference_is_used_by_a_request_that_leaves() {
    let mut tried = None;
    let rig = Rig { options: vec![("interleaved", 1)], flows: 4, ..Rig::default() };
    let reported = rig.run(|asked| match asked.serial {
        serial if serial % 10 == 0 && tried.replace(serial) != Some(serial) => SendOutcome::Full,
        _ => SendOutcome::Answer(QUICK),
    });
    // The first answer of a flow is basic, and so is the second: the server keeps departures for those who refer only.
    let of = |word| reported.counts.tallies[tally(word)];
    assert_eq!((reported.counts.answered, of("basic"), of("interleaved")), (1_000, 8, 992));
}

#[test]
fn each_fate_is_reported_for_its_request() {
    let reported = Rig::default().run(|asked| match asked.serial % 10 {
        0 => SendOutcome::Drop,
        1 => SendOutcome::Twice(QUICK, 3 * QUICK),
        2 => SendOutcome::Corrupt(QUICK, MODE),
        3 => SendOutcome::Corrupt(QUICK, NAMING),
        4 => SendOutcome::Answer(150 * MS),
        5 => SendOutcome::Refuse(QUICK),
        6 => SendOutcome::DropHere,
        _ => SendOutcome::Answer(QUICK),
    });
    let c = &reported.counts;
    assert_eq!((c.planned, c.sent, c.answered, c.duplicate), (1_000, 900, 400, 100));
    assert_eq!((c.lost, c.invalid, c.late, c.refused), (100, 200, 100, 100));
    assert_eq!(c.unsent[Unsent::Dropped as usize], 100);
    assert_eq!(c.reordered, c.late, "150 others were answered before");
    for n in 0..1_000 {
        let expected = match n % 10 {
            // Which of those without a settling answer was answered wrongly cannot be known, only how many were.
            0 | 3 => continue,
            2 => Outcome::Invalid,
            4 => Outcome::Late,
            5 => Outcome::Refused,
            6 => Outcome::Unsent,
            _ => Outcome::Answered,
        };
        assert_eq!(reported.outcome(n), expected, "request {n}");
    }
    assert_eq!((reported.numbers(Outcome::Lost).len(), reported.numbers(Outcome::Invalid).len()), (100, 200));
}

#[test]
fn dropped_requests_are_lost() {
    let reported =
        Rig::default().run(|asked| if asked.serial % 7 == 3 { SendOutcome::Drop } else { SendOutcome::Answer(QUICK) });
    assert_eq!(reported.counts.lost, 143);
    assert_eq!(reported.numbers(Outcome::Lost), (3..1_000).step_by(7).collect::<Vec<_>>());
}

#[test]
fn an_answer_is_late_once_it_took_longer_than_the_timeout() {
    let reported = Rig::default().run(|asked| SendOutcome::Answer(100 * MS + asked.serial % 2));
    assert_eq!((reported.counts.answered, reported.counts.late, reported.counts.lost), (500, 500, 0));
    assert_eq!(reported.numbers(Outcome::Late), (1..1_000).step_by(2).collect::<Vec<_>>());
}

#[test]
fn late_answers_are_awaited_twice_the_timeout_and_no_longer() {
    let reported =
        Rig::default().run(|asked| SendOutcome::Answer(if asked.serial % 2 == 0 { 190 * MS } else { 260 * MS }));
    // The run ends 200 ms after the last request left, so of the slower ones 60 ms' worth go unheard.
    assert_eq!((reported.counts.late, reported.counts.lost), (970, 30));
    assert!((1_199 * MS..1_201 * MS).contains(&reported.ended), "{}", reported.ended);
}

#[test]
fn duplicates_are_still_heard_after_the_last_answer() {
    let reported = Rig::default()
        .run(|asked| if asked.serial == 999 { SendOutcome::Twice(QUICK, 90 * MS) } else { SendOutcome::Answer(QUICK) });
    assert_eq!((reported.counts.answered, reported.counts.duplicate), (1_000, 1));
}

#[test]
fn a_duplicate_far_from_its_answer_is_one() {
    let reported = Rig::default().run(|asked| match asked.serial % 10 {
        0 if asked.serial < 700 => SendOutcome::Twice(QUICK, 250 * MS),
        _ => SendOutcome::Answer(QUICK),
    });
    assert_eq!((reported.counts.answered, reported.counts.late, reported.counts.duplicate), (1_000, 0, 70));
}

#[test]
fn spoiled_bytes_make_an_answer_invalid_by_reason() {
    let reported = Rig::default().run(|asked| match asked.serial % 4 {
        0 => SendOutcome::Corrupt(QUICK, MODE),
        1 => SendOutcome::Corrupt(QUICK, 1),
        2 => SendOutcome::Corrupt(QUICK, HARMLESS),
        _ => SendOutcome::Answer(QUICK),
    });
    let tallies = &reported.counts.tallies;
    assert_eq!((reported.counts.invalid, reported.counts.answered), (500, 500));
    assert_eq!(
        (tallies[tally("wrong_mode")], tallies[tally("unsynchronised")], tallies[tally("basic")]),
        (250, 250, 500)
    );
}

#[test]
fn spoiled_names_are_invalid_not_lost() {
    let reported = Rig::default().run(|asked| match asked.serial % 4 {
        0 => SendOutcome::Corrupt(QUICK, NAMING),
        1 => SendOutcome::Drop,
        _ => SendOutcome::Answer(QUICK),
    });
    assert_eq!((reported.counts.invalid, reported.counts.lost, reported.counts.answered), (250, 250, 500));
}

#[test]
fn a_stranger_s_datagrams_change_nothing_where_all_is_answered() {
    let reported = Rig::default().run(|_| SendOutcome::WithJunk(QUICK));
    assert_eq!((reported.counts.answered, reported.counts.invalid, reported.counts.duplicate), (1_000, 0, 0));
}

#[test]
fn answers_overtaken_by_later_ones_are_reordered() {
    let reported =
        Rig::default().run(|asked| SendOutcome::Answer(if asked.serial % 10 == 5 { 2 * MS + 500 * US } else { QUICK }));
    assert_eq!((reported.counts.answered, reported.counts.reordered), (1_000, 100));
}

#[test]
fn only_answers_of_one_flow_overtake_each_other() {
    let rig = Rig { flows: 10, ..Rig::default() };
    let reported = rig.run(|asked| SendOutcome::Answer(if asked.flow == 5 { 2 * MS + 500 * US } else { QUICK }));
    assert_eq!((reported.counts.answered, reported.counts.reordered), (1_000, 0));
}

#[test]
fn refusals_find_their_requests() {
    let reported = Rig { flows: 3, ..Rig::default() }.run(|asked| match asked.serial % 5 {
        1 => SendOutcome::Refuse(QUICK + asked.serial % 3 * MS),
        _ => SendOutcome::Answer(QUICK),
    });
    assert_eq!((reported.counts.refused, reported.counts.answered), (200, 800));
    assert_eq!(reported.numbers(Outcome::Refused), (1..1_000).step_by(5).collect::<Vec<_>>());
}

#[test]
fn a_flood_of_refusals_is_read_to_its_end() {
    let reported =
        Rig { timeout: 1_000 * MS, ..Rig::default() }.run(|asked| SendOutcome::Refuse(1_200 * MS - asked.at));
    assert_eq!(reported.counts.refused, 1_000);
}

#[test]
fn a_flood_of_answers_is_read_to_its_end() {
    let reported =
        Rig { timeout: 2_000 * MS, ..Rig::default() }.run(|asked| SendOutcome::Answer(1_200 * MS - asked.at));
    assert_eq!(reported.counts.answered, 1_000);
}

#[test]
fn a_refusal_after_the_answer_changes_nothing() {
    let reported = Rig::default().run(|_| SendOutcome::AnswerThenRefuse(QUICK, 3 * QUICK));
    assert_eq!((reported.counts.answered, reported.counts.refused, reported.counts.duplicate), (1_000, 0, 0));
}

#[test]
fn a_server_that_is_not_there_refuses_all() {
    let reported = Rig { flows: 4, ..Rig::default() }.run(|_| SendOutcome::Refuse(QUICK));
    assert_eq!((reported.counts.sent, reported.counts.refused), (1_000, 1_000));
    assert_eq!(reported.totals.from_due.count(), 0);
}

#[test]
fn what_the_kernel_will_not_send_is_unsent_and_told() {
    const EPERM: i32 = 1;
    let rig = Rig::default();
    let reported =
        rig.run(|asked| if asked.serial % 100 == 50 { SendOutcome::Fail(EPERM) } else { SendOutcome::Answer(QUICK) });
    assert_eq!((reported.counts.unsent[Unsent::Failed as usize], reported.counts.answered), (10, 990));
    assert_eq!(rig.published.failure().as_deref(), Some("sendmsg: Operation not permitted"));
    assert!(reported.rows.iter().all(|row| (row.outcome == Outcome::Unsent) == row.sent.is_none()));
}

#[test]
fn a_full_buffer_is_tried_again() {
    let reported = Rig::default().run(|asked| match asked.at % (100 * MS) {
        0..800_000 => SendOutcome::Full,
        _ => SendOutcome::Answer(QUICK),
    });
    assert_eq!((reported.counts.answered, reported.counts.all_unsent()), (1_000, 0));
    assert_eq!(reported.totals.lateness.count_above(790 * US), 10, "the first of each 100 ms waited for room");
}

#[test]
fn a_full_buffer_for_long_leaves_requests_unsent() {
    let full = 500 * MS + 500 * US..520 * MS + 500 * US;
    let reported = Rig::default()
        .run(|asked| if full.contains(&asked.at) { SendOutcome::Full } else { SendOutcome::Answer(QUICK) });
    assert_eq!((reported.counts.unsent[Unsent::Late as usize], reported.counts.answered), (19, 981));
    assert_eq!(reported.numbers(Outcome::Unsent), (501..520).collect::<Vec<_>>());
}

#[test]
fn without_a_free_slot_requests_stay() {
    let rig = Rig { slots: 16, ..Rig::default() };
    let reported = rig.run(|_| SendOutcome::Drop);
    // 16 slots, taken at once and free again after each 100 ms.
    assert_eq!((reported.counts.sent, reported.counts.lost), (160, 160));
    assert_eq!(reported.counts.unsent[Unsent::NoSlot as usize], 840);
}

#[test]
fn a_dead_flow_holds_up_no_other() {
    let rig = Rig { slots: 16, flows: 4, timeout: 2_000 * MS, ..Rig::default() };
    let reported = rig.run(|asked| if asked.flow == 2 { SendOutcome::Drop } else { SendOutcome::Answer(QUICK) });
    assert_eq!((reported.counts.answered, reported.counts.lost), (750, 16));
    assert_eq!(reported.counts.unsent[Unsent::NoSlot as usize], 234);
}

#[test]
fn answers_to_requests_that_the_ring_forgot_are_late() {
    let rig = Rig { slots: 64, timeout: 10 * MS, ..Rig::default() };
    let reported = rig.run(|asked| match asked.serial {
        0..500 => SendOutcome::Answer(100 * MS),
        _ => SendOutcome::Answer(QUICK),
    });
    assert_eq!((reported.counts.late, reported.counts.lost, reported.counts.answered), (500, 0, 500));
}

#[test]
fn the_warm_up_is_counted_nowhere() {
    let rig = Rig { warmup: 500 * MS, ..Rig::default() };
    let mut asked_in_all = 0;
    let reported = rig.run(|asked| {
        asked_in_all = asked.serial + 1;
        match asked.serial {
            0..100 => SendOutcome::Twice(QUICK, 3 * QUICK),
            100..200 => SendOutcome::Corrupt(QUICK, NAMING),
            200..300 => SendOutcome::Corrupt(QUICK, MODE),
            300..350 => SendOutcome::Refuse(QUICK),
            350..400 => SendOutcome::DropHere,
            400..450 => SendOutcome::Drop,
            // These come back when counting has begun.
            450..500 => SendOutcome::Twice(80 * MS, 85 * MS),
            // With these open, nothing that the warm-up left behind may stand for them.
            700..800 => SendOutcome::Drop,
            _ => SendOutcome::Answer(QUICK),
        }
    });
    assert_eq!(asked_in_all, 1_500);
    let c = &reported.counts;
    assert_eq!((c.planned, c.sent, c.answered, c.lost), (1_000, 1_000, 900, 100));
    assert_eq!((c.duplicate, c.reordered, c.tallies.iter().sum::<u64>()), (0, 0, 900));
    assert_eq!(reported.rows[0].due, 0);
}

#[test]
fn answers_dropped_at_this_end_count_after_the_warm_up_only() {
    for (warmup, expected) in [(500 * MS, 3), (0, 203)] {
        let rig = Rig { warmup, ..Rig::default() };
        let reported = rig.run(|asked| match asked.serial {
            0..200 | 700..703 => SendOutcome::DropAnswer,
            _ => SendOutcome::Answer(QUICK),
        });
        assert_eq!(reported.counts.own_drops, expected);
    }
}

#[test]
fn a_request_of_the_first_counted_moment_counts() {
    let rig = Rig { warmup: 100 * MS, ..Rig::steady(1_000.0, 0.01) };
    let reported = rig.run(|asked| if asked.serial == 100 { SendOutcome::Drop } else { SendOutcome::Answer(QUICK) });
    assert_eq!((reported.counts.planned, reported.counts.lost), (10, 1));
    assert_eq!(reported.outcome(0), Outcome::Lost);
}

#[test]
fn flows_take_turns_and_keep_their_names() {
    let rig = Rig { flows: 4, first_flow: 8, ..Rig::default() };
    let reported = rig.run(|asked| {
        assert_eq!(asked.flow as u64, asked.serial % 4);
        SendOutcome::Answer(QUICK)
    });
    assert_eq!(reported.counts.answered, 1_000);
    assert!(reported.rows.iter().enumerate().all(|(n, row)| row.flow as usize == 8 + n % 4));
}

fn unsent(counts: &Counts) -> u64 {
    counts.unsent.iter().sum()
}

#[test]
fn a_worker_that_shares_its_cpu_yields_and_sends_all_that_is_due_at_once() {
    let spinning = Rig { step: 1_000, ..Rig::steady(20_000.0, 1.0) }.run(|_| SendOutcome::Answer(QUICK));
    let sharing =
        Rig { step: 1_000, shares_cpus: true, ..Rig::steady(20_000.0, 1.0) }.run(|_| SendOutcome::Answer(QUICK));
    assert_eq!((sharing.counts.answered, unsent(&sharing.counts)), (20_000, 0));
    // It yields for 150 us at least: late by less than that and a turn, while one that spins is never late.
    assert!(spinning.totals.lateness.quantile(0.99) < 20 * US);
    assert!((50 * US..300 * US).contains(&sharing.totals.lateness.quantile(0.99)));
}

#[test]
fn a_worker_told_in_mid_run_that_the_target_needs_its_cpu_yields_from_then_on() {
    let rig = Rig { step: 1_000, ..Rig::steady(20_000.0, 2.0) };
    let published = Arc::clone(&rig.published);
    let reported = rig.run(|asked| {
        if asked.serial == 20_000 {
            published.ask_to_share_cpus();
        }
        SendOutcome::Answer(QUICK)
    });
    let late: Vec<_> = reported.seconds.iter().map(|second| second.recorder.lateness.quantile(0.9)).take(2).collect();
    assert!(late[0] < 20 * US && late[1] > 50 * US, "{late:?}");
}

#[test]
fn what_is_due_when_is_counted_in_subintervals() {
    // Held up for 100 ms: some of them sent nothing in time, and only those are late.
    let rig = Rig { held_up: Some((300 * MS, 400 * MS)), ..Rig::steady(10_000.0, 1.0) };
    let reported = rig.run(|asked| if asked.serial % 2 == 0 { SendOutcome::Answer(QUICK) } else { SendOutcome::Drop });
    let subintervals = rig.published.subintervals();
    let all = subintervals.all();
    let sum = |of: fn(&Subinterval) -> u64| all.iter().map(of).sum::<u64>();
    assert_eq!((sum(|one| one.sent), sum(|one| one.unsent)), (reported.counts.sent, unsent(&reported.counts)));
    assert_eq!(sum(|one| one.answered), reported.counts.answered);
    let late = |one: &Subinterval| one.lateness_max > MS;
    assert!(all.iter().all(|one| late(one) == (one.unsent > 0)));
    let length = subintervals.length_ns();
    let held_up = (300 * MS / length) as usize..=(400 * MS / length) as usize;
    assert!(all.iter().enumerate().all(|(n, one)| !late(one) || held_up.contains(&n)));
    assert!(all.iter().filter(|one| late(one)).count() >= held_up.count() - 2);
}

#[test]
fn calls_that_send_a_part_lose_nothing() {
    // 20 requests are due at once, one call takes 3.
    let rig =
        Rig { most_a_call: 3, held_up: Some((500 * MS + 500 * US, 500 * MS + 990 * US)), ..Rig::steady(40_000.0, 0.6) };
    let reported = rig.run(|asked| if asked.serial % 2 == 0 { SendOutcome::Answer(QUICK) } else { SendOutcome::Drop });
    assert_eq!((reported.counts.answered, reported.counts.lost), (12_000, 12_000));
    assert!((0..24_000).all(|n| (reported.outcome(n) == Outcome::Answered) == (n % 2 == 0)));
}

#[test]
fn an_error_behind_the_first_of_a_group_hits_its_own_request() {
    let rig = Rig { held_up: Some((500 * MS + 500 * US, 500 * MS + 990 * US)), ..Rig::steady(40_000.0, 0.6) };
    let reported =
        rig.run(|asked| if asked.serial % 3 == 1 { SendOutcome::DropHere } else { SendOutcome::Answer(QUICK) });
    assert_eq!(reported.counts.unsent[Unsent::Dropped as usize], 8_000);
    assert_eq!(reported.numbers(Outcome::Unsent), (1..24_000).step_by(3).collect::<Vec<_>>());
}

#[test]
fn arrivals_without_a_stamp_are_counted_and_still_timed() {
    let reported = Rig::default().run(|asked| match asked.serial % 4 {
        0 => SendOutcome::Unstamped(QUICK),
        _ => SendOutcome::Answer(QUICK),
    });
    assert_eq!((reported.counts.answered, reported.counts.unstamped), (1_000, 250));
}

#[test]
fn a_stop_ends_the_run_soon_and_closes_the_sums() {
    let rig = Rig { timeout: 1_000 * MS, ..Rig::steady(1_000.0, 10.0) };
    let published = Arc::clone(&rig.published);
    let reported = rig.run(move |asked| {
        if asked.serial == 3_000 {
            published.ask_to_stop();
        }
        if asked.serial % 10 == 0 { SendOutcome::Drop } else { SendOutcome::Answer(QUICK) }
    });
    assert!(!reported.is_whole());
    assert_eq!((reported.counts.planned, reported.counts.lost), (3_001, 301));
    assert!(reported.ended < 3_205 * MS, "{}", reported.ended);
}

#[test]
fn a_stop_with_nothing_open_is_quicker_still() {
    let rig = Rig { timeout: 1_000 * MS, ..Rig::steady(1_000.0, 10.0) };
    let published = Arc::clone(&rig.published);
    let reported = rig.run(move |asked| {
        if asked.serial == 500 {
            published.ask_to_stop();
        }
        SendOutcome::Answer(QUICK)
    });
    assert_eq!(reported.counts.answered, reported.counts.planned);
    assert!(reported.ended < 605 * MS, "{}", reported.ended);
}

#[test]
fn a_stop_in_the_warm_up_counts_nothing() {
    let rig = Rig { warmup: 500 * MS, ..Rig::default() };
    let published = Arc::clone(&rig.published);
    let reported = rig.run(move |asked| {
        if asked.serial == 100 {
            published.ask_to_stop();
        }
        SendOutcome::Answer(QUICK)
    });
    assert_eq!((reported.counts.planned, reported.rows.len()), (0, 0));
}
