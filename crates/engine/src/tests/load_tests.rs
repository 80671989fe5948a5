//! Where requests go: every fate is reported exactly, and for the very request that met it.

use std::sync::Arc;

use flatout_wire::Protocol;
use flatout_wire::ntp::Ntp;

use super::fake::Fate;
use super::rig::{MS, QUICK, Rig, US};
use crate::tally::{Outcome, Unsent};

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
    let told = Rig::default().run(|_| Fate::Answer(QUICK));
    assert!(told.is_whole());
    assert_eq!((told.counts.planned, told.counts.answered), (1_000, 1_000));
    assert_eq!(told.counts.tallies[tally("basic")], 1_000);
    assert_eq!((told.counts.duplicate, told.counts.reordered, told.counts.unstamped), (0, 0, 0));
    assert!(told.rows.iter().all(|row| row.sent.is_some() && row.answered.is_some()));
}

#[test]
fn each_fate_is_reported_for_its_request() {
    let told = Rig::default().run(|asked| match asked.serial % 10 {
        0 => Fate::Drop,
        1 => Fate::Twice(QUICK, 3 * QUICK),
        2 => Fate::Corrupt(QUICK, MODE),
        3 => Fate::Corrupt(QUICK, NAMING),
        4 => Fate::Answer(150 * MS),
        5 => Fate::Refuse(QUICK),
        6 => Fate::DropHere,
        _ => Fate::Answer(QUICK),
    });
    let c = &told.counts;
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
        assert_eq!(told.outcome(n), expected, "request {n}");
    }
    assert_eq!((told.numbers(Outcome::Lost).len(), told.numbers(Outcome::Invalid).len()), (100, 200));
}

#[test]
fn dropped_requests_are_lost() {
    let told = Rig::default().run(|asked| if asked.serial % 7 == 3 { Fate::Drop } else { Fate::Answer(QUICK) });
    assert_eq!(told.counts.lost, 143);
    assert_eq!(told.numbers(Outcome::Lost), (3..1_000).step_by(7).collect::<Vec<_>>());
}

#[test]
fn an_answer_is_late_once_it_took_longer_than_the_timeout() {
    let told = Rig::default().run(|asked| Fate::Answer(100 * MS + asked.serial % 2));
    assert_eq!((told.counts.answered, told.counts.late, told.counts.lost), (500, 500, 0));
    assert_eq!(told.numbers(Outcome::Late), (1..1_000).step_by(2).collect::<Vec<_>>());
}

#[test]
fn late_answers_are_awaited_twice_the_timeout_and_no_longer() {
    let told = Rig::default().run(|asked| Fate::Answer(if asked.serial % 2 == 0 { 190 * MS } else { 260 * MS }));
    // The run ends 200 ms after the last request left, so of the slower ones 60 ms' worth go unheard.
    assert_eq!((told.counts.late, told.counts.lost), (970, 30));
    assert!((1_199 * MS..1_201 * MS).contains(&told.ended), "{}", told.ended);
}

#[test]
fn duplicates_are_still_heard_after_the_last_answer() {
    let told =
        Rig::default().run(|asked| if asked.serial == 999 { Fate::Twice(QUICK, 90 * MS) } else { Fate::Answer(QUICK) });
    assert_eq!((told.counts.answered, told.counts.duplicate), (1_000, 1));
}

#[test]
fn a_duplicate_far_from_its_answer_is_one() {
    let told = Rig::default().run(|asked| match asked.serial % 10 {
        0 if asked.serial < 700 => Fate::Twice(QUICK, 250 * MS),
        _ => Fate::Answer(QUICK),
    });
    assert_eq!((told.counts.answered, told.counts.late, told.counts.duplicate), (1_000, 0, 70));
}

