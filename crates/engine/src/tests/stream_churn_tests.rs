//! Connections that are replaced, opened again, or only kept.

use flatout_net::CloseReason;
use flatout_wire::dns::Dns;

use super::fake_streams::PeerAction;
use super::rig::{MS, QUICK, US};
use super::stream_rig::{Manners, Query, Reported, SECOND, Streams, after, refusing};
use crate::pace::Arrivals;
use crate::tally::Unsent;

fn answer(query: &Query) -> (u64, PeerAction) {
    (QUICK, PeerAction::Send(query.answer::<Dns>()))
}

fn churning(connections: usize, churn: u32) -> Streams {
    Streams::over(connections).connections(|connections| connections.churn = churn)
}

/// Each far end but the last of each connection was asked so often.
fn asked_each(reported: &Reported, churn: u64, connections: usize) {
    let fewer = reported.asked.values().filter(|asked| **asked < churn).count();
    assert!(reported.asked.values().all(|asked| *asked <= churn) && fewer <= connections, "{:?}", reported.asked);
}

#[test]
fn each_connection_is_asked_n_times_and_replaced_without_loss() {
    for (connections, churn) in [(1, 100), (5, 10), (50, 7), (100, 1), (5, 3)] {
        let rig = Streams { arrivals: Arrivals::Poisson, ..churning(connections, churn) };
        let reported = rig.run::<Dns>(after::<Dns>(QUICK));
        let c = &reported.counts;
        asked_each(&reported, churn.into(), connections);
        assert_eq!((c.lost, c.refused, c.invalid), (0, 0, 0), "{connections} {churn}");
        let unsent = c.unsent[Unsent::NoConnection as usize];
        assert_eq!(c.answered + unsent, c.planned);
        assert!(unsent * 20 <= if connections > 1 { c.planned } else { c.planned * 4 }, "{connections} {churn}: {c:?}");
        let replaced = reported.connections.reopened;
        assert_eq!(reported.connections.opened, connections as u64 + replaced);
        assert!(replaced.abs_diff(c.sent / u64::from(churn)) <= connections as u64, "{replaced} {c:?}");
        assert_eq!((reported.connections.reset, reported.connections.closed, reported.connections.failed), (0, 0, 0));
    }
}

#[test]
fn slow_answers_to_the_last_request_of_a_connection_are_awaited() {
    // 30 ms of 1,000/s are 30 connections that only wait, beside 50 that are asked.
    let reported = churning(50, 1).run::<Dns>(after::<Dns>(30 * MS));
    assert_eq!((reported.counts.answered, reported.counts.lost, reported.connections.failed), (1_000, 0, 0));
    asked_each(&reported, 1, 0);
}

#[test]
fn answers_that_come_late_are_late_on_replaced_connections_too() {
    let rig = Streams { per_s: 100.0, ..churning(50, 1) };
    let reported = rig.run::<Dns>(after::<Dns>(150 * MS));
    assert_eq!((reported.counts.late, reported.counts.lost, reported.counts.answered), (100, 0, 0));
}

#[test]
fn a_late_answer_does_not_close_a_connection_on_which_others_wait() {
    let rig = Streams { per_s: 100.0, timeout: 30 * MS, ..churning(1, 5) };
    let reported = rig.run::<Dns>(|query: &Query| {
        // The first of each connection is answered while the last one waits for its answer.
        let delay = if query.nth == 0 { 50 * MS } else { 25 * MS };
        vec![(delay, PeerAction::Send(query.answer::<Dns>()))]
    });
    let c = &reported.counts;
    assert_eq!((c.late, c.lost, c.sent), (20, 0, 100), "{c:?}");
}

#[test]
fn a_replaced_connection_whose_answer_never_comes_is_closed_after_a_while() {
    let rig = Streams { per_s: 100.0, timeout: 50 * MS, ..churning(4, 2) };
    let reported = rig.run::<Dns>(|query: &Query| if query.nth == 1 { Vec::new() } else { vec![answer(query)] });
    let c = &reported.counts;
    assert!((45..=50).contains(&c.lost) && c.answered + c.lost == c.sent, "{c:?}");
    assert!(c.all_unsent() < 5, "{c:?}");
    assert_eq!(reported.connections.reset + reported.connections.failed, 0);
}

#[test]
fn without_room_for_more_a_replaced_one_makes_way_after_the_time_out() {
    let rig = Streams { timeout: 100 * MS, capacity: Some(4), ..churning(2, 1) };
    let reported = rig.run::<Dns>(|_: &Query| Vec::new());
    // Four places, each free again after 100 ms: hardly more than 40 connections a second.
    assert!((36..=44).contains(&reported.counts.sent), "{:?}", reported.counts);
    assert_eq!(reported.counts.unsent[Unsent::NoConnection as usize], 1_000 - reported.counts.sent);
}

