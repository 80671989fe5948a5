//! Connections that are replaced, opened again, or only kept.

use flatout_net::CloseReason;
use flatout_wire::dns::Dns;

use super::fake_streams::Deed;
use super::rig::{MS, QUICK, US};
use super::stream_rig::{Manners, Query, SECOND, Streams, Told, after, refusing};
use crate::pace::Arrivals;
use crate::tally::Unsent;

fn answer(query: &Query) -> (u64, Deed) {
    (QUICK, Deed::Send(query.answer::<Dns>()))
}

fn churning(connections: usize, churn: u32) -> Streams {
    Streams::over(connections).opening(|opening| opening.churn = churn)
}

/// Each far end but the last of each connection was asked so often.
fn asked_each(told: &Told, churn: u64, connections: usize) {
    let fewer = told.asked.values().filter(|asked| **asked < churn).count();
    assert!(told.asked.values().all(|asked| *asked <= churn) && fewer <= connections, "{:?}", told.asked);
}

#[test]
fn each_connection_is_asked_n_times_and_replaced_without_loss() {
    for (connections, churn) in [(1, 100), (5, 10), (50, 7), (100, 1), (5, 3)] {
        let rig = Streams { arrivals: Arrivals::Poisson, ..churning(connections, churn) };
        let told = rig.run::<Dns>(after::<Dns>(QUICK));
        let c = &told.counts;
        asked_each(&told, churn.into(), connections);
        assert_eq!((c.lost, c.refused, c.invalid), (0, 0, 0), "{connections} {churn}");
        let unsent = c.unsent[Unsent::NoConnection as usize];
        assert_eq!(c.answered + unsent, c.planned);
        assert!(unsent * 20 <= if connections > 1 { c.planned } else { c.planned * 4 }, "{connections} {churn}: {c:?}");
        let replaced = told.connections.reopened;
        assert_eq!(told.connections.opened, connections as u64 + replaced);
        assert!(replaced.abs_diff(c.sent / u64::from(churn)) <= connections as u64, "{replaced} {c:?}");
        assert_eq!((told.connections.reset, told.connections.closed, told.connections.failed), (0, 0, 0));
    }
}

#[test]
fn slow_answers_to_the_last_request_of_a_connection_are_awaited() {
    // 30 ms of 1,000/s are 30 connections that only wait, beside 50 that are asked.
    let told = churning(50, 1).run::<Dns>(after::<Dns>(30 * MS));
    assert_eq!((told.counts.answered, told.counts.lost, told.connections.failed), (1_000, 0, 0));
    asked_each(&told, 1, 0);
}

#[test]
fn answers_that_come_late_are_late_on_replaced_connections_too() {
    let rig = Streams { per_s: 100.0, ..churning(50, 1) };
    let told = rig.run::<Dns>(after::<Dns>(150 * MS));
    assert_eq!((told.counts.late, told.counts.lost, told.counts.answered), (100, 0, 0));
}

#[test]
fn a_late_answer_does_not_close_a_connection_on_which_others_wait() {
    let rig = Streams { per_s: 100.0, timeout: 30 * MS, ..churning(1, 5) };
    let told = rig.run::<Dns>(|query: &Query| {
        // The first of each connection is answered while the last one waits for its answer.
        let delay = if query.nth == 0 { 50 * MS } else { 25 * MS };
        vec![(delay, Deed::Send(query.answer::<Dns>()))]
    });
    let c = &told.counts;
    assert_eq!((c.late, c.lost, c.sent), (20, 0, 100), "{c:?}");
}

#[test]
fn a_replaced_connection_whose_answer_never_comes_is_closed_after_a_while() {
    let rig = Streams { per_s: 100.0, timeout: 50 * MS, ..churning(4, 2) };
    let told = rig.run::<Dns>(|query: &Query| if query.nth == 1 { Vec::new() } else { vec![answer(query)] });
    let c = &told.counts;
    assert!((45..=50).contains(&c.lost) && c.answered + c.lost == c.sent, "{c:?}");
    assert!(c.all_unsent() < 5, "{c:?}");
    assert_eq!(told.connections.reset + told.connections.failed, 0);
}

#[test]
fn without_room_for_more_a_replaced_one_makes_way_after_the_time_out() {
    let rig = Streams { timeout: 100 * MS, places: Some(4), ..churning(2, 1) };
    let told = rig.run::<Dns>(|_: &Query| Vec::new());
    // Four places, each free again after 100 ms: hardly more than 40 connections a second.
    assert!((36..=44).contains(&told.counts.sent), "{:?}", told.counts);
    assert_eq!(told.counts.unsent[Unsent::NoConnection as usize], 1_000 - told.counts.sent);
}

#[test]
fn a_replaced_connection_that_the_far_end_closes_is_not_replaced_twice() {
    let rig = churning(10, 5).opening(|opening| opening.reconnect = true);
    let told = rig.run::<Dns>(|query: &Query| {
        let end = (query.nth == 4).then_some((2 * QUICK, Deed::Fail(CloseReason::Ended)));
        [(3 * QUICK, Deed::Send(query.answer::<Dns>()))].into_iter().chain(end).collect::<Vec<_>>()
    });
    let c = &told.counts;
    assert!(c.lost > 150 && c.lost * 5 <= c.sent + 50, "{c:?}");
    assert_eq!(told.connections.closed, c.lost);
    assert!(told.connections.peak <= 20 && told.connections.live <= 10, "{:?}", told.connections);
    assert!(told.connections.reopened <= told.connections.closed + 10, "{:?}", told.connections);
}

