//! Transmit stamps of server sockets, over loopback.

use std::time::Instant;

use super::*;
use crate::{ServerOptions, TxStamp, TxStampReader, stamp};

fn stamping(at: &str) -> Server {
    let options = ServerOptions { wait: PATIENCE, tx_stamps: true };
    let server = Server::bind_with(at.parse().unwrap(), options).unwrap();
    await_stamps();
    server
}

/// Waits until arrivals are stamped: the kernel's work queue turns that on after a first socket has asked for it, and
/// leaves it on while one has. Only SO_TIMESTAMPNS gives those before a stamp too, when they are read.
fn await_stamps() {
    let (server, client, begun) = (server(ANY_PORT), UdpSocket::bind(ANY_PORT).unwrap(), Instant::now());
    server.enable_tx_stamps().unwrap();
    let mut batch = Batch::new(1, 64, true);
    loop {
        client.send_to(b"x", server.address().unwrap()).unwrap();
        assert_eq!(server.receive(&mut batch).unwrap(), 1);
        if batch.meta(0).stamp_unix_ns.is_some() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE);
    }
}

/// The next `count` stamps of a server.
fn stamps(reader: &mut TxStampReader, server: &Server, count: usize) -> Vec<TxStamp> {
    let (mut all, begun) = (Vec::new(), Instant::now());
    while all.len() < count {
        all.extend_from_slice(reader.read(server).unwrap());
        assert!(begun.elapsed() < PATIENCE, "only {all:?} came");
    }
    all
}

#[test]
fn each_answer_has_a_stamp_with_its_number() {
    for (at, client) in [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::1")] {
        let (server, mut reader) = (stamping(at), TxStampReader::new());
        let target = SocketAddr::new(client.parse().unwrap(), server.address().unwrap().port());
        let mut flow = Flow::open(target, None, false).unwrap();
        let mut batch = Batch::new(16, 2048, true);
        for round in 0..3_u32 {
            let before = unix_now();
            assert_eq!(flow.send(&mut numbered(4, 48), 4), SendResult::Sent(4));
            let mut answered = 0;
            while answered < 4 {
                let came = server.receive(&mut batch).unwrap();
                for slot in 0..came {
                    let meta = batch.meta(slot);
                    assert!(!meta.truncated && meta.unicast, "{at}: control messages still fit");
                    assert!(meta.stamp_unix_ns.is_some_and(|stamp| stamp >= before), "{at}: arrivals keep their stamp");
                    batch.answer(slot, 48);
                }
                answered += server.send_answers(&mut batch);
            }
            let all = stamps(&mut reader, &server, 4);
            let ids: Vec<_> = all.iter().map(|stamp| stamp.id).collect();
            assert_eq!(ids, (4 * round..4 * round + 4).collect::<Vec<_>>(), "{at}");
            let after = unix_now();
            assert!(all.iter().all(|stamp| (before..=after).contains(&stamp.unix_ns)), "{at}: {all:?}");
        }
        assert!(reader.read(&server).unwrap().is_empty());
    }
}

#[test]
fn more_stamps_than_one_call_reads_come_in_order() {
    let (server, mut reader) = (stamping(ANY_PORT), TxStampReader::new());
    let client = UdpSocket::bind(ANY_PORT).unwrap();
    for _ in 0..200 {
        assert!(server.send_to(b"answer", client.local_addr().unwrap()));
    }
    let ids: Vec<_> = stamps(&mut reader, &server, 200).iter().map(|stamp| stamp.id).collect();
    assert_eq!(ids, (0..200).collect::<Vec<_>>());
}

#[test]
fn without_the_option_there_are_none() {
    let server = server(ANY_PORT);
    let client = UdpSocket::bind(ANY_PORT).unwrap();
    assert!(server.send_to(b"answer", client.local_addr().unwrap()));
    client.recv(&mut [0; 16]).unwrap();
    assert!(TxStampReader::new().read(&server).unwrap().is_empty());
}

