//! Many connections: several rings, full tables, churn, few descriptors.

use std::collections::HashSet;
use std::net::TcpStream;
use std::process::Command;

use super::*;

both!(
    places_are_dense_over_all_rings,
    thousands_of_connections_each_get_their_own_bytes,
    a_full_table_lets_the_next_in_when_one_leaves,
    churn_leaks_nothing,
);

fn places_are_dense_over_all_rings<S: Carrier>() {
    let mut pair = Pair::<S>::new(20, Small { per_ring: 8, ..USUAL });
    let pairs: Vec<(Conn, Conn)> = (0..20).map(|_| pair.connect()).collect();
    for side in [pairs.iter().map(|p| p.0).collect::<Vec<_>>(), pairs.iter().map(|p| p.1).collect()] {
        let slots: HashSet<u32> = side.iter().map(|conn| conn.index).collect();
        assert_eq!(slots, (0..20).collect());
    }
    assert_eq!(pair.client.streams.capacity(), 20);
    assert!(pair.client.streams.open(None, pair.at).is_err(), "one more than there are slots");
    for &(mine, _) in &pairs {
        assert_eq!(pair.client.append(mine, &mine.index.to_be_bytes()), Ok(()));
    }
    for &(mine, theirs) in &pairs {
        pair.until("its own bytes", |pair| pair.server.got(theirs) == mine.index.to_be_bytes());
    }
}

fn thousands_of_connections_each_get_their_own_bytes<S: Carrier>() {
    const COUNT: usize = 3000;
    let mut pair = Pair::<S>::new(COUNT, Small { per_ring: 700, ..USUAL });
    pair.server.echoes = true;
    let mut conns = Vec::new();
    while conns.len() < COUNT {
        for _ in 0..100 {
            conns.push(pair.open());
        }
        pair.until("a hundred more", |pair| pair.client.opened.len() == conns.len());
    }
    for &conn in &conns {
        assert_eq!(pair.client.append(conn, &conn.index.to_be_bytes()), Ok(()));
    }
    pair.until("all echoes", |pair| pair.client.streams.stats().bytes_in == 4 * COUNT as u64);
    for &conn in &conns {
        assert_eq!(pair.client.got(conn), conn.index.to_be_bytes());
    }
    assert_eq!((pair.client.closed.len(), pair.server.closed.len()), (0, 0));
    assert_eq!(pair.server.streams.stats().accept_errors, 0);
}

fn a_full_table_lets_the_next_in_when_one_leaves<S: Carrier>() {
    let small = Small { per_ring: 3, ..USUAL };
    let mut pair = Pair::<S>::at(ANY_PORT, 5, 9, small, USUAL);
    let conns: Vec<Conn> = (0..9).map(|_| pair.open()).collect();
    // The kernel answers for those that wait.
    pair.until("five let in", |pair| pair.client.opened.len() == 9 && pair.server.accepted.len() == 5);
    (0..30).for_each(|_| pair.server.turn());
    assert_eq!(pair.server.accepted.len(), 5);
    for left in 0..4 {
        let leaving = pair.server.accepted[left];
        pair.server.streams.close(leaving, CloseMode::Reset);
        pair.until("the next let in", |pair| pair.server.accepted.len() == 6 + left);
        assert_eq!(pair.server.accepted[5 + left].index, leaving.index);
    }
    // Connections accepted late are served like all others.
    pair.server.echoes = true;
    for &conn in &conns {
        let _ = pair.client.append(conn, b"here");
    }
    pair.until("five echoes", |pair| conns.iter().filter(|&&conn| pair.client.got(conn) == b"here").count() == 5);
}

