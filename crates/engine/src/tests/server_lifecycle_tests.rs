//! Connections come, stay, do not read, and go: nothing that one of them does reaches another.

use flatout_net::{CloseMode, CloseReason, Conn};
use flatout_wire::DropReason;

use super::fake_streams::PeerAction;
use super::rig::MS;
use super::server_rig::{Plain, Scene, framed, grow, request};
use crate::server::pending_input::PendingBudget;

const SECOND: u64 = 1_000;
const OWNER: (Conn, u32) = (Conn { index: 0, generation: 1 }, 0);

#[test]
fn thousands_of_connections_are_served_side_by_side() {
    let count = 5_000;
    let scene = (0..count).fold(Scene::lasting(100), |scene, far| {
        let whole = request(far);
        let (first, second) = whole.split_at(3);
        let scene = scene.at(1, far, PeerAction::Connect).at(10, far, PeerAction::Send(first.to_vec()));
        scene.at(20, far, PeerAction::Send([second, &whole].concat()))
    });
    let ready = scene.play();
    for far in 0..count {
        ready.expect(far, &request(far).repeat(2));
    }
    assert_eq!((ready.served.accepted, ready.served.connections), (5_000, 5_000));
    assert_eq!((ready.served.received, ready.served.answered), (10_000, 10_000));
}

#[test]
fn an_idle_connection_costs_sixteen_bytes() {
    let scene = (0..4_096).fold(Scene::lasting(100), |scene, far| scene.at(1, far, PeerAction::Connect));
    assert_eq!(scene.play().served.memory_bytes, 4_096 * 16);
}

#[test]
fn what_an_old_connection_left_never_reaches_the_next_one_in_its_place() {
    let whole = request(1);
    let ready = Scene::lasting(100)
        .at(1, 0, PeerAction::Connect)
        .at(2, 0, PeerAction::Send(whole[..5].to_vec()))
        .at(3, 0, PeerAction::Fail(CloseReason::Reset))
        .at(3, 1, PeerAction::Connect)
        .at(4, 1, PeerAction::Send(request(2)))
        // Its predecessor's other half would make nonsense of it.
        .at(5, 1, PeerAction::Send(whole[5..].to_vec()))
        .play();
    ready.expect(0, b"");
    ready.expect(1, &request(2));
    assert_eq!((ready.served.resets, ready.served.accepted, ready.served.connections), (1, 2, 1));
}

#[test]
fn ends_and_resets_are_counted_apart() {
    let mut scene = Scene::lasting(100);
    let reasons =
        [CloseReason::Ended, CloseReason::Ended, CloseReason::Reset, CloseReason::TimedOut, CloseReason::Failed(113)];
    for (far, reason) in reasons.into_iter().enumerate() {
        scene = scene.at(1, far, PeerAction::Connect).at(5, far, PeerAction::Fail(reason));
    }
    let served = scene.at(1, 9, PeerAction::Connect).play().served;
    assert_eq!((served.ended, served.resets, served.connections, served.accepted), (2, 3, 1, 6));
}

#[test]
fn accepts_that_fail_are_counted_and_stop_nothing() {
    let ready = Scene::lasting(100)
        .with_capacity(1)
        .at(1, 0, PeerAction::Lost)
        .at(2, 0, PeerAction::Connect)
        .at(3, 1, PeerAction::Connect)
        .at(4, 0, PeerAction::Send(request(1)))
        .play();
    assert_eq!((ready.served.accept_errors, ready.served.accepted), (2, 1));
    ready.expect(0, &request(1));
}

#[test]
fn a_burst_beyond_the_block_waits_and_is_answered_in_full() {
    let bytes: Vec<u8> = (0..1_000).flat_map(request).collect();
    let ready = Scene::lasting(1_000).with_block(100).sending(bytes.chunks(1_501)).play();
    ready.expect(0, &bytes);
    assert_eq!((ready.served.received, ready.served.stalled, ready.served.connections), (1_000, 0, 1));
}

#[test]
fn a_client_that_does_not_read_for_a_while_gets_everything_later() {
    let asked: Vec<u8> = (0..50).flat_map(|n| grow(60_000, n)).collect();
    let answers: Vec<u8> = (0..50).flat_map(|n| framed(&[n; 60_000])).collect();
    let ready = Scene::lasting(60 * SECOND)
        .at(1, 0, PeerAction::Connect)
        .at(1, 0, PeerAction::Read(false))
        .at(2, 0, PeerAction::Send(asked[..130].to_vec()))
        .at(3, 0, PeerAction::Send(asked[130..].to_vec()))
        .at(29 * SECOND, 0, PeerAction::Read(true))
        .play();
    ready.expect(0, &answers);
    assert_eq!((ready.served.received, ready.served.answered, ready.served.stalled), (50, 50, 0));
}