#[test]
fn spoiled_bytes_make_an_answer_invalid_by_reason() {
    let told = Rig::default().run(|asked| match asked.serial % 4 {
        0 => Fate::Corrupt(QUICK, MODE),
        1 => Fate::Corrupt(QUICK, 1),
        2 => Fate::Corrupt(QUICK, HARMLESS),
        _ => Fate::Answer(QUICK),
    });
    let tallies = &told.counts.tallies;
    assert_eq!((told.counts.invalid, told.counts.answered), (500, 500));
    assert_eq!(
        (tallies[tally("wrong_mode")], tallies[tally("unsynchronised")], tallies[tally("basic")]),
        (250, 250, 500)
    );
}

#[test]
fn spoiled_names_are_invalid_not_lost() {
    let told = Rig::default().run(|asked| match asked.serial % 4 {
        0 => Fate::Corrupt(QUICK, NAMING),
        1 => Fate::Drop,
        _ => Fate::Answer(QUICK),
    });
    assert_eq!((told.counts.invalid, told.counts.lost, told.counts.answered), (250, 250, 500));
}

#[test]
fn a_stranger_s_datagrams_change_nothing_where_all_is_answered() {
    let told = Rig::default().run(|_| Fate::WithJunk(QUICK));
    assert_eq!((told.counts.answered, told.counts.invalid, told.counts.duplicate), (1_000, 0, 0));
}

#[test]
fn answers_overtaken_by_later_ones_are_reordered() {
    let told = Rig::default().run(|asked| Fate::Answer(if asked.serial % 10 == 5 { 2 * MS + 500 * US } else { QUICK }));
    assert_eq!((told.counts.answered, told.counts.reordered), (1_000, 100));
}

#[test]
fn only_answers_of_one_flow_overtake_each_other() {
    let rig = Rig { flows: 10, ..Rig::default() };
    let told = rig.run(|asked| Fate::Answer(if asked.flow == 5 { 2 * MS + 500 * US } else { QUICK }));
    assert_eq!((told.counts.answered, told.counts.reordered), (1_000, 0));
}

#[test]
fn refusals_find_their_requests() {
    let told = Rig { flows: 3, ..Rig::default() }.run(|asked| match asked.serial % 5 {
        1 => Fate::Refuse(QUICK + asked.serial % 3 * MS),
        _ => Fate::Answer(QUICK),
    });
    assert_eq!((told.counts.refused, told.counts.answered), (200, 800));
    assert_eq!(told.numbers(Outcome::Refused), (1..1_000).step_by(5).collect::<Vec<_>>());
}

#[test]
fn a_flood_of_refusals_is_read_to_its_end() {
    let told = Rig { timeout: 1_000 * MS, ..Rig::default() }.run(|asked| Fate::Refuse(1_200 * MS - asked.at));
    assert_eq!(told.counts.refused, 1_000);
}

#[test]
fn a_flood_of_answers_is_read_to_its_end() {
    let told = Rig { timeout: 2_000 * MS, ..Rig::default() }.run(|asked| Fate::Answer(1_200 * MS - asked.at));
    assert_eq!(told.counts.answered, 1_000);
}

#[test]
fn a_refusal_after_the_answer_changes_nothing() {
    let told = Rig::default().run(|_| Fate::AnswerThenRefuse(QUICK, 3 * QUICK));
    assert_eq!((told.counts.answered, told.counts.refused, told.counts.duplicate), (1_000, 0, 0));
}

#[test]
fn a_server_that_is_not_there_refuses_all() {
    let told = Rig { flows: 4, ..Rig::default() }.run(|_| Fate::Refuse(QUICK));
    assert_eq!((told.counts.sent, told.counts.refused), (1_000, 1_000));
    assert_eq!(told.totals.from_due.count(), 0);
}

#[test]
fn what_the_kernel_will_not_send_is_unsent_and_told() {
    const EPERM: i32 = 1;
    let rig = Rig::default();
    let told = rig.run(|asked| if asked.serial % 100 == 50 { Fate::Fail(EPERM) } else { Fate::Answer(QUICK) });
    assert_eq!((told.counts.unsent[Unsent::Failed as usize], told.counts.answered), (10, 990));
    assert!(rig.board.failure().is_some_and(|why| why.contains("os error 1")));
    assert!(told.rows.iter().all(|row| (row.outcome == Outcome::Unsent) == row.sent.is_none()));
}

