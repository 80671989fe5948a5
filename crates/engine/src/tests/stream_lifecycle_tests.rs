//! What far ends do to the connections on which they are asked: end, reset, fall silent, talk nonsense, stop reading.

use flatout_net::{CloseMode, CloseReason};
use flatout_wire::dns::Dns;
use flatout_wire::echo::Echo;

use super::fake_streams::PeerAction;
use super::rig::{MS, QUICK, US};
use super::stream_rig::{BEGIN, Manners, Query, SECOND, Streams, after};
use crate::tally::{Outcome, Unsent};

fn answer(query: &Query) -> (u64, PeerAction) {
    (QUICK, PeerAction::Send(query.answer::<Dns>()))
}

/// Every connection ends so with its n-th request, which gets no answer.
fn ending(n: u64, how: CloseReason) -> impl FnMut(&Query) -> Vec<(u64, PeerAction)> {
    move |query| if query.nth + 1 == n { vec![(QUICK, PeerAction::Fail(how))] } else { vec![answer(query)] }
}

#[test]
fn what_waits_when_the_far_end_closes_is_lost() {
    let reported = Streams::over(4).run::<Dns>(ending(50, CloseReason::Ended));
    let (c, connections) = (&reported.counts, &reported.connections);
    assert_eq!((c.answered, c.lost, c.refused), (4 * 49, 4, 0));
    assert_eq!((connections.closed, connections.reset, connections.live, connections.peak), (4, 0, 0, 4));
    assert_eq!(c.unsent[Unsent::NoConnection as usize], 1_000 - 200, "nobody is left to ask");
}

#[test]
fn what_waits_when_the_far_end_resets_is_refused() {
    let rig = Streams { timeout: 10 * MS, ..Streams::over(4) };
    let reported = rig.run::<Dns>(|query: &Query| match query.nth {
        // These have timed out when the reset comes, the later ones have not.
        0..10 => Vec::new(),
        99 => vec![(QUICK, PeerAction::Fail(CloseReason::Reset))],
        n if n >= 95 => Vec::new(),
        _ => vec![answer(query)],
    });
    let (c, connections) = (&reported.counts, &reported.connections);
    assert_eq!((c.sent, c.answered, c.refused + c.lost), (400, 4 * 85, 60));
    assert_eq!((connections.closed, connections.reset, connections.live), (0, 4, 0));
    assert_eq!(c.lost + c.refused, reported.numbers(Outcome::Lost).len() as u64 + c.refused);
}

#[test]
fn answers_that_came_before_the_end_count() {
    let reported = Streams::over(1).run::<Dns>(|query: &Query| {
        let end = (query.nth == 99).then_some((QUICK, PeerAction::Fail(CloseReason::Reset)));
        [answer(query)].into_iter().chain(end).collect::<Vec<_>>()
    });
    assert_eq!((reported.counts.answered, reported.counts.refused, reported.connections.reset), (100, 0, 1));
}

#[test]
fn a_far_end_that_never_answers_runs_its_slots_out() {
    let rig = Streams { slots: 16, ..Streams::over(1) };
    let reported = rig.run::<Dns>(|_: &Query| Vec::new());
    // 16 slots, taken at once and free again after each 100 ms.
    assert_eq!((reported.counts.sent, reported.counts.lost), (160, 160));
    assert_eq!(reported.counts.unsent[Unsent::NoSlot as usize], 840);
    assert_eq!(reported.connections.live, 1);
}

#[test]
fn slots_are_free_at_the_time_out_however_many_connections_there_are() {
    // At 64 rings a ms, looking through all of 20,000 takes 300 ms: three times the time-out.
    let rig = Streams { per_s: 1_000.0, timeout: 20 * MS, slots: 4, capacity: Some(20_000), ..Streams::over(1) };
    let reported = rig.run::<Dns>(|_: &Query| Vec::new());
    // 4 of each 20, or a little more.
    assert!((188..=200).contains(&reported.counts.sent), "{:?}", reported.counts);
}

#[test]
fn answers_that_are_late_are_so_over_connections_too() {
    let reported = Streams::default().run::<Dns>(after::<Dns>(150 * MS));
    assert_eq!((reported.counts.late, reported.counts.lost), (1_000, 0));
}

