//! Whole runs under TLS: the laws hold there too, and connecting includes shaking hands.

use std::cell::Cell;
use std::rc::Rc;

use flatout_net::{CloseMode, CloseReason};
use flatout_wire::dns::{Dns, DnsClient};

use super::fake_streams::{Act, PeerAction, Reported as Deeded};
use super::rig::{MS, QUICK};
use super::stream_rig::{Query, Reported, SECOND, Streams};
use super::tls_rig::{BOTH, asked, far_ends, file, server};
use crate::plan;
use crate::tally::{Connections, Unsent};
use crate::tls::Tls;

fn answer(query: &Query) -> PeerAction {
    PeerAction::Send(query.answer::<Dns>())
}

fn run(rig: &Streams, piece: usize, script: impl FnMut(&Query) -> Vec<PeerAction> + 'static) -> Reported {
    let tls = Tls::new(&asked()).unwrap();
    rig.run_over::<Dns, _, _>(tls, far_ends::<DnsClient>(server(BOTH, &["dot"]), piece, script))
}

#[test]
fn all_is_answered_in_whatever_pieces() {
    for piece in [1, 100, usize::MAX] {
        let reported = run(&Streams::default(), piece, |query| vec![answer(query)]);
        assert_eq!((reported.counts.answered, reported.connections.live), (1_000, 5), "pieces of {piece}");
    }
}

#[test]
fn shaking_hands_is_part_of_connecting_and_of_no_answer() {
    let reported = run(&Streams::over(50), usize::MAX, |query| vec![answer(query)]);
    assert_eq!(reported.connect.count(), 50);
    // There and back twice: TCP, then TLS.
    assert!(reported.connect.min() >= 2 * QUICK && reported.connect.max() < 3 * QUICK, "{}", reported.connect.max());
    assert!(reported.totals.from_sent.max() < 2 * QUICK);
}

#[test]
fn connections_are_replaced_under_tls() {
    let rig = Streams::over(10).connections(|connections| connections.churn = 7);
    let reported = run(&rig, usize::MAX, |query| vec![answer(query)]);
    let c = &reported.counts;
    assert_eq!((c.lost, c.answered + c.unsent[Unsent::NoConnection as usize]), (0, 1_000));
    assert!(reported.connections.reopened > 130 && reported.connections.broken == 0, "{:?}", reported.connections);
}

#[test]
fn a_message_that_found_no_room_leaves_what_follows_readable() {
    let rig = Streams { slots: 1 << 12, timeout: 2 * SECOND, block: 1_000, ..Streams::over(1) };
    // The far end stops reading for a while, then has all that was said meanwhile.
    let far = far_ends::<DnsClient>(server(BOTH, &[]), usize::MAX, |query| vec![answer(query)]);
    let reported = rig.run_over::<Dns, _, _>(Tls::new(&asked()).unwrap(), |client, notes| {
        let mut play = far(client, notes);
        let mut ready = 0;
        move |reported: Deeded<'_>| {
            ready += 1;
            let mut actions = play(reported);
            if ready == 100 {
                actions.extend([(0, PeerAction::Read(false)), (600 * MS, PeerAction::Read(true))]);
            }
            actions
        }
    });
    let c = &reported.counts;
    assert!(c.unsent[Unsent::Blocked as usize] > 100, "{c:?}");
    assert_eq!(
        (c.answered + c.all_unsent(), reported.connections.reset, reported.connections.broken),
        (1_000, 0, 0),
        "{c:?}"
    );
}

#[test]
fn nonsense_in_mid_run_ends_the_connection_after_what_came_before_it_and_with_an_alert() {
    let tls = Tls::new(&asked()).unwrap();
    let ready = Rc::new(Cell::new(0));
    let heard_by_far_end = Rc::clone(&ready);
    let far = far_ends::<DnsClient>(server(BOTH, &[]), usize::MAX, |query| vec![answer(query)]);
    let reported = Streams::over(1).run_over::<Dns, _, _>(tls, |client, notes| {
        let mut play = far(client, notes);
        move |reported: Deeded<'_>| {
            let mut actions = play(reported);
            heard_by_far_end.set(heard_by_far_end.get() + u64::from(matches!(reported.act, Act::Bytes(_))));
            if let (100, [(_, PeerAction::Send(bytes))]) = (heard_by_far_end.get(), &mut actions[..]) {
                bytes.extend(b"nonsense, nonsense");
            }
            actions
        }
    });
    let (c, connections) = (&reported.counts, reported.connections);
    // Two flights of the handshake come before the first request.
    assert_eq!((c.answered, c.invalid, c.lost, connections.broken, connections.live), (98, 0, 0, 1, 0));
    assert_eq!(ready.get(), 101, "the alert");
    assert_eq!(reported.closed[&0].1, CloseMode::Flush, "the alert still leaves");
    assert!(reported.failure.as_deref().is_some_and(|why| why.contains("TLS")), "{:?}", reported.failure);
}

#[test]
fn a_certificate_that_does_not_hold_fails_every_connection_and_plans_nothing() {
    let tls = Tls::new(&plan::Tls { authorities: Some(file("stranger.pem")), ..asked() }).unwrap();
    let far = far_ends::<DnsClient>(server(BOTH, &[]), usize::MAX, |query| vec![answer(query)]);
    let reported = Streams::over(20).run_over::<Dns, _, _>(tls, far);
    let expected = Connections { opened: 20, failed: 20, ..Connections::default() };
    assert_eq!((reported.counts.planned, reported.connections), (0, expected));
    assert!(reported.failure.as_deref().is_some_and(|why| why.contains("UnknownIssuer")), "{:?}", reported.failure);
}

#[test]
fn a_handshake_that_never_ends_times_out() {
    let rig = Streams::over(5).connections(|connections| connections.timeout = 200 * MS);
    let tls = Tls::new(&asked()).unwrap();
    let reported = rig.run_over::<Dns, _, _>(tls, |_, notes| {
        move |reported: Deeded<'_>| match reported.act {
            Act::Open(_) => {
                notes.borrow_mut().want(reported.at);
                vec![(QUICK, PeerAction::Accept)]
            }
            _ => Vec::new(),
        }
    });
    let expected = Connections { opened: 5, failed: 5, timed_out: 5, ..Connections::default() };
    assert_eq!((reported.counts.planned, reported.connections), (0, expected));
}

#[test]
fn a_reset_while_hands_are_shaken_is_a_failure() {
    let tls = Tls::new(&asked()).unwrap();
    let reported = Streams::over(5).run_over::<Dns, _, _>(tls, |_, notes| {
        move |reported: Deeded<'_>| match reported.act {
            Act::Open(_) => {
                notes.borrow_mut().want(reported.at);
                vec![(QUICK, PeerAction::Accept)]
            }
            Act::Bytes(_) => vec![(QUICK, PeerAction::Fail(CloseReason::Reset))],
            Act::Close(_) => Vec::new(),
        }
    });
    let expected = Connections { opened: 5, failed: 5, ..Connections::default() };
    assert_eq!((reported.counts.planned, reported.connections), (0, expected));
}