#[test]
fn a_connection_that_has_had_its_last_answer_is_not_listened_to() {
    let told = churning(10, 1).run::<Dns>(|query: &Query| {
        vec![(QUICK, Deed::Send([query.answer::<Dns>(), query.answer::<Dns>(), vec![0, 0]].concat()))]
    });
    let c = &told.counts;
    assert_eq!((c.duplicate, c.invalid, c.unmatched, told.connections.broken), (0, 0, 0, 0));
    assert_eq!(c.answered, c.sent);
}

#[test]
fn nothing_is_replaced_once_all_is_asked() {
    let told = churning(1, 100).run::<Dns>(after::<Dns>(QUICK));
    // The thousandth request is the last of the tenth connection, or was not sent while one was on its way.
    assert_eq!((told.connections.failed, told.connections.opened), (0, 10));
}

#[test]
fn a_closed_connection_is_opened_again_after_a_pause_and_asked_again() {
    let rig = Streams::over(4).opening(|opening| opening.reconnect = true);
    let mut ends = Vec::new();
    let told = rig.run::<Dns>(|query: &Query| {
        if query.nth < 49 {
            return vec![answer(query)];
        }
        ends.push(query.at + QUICK);
        vec![(QUICK, Deed::Fail(CloseReason::Ended))]
    });
    let (c, connections) = (&told.counts, told.connections);
    assert_eq!(c.lost, connections.closed);
    assert!(connections.reopened >= 8 && connections.closed >= connections.reopened, "{connections:?}");
    for (again, end) in told.wanted[4..].iter().zip(&ends) {
        assert!((100 * MS..103 * MS).contains(&(again - end)), "opened again after {}", again - end);
    }
    assert!(told.asked.iter().any(|(far, asked)| *far >= 4 && *asked > 10), "{:?}", told.asked);
}

#[test]
fn nothing_is_opened_again_once_all_is_asked() {
    let rig = Streams { timeout: SECOND, ..Streams::over(2) }.opening(|opening| opening.reconnect = true);
    let told = rig.run::<Dns>(|query: &Query| match (query.serial, query.far) {
        // They are awaited for a second after the last request; meanwhile the other connection ends.
        (990.., 0) => Vec::new(),
        (990.., _) => vec![answer(query), (20 * MS, Deed::Fail(CloseReason::Ended))],
        _ => vec![answer(query)],
    });
    let connections = told.connections;
    assert!(told.counts.lost > 0 && told.ended > 1_900 * MS);
    assert_eq!((connections.closed, connections.reopened), (1, 0), "{connections:?}");
}

#[test]
fn one_that_cannot_be_opened_is_tried_again_and_again() {
    let rig = Streams::over(2).opening(|opening| opening.reconnect = true);
    let script = Manners(
        |far, at| if far == 0 || far > 5 { vec![(QUICK, Deed::Accept)] } else { refusing(far, at) },
        after::<Dns>(QUICK),
    );
    let told = rig.run::<Dns>(script);
    // Far ends 1 to 5 refuse, each 100 ms after the last.
    assert_eq!((told.connections.failed, told.connections.refused, told.connections.reopened), (5, 5, 5));
    assert_eq!((told.counts.answered, told.connections.peak), (1_000, 2));
}

#[test]
fn without_the_wish_nothing_is_opened_again() {
    let told = Streams::over(4).run::<Dns>(|query: &Query| {
        if query.nth < 9 { vec![answer(query)] } else { vec![(0, Deed::Fail(CloseReason::Reset))] }
    });
    assert_eq!((told.connections.reopened, told.connections.opened), (0, 4));
}

#[test]
fn held_connections_are_kept_counted_and_never_asked() {
    let rig = Streams::over(5).opening(|opening| opening.hold = 300);
    let told = rig.run::<Dns>(after::<Dns>(QUICK));
    let connections = told.connections;
    assert_eq!((connections.established, connections.live, connections.peak), (305, 305, 305));
    assert_eq!((told.asked.len(), told.counts.answered), (5, 1_000));
}

#[test]
fn held_connections_that_end_are_held_again() {
    let rig = Streams::over(5).opening(|opening| (opening.hold, opening.reconnect) = (20, true));
    let script = Manners(
        |far, _| {
            let end = (5..25).contains(&far).then_some((300 * MS, Deed::Fail(CloseReason::Reset)));
            [(QUICK, Deed::Accept)].into_iter().chain(end).collect()
        },
        after::<Dns>(QUICK),
    );
    let told = rig.run::<Dns>(script);
    let connections = told.connections;
    assert_eq!((connections.reset, connections.reopened, connections.live), (20, 20, 25));
    assert_eq!((told.asked.len(), told.counts.answered, told.counts.refused), (5, 1_000, 0));
}

#[test]
fn a_held_connection_alone_is_nobody_to_ask() {
    let rig = Streams::over(0).opening(|opening| opening.hold = 10);
    let told = rig.run::<Dns>(after::<Dns>(QUICK));
    assert_eq!((told.counts.planned, told.connections.established), (0, 10));
}

#[test]
fn connections_come_and_go_without_moving_the_schedule() {
    let rig = Streams { per_s: 5_000.0, ..churning(200, 2) }.opening(|opening| opening.per_s = 4_000.0);
    let told = rig.run::<Dns>(|query: &Query| {
        if query.serial.is_multiple_of(50) { vec![(0, Deed::Fail(CloseReason::Reset))] } else { vec![answer(query)] }
    });
    assert!(told.is_whole() && told.totals.lateness.max() < 200 * US, "{}", told.totals.lateness.max());
    assert!(told.counts.refused > 90 && told.ended < SECOND + 110 * MS, "{:?}", told.counts);
}
