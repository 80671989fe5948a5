//! How connections are opened: at what rate, how many at once, how they fail, and when the schedule begins.

use std::sync::Arc;

use flatout_net::{CloseMode, CloseReason};
use flatout_wire::dns::Dns;

use super::fake_streams::PeerAction;
use super::rig::{MS, QUICK, US};
use super::stream_rig::{BEGIN, Manners, Query, SECOND, Streams, after, refusing, silent};
use crate::generator::start_barrier::{Begin, StartBarrier};
use crate::tally::{Connections, Unsent};

const ETOOMANY: i32 = 24;

fn accepting(delay: u64) -> Vec<(u64, PeerAction)> {
    vec![(delay, PeerAction::Accept)]
}

#[test]
fn connections_are_opened_at_the_rate_asked_for() {
    let rig = Streams::over(500).connections(|connections| connections.per_s = 1_000.0);
    let reported = rig.run::<Dns>(after::<Dns>(QUICK));
    let first = reported.wanted[0];
    for (n, at) in reported.wanted.iter().enumerate() {
        let due = n as u64 * MS;
        assert!((due..due + 200 * US).contains(&(at - first)), "number {n} after {} ns", at - first);
    }
    assert_eq!(reported.began, Some(reported.began.unwrap().max(first + 499 * MS)));
    assert_eq!(reported.counts.answered, 1_000);
}

#[test]
fn a_rate_that_was_not_kept_for_a_while_is_made_good_over_little_only() {
    let held_up = Some((20 * MS, 520 * MS));
    let rig = Streams { held_up, ..Streams::over(1_000) }.connections(|connections| connections.per_s = 10_000.0);
    let reported = rig.run::<Dns>(after::<Dns>(QUICK));
    let burst = reported.wanted.iter().filter(|at| (520 * MS..522 * MS).contains(*at)).count();
    // 10 ms of it at once, not 500 ms, and what is due in 2 ms.
    assert!((100..=125).contains(&burst), "{burst}");
    assert_eq!(reported.connections.established, 1_000);
}

#[test]
fn no_more_than_1024_are_on_their_way_at_once() {
    let mut most = 0;
    let rig =
        Streams { capacity: Some(5_000), ..Streams::over(5_000) }.connections(|connections| connections.per_s = 1e7);
    let (mut opened, mut stand) = (0_u64, Vec::<u64>::new());
    let script = Manners(
        |_, at| {
            opened += 1;
            stand.push(at + 50 * MS);
            most = most.max(stand.iter().filter(|ready| **ready > at).count());
            accepting(50 * MS)
        },
        after::<Dns>(QUICK),
    );
    let reported = rig.run::<Dns>(script);
    assert_eq!((most, reported.connections.established), (1_024, 5_000));
    assert!(reported.connect.max() < 52 * MS, "{}", reported.connect.max());
}

#[test]
fn how_long_connecting_takes_is_recorded_apart() {
    let script = Manners(|far, _| accepting((1 + far as u64 % 4) * 10 * MS), after::<Dns>(QUICK));
    let reported = Streams::over(100).run::<Dns>(script);
    assert_eq!(reported.connect.count(), 100);
    assert_eq!([5, 15, 25, 35, 45].map(|ms| reported.connect.count_above(ms * MS)), [100, 75, 50, 25, 0]);
    assert!(reported.totals.from_due.max() < MS, "connecting is no part of any answer's time");
}

#[test]
fn with_nobody_there_the_run_ends_at_once_and_plans_nothing() {
    for reconnect in [false, true] {
        let rig = Streams::over(50).connections(|connections| connections.reconnect = reconnect);
        let reported = rig.run::<Dns>(Manners(refusing, after::<Dns>(QUICK)));
        assert_eq!((reported.counts.planned, reported.rows.len(), reported.began), (0, 0, None));
        let expected = Connections { opened: 50, failed: 50, refused: 50, ..Connections::default() };
        assert_eq!(reported.connections, expected, "reconnect {reconnect}");
        assert!(reported.ended < 100 * MS, "{}", reported.ended);
    }
}

