//! One request at a time: the next leaves when the last has ended, however that was.

use super::fake::{Asked, SendOutcome};
use super::rig::{MS, QUICK, Reported, Rig, US};
use crate::plan::Wait;
use crate::tally::Outcome;

/// Readings of the clock between an answer and the next request, at most.
const BETWEEN: u64 = 5 * US;

fn ping_pong(wait: Wait) -> Rig {
    Rig { ping_pong: Some(wait), ..Rig::steady(0.0, 1.0) }
}

/// The longest pause between the end of a request and the beginning of the next one.
fn longest_pause(reported: &Reported) -> u64 {
    let ends = reported.rows.iter().map(|row| row.answered.unwrap_or(row.due));
    ends.zip(&reported.rows[1..]).map(|(end, next)| next.sent.unwrap() - end).max().unwrap()
}

#[test]
fn the_next_leaves_when_the_last_is_answered() {
    for wait in [Wait::Sleep, Wait::Spin] {
        let reported = ping_pong(wait).run(|_| SendOutcome::Answer(QUICK));
        let c = &reported.counts;
        assert!(c.answered > 1_000_000_000 / (QUICK + BETWEEN), "{wait:?}: {}", c.answered);
        assert!(c.answered < 1_000_000_000 / QUICK);
        assert_eq!((c.planned, c.sent), (c.answered, c.answered));
        assert!(longest_pause(&reported) < BETWEEN, "{}", longest_pause(&reported));
    }
}

#[test]
fn never_are_two_under_way() {
    let reported = ping_pong(Wait::Sleep).run(|asked| SendOutcome::Answer(QUICK + asked.serial % 7 * 100 * US));
    for pair in reported.rows.windows(2) {
        assert!(pair[1].sent.unwrap() > pair[0].answered.unwrap());
    }
}

#[test]
fn a_lost_one_holds_up_the_next_for_the_timeout() {
    let reported = ping_pong(Wait::Sleep)
        .run(|asked| if asked.serial == 3 { SendOutcome::Drop } else { SendOutcome::Answer(QUICK) });
    assert_eq!((reported.counts.lost, reported.outcome(3)), (1, Outcome::Lost));
    let pause = reported.rows[4].sent.unwrap() - reported.rows[3].sent.unwrap();
    assert!((100 * MS..102 * MS).contains(&pause), "{pause}");
}

#[test]
fn a_late_answer_does_not_end_the_one_after_it() {
    // The fourth is answered 20 ms after its time-out, while the fifth is under way for 50 ms.
    let outcome_of_send = |asked: Asked| match asked.serial {
        3 => SendOutcome::Answer(120 * MS),
        4 => SendOutcome::Answer(50 * MS),
        _ => SendOutcome::Answer(QUICK),
    };
    let reported = ping_pong(Wait::Sleep).run(outcome_of_send);
    assert_eq!((reported.outcome(3), reported.outcome(4), reported.counts.late), (Outcome::Late, Outcome::Answered, 1));
    let pause = reported.rows[5].sent.unwrap() - reported.rows[4].sent.unwrap();
    assert!((50 * MS..51 * MS).contains(&pause), "{pause}");
}

#[test]
fn a_refused_one_makes_way_at_once() {
    let reported = ping_pong(Wait::Sleep).run(|asked| match asked.serial % 2 {
        0 => SendOutcome::Refuse(QUICK),
        _ => SendOutcome::Answer(QUICK),
    });
    assert!(reported.counts.refused > 1_000, "{}", reported.counts.refused);
    assert!(reported.counts.answered > 1_000);
}

#[test]
fn what_this_machine_drops_holds_up_nothing() {
    let reported = ping_pong(Wait::Sleep)
        .run(|asked| if asked.serial == 5 { SendOutcome::DropHere } else { SendOutcome::Answer(QUICK) });
    assert_eq!(reported.counts.all_unsent(), 1);
    assert!(reported.counts.answered > 10_000);
}

#[test]
fn warm_up_is_played_and_not_counted() {
    let mut warming = 0;
    let reported = Rig { warmup: 500 * MS, ..ping_pong(Wait::Sleep) }.run(|asked| {
        warming += u64::from(asked.at < 500 * MS);
        SendOutcome::Answer(QUICK)
    });
    assert!((5_000..10_000).contains(&warming), "{warming}");
    assert!((10_000..20_000).contains(&reported.counts.answered), "{}", reported.counts.answered);
}

#[test]
fn flows_take_turns() {
    let reported = Rig { flows: 3, ..ping_pong(Wait::Sleep) }.run(|_| SendOutcome::Answer(60 * US));
    let flows: Vec<_> = reported.rows.iter().map(|row| row.flow).collect();
    assert!(flows.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 3));
}

#[test]
fn what_reading_adds_is_told_apart_where_the_kernel_stamps() {
    let reported = ping_pong(Wait::Sleep).run(|_| SendOutcome::Answer(QUICK));
    assert_eq!(reported.totals.reading.count(), reported.counts.answered);
    assert!(reported.totals.reading.max() < BETWEEN);
    // The generator has no CPU while the answers lie there.
    let held_up =
        Rig { held_up: Some((200 * MS, 230 * MS)), ..ping_pong(Wait::Sleep) }.run(|_| SendOutcome::Answer(QUICK));
    assert!((29 * MS..31 * MS).contains(&held_up.totals.reading.max()), "{}", held_up.totals.reading.max());
    assert!(held_up.totals.from_sent.max() < MS);
    let unstamped = ping_pong(Wait::Sleep).run(|_| SendOutcome::Unstamped(QUICK));
    assert_eq!(unstamped.totals.reading.count(), 0);
    let user = Rig { stamps: false, ..ping_pong(Wait::Spin) }.run(|_| SendOutcome::Answer(QUICK));
    assert_eq!(user.totals.reading.count(), 0);
}

#[test]
fn a_scheduled_run_lets_answers_lie_and_does_not_time_it() {
    let reported = Rig::default().run(|_| SendOutcome::Answer(QUICK));
    assert_eq!(reported.totals.reading.count(), 0);
}

#[test]
fn a_wish_to_stop_ends_it() {
    let rig = ping_pong(Wait::Spin);
    let published = std::sync::Arc::clone(&rig.published);
    let reported = rig.run(move |asked| {
        if asked.serial == 100 {
            published.ask_to_stop();
        }
        SendOutcome::Answer(QUICK)
    });
    assert!(reported.ended < 300 * MS, "{}", reported.ended);
    assert!(reported.counts.answered > 100);
}