#[test]
fn pending_stamps_do_not_disturb_a_receive() {
    let server = stamping(ANY_PORT);
    let client = UdpSocket::bind(ANY_PORT).unwrap();
    let target = server.address().unwrap();
    assert!(server.send_to(b"answer", client.local_addr().unwrap()));
    client.recv(&mut [0; 16]).unwrap();
    client.send_to(b"request", target).unwrap();
    let mut batch = Batch::new(4, 2048, true);
    assert_eq!((server.receive(&mut batch).unwrap(), batch.packet(0)), (1, &b"request"[..]));
    assert_eq!(stamps(&mut TxStampReader::new(), &server, 1)[0].id, 0);
}

#[test]
fn only_answers_that_ask_are_stamped_and_numbered() {
    for (at, client) in [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::1")] {
        let (server, mut reader) = (server(at), TxStampReader::new());
        server.enable_tx_stamps().unwrap();
        let target = SocketAddr::new(client.parse().unwrap(), server.address().unwrap().port());
        let mut flow = Flow::open(target, None, false).unwrap();
        let mut batch = Batch::new(16, 2048, true);
        for round in 0..3_u32 {
            assert_eq!(flow.send(&mut numbered(4, 48), 4), SendResult::Sent(4));
            let mut came = 0;
            while came < 4 {
                let count = server.receive(&mut batch).unwrap();
                (0..count).for_each(|slot| batch.answer(slot, 48));
                came += count;
                if came == 4 {
                    batch.request_stamp(count - 1);
                    assert_eq!(batch.queued(count - 1).len(), 48);
                }
                assert_eq!(server.send_some(&mut batch, 0, count), count, "{at}");
                batch.clear_answers();
            }
            assert_eq!(stamps(&mut reader, &server, 1)[0].id, round, "{at}");
        }
        assert!(reader.read(&server).unwrap().is_empty(), "{at}");
    }
}

/// Receives `count` datagrams by one call and queues them as answers.
fn queued(server: &Server, count: usize) -> Batch {
    let mut flow = Flow::open(server.address().unwrap(), None, false).unwrap();
    let (mut batch, begun) = (Batch::new(count, 2048, true), Instant::now());
    loop {
        assert_eq!(flow.send(&mut numbered(count, 48), count), SendResult::Sent(count));
        // Loopback has mostly delivered all before that returns.
        if server.receive(&mut batch).unwrap() == count {
            break;
        }
        while server.receive_now(&mut batch).unwrap() > 0 {}
        assert!(begun.elapsed() < PATIENCE);
    }
    (0..count).for_each(|slot| batch.answer(slot, 48));
    batch
}

#[test]
fn a_call_ends_at_the_answer_that_fails() {
    let (server, mut reader) = (server(ANY_PORT), TxStampReader::new());
    server.enable_tx_stamps().unwrap();
    let mut batch = queued(&server, 4);
    (0..4).for_each(|n| batch.request_stamp(n));
    batch.answers[1].msg_hdr.msg_namelen = 1;
    assert_eq!(server.send_some(&mut batch, 0, 4), 1);
    batch.withdraw_stamp(3);
    batch.request_stamp(2);
    assert_eq!((server.send_some(&mut batch, 1, 3), server.send_some(&mut batch, 2, 9)), (0, 2));
    assert_eq!(stamps(&mut reader, &server, 2).len(), 2, "of the first and the third");
    assert!(reader.read(&server).unwrap().is_empty(), "that of the last was withdrawn");
    assert_eq!(server.send_some(&mut batch, 4, 1), 0);
}

#[test]
fn an_arrival_carries_its_stamp_once() {
    let server = server(ANY_PORT);
    for turned_on in [false, true] {
        if turned_on {
            server.enable_tx_stamps().unwrap();
            await_stamps();
        }
        let before = unix_now();
        let batch = queued(&server, 1);
        assert!(batch.meta(0).stamp_unix_ns.is_some_and(|stamp| (before..=unix_now()).contains(&stamp)));
        let data = stamp::read(&batch.headers[0].msg_hdr);
        assert_eq!((data.stamp_unix_ns.is_some(), data.software_unix_ns.is_some()), (!turned_on, turned_on));
    }
}