#[test]
fn a_far_end_that_never_accepts_times_out_and_is_counted() {
    for reconnect in [false, true] {
        // Slower than the time-out: the first have long failed when the last are tried.
        let rig = Streams::over(300).connections(|connections| {
            (connections.per_s, connections.timeout, connections.reconnect) = (100.0, 200 * MS, reconnect);
        });
        let reported = rig.run::<Dns>(Manners(silent, after::<Dns>(QUICK)));
        let expected = Connections { opened: 300, failed: 300, timed_out: 300, ..Connections::default() };
        assert_eq!((reported.counts.planned, reported.connections), (0, expected), "reconnect {reconnect}");
        assert!(
            reported
                .ended_times()
                .iter()
                .zip(&reported.wanted)
                .all(|(end, from)| { (200 * MS..202 * MS).contains(&(end - from)) })
        );
        assert!(reported.ended < 3_300 * MS, "{}", reported.ended);
    }
}

#[test]
fn an_error_of_connecting_is_told_in_words() {
    let script = Manners(
        |far, _| {
            if far == 3 { vec![(QUICK, PeerAction::Fail(CloseReason::Failed(ETOOMANY)))] } else { accepting(QUICK) }
        },
        after::<Dns>(QUICK),
    );
    let reported = Streams::over(5).run::<Dns>(script);
    assert_eq!(
        (reported.connections.failed, reported.connections.refused, reported.connections.established),
        (1, 0, 4)
    );
    assert!(reported.failure.as_deref().is_some_and(|why| why.contains("os error 24")), "{:?}", reported.failure);
}

#[test]
fn without_room_for_another_the_rest_waits() {
    // Two places for five connections: the others never get one, and nothing else suffers.
    let rig =
        Streams { capacity: Some(2), ..Streams::over(5) }.connections(|connections| connections.timeout = 100 * MS);
    let published = Arc::clone(&rig.published);
    let reported = rig.meanwhile(SECOND, move || published.ask_to_stop()).run::<Dns>(after::<Dns>(QUICK));
    assert_eq!((reported.connections.opened, reported.counts.planned), (2, 0));
}

#[test]
fn those_that_stand_carry_the_load_of_those_that_failed() {
    let script =
        Manners(|far, at| if far % 2 == 0 { refusing(far, at) } else { accepting(QUICK) }, after::<Dns>(QUICK));
    let reported = Streams::over(20).run::<Dns>(script);
    assert_eq!(
        (reported.counts.answered, reported.connections.established, reported.connections.failed),
        (1_000, 10, 10)
    );
}

#[test]
fn a_slow_accept_delays_the_beginning_and_no_request() {
    let script = Manners(|far, _| accepting(if far == 2 { 700 * MS } else { QUICK }), after::<Dns>(QUICK));
    let reported = Streams::default().run::<Dns>(script);
    // 10 ms after the last one stood, so that other workers hear of it.
    assert!(reported.began.is_some_and(|began| (710 * MS..712 * MS).contains(&began)), "{:?}", reported.began);
    assert_eq!((reported.counts.answered, reported.connections.peak), (1_000, 5));
    assert!(reported.totals.lateness.max() < 50 * US, "{}", reported.totals.lateness.max());
}

#[test]
fn nobody_begins_before_the_connections_of_all_workers_stand() {
    let barrier = Arc::new(StartBarrier::closed(2, BEGIN, 10 * MS));
    let other = Arc::clone(&barrier);
    let mut first = u64::MAX;
    let rig = Streams { barrier, ..Streams::default() };
    let rig = rig.meanwhile(400 * MS, move || other.arrive(400 * MS, 3));
    let reported = rig.run::<Dns>(|query: &Query| {
        first = first.min(query.at);
        vec![(QUICK, PeerAction::Send(query.answer::<Dns>()))]
    });
    assert_eq!((reported.began, reported.counts.answered), (Some(410 * MS), 1_000));
    assert!((410 * MS..410 * MS + 50 * US).contains(&first), "{first}");
}

