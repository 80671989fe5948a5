//! Receiving and waiting calls that fail: never silence of the far end, and never an endless loop.

use flatout_wire::dns::Dns;

use super::fake::SendOutcome;
use super::rig::{MS, QUICK, Rig};
use super::server_rig::{Scene, framed};
use super::stream_rig::{Streams, after};

/// The call that fails half way through a run of 1 s.
fn interrupted_by(call: &'static str, outcome: SendOutcome) {
    let rig = Rig { failing: Some((500 * MS, call)), ..Rig::default() };
    let reported = rig.run(|_| outcome);
    assert_eq!(rig.published.gave_up(), Some(format!("{call}: Operation not permitted")));
    let sent = reported.counts.sent;
    assert!((495..=505).contains(&sent), "it ends at once: {sent} of 1,000 were sent");
    assert!(reported.ended < 510 * MS, "{}", reported.ended);
    assert!(reported.counts.lost <= 5, "only what was under way: {:?}", reported.counts);
}

#[test]
fn a_wait_that_fails_ends_the_worker() {
    interrupted_by("epoll_wait", SendOutcome::Answer(QUICK));
}

#[test]
fn a_receive_that_fails_ends_the_worker() {
    interrupted_by("recvmmsg", SendOutcome::Answer(QUICK));
}

#[test]
fn refusals_that_cannot_be_read_end_the_worker() {
    interrupted_by("recvmsg", SendOutcome::Refuse(QUICK));
}

#[test]
fn a_backend_that_fails_ends_the_worker_over_connections() {
    let rig = Streams { fails_from: Some(600 * MS), ..Streams::default() };
    let reported = rig.run::<Dns>(after::<Dns>(QUICK));
    assert_eq!(rig.published.gave_up().as_deref(), Some("epoll_wait: Operation not permitted"));
    let counts = &reported.run.counts;
    assert!((495..=505).contains(&counts.sent) && counts.answered >= 490, "{counts:?}");
}

#[test]
fn a_backend_that_fails_while_connecting_ends_the_worker() {
    let rig = Streams { fails_from: Some(0), ..Streams::default() };
    let reported = rig.run::<Dns>(after::<Dns>(QUICK));
    assert_eq!(rig.published.gave_up().as_deref(), Some("epoll_wait: Operation not permitted"));
    assert_eq!((reported.run.counts.planned, reported.connections.established), (0, 0));
}

#[test]
fn a_backend_that_fails_ends_the_server_with_its_error() {
    let played = Scene::lasting(1_000).failing_from(10).sending([&framed(b"e")[..]]).play();
    assert_eq!((played.served.answered, played.ended), (1, Err("epoll_wait: Operation not permitted".to_owned())));
}
