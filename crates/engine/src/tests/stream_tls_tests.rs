//! Whole runs under TLS: the laws hold there too, and connecting includes shaking hands.

use std::cell::Cell;
use std::rc::Rc;

use flatout_net::{CloseMode, CloseReason};
use flatout_wire::dns::{Dns, DnsClient};

use super::fake_streams::{Act, Deed, Told as Deeded};
use super::rig::{MS, QUICK};
use super::stream_rig::{Query, SECOND, Streams, Told};
use super::tls_rig::{BOTH, asked, far_ends, file, server};
use crate::plan;
use crate::tally::{Connections, Unsent};
use crate::tls::Tls;

fn answer(query: &Query) -> Deed {
    Deed::Send(query.answer::<Dns>())
}

fn run(rig: &Streams, piece: usize, script: impl FnMut(&Query) -> Vec<Deed> + 'static) -> Told {
    let tls = Tls::new(&asked()).unwrap();
    rig.run_over::<Dns, _, _>(tls, far_ends::<DnsClient>(server(BOTH, &["dot"]), piece, script))
}

#[test]
fn all_is_answered_in_whatever_pieces() {
    for piece in [1, 100, usize::MAX] {
        let told = run(&Streams::default(), piece, |query| vec![answer(query)]);
        assert_eq!((told.counts.answered, told.connections.live), (1_000, 5), "pieces of {piece}");
    }
}

#[test]
fn shaking_hands_is_part_of_connecting_and_of_no_answer() {
    let told = run(&Streams::over(50), usize::MAX, |query| vec![answer(query)]);
    assert_eq!(told.connect.count(), 50);
    // There and back twice: TCP, then TLS.
    assert!(told.connect.min() >= 2 * QUICK && told.connect.max() < 3 * QUICK, "{}", told.connect.max());
    assert!(told.totals.from_sent.max() < 2 * QUICK);
}

#[test]
fn connections_are_replaced_under_tls() {
    let rig = Streams::over(10).opening(|opening| opening.churn = 7);
    let told = run(&rig, usize::MAX, |query| vec![answer(query)]);
    let c = &told.counts;
    assert_eq!((c.lost, c.answered + c.unsent[Unsent::NoConnection as usize]), (0, 1_000));
    assert!(told.connections.reopened > 130 && told.connections.broken == 0, "{:?}", told.connections);
}

#[test]
fn a_message_that_found_no_room_leaves_what_follows_readable() {
    let rig = Streams { slots: 1 << 12, timeout: 2 * SECOND, block: 1_000, ..Streams::over(1) };
    // The far end stops reading for a while, then has all that was said meanwhile.
    let far = far_ends::<DnsClient>(server(BOTH, &[]), usize::MAX, |query| vec![answer(query)]);
    let told = rig.run_over::<Dns, _, _>(Tls::new(&asked()).unwrap(), |client, notes| {
        let mut play = far(client, notes);
        let mut heard = 0;
        move |told: Deeded<'_>| {
            heard += 1;
            let mut deeds = play(told);
            if heard == 100 {
                deeds.extend([(0, Deed::Read(false)), (600 * MS, Deed::Read(true))]);
            }
            deeds
        }
    });
    let c = &told.counts;
    assert!(c.unsent[Unsent::Blocked as usize] > 100, "{c:?}");
    assert_eq!((c.answered + c.all_unsent(), told.connections.reset, told.connections.broken), (1_000, 0, 0), "{c:?}");
}

#[test]
fn nonsense_in_mid_run_ends_the_connection_after_what_came_before_it_and_with_an_alert() {
    let tls = Tls::new(&asked()).unwrap();
    let heard = Rc::new(Cell::new(0));
    let heard_by_far_end = Rc::clone(&heard);
    let far = far_ends::<DnsClient>(server(BOTH, &[]), usize::MAX, |query| vec![answer(query)]);
    let told = Streams::over(1).run_over::<Dns, _, _>(tls, |client, notes| {
        let mut play = far(client, notes);
        move |told: Deeded<'_>| {
            let mut deeds = play(told);
            heard_by_far_end.set(heard_by_far_end.get() + u64::from(matches!(told.act, Act::Bytes(_))));
            if let (100, [(_, Deed::Send(bytes))]) = (heard_by_far_end.get(), &mut deeds[..]) {
                bytes.extend(b"nonsense, nonsense");
            }
            deeds
        }
    });
    let (c, connections) = (&told.counts, told.connections);
    // Two flights of the handshake come before the first request.
    assert_eq!((c.answered, c.invalid, c.lost, connections.broken, connections.live), (98, 0, 0, 1, 0));
    assert_eq!(heard.get(), 101, "the alert");
    assert_eq!(told.closed[&0].1, CloseMode::Flush, "the alert still leaves");
    assert!(told.failure.as_deref().is_some_and(|why| why.contains("TLS")), "{:?}", told.failure);
}

#[test]
fn a_certificate_that_does_not_hold_fails_every_connection_and_plans_nothing() {
    let tls = Tls::new(&plan::Tls { authorities: Some(file("stranger.pem")), ..asked() }).unwrap();
    let far = far_ends::<DnsClient>(server(BOTH, &[]), usize::MAX, |query| vec![answer(query)]);
    let told = Streams::over(20).run_over::<Dns, _, _>(tls, far);
    let expected = Connections { opened: 20, failed: 20, ..Connections::default() };
    assert_eq!((told.counts.planned, told.connections), (0, expected));
    assert!(told.failure.as_deref().is_some_and(|why| why.contains("UnknownIssuer")), "{:?}", told.failure);
}

#[test]
fn a_handshake_that_never_ends_times_out() {
    let rig = Streams::over(5).opening(|opening| opening.timeout = 200 * MS);
    let tls = Tls::new(&asked()).unwrap();
    let told = rig.run_over::<Dns, _, _>(tls, |_, notes| {
        move |told: Deeded<'_>| match told.act {
            Act::Open(_) => {
                notes.borrow_mut().want(told.at);
                vec![(QUICK, Deed::Accept)]
            }
            _ => Vec::new(),
        }
    });
    let expected = Connections { opened: 5, failed: 5, timed_out: 5, ..Connections::default() };
    assert_eq!((told.counts.planned, told.connections), (0, expected));
}

#[test]
fn a_reset_while_hands_are_shaken_is_a_failure() {
    let tls = Tls::new(&asked()).unwrap();
    let told = Streams::over(5).run_over::<Dns, _, _>(tls, |_, notes| {
        move |told: Deeded<'_>| match told.act {
            Act::Open(_) => {
                notes.borrow_mut().want(told.at);
                vec![(QUICK, Deed::Accept)]
            }
            Act::Bytes(_) => vec![(QUICK, Deed::Fail(CloseReason::Reset))],
            Act::Close(_) => Vec::new(),
        }
    });
    let expected = Connections { opened: 5, failed: 5, ..Connections::default() };
    assert_eq!((told.counts.planned, told.connections), (0, expected));
}