#[test]
fn nonsense_ends_its_connection_and_makes_what_waits_invalid() {
    // A message of DNS cannot be 3 bytes long.
    let reported = Streams::over(4).run::<Dns>(|query: &Query| match query.nth {
        0..40 => vec![answer(query)],
        40..49 => Vec::new(),
        _ => vec![(QUICK, PeerAction::Send(b"\0\x03abc".to_vec()))],
    });
    let (c, connections) = (&reported.counts, &reported.connections);
    assert_eq!((c.answered, c.invalid, c.lost), (160, 40, 0));
    assert_eq!((connections.broken, connections.reset, connections.closed, connections.live), (4, 0, 0, 0));
    assert!(reported.closed.values().all(|(_, how)| *how == CloseMode::Reset) && reported.closed.len() == 4);
    assert!(reported.failure.as_deref().is_some_and(|why| why.contains("no message")), "{:?}", reported.failure);
}

#[test]
fn what_came_before_nonsense_in_one_piece_counts() {
    let reported = Streams::over(1).run::<Dns>(|query: &Query| {
        let mut bytes = query.answer::<Dns>();
        if query.nth == 9 {
            bytes.extend(b"\0\0");
        }
        vec![(QUICK, PeerAction::Send(bytes))]
    });
    assert_eq!((reported.counts.answered, reported.counts.invalid, reported.connections.broken), (10, 0, 1));
}

#[test]
fn half_an_answer_is_forgotten_with_its_connection() {
    let rig = Streams::over(1).connections(|connections| connections.reconnect = true);
    let reported = rig.run::<Dns>(|query: &Query| {
        if query.far > 0 || query.nth < 9 {
            return vec![answer(query)];
        }
        let half = query.answer::<Dns>()[..20].to_vec();
        vec![(QUICK, PeerAction::Send(half)), (2 * QUICK, PeerAction::Fail(CloseReason::Reset))]
    });
    let c = &reported.counts;
    assert_eq!((c.refused, c.invalid, reported.connections.broken), (1, 0, 0));
    assert_eq!(c.answered, 999 - c.unsent[Unsent::NoConnection as usize]);
}

#[test]
fn a_far_end_that_stops_reading_blocks_only_itself() {
    let rig = Streams { slots: 1 << 14, timeout: 2 * SECOND, block: 2_000, ..Streams::over(4) };
    let reported = rig.run::<Dns>(|query: &Query| {
        if query.far == 2 && query.nth == 9 {
            return vec![answer(query), (0, PeerAction::Read(false))];
        }
        vec![answer(query)]
    });
    let c = &reported.counts;
    let blocked = c.unsent[Unsent::Blocked as usize];
    assert!(blocked > 0 && c.lost > 0, "{c:?}");
    assert_eq!(c.answered + c.lost + blocked, 1_000);
    // What its block holds of requests of 31 bytes.
    assert_eq!(c.lost, 2_000 / 31);
}

#[test]
fn a_far_end_that_reads_again_is_asked_again() {
    let rig = Streams { per_s: 4_000.0, slots: 1 << 12, timeout: 2 * SECOND, block: 1_000, ..Streams::over(1) };
    let reported = rig.run::<Echo>(|query: &Query| {
        let stop = (query.nth == 99).then_some([(0, PeerAction::Read(false)), (500 * MS, PeerAction::Read(true))]);
        let answer = (QUICK, PeerAction::Send(query.bytes.clone()));
        stop.into_iter().flatten().chain([answer]).collect::<Vec<_>>()
    });
    let c = &reported.counts;
    assert_eq!(c.answered + c.unsent[Unsent::Blocked as usize], 4_000);
    assert!((1_600..2_000).contains(&c.unsent[Unsent::Blocked as usize]), "{c:?}");
}

#[test]
fn greetings_before_the_first_request_change_nothing() {
    let message = [&[0, 12][..], &[9; 12]].concat();
    let script = Manners(
        move |_, _| vec![(QUICK, PeerAction::Accept), (2 * QUICK, PeerAction::Send(message.clone()))],
        |query: &Query| if query.serial < 10 { Vec::new() } else { vec![answer(query)] },
    );
    let reported = Streams::default().run::<Dns>(script);
    assert_eq!((reported.counts.answered, reported.counts.lost, reported.counts.unmatched), (990, 10, 0));
}

