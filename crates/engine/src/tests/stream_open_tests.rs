//! How connections are opened: at what rate, how many at once, how they fail, and when the schedule begins.

use std::sync::Arc;

use flatout_net::{CloseMode, CloseReason};
use flatout_wire::dns::Dns;

use super::fake_streams::Deed;
use super::rig::{MS, QUICK, US};
use super::stream_rig::{BEGIN, Manners, Query, SECOND, Streams, after, refusing, silent};
use crate::load::gate::{Begin, Gate};
use crate::tally::{Connections, Unsent};

const ETOOMANY: i32 = 24;

fn accepting(delay: u64) -> Vec<(u64, Deed)> {
    vec![(delay, Deed::Accept)]
}

#[test]
fn connections_are_opened_at_the_rate_asked_for() {
    let rig = Streams::over(500).opening(|opening| opening.per_s = 1_000.0);
    let told = rig.run::<Dns>(after::<Dns>(QUICK));
    let first = told.wanted[0];
    for (n, at) in told.wanted.iter().enumerate() {
        let due = n as u64 * MS;
        assert!((due..due + 200 * US).contains(&(at - first)), "number {n} after {} ns", at - first);
    }
    assert_eq!(told.began, Some(told.began.unwrap().max(first + 499 * MS)));
    assert_eq!(told.counts.answered, 1_000);
}

#[test]
fn a_rate_that_was_not_kept_for_a_while_is_made_good_over_little_only() {
    let held_up = Some((20 * MS, 520 * MS));
    let rig = Streams { held_up, ..Streams::over(1_000) }.opening(|opening| opening.per_s = 10_000.0);
    let told = rig.run::<Dns>(after::<Dns>(QUICK));
    let burst = told.wanted.iter().filter(|at| (520 * MS..522 * MS).contains(*at)).count();
    // 10 ms of it at once, not 500 ms, and what is due in 2 ms.
    assert!((100..=125).contains(&burst), "{burst}");
    assert_eq!(told.connections.established, 1_000);
}

#[test]
fn no_more_than_1024_are_on_their_way_at_once() {
    let mut most = 0;
    let rig = Streams { places: Some(5_000), ..Streams::over(5_000) }.opening(|opening| opening.per_s = 1e7);
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
    let told = rig.run::<Dns>(script);
    assert_eq!((most, told.connections.established), (1_024, 5_000));
    assert!(told.connect.max() < 52 * MS, "{}", told.connect.max());
}

#[test]
fn how_long_connecting_takes_is_recorded_apart() {
    let script = Manners(|far, _| accepting((1 + far as u64 % 4) * 10 * MS), after::<Dns>(QUICK));
    let told = Streams::over(100).run::<Dns>(script);
    assert_eq!(told.connect.count(), 100);
    assert_eq!([5, 15, 25, 35, 45].map(|ms| told.connect.count_above(ms * MS)), [100, 75, 50, 25, 0]);
    assert!(told.totals.from_due.max() < MS, "connecting is no part of any answer's time");
}

#[test]
fn with_nobody_there_the_run_ends_at_once_and_plans_nothing() {
    for reconnect in [false, true] {
        let rig = Streams::over(50).opening(|opening| opening.reconnect = reconnect);
        let told = rig.run::<Dns>(Manners(refusing, after::<Dns>(QUICK)));
        assert_eq!((told.counts.planned, told.rows.len(), told.began), (0, 0, None));
        let expected = Connections { opened: 50, failed: 50, refused: 50, ..Connections::default() };
        assert_eq!(told.connections, expected, "reconnect {reconnect}");
        assert!(told.ended < 100 * MS, "{}", told.ended);
    }
}

#[test]
fn a_far_end_that_never_accepts_times_out_and_is_counted() {
    for reconnect in [false, true] {
        // Slower than the time-out: the first have long failed when the last are tried.
        let rig = Streams::over(300).opening(|opening| {
            (opening.per_s, opening.timeout, opening.reconnect) = (100.0, 200 * MS, reconnect);
        });
        let told = rig.run::<Dns>(Manners(silent, after::<Dns>(QUICK)));
        let expected = Connections { opened: 300, failed: 300, timed_out: 300, ..Connections::default() };
        assert_eq!((told.counts.planned, told.connections), (0, expected), "reconnect {reconnect}");
        assert!(
            told.ended_times()
                .iter()
                .zip(&told.wanted)
                .all(|(end, from)| { (200 * MS..202 * MS).contains(&(end - from)) })
        );
        assert!(told.ended < 3_300 * MS, "{}", told.ended);
    }
}