#[test]
fn a_worker_without_connections_waits_for_one_that_has_some() {
    let barrier = Arc::new(StartBarrier::closed(2, BEGIN, 10 * MS));
    let other = Arc::clone(&barrier);
    let rig = Streams { barrier, ..Streams::default() }.meanwhile(300 * MS, move || other.arrive(300 * MS, 3));
    let reported = rig.run::<Dns>(Manners(refusing, after::<Dns>(QUICK)));
    // Its share of the schedule is not given to anybody else, so it is told as not sent.
    assert_eq!((reported.counts.planned, reported.counts.unsent[Unsent::NoConnection as usize]), (1_000, 1_000));
}

#[test]
fn a_gate_opens_when_the_last_has_arrived_and_only_if_anybody_can_ask() {
    let barrier = StartBarrier::closed(3, 0, 5);
    barrier.arrive(10, 0);
    barrier.arrive(20, 0);
    assert_eq!(barrier.begin(), Begin::Wait);
    barrier.arrive(30, 1);
    assert_eq!(barrier.begin(), Begin::At(35));
    let barrier = StartBarrier::closed(2, 0, 5);
    barrier.arrive(10, 0);
    barrier.arrive(20, 0);
    assert_eq!(barrier.begin(), Begin::Never);
    assert_eq!(StartBarrier::open(0).begin(), Begin::At(1), "zero means closed");
}

#[test]
fn a_held_barrier_opens_once_all_have_arrived_and_it_is_released_in_either_order() {
    let barrier = StartBarrier::held(2, 5);
    barrier.arrive(10, 1);
    assert!(!barrier.standing());
    barrier.arrive(20, 0);
    assert_eq!((barrier.standing(), barrier.begin()), (true, Begin::Wait));
    barrier.release(30, 100);
    assert_eq!(barrier.begin(), Begin::At(100));
    barrier.release(40, 200);
    assert_eq!(barrier.begin(), Begin::At(100), "what was told first stays");

    let barrier = StartBarrier::held(1, 5);
    barrier.release(30, 100);
    assert_eq!(barrier.begin(), Begin::Wait, "nobody has arrived");
    barrier.arrive(200, 1);
    assert_eq!(barrier.begin(), Begin::At(205), "the moment has passed: as soon as workers hear of it");

    let barrier = StartBarrier::held(1, 5);
    barrier.arrive(10, 0);
    assert_eq!(barrier.begin(), Begin::Never, "no connection: nothing to wait for");
}

#[test]
fn a_held_barrier_opens_whichever_thread_is_second() {
    for _ in 0..2_000 {
        let barrier = StartBarrier::held(1, 5);
        std::thread::scope(|scope| {
            scope.spawn(|| barrier.arrive(10, 1));
            barrier.release(10, 100);
        });
        assert_eq!(barrier.begin(), Begin::At(100));
    }
}

#[test]
fn connections_that_stand_wait_for_the_release() {
    let barrier = Arc::new(StartBarrier::held(1, 10 * MS));
    let other = Arc::clone(&barrier);
    let rig = Streams { barrier, ..Streams::default() };
    let rig = rig.meanwhile(2 * SECOND, move || {
        assert!(other.standing());
        other.release(2 * SECOND, 2 * SECOND + 200 * MS);
    });
    let mut first = u64::MAX;
    let reported = rig.run::<Dns>(|query: &Query| {
        first = first.min(query.at);
        vec![(QUICK, PeerAction::Send(query.answer::<Dns>()))]
    });
    assert_eq!((reported.began, reported.counts.answered), (Some(2_200 * MS), 1_000));
    assert!((2_200 * MS..2_200 * MS + 50 * US).contains(&first), "{first}");
}

