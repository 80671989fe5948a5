//! The clocks of a server's connections, in virtual time: cut messages, memory that runs out, idle connections.

use flatout_net::{CloseMode, Conn};

use super::fake_streams::PeerAction;
use super::rig::MS;
use super::server_rig::{Heard, Scene, framed, grow, request};
use crate::server::age_list::AgeList;

const SECOND: u64 = 1_000;

/// When far end `far` was closed, in ms, and how.
fn closed(outcome: &Heard, far: usize) -> Option<(u64, CloseMode)> {
    outcome.closed.iter().find(|(of, ..)| *of == far).map(|(_, how, at)| (at / MS, *how))
}

fn cut(length: usize) -> PeerAction {
    PeerAction::Send(framed(&vec![b'e'; 60_000])[..length].to_vec())
}

#[test]
fn a_cut_request_without_progress_is_ended_after_thirty_seconds_and_nobody_else() {
    let outcome = Scene::lasting(60 * SECOND)
        .at(1, 0, PeerAction::Connect)
        .at(1, 1, PeerAction::Connect)
        .at(2 * SECOND, 0, cut(100))
        .at(50 * SECOND, 1, PeerAction::Send(request(1)))
        .play();
    let (at, how) = closed(&outcome, 0).expect("it is ended");
    assert!((32 * SECOND..33 * SECOND).contains(&at), "{at}");
    assert_eq!(how, CloseMode::Reset);
    let served = outcome.served;
    assert_eq!((served.incomplete, served.stalled, served.evicted, served.connections), (1, 0, 0, 1));
    outcome.expect(1, &request(1));
}

#[test]
fn a_request_that_comes_slowly_is_answered() {
    let whole = request(7);
    let mut scene = Scene::lasting(300 * SECOND).at(1, 0, PeerAction::Connect);
    for (n, byte) in whole.iter().enumerate() {
        scene = scene.at((1 + 29 * n as u64) * SECOND, 0, PeerAction::Send(vec![*byte]));
    }
    let outcome = scene.play();
    outcome.expect(0, &whole);
    assert_eq!((outcome.served.incomplete, outcome.served.connections), (0, 1));
}

#[test]
fn a_client_that_does_not_read_keeps_its_own_clock() {
    // What is cut behind its requests is no fault while the server does not receive the rest.
    let asked = [grow(60_000, 1).repeat(4), request(1)[..3].to_vec()].concat();
    let outcome = Scene::lasting(100 * SECOND)
        .at(1, 0, PeerAction::Connect)
        .at(1, 0, PeerAction::Read(false))
        .at(2, 0, PeerAction::Send(asked))
        .at(20 * SECOND, 0, PeerAction::Window(60_002))
        .at(40 * SECOND, 0, PeerAction::Read(true))
        .at(60 * SECOND, 0, PeerAction::Send(request(1)[3..].to_vec()))
        .play();
    assert_eq!((outcome.served.incomplete, outcome.served.stalled, outcome.served.connections), (0, 0, 1));
    assert_eq!(outcome.served.answered, 5);
}

#[test]
fn where_memory_ends_the_oldest_cut_request_goes_and_the_newcomer_is_answered() {
    let attackers = 100;
    let mut scene = Scene::lasting(20 * SECOND).with_pending(20 * 60_000);
    for far in 0..attackers {
        scene = scene.at(1, far, PeerAction::Connect).at(10 + far as u64, far, cut(50_000));
    }
    let (honest, whole) = (attackers, request(9));
    scene = scene.at(1, honest, PeerAction::Connect).at(500, honest, PeerAction::Send(whole[..4].to_vec())).at(
        600,
        honest,
        PeerAction::Send(whole[4..].to_vec()),
    );
    let outcome = scene.play();
    outcome.expect(honest, &whole);
    let ended: Vec<_> = outcome.closed.iter().map(|(far, ..)| *far).collect();
    assert_eq!(ended, (0..ended.len()).collect::<Vec<_>>(), "the oldest first");
    assert!((70..95).contains(&ended.len()), "{}", ended.len());
    assert_eq!((outcome.served.evicted, outcome.served.stalled), (ended.len() as u64, 0));
}