#[test]
fn an_error_of_connecting_is_told_in_words() {
    let script = Manners(
        |far, _| if far == 3 { vec![(QUICK, Deed::Fail(CloseReason::Failed(ETOOMANY)))] } else { accepting(QUICK) },
        after::<Dns>(QUICK),
    );
    let told = Streams::over(5).run::<Dns>(script);
    assert_eq!((told.connections.failed, told.connections.refused, told.connections.established), (1, 0, 4));
    assert!(told.failure.as_deref().is_some_and(|why| why.contains("os error 24")), "{:?}", told.failure);
}

#[test]
fn without_room_for_another_the_rest_waits() {
    // Two places for five connections: the others never get one, and nothing else suffers.
    let rig = Streams { places: Some(2), ..Streams::over(5) }.opening(|opening| opening.timeout = 100 * MS);
    let board = Arc::clone(&rig.board);
    let told = rig.meanwhile(SECOND, move || board.ask_to_stop()).run::<Dns>(after::<Dns>(QUICK));
    assert_eq!((told.connections.opened, told.counts.planned), (2, 0));
}

#[test]
fn those_that_stand_carry_the_load_of_those_that_failed() {
    let script =
        Manners(|far, at| if far % 2 == 0 { refusing(far, at) } else { accepting(QUICK) }, after::<Dns>(QUICK));
    let told = Streams::over(20).run::<Dns>(script);
    assert_eq!((told.counts.answered, told.connections.established, told.connections.failed), (1_000, 10, 10));
}

#[test]
fn a_slow_accept_delays_the_beginning_and_no_request() {
    let script = Manners(|far, _| accepting(if far == 2 { 700 * MS } else { QUICK }), after::<Dns>(QUICK));
    let told = Streams::default().run::<Dns>(script);
    // 10 ms after the last one stood, so that other workers hear of it.
    assert!(told.began.is_some_and(|began| (710 * MS..712 * MS).contains(&began)), "{:?}", told.began);
    assert_eq!((told.counts.answered, told.connections.peak), (1_000, 5));
    assert!(told.totals.lateness.max() < 50 * US, "{}", told.totals.lateness.max());
}

#[test]
fn nobody_begins_before_the_connections_of_all_workers_stand() {
    let gate = Arc::new(Gate::closed(2, BEGIN, 10 * MS));
    let other = Arc::clone(&gate);
    let mut first = u64::MAX;
    let rig = Streams { gate, ..Streams::default() };
    let rig = rig.meanwhile(400 * MS, move || other.arrive(400 * MS, 3));
    let told = rig.run::<Dns>(|query: &Query| {
        first = first.min(query.at);
        vec![(QUICK, Deed::Send(query.answer::<Dns>()))]
    });
    assert_eq!((told.began, told.counts.answered), (Some(410 * MS), 1_000));
    assert!((410 * MS..410 * MS + 50 * US).contains(&first), "{first}");
}

#[test]
fn a_worker_without_connections_waits_for_one_that_has_some() {
    let gate = Arc::new(Gate::closed(2, BEGIN, 10 * MS));
    let other = Arc::clone(&gate);
    let rig = Streams { gate, ..Streams::default() }.meanwhile(300 * MS, move || other.arrive(300 * MS, 3));
    let told = rig.run::<Dns>(Manners(refusing, after::<Dns>(QUICK)));
    // Its share of the schedule is not given to anybody else, so it is told as not sent.
    assert_eq!((told.counts.planned, told.counts.unsent[Unsent::NoConnection as usize]), (1_000, 1_000));
}

