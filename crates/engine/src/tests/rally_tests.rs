//! One request at a time: the next leaves when the last has ended, however that was.

use super::fake::{Asked, Fate};
use super::rig::{MS, QUICK, Rig, Told, US};
use crate::plan::Wait;
use crate::tally::Outcome;

/// Readings of the clock between an answer and the next request, at most.
const BETWEEN: u64 = 5 * US;

fn rally(wait: Wait) -> Rig {
    Rig { rally: Some(wait), ..Rig::steady(0.0, 1.0) }
}

/// The longest pause between the end of a request and the beginning of the next one.
fn longest_pause(told: &Told) -> u64 {
    let ends = told.rows.iter().map(|row| row.answered.unwrap_or(row.due));
    ends.zip(&told.rows[1..]).map(|(end, next)| next.sent.unwrap() - end).max().unwrap()
}

#[test]
fn the_next_leaves_when_the_last_is_answered() {
    for wait in [Wait::Sleep, Wait::Spin] {
        let told = rally(wait).run(|_| Fate::Answer(QUICK));
        let c = &told.counts;
        assert!(c.answered > 1_000_000_000 / (QUICK + BETWEEN), "{wait:?}: {}", c.answered);
        assert!(c.answered < 1_000_000_000 / QUICK);
        assert_eq!((c.planned, c.sent), (c.answered, c.answered));
        assert!(longest_pause(&told) < BETWEEN, "{}", longest_pause(&told));
    }
}

#[test]
fn never_are_two_under_way() {
    let told = rally(Wait::Sleep).run(|asked| Fate::Answer(QUICK + asked.serial % 7 * 100 * US));
    for pair in told.rows.windows(2) {
        assert!(pair[1].sent.unwrap() > pair[0].answered.unwrap());
    }
}

#[test]
fn a_lost_one_holds_up_the_next_for_the_timeout() {
    let told = rally(Wait::Sleep).run(|asked| if asked.serial == 3 { Fate::Drop } else { Fate::Answer(QUICK) });
    assert_eq!((told.counts.lost, told.outcome(3)), (1, Outcome::Lost));
    let pause = told.rows[4].sent.unwrap() - told.rows[3].sent.unwrap();
    assert!((100 * MS..102 * MS).contains(&pause), "{pause}");
}

#[test]
fn a_late_answer_does_not_end_the_one_after_it() {
    // The fourth is answered 20 ms after its time-out, while the fifth is under way for 50 ms.
    let fate = |asked: Asked| match asked.serial {
        3 => Fate::Answer(120 * MS),
        4 => Fate::Answer(50 * MS),
        _ => Fate::Answer(QUICK),
    };
    let told = rally(Wait::Sleep).run(fate);
    assert_eq!((told.outcome(3), told.outcome(4), told.counts.late), (Outcome::Late, Outcome::Answered, 1));
    let pause = told.rows[5].sent.unwrap() - told.rows[4].sent.unwrap();
    assert!((50 * MS..51 * MS).contains(&pause), "{pause}");
}

#[test]
fn a_refused_one_makes_way_at_once() {
    let told = rally(Wait::Sleep).run(|asked| match asked.serial % 2 {
        0 => Fate::Refuse(QUICK),
        _ => Fate::Answer(QUICK),
    });
    assert!(told.counts.refused > 1_000, "{}", told.counts.refused);
    assert!(told.counts.answered > 1_000);
}

#[test]
fn what_this_machine_drops_holds_up_nothing() {
    let told = rally(Wait::Sleep).run(|asked| if asked.serial == 5 { Fate::DropHere } else { Fate::Answer(QUICK) });
    assert_eq!(told.counts.all_unsent(), 1);
    assert!(told.counts.answered > 10_000);
}

#[test]
fn warm_up_is_played_and_not_counted() {
    let mut warming = 0;
    let told = Rig { warmup: 500 * MS, ..rally(Wait::Sleep) }.run(|asked| {
        warming += u64::from(asked.at < 500 * MS);
        Fate::Answer(QUICK)
    });
    assert!((5_000..10_000).contains(&warming), "{warming}");
    assert!((10_000..20_000).contains(&told.counts.answered), "{}", told.counts.answered);
}

#[test]
fn flows_take_turns() {
    let told = Rig { flows: 3, ..rally(Wait::Sleep) }.run(|_| Fate::Answer(60 * US));
    let flows: Vec<_> = told.rows.iter().map(|row| row.flow).collect();
    assert!(flows.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 3));
}

#[test]
fn what_reading_adds_is_told_apart_where_the_kernel_stamps() {
    let told = rally(Wait::Sleep).run(|_| Fate::Answer(QUICK));
    assert_eq!(told.totals.reading.count(), told.counts.answered);
    assert!(told.totals.reading.max() < BETWEEN);
    // The generator has no CPU while the answers lie there.
    let held_up = Rig { held_up: Some((200 * MS, 230 * MS)), ..rally(Wait::Sleep) }.run(|_| Fate::Answer(QUICK));
    assert!((29 * MS..31 * MS).contains(&held_up.totals.reading.max()), "{}", held_up.totals.reading.max());
    assert!(held_up.totals.from_sent.max() < MS);
    let unstamped = rally(Wait::Sleep).run(|_| Fate::Unstamped(QUICK));
    assert_eq!(unstamped.totals.reading.count(), 0);
    let user = Rig { stamps: false, ..rally(Wait::Spin) }.run(|_| Fate::Answer(QUICK));
    assert_eq!(user.totals.reading.count(), 0);
}

#[test]
fn a_scheduled_run_lets_answers_lie_and_does_not_time_it() {
    let told = Rig::default().run(|_| Fate::Answer(QUICK));
    assert_eq!(told.totals.reading.count(), 0);
}

#[test]
fn a_wish_to_stop_ends_it() {
    let rig = rally(Wait::Spin);
    let board = std::sync::Arc::clone(&rig.board);
    let told = rig.run(move |asked| {
        if asked.serial == 100 {
            board.ask_to_stop();
        }
        Fate::Answer(QUICK)
    });
    assert!(told.ended < 300 * MS, "{}", told.ended);
    assert!(told.counts.answered > 100);
}
