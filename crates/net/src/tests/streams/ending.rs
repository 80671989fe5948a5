//! How connections end: close, reset, refusal, time-out.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;

use super::*;

both!(
    an_end_a_reset_and_a_refusal_are_told_apart,
    openings_that_fail_at_once_are_told_one_by_one,
    bytes_before_the_end_come_before_it,
    bytes_before_a_reset_come_before_it,
    a_reset_leaves_no_end_behind_and_a_flush_does,
    a_flush_delivers_the_last_bytes,
    a_flush_that_does_not_drain_can_be_cut_off,
    who_shuts_its_sending_side_still_gets_its_answer,
    a_name_is_dead_once_its_connection_is,
    an_opening_can_be_closed,
    a_dropped_carrier_ends_its_connections,
);

fn an_end_a_reset_and_a_refusal_are_told_apart<S: Carrier>() {
    let mut pair = Pair::<S>::new(8, USUAL);
    let (ended, theirs) = pair.connect();
    pair.server.streams.close(theirs, CloseMode::Flush);
    pair.until("the end", |pair| pair.client.reason(ended) == Some(CloseReason::Ended));
    let (reset, theirs) = pair.connect();
    pair.server.streams.close(theirs, CloseMode::Reset);
    pair.until("the reset", |pair| pair.client.reason(reset) == Some(CloseReason::Reset));
    // Bound and not listening: the port stays reserved.
    let taken = crate::stream::tcp::stream([127, 0, 0, 1].into()).unwrap();
    crate::socket::bind(&taken, ANY_PORT.parse().unwrap()).unwrap();
    let closed = crate::socket::local_address(&taken).unwrap();
    let refused = pair.client.streams.open(None, closed).unwrap();
    pair.until("the refusal", |pair| pair.client.reason(refused) == Some(CloseReason::Refused));
    assert_eq!(pair.client.closed.len(), 3);
    assert!(pair.server.closed.is_empty(), "who closes is told nothing");
}

fn openings_that_fail_at_once_are_told_one_by_one<S: Carrier>() {
    let mut end = End::new(S::make(4, None, USUAL).unwrap());
    // No route leads to a multicast address over TCP.
    let nowhere = "224.0.0.1:9".parse().unwrap();
    for round in 1..=3 {
        // A ring closes its descriptor before the slot is free.
        let open = |end: &mut End<S>| loop {
            match end.streams.open(None, nowhere) {
                Ok(conn) => return conn,
                Err(error) => assert_eq!((error.kind(), round > 1), (ErrorKind::StorageFull, true)),
            }
            end.turn();
        };
        let conns: Vec<_> = (0..4).map(|_| open(&mut end)).collect();
        let mut slots: Vec<_> = conns.iter().map(|conn| conn.index).collect();
        slots.sort_unstable();
        assert_eq!(slots, [0, 1, 2, 3], "a slot is free once its caller knows");
        assert!(end.streams.open(None, nowhere).is_err_and(|error| error.kind() == ErrorKind::StorageFull));
        until(&mut end, "the failures", |end| conns.iter().all(|conn| end.reason(*conn).is_some()));
        assert!(conns.iter().all(|conn| matches!(end.reason(*conn), Some(CloseReason::Failed(_)))));
        assert_eq!(end.closed.len(), 4 * round);
    }
}

fn bytes_before_the_end_come_before_it<S: Carrier>() {
    let mut pair = Pair::<S>::new(4, Small { buffer: 64, ..USUAL });
    for how in [CloseMode::Flush, CloseMode::Reset] {
        let (mine, theirs) = pair.connect();
        assert_eq!(pair.server.append(theirs, &[3; 1000]), Ok(()));
        if how == CloseMode::Reset {
            // A reset overtakes bytes that the peer has not read: here it has read them.
            pair.until("bytes", |pair| pair.client.got(mine).len() == 1000);
        }
        pair.server.streams.close(theirs, how);
        pair.until("the end", |pair| pair.client.reason(mine).is_some());
        assert_eq!(pair.client.got(mine).len(), 1000);
    }
}