fn churn_leaks_nothing<S: Carrier>() {
    const AT_ONCE: usize = 50;
    let small = Small { per_ring: 20, ..USUAL };
    // Resets come from both sides in turn, so that no port is left in TIME_WAIT.
    let mut pair = Pair::<S>::at(ANY_PORT, AT_ONCE, AT_ONCE, small, small);
    let held = |pair: &Pair<S>| pair.client.streams.bytes() + pair.server.streams.bytes();
    let mut before = 0;
    for round in 0..200_usize {
        let (opened, accepted) = (pair.client.opened.len(), pair.server.accepted.len());
        let end = Instant::now() + PATIENCE;
        for _ in 0..AT_ONCE {
            while pair.client.streams.open(None, pair.at).is_err() {
                assert!(Instant::now() < end, "round {round}: slots are missing");
                pair.client.turn();
                pair.server.turn();
            }
        }
        pair.until("all in", |pair| {
            pair.client.opened.len() == opened + AT_ONCE && pair.server.accepted.len() == accepted + AT_ONCE
        });
        let (mine, theirs) = (pair.client.opened[opened..].to_vec(), pair.server.accepted[accepted..].to_vec());
        for conn in mine.iter().filter(|conn| conn.index % 3 == 0) {
            assert_eq!(pair.client.append(*conn, b"bye"), Ok(()));
        }
        let (from, conns) = if round % 2 == 0 { (&mut pair.client, mine) } else { (&mut pair.server, theirs) };
        for conn in conns {
            from.streams.close(conn, CloseMode::Reset);
        }
        let ended = |end: &End<S>| end.closed.len();
        pair.until("all out", |pair| ended(&pair.client) + ended(&pair.server) == (round + 1) * AT_ONCE);
        pair.server.bytes.clear();
        if round == 20 {
            before = held(&pair);
        }
    }
    assert_eq!(held(&pair), before, "memory grew");
    assert!(pair.server.closed.iter().all(|&(_, reason)| reason == CloseReason::Reset));
}

/// Runs one ignored test of this file in a process of its own: it changes what all tests of a process share.
fn alone(name: &str) {
    let program = std::env::current_exe().unwrap();
    let name = format!("tests::streams::many::{name}");
    let done = Command::new(program).args(["--exact", &name, "--ignored", "--nocapture"]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&done.stderr));
}

fn limit_descriptors(count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    // SAFETY: the kernel reads one rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

#[test]
fn more_connections_than_descriptors() {
    alone("more_connections_than_descriptors_alone");
}

#[test]
#[ignore = "run by more_connections_than_descriptors, in a process of its own"]
fn more_connections_than_descriptors_alone() {
    const COUNT: usize = 500;
    limit_descriptors(64);
    let listener = Listener::bind(ANY_PORT.parse().unwrap()).unwrap();
    let at = listener.address().unwrap();
    let server = End::new(Uring::new(COUNT, Some(listener)).unwrap());
    let client = End::new(Uring::new(COUNT, None).unwrap());
    let mut pair = Pair { server, client, at };
    pair.server.echoes = true;
    let conns: Vec<Conn> = (0..COUNT).map(|_| pair.connect().0).collect();
    for &conn in &conns {
        assert_eq!(pair.client.append(conn, b"direct"), Ok(()));
    }
    pair.until("all echoes", |pair| conns.iter().all(|&conn| pair.client.got(conn) == b"direct"));
    assert_eq!(pair.server.streams.stats().accept_errors, 0);
}

#[test]
fn running_out_of_descriptors_ends_nothing() {
    alone("running_out_of_descriptors_ends_nothing_alone");
}

#[test]
#[ignore = "run by running_out_of_descriptors_ends_nothing, in a process of its own"]
fn running_out_of_descriptors_ends_nothing_alone() {
    let listener = Listener::bind(ANY_PORT.parse().unwrap()).unwrap();
    let at = listener.address().unwrap();
    let peers: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(at).unwrap()).collect();
    let mut end = End::new(Epoll::new(100, Some(listener)).unwrap());
    limit_descriptors(peers.len() as u64 + 16);
    until(&mut end, "an error", |end| end.streams.stats().accept_errors > 0);
    let (in_first, errors) = (end.accepted.len(), end.streams.stats().accept_errors);
    assert!(in_first > 0 && in_first < 20, "{in_first}");
    (0..160).for_each(|_| end.turn());
    // Tried again now and then, not at every turn.
    let tried = end.streams.stats().accept_errors - errors;
    assert!((1..40).contains(&tried), "{tried}");
    let leaving = end.accepted[0];
    end.streams.close(leaving, CloseMode::Flush);
    until(&mut end, "the next let in", |end| end.accepted.len() == in_first + 1);
    assert!(end.closed.is_empty());
}
