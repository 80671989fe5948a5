//! Connections are opened, and bytes sent and received.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use super::*;
use crate::stream::blocks::{Blocks, Outgoing, Reserve};

both!(
    bytes_come_back,
    a_v6_wildcard_takes_v4_too,
    a_source_address_is_kept_and_its_port_chosen_late,
    many_small_messages_leave_in_one_call,
    nothing_uncommitted_is_sent,
    a_message_longer_than_a_block_arrives,
    messages_of_all_sizes_stay_in_order,
    a_peer_that_stops_reading_makes_full_then_writable,
    what_is_paused_comes_after_resuming,
    a_pause_taken_back_at_once_loses_nothing,
    few_buffers_starve_and_lose_nothing,
    an_idle_turn_waits_no_longer_than_told,
    bytes_wake_a_sleeper_on_whichever_ring,
);

fn bytes_come_back<S: Carrier>() {
    for at in [ANY_PORT, "[::1]:0"] {
        let mut pair = Pair::<S>::at(at, 4, 4, USUAL, USUAL);
        pair.server.echoes = true;
        let (mine, _) = pair.connect();
        assert_eq!(pair.client.append(mine, b"hello"), Ok(()));
        pair.until("the echo", |pair| pair.client.got(mine) == b"hello");
        let (client, server) = (pair.client.streams.stats(), pair.server.streams.stats());
        assert_eq!((client.bytes_out, client.bytes_in, server.bytes_in, server.bytes_out), (5, 5, 5, 5));
        assert!(client.calls > 0 && pair.client.streams.bytes() > 0);
    }
}

fn a_v6_wildcard_takes_v4_too<S: Carrier>() {
    let mut pair = Pair::<S>::at("[::]:0", 4, 4, USUAL, USUAL);
    pair.server.echoes = true;
    pair.at = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), pair.at.port());
    let (mine, _) = pair.connect();
    assert_eq!(pair.client.append(mine, b"four"), Ok(()));
    pair.until("the echo", |pair| pair.client.got(mine) == b"four");
}

fn a_source_address_is_kept_and_its_port_chosen_late<S: Carrier>() {
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let to = listener.local_addr().unwrap();
    let mut end = End::new(S::make(4, None, USUAL).unwrap());
    let mine = end.streams.open(Some("127.0.0.9:0".parse().unwrap()), to).unwrap();
    until(&mut end, "opened", |end| end.opened.contains(&mine));
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, 9]));
    // Not a local address: the connection is never established.
    let none = end.streams.open(Some("192.0.2.1:0".parse().unwrap()), to).unwrap();
    until(&mut end, "closed", |end| end.reason(none) == Some(CloseReason::Failed(libc::EADDRNOTAVAIL)));
}

fn many_small_messages_leave_in_one_call<S: Carrier>() {
    let mut pair = Pair::<S>::new(4, USUAL);
    let (mine, theirs) = pair.connect();
    let before = pair.client.streams.stats().calls;
    for _ in 0..50 {
        assert_eq!(pair.client.append(mine, b"0123456789"), Ok(()));
    }
    pair.client.streams.turn(Duration::ZERO).unwrap();
    assert!(pair.client.streams.stats().calls - before <= 2);
    pair.until("all", |pair| pair.server.got(theirs).len() == 500);
}

fn nothing_uncommitted_is_sent<S: Carrier>() {
    let mut pair = Pair::<S>::new(4, USUAL);
    let (mine, theirs) = pair.connect();
    for need in [10, 5000] {
        let mut guard = pair.client.streams.reserve(mine, need).unwrap();
        guard.room()[..need].fill(b'x');
        pair.client.turn();
    }
    assert_eq!(pair.client.append(mine, b"y"), Ok(()));
    pair.until("the committed byte", |pair| !pair.server.got(theirs).is_empty());
    assert_eq!(pair.server.got(theirs), b"y");
}

/// Bytes that depend on their position in the message.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn a_message_longer_than_a_block_arrives<S: Carrier>() {
    let mut pair = Pair::<S>::new(4, USUAL);
    let (mine, theirs) = pair.connect();
    let message = pattern((64 << 10) + 2);
    for round in 1..=3 {
        // Small bytes ahead of it must leave first.
        assert_eq!(pair.client.append(mine, b"!"), Ok(()));
        assert_eq!(pair.client.append(mine, &message), Ok(()));
        pair.until("the message", |pair| pair.server.got(theirs).len() == round * (message.len() + 1));
    }
    assert!(pair.server.got(theirs).ends_with(&message));
}