#[test]
fn a_replaced_connection_that_the_far_end_closes_is_not_replaced_twice() {
    let rig = churning(10, 5).connections(|connections| connections.reconnect = true);
    let reported = rig.run::<Dns>(|query: &Query| {
        let end = (query.nth == 4).then_some((2 * QUICK, PeerAction::Fail(CloseReason::Ended)));
        [(3 * QUICK, PeerAction::Send(query.answer::<Dns>()))].into_iter().chain(end).collect::<Vec<_>>()
    });
    let c = &reported.counts;
    assert!(c.lost > 150 && c.lost * 5 <= c.sent + 50, "{c:?}");
    assert_eq!(reported.connections.closed, c.lost);
    assert!(reported.connections.peak <= 20 && reported.connections.live <= 10, "{:?}", reported.connections);
    assert!(reported.connections.reopened <= reported.connections.closed + 10, "{:?}", reported.connections);
}

#[test]
fn a_connection_that_has_had_its_last_answer_is_not_listened_to() {
    let reported = churning(10, 1).run::<Dns>(|query: &Query| {
        vec![(QUICK, PeerAction::Send([query.answer::<Dns>(), query.answer::<Dns>(), vec![0, 0]].concat()))]
    });
    let c = &reported.counts;
    assert_eq!((c.duplicate, c.invalid, c.unmatched, reported.connections.broken), (0, 0, 0, 0));
    assert_eq!(c.answered, c.sent);
}

#[test]
fn nothing_is_replaced_once_all_is_asked() {
    let reported = churning(1, 100).run::<Dns>(after::<Dns>(QUICK));
    // The thousandth request is the last of the tenth connection, or was not sent while one was on its way.
    assert_eq!((reported.connections.failed, reported.connections.opened), (0, 10));
}

#[test]
fn a_closed_connection_is_opened_again_at_once_and_asked_again() {
    let rig = Streams::over(4).connections(|connections| connections.reconnect = true);
    let mut ends = Vec::new();
    let reported = rig.run::<Dns>(|query: &Query| {
        if query.nth < 49 {
            return vec![answer(query)];
        }
        ends.push(query.at + QUICK);
        vec![(QUICK, PeerAction::Fail(CloseReason::Ended))]
    });
    let (c, connections) = (&reported.counts, reported.connections);
    assert_eq!(c.lost, connections.closed);
    assert!(connections.reopened >= 8 && connections.closed >= connections.reopened, "{connections:?}");
    for (again, end) in reported.wanted[4..].iter().zip(&ends) {
        assert!(again - end < MS, "opened again after {}", again - end);
    }
    assert_eq!(c.all_unsent(), 0, "requests go over the others meanwhile");
    assert!(reported.asked.iter().any(|(far, asked)| *far >= 4 && *asked > 10), "{:?}", reported.asked);
}

#[test]
fn requests_wait_for_the_only_connection_as_long_as_they_may_be_late() {
    let closing = |query: &Query| {
        let end = (query.nth == 49).then_some((QUICK + 1, PeerAction::Fail(CloseReason::Ended)));
        [answer(query)].into_iter().chain(end).collect::<Vec<_>>()
    };
    let rig = Streams { per_s: 20_000.0, ..Streams::over(1) }.connections(|connections| connections.reconnect = true);
    for (accept, all_leave) in [(400 * US, true), (5 * MS, false)] {
        let reported = rig
            .run::<Dns>(Manners(|far, _| vec![(if far == 0 { QUICK } else { accept }, PeerAction::Accept)], closing));
        let (c, connections) = (&reported.counts, reported.connections);
        assert!(connections.closed > 100 && connections.reopened >= connections.closed - 1, "{connections:?}");
        // What was under way when the far end closed is lost.
        assert_eq!(c.answered + c.lost, c.sent);
        let unsent = c.unsent[Unsent::NoConnection as usize];
        assert_eq!(unsent, c.all_unsent(), "{c:?}");
        assert_eq!(unsent == 0, all_leave, "accepted after {accept}: {c:?}");
        assert!(reported.totals.lateness.max() <= MS + MS / 10, "{}", reported.totals.lateness.max());
    }
}

#[test]
fn a_far_end_that_closes_at_once_is_tried_ever_less_often() {
    for reason in [CloseReason::Ended, CloseReason::Reset] {
        let rig = Streams { seconds: 3.0, ..Streams::over(10) }.connections(|connections| connections.reconnect = true);
        let closing = move |_: usize, _: u64| vec![(QUICK, PeerAction::Accept), (2 * QUICK, PeerAction::Fail(reason))];
        let reported = rig.run::<Dns>(Manners(closing, |_: &Query| Vec::new()));
        // 0, 100, 300, 700, 1500, 2500 ms: six attempts in place of each.
        let connections = reported.connections;
        assert!((50..=60).contains(&connections.reopened), "{connections:?}");
        assert_eq!(connections.closed + connections.reset, connections.established);
    }
}

#[test]
fn ended_connections_are_opened_again_no_faster_than_the_connect_rate() {
    let rig = Streams { per_s: 10_000.0, ..Streams::over(10) }
        .connections(|connections| (connections.reconnect, connections.per_s) = (true, 200.0));
    let reported = rig.run::<Dns>(|query: &Query| vec![answer(query), (QUICK, PeerAction::Fail(CloseReason::Ended))]);
    let connections = reported.connections;
    assert!((190..=205).contains(&connections.reopened), "{connections:?}");
}