#[test]
fn a_beginning_in_the_future_is_kept() {
    let rig = Streams { barrier: Arc::new(StartBarrier::closed(1, 5 * SECOND, 10 * MS)), ..Streams::default() };
    let reported = rig.run::<Dns>(after::<Dns>(QUICK));
    assert_eq!((reported.began, reported.counts.answered), (Some(5 * SECOND), 1_000));
}

#[test]
fn a_stop_while_the_beginning_is_awaited_ends_the_run_soon() {
    let rig = Streams { barrier: Arc::new(StartBarrier::closed(1, 50 * SECOND, 10 * MS)), ..Streams::default() };
    let published = Arc::clone(&rig.published);
    let mut at_stop = None;
    let rig = rig.meanwhile(2 * SECOND, move || published.ask_to_stop());
    let reported = rig.run::<Dns>(Manners(
        |_, _| accepting(QUICK),
        |query: &Query| {
            at_stop = Some(query.at);
            Vec::new()
        },
    ));
    assert_eq!((reported.counts.planned, at_stop), (0, None));
    assert!(reported.last_ended() < 2_300 * MS, "{}", reported.last_ended());
}

#[test]
fn connections_that_end_before_the_beginning_are_opened_again_before_it() {
    let barrier = Arc::new(StartBarrier::closed(1, 5 * SECOND, 10 * MS));
    let rig = Streams { barrier, ..Streams::default() }.connections(|connections| connections.reconnect = true);
    let script = Manners(
        |far, _| {
            let end = (far < 5).then_some((SECOND, PeerAction::Fail(CloseReason::Ended)));
            accepting(QUICK).into_iter().chain(end).collect()
        },
        after::<Dns>(QUICK),
    );
    let reported = rig.run::<Dns>(script);
    let Connections { closed, reopened, live, peak, .. } = reported.connections;
    assert_eq!((closed, reopened, live, peak), (5, 5, 5, 5));
    assert_eq!(reported.counts.answered, 1_000);
}

#[test]
fn a_stop_while_connecting_ends_the_run_and_lets_others_go_on() {
    let rig = Streams::over(100).connections(|connections| connections.timeout = 60 * SECOND);
    let published = Arc::clone(&rig.published);
    let rig = rig.meanwhile(300 * MS, move || published.ask_to_stop());
    let reported = rig.run::<Dns>(Manners(silent, after::<Dns>(QUICK)));
    assert_eq!((reported.counts.planned, reported.connections.opened, reported.connections.failed), (0, 100, 100));
    assert_eq!(rig.barrier.begin(), Begin::Never);
    assert!(reported.ended < 310 * MS, "{}", reported.ended);
    assert!(reported.ended_times().len() == 100);
}

#[test]
fn a_stop_in_mid_run_ends_it_soon_and_closes_the_sums() {
    let rig = Streams { timeout: SECOND, seconds: 10.0, ..Streams::default() };
    let published = Arc::clone(&rig.published);
    let rig = rig.meanwhile(BEGIN + 3 * SECOND + 500 * US, move || published.ask_to_stop());
    let reported = rig.run::<Dns>(|query: &Query| match query.serial % 10 {
        0 => Vec::new(),
        _ => vec![(QUICK, PeerAction::Send(query.answer::<Dns>()))],
    });
    assert!(!reported.is_whole());
    assert!((3_000..=3_002).contains(&reported.counts.planned), "{:?}", reported.counts);
    assert_eq!(reported.counts.lost, reported.counts.planned.div_ceil(10));
    assert!(reported.ended < 3_205 * MS, "{}", reported.ended);
}

#[test]
fn all_connections_are_ended_by_a_reset_at_the_end() {
    let reported = Streams::over(3_000).run::<Dns>(after::<Dns>(QUICK));
    assert_eq!(reported.ended_times().len(), 3_000);
    assert!(reported.closed.values().all(|(_, how)| *how == CloseMode::Reset));
}