#[test]
fn a_generator_that_was_held_up_says_so() {
    // From half-way between two requests to half-way between two others: the 200 numbered 501 to 700 are due meanwhile.
    let (from, until) = (BEGIN + 500 * MS + 500 * US, BEGIN + 700 * MS + 500 * US);
    let rig = Streams { held_up: Some((from, until)), ..Streams::default() };
    let reported = rig.run::<Dns>(after::<Dns>(QUICK));
    assert_eq!(reported.counts.unsent[Unsent::Late as usize], 199);
    assert_eq!(reported.numbers(Outcome::Unsent), (501..700).collect::<Vec<_>>());
    for durations in [&reported.totals.lateness, &reported.totals.from_due] {
        for height in [50, 100, 150, 199] {
            assert_eq!(durations.count_above(height * MS), 200 - height, "above {height} ms");
        }
    }
    assert!(reported.totals.from_sent.max() < 2 * QUICK, "{}", reported.totals.from_sent.max());
}

#[test]
fn the_warm_up_is_counted_nowhere() {
    let rig = Streams { warmup: 500 * MS, ..Streams::default() };
    let reported = rig.run::<Dns>(|query: &Query| match query.serial {
        0..100 => Vec::new(),
        100..200 => vec![answer(query), answer(query)],
        // These come back when counting has begun.
        450..500 => vec![(80 * MS, PeerAction::Send(query.answer::<Dns>()))],
        700..800 => Vec::new(),
        _ => vec![answer(query)],
    });
    let c = &reported.counts;
    assert_eq!((c.planned, c.answered, c.lost, c.duplicate), (1_000, 900, 100, 0));
    assert_eq!(reported.rows[0].due, 0);
}

#[test]
fn a_connection_that_ends_in_the_warm_up_takes_nothing_that_counts() {
    let rig = Streams { warmup: 500 * MS, ..Streams::over(10) };
    let reported = rig.run::<Dns>(|query: &Query| match query.far {
        0 if query.nth == 20 => vec![(0, PeerAction::Fail(CloseReason::Reset))],
        0 | 1 => Vec::new(),
        _ => vec![answer(query)],
    });
    let c = &reported.counts;
    assert_eq!((c.refused, c.planned, reported.connections.reset), (0, 1_000, 1));
    assert!((80..150).contains(&c.lost), "{c:?}");
}

#[test]
fn what_timed_out_before_its_connection_ended_is_lost_once() {
    let rig = Streams { seconds: 2.0, timeout: 10 * MS, ..Streams::over(4) };
    let reported = rig.run::<Dns>(|query: &Query| match query.far {
        0 if query.nth == 50 => vec![(0, PeerAction::Fail(CloseReason::Ended))],
        0 => Vec::new(),
        _ => vec![answer(query)],
    });
    let by_second: Vec<_> = reported.seconds.iter().map(|second| second.counts.lost).collect();
    assert_eq!((reported.counts.lost, by_second.iter().sum::<u64>()), (51, 51), "{by_second:?}");
}

#[test]
fn answers_that_one_connection_had_too_late_say_nothing_of_the_next() {
    let rig = Streams { slots: 4, timeout: 2 * MS, ..Streams::over(1) }
        .connections(|connections| connections.reconnect = true);
    let reported = rig.run::<Dns>(|query: &Query| match (query.far, query.nth) {
        // When these come, the ring has forgotten who asked.
        (0, 0..100) => vec![(10 * MS, PeerAction::Send(query.answer::<Dns>()))],
        (0, 150) => vec![(0, PeerAction::Fail(CloseReason::Ended))],
        _ => Vec::new(),
    });
    let c = &reported.counts;
    assert_eq!((c.late, c.lost + c.late, c.answered), (100, c.sent, 0), "{c:?}");
}

#[test]
fn nobody_waits_at_the_end_for_what_the_warm_up_lost() {
    let rig = Streams { warmup: 500 * MS, timeout: 400 * MS, slots: 512, ..Streams::over(1) };
    let reported = rig.run::<Dns>(|query: &Query| if query.serial < 100 { Vec::new() } else { vec![answer(query)] });
    assert_eq!(reported.counts.answered, 1_000);
    assert!(reported.ended < 500 * MS + SECOND + 110 * MS, "{}", reported.ended);
}
