//! Requests come in whatever pieces: what is answered depends on the bytes alone.

use flatout_net::CloseMode;
use flatout_wire::DropReason;

use super::fake_streams::PeerAction;
use super::server_rig::{Scene, framed, grow, request};

#[test]
fn single_bytes_make_whole_requests() {
    let bytes: Vec<u8> = (0..20).flat_map(request).collect();
    let ready = Scene::lasting(1_000).sending(bytes.chunks(1)).play();
    ready.expect(0, &bytes);
    assert_eq!((ready.served.received, ready.served.answered), (20, 20));
    assert_eq!((ready.served.bytes_in, ready.served.bytes_out), (bytes.len() as u64, bytes.len() as u64));
}

#[test]
fn a_hundred_requests_in_one_piece_are_answered_in_order() {
    let bytes: Vec<u8> = (0..100).flat_map(request).collect();
    let ready = Scene::lasting(100).sending([&bytes[..]]).play();
    ready.expect(0, &bytes);
    assert_eq!((ready.served.received, ready.served.answered), (100, 100));
}

#[test]
fn a_cut_at_every_place_changes_nothing() {
    let bytes: Vec<u8> = (0..3).flat_map(request).collect();
    for cut in 1..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        Scene::lasting(100).sending([first, second]).play().expect(0, &bytes);
        for other in cut + 1..bytes.len() {
            let (middle, last) = bytes[cut..].split_at(other - cut);
            Scene::lasting(100).sending([first, middle, last]).play().expect(0, &bytes);
        }
    }
}

#[test]
fn the_longest_request_and_answer_pass() {
    let mut longest = vec![b'e'; 65_535];
    longest[65_534] = b'!';
    let longest = framed(&longest);
    // Whole, in odd pieces, and behind another request.
    Scene::lasting(100).sending([&longest[..]]).play().expect(0, &longest);
    Scene::lasting(1_000).sending(longest.chunks(997)).play().expect(0, &longest);
    let answer = framed(&[7; 65_535]);
    let asked = [request(1), grow(65_535, 7), grow(65_535, 7), request(2)].concat();
    let ready = Scene::lasting(100).sending([&asked[..]]).play();
    ready.expect(0, &[request(1), answer.clone(), answer, request(2)].concat());
    assert_eq!(ready.served.answered, 4);
}

#[test]
fn single_bytes_of_the_longest_request_cost_no_square() {
    // Looking at all that came before for each of them would touch 2 GB: far more than a test waits for in one go.
    let longest = framed(&[b'e'; 65_535]);
    let ready = Scene::lasting(70_000).sending(longest.chunks(1)).play();
    ready.expect(0, &longest);
    assert!(ready.served.memory_bytes < 1 << 20);
}

#[test]
fn a_refused_request_is_counted_and_leaves_the_connection_as_it_was() {
    let asked = [request(1), framed(b"?"), request(2), framed(b"??")].concat();
    let ready = Scene::lasting(100).sending([&asked[..], &request(3)]).play();
    ready.expect(0, &[request(1), request(2), request(3)].concat());
    assert_eq!((ready.served.received, ready.served.answered), (5, 3));
    assert_eq!(ready.served.dropped[DropReason::NotARequest as usize], 2);
    assert_eq!((ready.served.connections, ready.served.broken), (1, 0));
    assert!(ready.closed.is_empty());
}

#[test]
fn what_can_be_no_request_ends_its_connection_and_no_other() {
    let bad = [request(1), vec![0, 0, 9]].concat();
    let ready = Scene::lasting(100)
        .sending([&bad[..], &request(2)])
        .at(1, 1, PeerAction::Connect)
        .at(50, 1, PeerAction::Send(request(3)))
        .play();
    assert_eq!(ready.served.broken, 1);
    assert_eq!(ready.closed.iter().map(|(far, how, _)| (*far, *how)).collect::<Vec<_>>(), [(0, CloseMode::Reset)]);
    ready.expect(1, &request(3));
    assert_eq!((ready.served.connections, ready.served.received, ready.served.answered), (1, 2, 2));
}

#[test]
fn a_broken_end_of_a_cut_message_is_noticed_too() {
    let ready = Scene::lasting(100).sending([&[0][..], &[0]]).play();
    assert_eq!((ready.served.broken, ready.served.connections, ready.served.received), (1, 0, 0));
}