#[test]
fn bytes_now_and_then_make_nobody_younger_where_memory_ends() {
    let mut scene = Scene::lasting(20 * SECOND).with_pending(200_000);
    for far in 0..3 {
        scene = scene.at(1, far, PeerAction::Connect).at(10, far, cut(60_000 - 1_000));
    }
    let (honest, whole) = (3, request(9));
    scene = scene.at(1, honest, PeerAction::Connect).at(100, honest, PeerAction::Send(whole[..4].to_vec()));
    for far in 0..3 {
        scene = scene.at(150, far, PeerAction::Send(vec![b'e'; 10]));
    }
    // One more makes memory run out; the honest client has been silent for longest.
    scene = scene.at(1, 4, PeerAction::Connect).at(200, 4, cut(50_000));
    let outcome = scene.at(300, honest, PeerAction::Send(whole[4..].to_vec())).play();
    outcome.expect(honest, &whole);
    assert!(outcome.served.evicted >= 1, "memory did run out");
}

#[test]
fn idle_connections_are_closed_in_order_after_their_time() {
    let scene = Scene::lasting(60 * SECOND).with_idle_timeout(5_000);
    let scene = (0..2).fold(scene, |scene, far| scene.at(1, far, PeerAction::Connect));
    let outcome = (1..20).fold(scene, |scene, n| scene.at(n * 2 * SECOND, 1, PeerAction::Send(request(1)))).play();
    let [(first, how), (second, _)] = [0, 1].map(|far| closed(&outcome, far).expect("it is closed"));
    assert!((5 * SECOND..5_200).contains(&first), "{first}");
    assert!((43 * SECOND..43_200).contains(&second), "{second}");
    assert_eq!(how, CloseMode::Flush);
    assert_eq!((outcome.served.idle_closed, outcome.served.connections, outcome.served.answered), (2, 0, 19));
}

#[test]
fn without_the_option_idle_connections_stay() {
    let outcome = Scene::lasting(1_000 * SECOND).at(1, 0, PeerAction::Connect).play();
    assert_eq!((outcome.served.idle_closed, outcome.served.connections), (0, 1));
}

#[test]
fn a_connection_whose_answers_are_under_way_is_not_idle() {
    let outcome = Scene::lasting(60 * SECOND)
        .with_idle_timeout(5_000)
        .at(1, 0, PeerAction::Connect)
        .at(1, 0, PeerAction::Read(false))
        .at(2, 0, PeerAction::Send(grow(60_000, 1)))
        .at(22 * SECOND, 0, PeerAction::Read(true))
        .play();
    outcome.expect(0, &framed(&[1; 60_000]));
    let (at, _) = closed(&outcome, 0).expect("it is closed once all is read");
    assert!((22 * SECOND..33 * SECOND).contains(&at), "{at}");
    assert_eq!(outcome.served.idle_closed, 1);
}

#[test]
fn many_idle_connections_end_a_part_at_a_time_while_others_are_answered() {
    let count = 100_000;
    let scene = Scene::lasting(10 * SECOND).with_idle_timeout(1_000);
    let scene = (0..count).fold(scene, |scene, far| scene.at(1, far, PeerAction::Connect));
    let outcome = scene.at(900, 0, PeerAction::Send(request(1))).play();
    assert_eq!((outcome.served.idle_closed, outcome.served.connections), (count as u64, 0));
    outcome.expect(0, &request(1));
    let times: std::collections::BTreeSet<_> = outcome.closed.iter().map(|(.., at)| *at).collect();
    assert!(times.len() > 90, "not all in one turn: {}", times.len());
}

#[test]
fn ages_are_kept_in_order_over_the_wrap_of_time() {
    let conn = |index| Conn { index, generation: 1 };
    let (mut ages, begin) = (AgeList::default(), u32::MAX - 10);
    for key in 0..4 {
        ages.insert(key, conn(key), begin.wrapping_add(key * 5));
    }
    ages.touch(0, begin.wrapping_add(30));
    ages.remove(2);
    ages.remove(2);
    let now = begin.wrapping_add(100);
    let mut order = Vec::new();
    while let Some(oldest) = ages.older_than(60, now) {
        order.push(oldest.index);
        ages.remove(oldest.index);
    }
    assert_eq!(order, [1, 3, 0]);
    assert_eq!(ages.oldest(), None);
    ages.insert(7, conn(7), now);
    assert_eq!((ages.oldest(), ages.older_than(0, now)), (Some(conn(7)), None));
}