fn bytes_before_a_reset_come_before_it<S: Carrier>() {
    let listener = Listener::bind(ANY_PORT.parse().unwrap()).unwrap();
    let at = listener.address().unwrap();
    let mut end = End::new(S::make(4, Some(listener), Small { buffer: 64, ..USUAL }).unwrap());
    for round in 0..10 {
        let mut peer = TcpStream::connect(at).unwrap();
        until(&mut end, "accepted", |end| end.accepted.len() > round);
        let conn = end.accepted[round];
        end.turn();
        peer.write_all(&[6; 1000]).unwrap();
        crate::option::reset_on_close(peer.as_fd()).unwrap();
        drop(peer);
        // This send meets the reset before the bytes are read.
        let _ = end.append(conn, b"anybody there?");
        until(&mut end, "the reset", |end| end.reason(conn).is_some());
        assert_eq!((end.reason(conn), end.got(conn).len()), (Some(CloseReason::Reset), 1000));
        assert_eq!(end.append(conn, b"x"), Err(WriteError::Closed));
    }
}

fn a_reset_leaves_no_end_behind_and_a_flush_does<S: Carrier>() {
    let listener = TcpListener::bind(ANY_PORT).unwrap();
    let mut end = End::new(S::make(4, None, USUAL).unwrap());
    for (how, kind) in [(CloseMode::Flush, None), (CloseMode::Reset, Some(ErrorKind::ConnectionReset))] {
        let conn = end.streams.open(None, listener.local_addr().unwrap()).unwrap();
        until(&mut end, "opened", |end| end.opened.contains(&conn));
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        end.streams.close(conn, how);
        let reader = std::thread::spawn(move || peer.read(&mut [0; 8]).map_err(|error| error.kind()).err());
        until(&mut end, "the end", |_| reader.is_finished());
        assert_eq!(reader.join().unwrap(), kind);
    }
}

/// A server's connection to a plain peer whose window is closed: sent bytes stay unacknowledged.
fn stuck<S: Carrier>() -> (End<S>, Conn, TcpStream, usize) {
    let listener = Listener::bind(ANY_PORT.parse().unwrap()).unwrap();
    let peer = TcpStream::connect(listener.address().unwrap()).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut end = End::new(S::make(4, Some(listener), USUAL).unwrap());
    until(&mut end, "accepted", |end| !end.accepted.is_empty());
    let (conn, mut sent, mut full) = (end.accepted[0], 0, 0);
    while full < 20 {
        match end.append(conn, &[9; 60_000]) {
            Ok(()) => (sent, full) = (sent + 60_000, 0),
            Err(_) => full += 1,
        }
        end.turn();
    }
    (end, conn, peer, sent)
}

fn a_flush_delivers_the_last_bytes<S: Carrier>() {
    let (mut end, conn, mut peer, sent) = stuck::<S>();
    end.streams.close(conn, CloseMode::Flush);
    assert_eq!(end.append(conn, b"x"), Err(WriteError::Closed));
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).map(|_| all.len())
    });
    until(&mut end, "all read", |_| reader.is_finished());
    assert_eq!(reader.join().unwrap().unwrap(), sent);
    assert!(end.closed.is_empty());
}

fn a_flush_that_does_not_drain_can_be_cut_off<S: Carrier>() {
    let (mut end, conn, mut peer, sent) = stuck::<S>();
    end.streams.close(conn, CloseMode::Flush);
    (0..5).for_each(|_| end.turn());
    end.streams.close(conn, CloseMode::Reset);
    (0..20).for_each(|_| end.turn());
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        (peer.read_to_end(&mut all).map_err(|error| error.kind()), all.len())
    });
    until(&mut end, "all read", |_| reader.is_finished());
    let (error, got) = reader.join().unwrap();
    assert!(error == Err(ErrorKind::ConnectionReset) && got < sent, "{error:?} after {got} of {sent}");
}