#[test]
fn a_client_that_never_reads_is_cut_off_after_thirty_seconds_and_nobody_else() {
    let asked = grow(60_000, 1).repeat(10);
    let ready = Scene::lasting(60 * SECOND)
        .at(1, 0, PeerAction::Connect)
        .at(1, 0, PeerAction::Read(false))
        .at(2, 0, PeerAction::Send(asked))
        .at(1, 1, PeerAction::Connect)
        .at(50 * SECOND, 1, PeerAction::Send(request(1)))
        .play();
    assert_eq!((ready.served.stalled, ready.served.connections), (1, 1));
    let [(0, CloseMode::Reset, at)] = ready.closed[..] else { panic!("{:?}", ready.closed) };
    assert!((30 * SECOND * MS..33 * SECOND * MS).contains(&at), "{at}");
    ready.expect(1, &request(1));
}

#[test]
fn a_slow_reader_is_no_stalled_one() {
    let asked = grow(60_000, 1).repeat(10);
    let mut scene = Scene::lasting(100 * SECOND).at(1, 0, PeerAction::Connect).at(1, 0, PeerAction::Read(false));
    scene = scene.at(2, 0, PeerAction::Send(asked));
    // It reads an answer each 20 s: never all, but always something.
    for n in 1..5 {
        scene = scene.at(n * 20 * SECOND, 0, PeerAction::Window(60_002));
    }
    let served = scene.play().served;
    assert_eq!((served.stalled, served.connections), (0, 1));
    assert!(served.answered < 8, "it has not read all");
}

#[test]
fn nothing_more_is_received_from_who_does_not_read() {
    let mut scene = Scene::lasting(10 * SECOND).at(1, 0, PeerAction::Connect).at(1, 0, PeerAction::Read(false));
    for n in 0..100 {
        scene = scene.at(2 + n, 0, PeerAction::Send(grow(60_000, 1)));
    }
    // One answer in its window and block, and what did not fit behind them.
    let served = scene.play().served;
    assert!(served.bytes_in <= 4 * 6, "{}", served.bytes_in);
}

#[test]
fn what_has_no_frames_waits_in_pieces_that_fit() {
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n / 7) as u8 & 31).collect();
    let scene = Scene::lasting(30 * SECOND).at(1, 0, PeerAction::Connect).at(1, 0, PeerAction::Read(false));
    let scene =
        scene.at(2, 0, PeerAction::Send(bytes[..999].to_vec())).at(3, 0, PeerAction::Send(bytes[999..].to_vec()));
    let ready = scene.at(20 * SECOND, 0, PeerAction::Read(true)).play_as::<Plain>();
    ready.expect(0, &bytes);
    assert_eq!((ready.served.bytes_out, ready.served.stalled), (1_000_000, 0));
}

#[test]
fn an_answer_that_may_not_grow_does_not() {
    let ready = Scene::lasting(100).sending([&b"!"[..], b"x"]).play_as::<Plain>();
    ready.expect(0, b"x");
    assert_eq!(ready.served.dropped[DropReason::Malformed as usize], 1);
}

#[test]
fn an_idle_server_sleeps() {
    let turns = Scene::lasting(100 * SECOND).at(1, 0, PeerAction::Connect).play().turns;
    assert!((1_900..2_100).contains(&turns), "20 turns a second, and {turns} in 100");
}

#[test]
fn what_is_kept_is_given_back() {
    let cut = framed(&[b'e'; 40_000]);
    let mut scene = Scene::lasting(300);
    for far in 0..100 {
        scene = scene.at(1, far, PeerAction::Connect).at(2, far, PeerAction::Send(cut[..30_000].to_vec()));
        scene = scene.at(100, far, PeerAction::Fail(CloseReason::Reset));
    }
    let served = scene.play().served;
    // Some spare pieces stay; beside them there are 128 places.
    // Spare pieces, places, and the keys of their ages.
    assert!(served.memory_bytes <= 64 * 30_000 + 128 * (16 + 44), "{}", served.memory_bytes);
    assert_eq!(served.connections, 0);
}

#[test]
fn what_waits_moves_up_and_takes_no_more_than_it_may() {
    let mut budget = PendingBudget::up_to(100_000);
    let mut pending = None;
    for _ in 0..10_000 {
        assert!(budget.keep(&mut pending, OWNER, &[1; 1_000], 0));
        if let Some(pending) = &mut pending {
            pending.advance(999);
        }
    }
    assert_eq!(pending.as_ref().map(|pending| pending.waiting().len()), Some(10_000));
    assert!(budget.bytes() < 50_000, "{}", budget.bytes());
    assert!(!budget.keep(&mut None, OWNER, &[1; 100_000], 0), "more than all of them may have");
    budget.give_back(pending);
    let mut next = None;
    assert!(budget.keep(&mut next, OWNER, b"x", 0));
    assert_eq!(
        next.as_ref().map(|pending| pending.waiting().to_vec()),
        Some(b"x".to_vec()),
        "nothing of the last one's"
    );
}