fn messages_of_all_sizes_stay_in_order<S: Carrier>() {
    let mut pair = Pair::<S>::new(4, USUAL);
    let (mine, theirs) = pair.connect();
    let (sizes, mut sent) = ([1_usize, 700, 2048, 3, 2049, 66_000, 1500, 20_000], Vec::new());
    for at in 0..200_usize {
        let message = vec![at as u8; sizes[at % sizes.len()]];
        while pair.client.append(mine, &message) == Err(WriteError::Full) {
            let writable = pair.client.writable.len();
            pair.until("room again", |pair| pair.client.writable.len() > writable);
        }
        sent.extend(message);
    }
    pair.until("everything", |pair| pair.server.got(theirs).len() == sent.len());
    assert!(pair.server.got(theirs) == sent, "bytes came in another order");
}

fn a_peer_that_stops_reading_makes_full_then_writable<S: Carrier>() {
    let listener = Listener::bind(ANY_PORT.parse().unwrap()).unwrap();
    let mut peer = TcpStream::connect(listener.address().unwrap()).unwrap();
    let mut end = End::new(S::make(4, Some(listener), USUAL).unwrap());
    until(&mut end, "accepted", |end| !end.accepted.is_empty());
    let conn = end.accepted[0];
    let mut sent = 0;
    let stop = Instant::now() + PATIENCE;
    // Full while it lasts over several turns: the peer's window is closed.
    let mut full = 0;
    while full < 20 {
        assert!(Instant::now() < stop, "never full");
        match end.append(conn, &[7; 2000]) {
            Ok(()) => (sent, full) = (sent + 2000, 0),
            Err(refuse) => {
                assert_eq!(refuse, WriteError::Full);
                full += 1;
                end.turn();
            }
        }
    }
    end.writable.clear();
    peer.set_nonblocking(true).unwrap();
    let (mut got, mut buffer) = (0, vec![0; 1 << 20]);
    while got < sent {
        assert!(Instant::now() < stop, "{got} of {sent} came");
        got += peer.read(&mut buffer).unwrap_or(0);
        end.turn();
    }
    assert_eq!(end.writable, [conn]);
    assert_eq!(end.append(conn, b"more"), Ok(()));
}

fn what_is_paused_comes_after_resuming<S: Carrier>() {
    let mut pair = Pair::<S>::new(4, USUAL);
    let (mine, theirs) = pair.connect();
    pair.server.streams.pause(theirs);
    pair.server.turn();
    pair.server.turn();
    let (other, _) = pair.connect();
    assert_eq!(pair.client.append(mine, b"later"), Ok(()));
    assert_eq!(pair.client.append(other, b"now"), Ok(()));
    pair.until("the other's bytes", |pair| pair.server.bytes.values().any(|bytes| bytes == b"now"));
    assert_eq!(pair.server.got(theirs), b"");
    pair.server.streams.resume(theirs);
    pair.until("the paused bytes", |pair| pair.server.got(theirs) == b"later");
}

fn a_pause_taken_back_at_once_loses_nothing<S: Carrier>() {
    let mut pair = Pair::<S>::new(4, USUAL);
    let (mine, theirs) = pair.connect();
    for round in 1..=20 {
        pair.server.streams.pause(theirs);
        if round % 2 == 0 {
            pair.server.turn();
        }
        pair.server.streams.resume(theirs);
        assert_eq!(pair.client.append(mine, b"."), Ok(()));
        pair.until("the byte", |pair| pair.server.got(theirs).len() == round);
    }
}