#[test]
fn a_full_buffer_is_tried_again() {
    let told = Rig::default().run(|asked| match asked.at % (100 * MS) {
        0..800_000 => Fate::Full,
        _ => Fate::Answer(QUICK),
    });
    assert_eq!((told.counts.answered, told.counts.all_unsent()), (1_000, 0));
    assert_eq!(told.totals.lateness.count_above(790 * US), 10, "the first of each 100 ms waited for room");
}

#[test]
fn a_full_buffer_for_long_leaves_requests_unsent() {
    let full = 500 * MS + 500 * US..520 * MS + 500 * US;
    let told = Rig::default().run(|asked| if full.contains(&asked.at) { Fate::Full } else { Fate::Answer(QUICK) });
    assert_eq!((told.counts.unsent[Unsent::Late as usize], told.counts.answered), (19, 981));
    assert_eq!(told.numbers(Outcome::Unsent), (501..520).collect::<Vec<_>>());
}

#[test]
fn without_a_free_slot_requests_stay() {
    let rig = Rig { slots: 16, ..Rig::default() };
    let told = rig.run(|_| Fate::Drop);
    // 16 slots, taken at once and free again after each 100 ms.
    assert_eq!((told.counts.sent, told.counts.lost), (160, 160));
    assert_eq!(told.counts.unsent[Unsent::NoSlot as usize], 840);
}

#[test]
fn a_dead_flow_holds_up_no_other() {
    let rig = Rig { slots: 16, flows: 4, timeout: 2_000 * MS, ..Rig::default() };
    let told = rig.run(|asked| if asked.flow == 2 { Fate::Drop } else { Fate::Answer(QUICK) });
    assert_eq!((told.counts.answered, told.counts.lost), (750, 16));
    assert_eq!(told.counts.unsent[Unsent::NoSlot as usize], 234);
}

#[test]
fn answers_to_requests_that_the_ring_forgot_are_late() {
    let rig = Rig { slots: 64, timeout: 10 * MS, ..Rig::default() };
    let told = rig.run(|asked| match asked.serial {
        0..500 => Fate::Answer(100 * MS),
        _ => Fate::Answer(QUICK),
    });
    assert_eq!((told.counts.late, told.counts.lost, told.counts.answered), (500, 0, 500));
}

#[test]
fn the_warm_up_is_counted_nowhere() {
    let rig = Rig { warmup: 500 * MS, ..Rig::default() };
    let mut asked_in_all = 0;
    let told = rig.run(|asked| {
        asked_in_all = asked.serial + 1;
        match asked.serial {
            0..100 => Fate::Twice(QUICK, 3 * QUICK),
            100..200 => Fate::Corrupt(QUICK, NAMING),
            200..300 => Fate::Corrupt(QUICK, MODE),
            300..350 => Fate::Refuse(QUICK),
            350..400 => Fate::DropHere,
            400..450 => Fate::Drop,
            // These come back when counting has begun.
            450..500 => Fate::Twice(80 * MS, 85 * MS),
            // With these open, nothing that the warm-up left behind may stand for them.
            700..800 => Fate::Drop,
            _ => Fate::Answer(QUICK),
        }
    });
    assert_eq!(asked_in_all, 1_500);
    let c = &told.counts;
    assert_eq!((c.planned, c.sent, c.answered, c.lost), (1_000, 1_000, 900, 100));
    assert_eq!((c.duplicate, c.reordered, c.tallies.iter().sum::<u64>()), (0, 0, 900));
    assert_eq!(told.rows[0].due, 0);
}