#[test]
fn a_gate_opens_when_the_last_has_arrived_and_only_if_anybody_can_ask() {
    let gate = Gate::closed(3, 0, 5);
    gate.arrive(10, 0);
    gate.arrive(20, 0);
    assert_eq!(gate.begin(), Begin::Wait);
    gate.arrive(30, 1);
    assert_eq!(gate.begin(), Begin::At(35));
    let gate = Gate::closed(2, 0, 5);
    gate.arrive(10, 0);
    gate.arrive(20, 0);
    assert_eq!(gate.begin(), Begin::Never);
    assert_eq!(Gate::open(0).begin(), Begin::At(1), "zero means closed");
}

#[test]
fn a_beginning_in_the_future_is_kept() {
    let rig = Streams { gate: Arc::new(Gate::closed(1, 5 * SECOND, 10 * MS)), ..Streams::default() };
    let told = rig.run::<Dns>(after::<Dns>(QUICK));
    assert_eq!((told.began, told.counts.answered), (Some(5 * SECOND), 1_000));
}

#[test]
fn a_stop_while_the_beginning_is_awaited_ends_the_run_soon() {
    let rig = Streams { gate: Arc::new(Gate::closed(1, 50 * SECOND, 10 * MS)), ..Streams::default() };
    let board = Arc::clone(&rig.board);
    let mut at_stop = None;
    let rig = rig.meanwhile(2 * SECOND, move || board.ask_to_stop());
    let told = rig.run::<Dns>(Manners(
        |_, _| accepting(QUICK),
        |query: &Query| {
            at_stop = Some(query.at);
            Vec::new()
        },
    ));
    assert_eq!((told.counts.planned, at_stop), (0, None));
    assert!(told.last_ended() < 2_300 * MS, "{}", told.last_ended());
}

#[test]
fn connections_that_end_before_the_beginning_are_opened_again_before_it() {
    let gate = Arc::new(Gate::closed(1, 5 * SECOND, 10 * MS));
    let rig = Streams { gate, ..Streams::default() }.opening(|opening| opening.reconnect = true);
    let script = Manners(
        |far, _| {
            let end = (far < 5).then_some((SECOND, Deed::Fail(CloseReason::Ended)));
            accepting(QUICK).into_iter().chain(end).collect()
        },
        after::<Dns>(QUICK),
    );
    let told = rig.run::<Dns>(script);
    let Connections { closed, reopened, live, peak, .. } = told.connections;
    assert_eq!((closed, reopened, live, peak), (5, 5, 5, 5));
    assert_eq!(told.counts.answered, 1_000);
}

#[test]
fn a_stop_while_connecting_ends_the_run_and_lets_others_go_on() {
    let rig = Streams::over(100).opening(|opening| opening.timeout = 60 * SECOND);
    let board = Arc::clone(&rig.board);
    let rig = rig.meanwhile(300 * MS, move || board.ask_to_stop());
    let told = rig.run::<Dns>(Manners(silent, after::<Dns>(QUICK)));
    assert_eq!((told.counts.planned, told.connections.opened, told.connections.failed), (0, 100, 100));
    assert_eq!(rig.gate.begin(), Begin::Never);
    assert!(told.ended < 310 * MS, "{}", told.ended);
    assert!(told.ended_times().len() == 100);
}

#[test]
fn a_stop_in_mid_run_ends_it_soon_and_closes_the_sums() {
    let rig = Streams { timeout: SECOND, seconds: 10.0, ..Streams::default() };
    let board = Arc::clone(&rig.board);
    let rig = rig.meanwhile(BEGIN + 3 * SECOND + 500 * US, move || board.ask_to_stop());
    let told = rig.run::<Dns>(|query: &Query| match query.serial % 10 {
        0 => Vec::new(),
        _ => vec![(QUICK, Deed::Send(query.answer::<Dns>()))],
    });
    assert!(!told.is_whole());
    assert!((3_000..=3_002).contains(&told.counts.planned), "{:?}", told.counts);
    assert_eq!(told.counts.lost, told.counts.planned.div_ceil(10));
    assert!(told.ended < 3_205 * MS, "{}", told.ended);
}

#[test]
fn all_connections_are_ended_by_a_reset_at_the_end() {
    let told = Streams::over(3_000).run::<Dns>(after::<Dns>(QUICK));
    assert_eq!(told.ended_times().len(), 3_000);
    assert!(told.closed.values().all(|(_, how)| *how == CloseMode::Reset));
}