fn few_buffers_starve_and_lose_nothing<S: Carrier>() {
    let small = Small { per_ring: 8, buffers: 2, buffer: 64 };
    let mut pair = Pair::<S>::at(ANY_PORT, 24, 24, small, USUAL);
    let conns: Vec<Conn> = (0..24).map(|_| pair.connect().0).collect();
    pair.server.hoards = true;
    for &conn in &conns {
        assert_eq!(pair.client.append(conn, &[1; 150]), Ok(()));
    }
    pair.until("all buffers buf out", |pair| pair.server.streams.stats().starved > 0);
    for _ in 0..10 {
        pair.server.turn();
    }
    // Turns go on while the engine keeps everything; nothing more can come.
    let total = |pair: &Pair<S>| pair.server.bytes.values().map(Vec::len).sum::<usize>();
    assert!(total(&pair) < 24 * 150);
    pair.server.hoards = false;
    pair.server.hoard.clear();
    pair.until("everything", |pair| total(pair) == 24 * 150);
}

fn an_idle_turn_waits_no_longer_than_told<S: Carrier>() {
    for rings in [1, 3] {
        let mut pair = Pair::<S>::new(rings * 4, Small { per_ring: 4, ..USUAL });
        for _ in 0..rings * 4 {
            pair.connect();
        }
        pair.client.turn();
        let (start, calls) = (Instant::now(), pair.client.streams.stats().calls);
        pair.client.streams.turn(Duration::from_millis(30)).unwrap();
        let took = start.elapsed();
        assert!(pair.client.streams.event().is_none());
        assert!(took >= Duration::from_millis(25) && took < PATIENCE, "{rings} rings: {took:?}");
        assert!(pair.client.streams.stats().calls - calls <= 4);
    }
}

fn bytes_wake_a_sleeper_on_whichever_ring<S: Carrier>() {
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let at = listener.local_addr().unwrap();
    let mut end = End::new(S::make(12, None, Small { per_ring: 4, ..USUAL }).unwrap());
    let conns: Vec<Conn> = (0..12).map(|_| end.streams.open(None, at).unwrap()).collect();
    let peers = std::thread::spawn(move || {
        // Each answers from its own thread, when the client is asleep: not at once in its call to send.
        let answer = |mut peer: TcpStream| {
            let mut byte = [0];
            while peer.read_exact(&mut byte).is_ok() && peer.write_all(&byte).is_ok() {}
        };
        let peers: Vec<_> = (0..12).map(|_| listener.accept().unwrap().0).collect();
        let threads: Vec<_> = peers.into_iter().map(|peer| std::thread::spawn(move || answer(peer))).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    until(&mut end, "all open", |end| end.opened.len() == 12);
    let start = Instant::now();
    for round in 1..=20 {
        for &conn in &conns {
            assert_eq!(end.append(conn, b"."), Ok(()));
            while end.got(conn).len() < round {
                end.streams.turn(PATIENCE).unwrap();
                end.process_events();
            }
        }
    }
    assert!(start.elapsed() < PATIENCE, "slept through it");
    drop(end);
    peers.join().unwrap();
}

#[test]
fn this_kernel_has_io_uring() {
    assert!(crate::kernel().uring);
    assert_eq!((Uring::new(1, None).unwrap().name(), Epoll::new(1, None).unwrap().name()), ("io_uring", "epoll"));
}

#[test]
fn blocks_are_used_again_and_big_ones_given_up() {
    let (mut blocks, mut many) = (Blocks::default(), vec![Outgoing::EMPTY; 100]);
    for need in [10, 60_000, 70_000] {
        let mut held = Vec::new();
        for _ in 0..3 {
            for out in &mut many {
                assert_eq!(out.reserve(&mut blocks, need), Reserve::Ready);
                let (room, filled) = out.room(&mut blocks);
                assert!(room.len() >= need);
                *filled = need as u32;
                assert_eq!(out.submit(&mut blocks).map(|(_, length)| length), Some(need as u32));
                // One block is submitted: the next is filled, and a third has to wait.
                assert_eq!(out.reserve(&mut blocks, need), Reserve::Ready);
                *out.room(&mut blocks).1 = need as u32;
                assert_eq!(out.reserve(&mut blocks, 100_000), Reserve::Full);
            }
            for out in &mut many {
                assert_eq!(out.complete(&mut blocks), need as u32);
                assert!(!out.is_submitted() && !out.is_empty());
                out.discard(&mut blocks);
                assert!(out.is_empty());
            }
            held.push(blocks.held());
        }
        assert_eq!(held[1], held[2], "{need}");
        assert!(held[2] < 3 << 20, "{held:?}");
    }
}