#[test]
fn a_request_of_the_first_counted_moment_counts() {
    let rig = Rig { warmup: 100 * MS, ..Rig::steady(1_000.0, 0.01) };
    let told = rig.run(|asked| if asked.serial == 100 { Fate::Drop } else { Fate::Answer(QUICK) });
    assert_eq!((told.counts.planned, told.counts.lost), (10, 1));
    assert_eq!(told.outcome(0), Outcome::Lost);
}

#[test]
fn flows_take_turns_and_keep_their_names() {
    let rig = Rig { flows: 4, first_flow: 8, ..Rig::default() };
    let told = rig.run(|asked| {
        assert_eq!(asked.flow as u64, asked.serial % 4);
        Fate::Answer(QUICK)
    });
    assert_eq!(told.counts.answered, 1_000);
    assert!(told.rows.iter().enumerate().all(|(n, row)| row.flow as usize == 8 + n % 4));
}

#[test]
fn calls_that_send_a_part_lose_nothing() {
    // 20 requests are due at once, one call takes 3.
    let rig =
        Rig { most_a_call: 3, held_up: Some((500 * MS + 500 * US, 500 * MS + 990 * US)), ..Rig::steady(40_000.0, 0.6) };
    let told = rig.run(|asked| if asked.serial % 2 == 0 { Fate::Answer(QUICK) } else { Fate::Drop });
    assert_eq!((told.counts.answered, told.counts.lost), (12_000, 12_000));
    assert!((0..24_000).all(|n| (told.outcome(n) == Outcome::Answered) == (n % 2 == 0)));
}

#[test]
fn an_error_behind_the_first_of_a_group_hits_its_own_request() {
    let rig = Rig { held_up: Some((500 * MS + 500 * US, 500 * MS + 990 * US)), ..Rig::steady(40_000.0, 0.6) };
    let told = rig.run(|asked| if asked.serial % 3 == 1 { Fate::DropHere } else { Fate::Answer(QUICK) });
    assert_eq!(told.counts.unsent[Unsent::Dropped as usize], 8_000);
    assert_eq!(told.numbers(Outcome::Unsent), (1..24_000).step_by(3).collect::<Vec<_>>());
}

#[test]
fn arrivals_without_a_stamp_are_counted_and_still_timed() {
    let told = Rig::default().run(|asked| match asked.serial % 4 {
        0 => Fate::Unstamped(QUICK),
        _ => Fate::Answer(QUICK),
    });
    assert_eq!((told.counts.answered, told.counts.unstamped), (1_000, 250));
}

#[test]
fn a_stop_ends_the_run_soon_and_closes_the_sums() {
    let rig = Rig { timeout: 1_000 * MS, ..Rig::steady(1_000.0, 10.0) };
    let board = Arc::clone(&rig.board);
    let told = rig.run(move |asked| {
        if asked.serial == 3_000 {
            board.ask_to_stop();
        }
        if asked.serial % 10 == 0 { Fate::Drop } else { Fate::Answer(QUICK) }
    });
    assert!(!told.is_whole());
    assert_eq!((told.counts.planned, told.counts.lost), (3_001, 301));
    assert!(told.ended < 3_205 * MS, "{}", told.ended);
}

#[test]
fn a_stop_with_nothing_open_is_quicker_still() {
    let rig = Rig { timeout: 1_000 * MS, ..Rig::steady(1_000.0, 10.0) };
    let board = Arc::clone(&rig.board);
    let told = rig.run(move |asked| {
        if asked.serial == 500 {
            board.ask_to_stop();
        }
        Fate::Answer(QUICK)
    });
    assert_eq!(told.counts.answered, told.counts.planned);
    assert!(told.ended < 605 * MS, "{}", told.ended);
}

#[test]
fn a_stop_in_the_warm_up_counts_nothing() {
    let rig = Rig { warmup: 500 * MS, ..Rig::default() };
    let board = Arc::clone(&rig.board);
    let told = rig.run(move |asked| {
        if asked.serial == 100 {
            board.ask_to_stop();
        }
        Fate::Answer(QUICK)
    });
    assert_eq!((told.counts.planned, told.rows.len()), (0, 0));
}