#[test]
fn nothing_is_opened_again_once_all_is_asked() {
    let rig = Streams { timeout: SECOND, ..Streams::over(2) }.connections(|connections| connections.reconnect = true);
    let reported = rig.run::<Dns>(|query: &Query| match (query.serial, query.far) {
        // They are awaited for a second after the last request; meanwhile the other connection ends.
        (990.., 0) => Vec::new(),
        (990.., _) => vec![answer(query), (20 * MS, PeerAction::Fail(CloseReason::Ended))],
        _ => vec![answer(query)],
    });
    let connections = reported.connections;
    assert!(reported.counts.lost > 0 && reported.ended > 1_900 * MS);
    // Nothing was under way on that one: it lasted as long as the load.
    assert_eq!((connections.closed, connections.reopened, connections.live), (0, 0, 2), "{connections:?}");
}

#[test]
fn one_that_ends_after_all_is_asked_with_a_request_under_way_is_counted() {
    let rig = Streams { timeout: SECOND, ..Streams::over(2) }.connections(|connections| connections.reconnect = true);
    let reported = rig.run::<Dns>(|query: &Query| match query.serial {
        990.. => vec![(50 * MS, PeerAction::Fail(CloseReason::Ended))],
        _ => vec![answer(query)],
    });
    let connections = reported.connections;
    assert_eq!((connections.closed, connections.reopened, connections.live), (2, 0, 0), "{connections:?}");
    assert_eq!((reported.counts.lost, reported.counts.answered), (10, 990));
}

#[test]
fn one_that_cannot_be_opened_is_tried_again_and_again() {
    let rig = Streams::over(2).connections(|connections| connections.reconnect = true);
    let script = Manners(
        |far, at| if far == 0 || far > 3 { vec![(QUICK, PeerAction::Accept)] } else { refusing(far, at) },
        after::<Dns>(QUICK),
    );
    let reported = rig.run::<Dns>(script);
    assert_eq!((reported.connections.failed, reported.connections.refused, reported.connections.reopened), (3, 3, 3));
    for (two, pause) in reported.wanted[1..].windows(2).zip([100, 200, 400]) {
        assert!((pause * MS..(pause + 3) * MS).contains(&(two[1] - two[0])), "{:?}", reported.wanted);
    }
    assert_eq!((reported.counts.answered, reported.connections.peak), (1_000, 2));
}

#[test]
fn without_the_wish_nothing_is_opened_again() {
    let reported = Streams::over(4).run::<Dns>(|query: &Query| {
        if query.nth < 9 { vec![answer(query)] } else { vec![(0, PeerAction::Fail(CloseReason::Reset))] }
    });
    assert_eq!((reported.connections.reopened, reported.connections.opened), (0, 4));
}

#[test]
fn held_connections_are_kept_counted_and_never_asked() {
    let rig = Streams::over(5).connections(|connections| connections.hold = 300);
    let reported = rig.run::<Dns>(after::<Dns>(QUICK));
    let connections = reported.connections;
    assert_eq!((connections.established, connections.live, connections.peak), (305, 305, 305));
    assert_eq!((reported.asked.len(), reported.counts.answered), (5, 1_000));
}

#[test]
fn held_connections_that_end_are_held_again() {
    let rig = Streams::over(5).connections(|connections| (connections.hold, connections.reconnect) = (20, true));
    let script = Manners(
        |far, _| {
            let end = (5..25).contains(&far).then_some((300 * MS, PeerAction::Fail(CloseReason::Reset)));
            [(QUICK, PeerAction::Accept)].into_iter().chain(end).collect()
        },
        after::<Dns>(QUICK),
    );
    let reported = rig.run::<Dns>(script);
    let connections = reported.connections;
    assert_eq!((connections.reset, connections.reopened, connections.live), (20, 20, 25));
    assert_eq!((reported.asked.len(), reported.counts.answered, reported.counts.refused), (5, 1_000, 0));
}

#[test]
fn a_held_connection_alone_is_nobody_to_ask() {
    let rig = Streams::over(0).connections(|connections| connections.hold = 10);
    let reported = rig.run::<Dns>(after::<Dns>(QUICK));
    assert_eq!((reported.counts.planned, reported.connections.established), (0, 10));
}

#[test]
fn connections_come_and_go_without_moving_the_schedule() {
    let rig = Streams { per_s: 5_000.0, ..churning(200, 2) }.connections(|connections| connections.per_s = 4_000.0);
    let reported = rig.run::<Dns>(|query: &Query| {
        if query.serial.is_multiple_of(50) {
            vec![(0, PeerAction::Fail(CloseReason::Reset))]
        } else {
            vec![answer(query)]
        }
    });
    assert!(reported.is_whole() && reported.totals.lateness.max() < 200 * US, "{}", reported.totals.lateness.max());
    assert!(reported.counts.refused > 90 && reported.ended < SECOND + 110 * MS, "{:?}", reported.counts);
}