fn who_shuts_its_sending_side_still_gets_its_answer<S: Carrier>() {
    let listener = Listener::bind(ANY_PORT.parse().unwrap()).unwrap();
    let at = listener.address().unwrap();
    let mut end = End::new(S::make(4, Some(listener), USUAL).unwrap());
    end.echoes = true;
    for _ in 0..20 {
        let mut peer = TcpStream::connect(at).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.write_all(b"question").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let closed = end.closed.len();
        until(&mut end, "the end", |end| end.closed.len() > closed);
        let reader = std::thread::spawn(move || {
            let mut answer = String::new();
            peer.read_to_string(&mut answer).map(|_| answer)
        });
        until(&mut end, "the answer", |_| reader.is_finished());
        assert_eq!(reader.join().unwrap().unwrap(), "question");
    }
    assert!(end.closed.iter().all(|&(_, reason)| reason == CloseReason::Ended));
}

fn a_name_is_dead_once_its_connection_is<S: Carrier>() {
    let mut pair = Pair::<S>::new(1, USUAL);
    let (first, theirs) = pair.connect();
    pair.client.streams.close(first, CloseMode::Flush);
    assert_eq!(pair.client.append(first, b"x"), Err(WriteError::Closed));
    pair.until("the server's end", |pair| pair.server.reason(theirs).is_some());
    let end = Instant::now() + PATIENCE;
    let second = loop {
        assert!(Instant::now() < end, "the slot never came back");
        match pair.client.streams.open(None, pair.at) {
            Ok(conn) => break conn,
            Err(_) => pair.client.turn(),
        }
    };
    assert_eq!(second.index, first.index);
    assert_ne!(second.generation, first.generation);
    pair.until("the second", |pair| pair.client.opened.contains(&second) && pair.server.accepted.len() == 2);
    // Nothing that is meant for the first reaches the second.
    assert_eq!(pair.client.append(first, b"x"), Err(WriteError::Closed));
    pair.client.streams.pause(first);
    pair.client.streams.close(first, CloseMode::Reset);
    let theirs = pair.server.accepted[1];
    assert_eq!(pair.server.append(theirs, b"still there"), Ok(()));
    pair.until("bytes", |pair| pair.client.got(second) == b"still there");
    assert_eq!(pair.client.closed, []);
}

fn an_opening_can_be_closed<S: Carrier>() {
    let mut pair = Pair::<S>::new(2, USUAL);
    for how in [CloseMode::Flush, CloseMode::Reset, CloseMode::Flush, CloseMode::Reset, CloseMode::Reset] {
        let end = Instant::now() + PATIENCE;
        let conn = loop {
            assert!(Instant::now() < end, "the slot never came back");
            match pair.client.streams.open(None, pair.at) {
                Ok(conn) => break conn,
                Err(_) => pair.until("a turn", |_| true),
            }
            pair.client.turn();
            pair.server.turn();
        };
        assert_eq!(pair.client.append(conn, b"x"), Err(WriteError::Closed));
        pair.client.streams.close(conn, how);
    }
    (0..10).for_each(|_| pair.client.turn());
    assert!(pair.client.opened.is_empty() && pair.client.closed.is_empty(), "no event follows a close");
}

fn a_dropped_carrier_ends_its_connections<S: Carrier>() {
    let mut pair = Pair::<S>::new(40, Small { per_ring: 16, ..USUAL });
    pair.server.echoes = true;
    pair.server.hoards = true;
    let conns: Vec<Conn> = (0..40).map(|_| pair.connect().0).collect();
    for &conn in &conns {
        assert_eq!(pair.client.append(conn, &[5; 1000]), Ok(()));
    }
    pair.until("some traffic", |pair| !pair.server.hoard.is_empty());
    let kept = pair.server.hoard.pop().unwrap();
    let at = pair.at;
    let Pair { server, mut client, .. } = pair;
    let start = Instant::now();
    drop(server);
    assert!(start.elapsed() < Duration::from_secs(10));
    until(&mut client, "all ends", |end| end.closed.len() == 40);
    assert!(TcpStream::connect(at).is_err(), "the listener is closed");
    // A received buffer outlives its backend.
    assert!(kept.iter().all(|&byte| byte == 5));
}

#[test]
fn each_worker_can_listen_at_the_same_address() {
    let first = Listener::bind(ANY_PORT.parse().unwrap()).unwrap();
    let at = first.address().unwrap();
    assert_eq!(Listener::bind(at).unwrap().address().unwrap(), at);
    assert!(TcpListener::bind(at).is_err(), "who does not share it is told that it is taken");
}
