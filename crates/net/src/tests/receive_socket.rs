//! Receive sockets: coalesced and truncated datagrams, stamps, addresses, answers to many.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use super::{ANY_PORT, PATIENCE, numbered};
use crate::{DatagramReceiver, EventFd, Flow, Local, Peer, ReceiveOptions, ReceiveRing, ReceiveSocket, SendResult};

const WAYS: ReceiveOptions = ReceiveOptions { wait: PATIENCE, buffer: 1 << 20, stamps: false, coalesced: false };

fn intake(at: &str, options: ReceiveOptions) -> Arc<ReceiveSocket> {
    Arc::new(ReceiveSocket::bind(at.parse().unwrap(), options).unwrap())
}

fn sender(intake: &ReceiveSocket) -> UdpSocket {
    let sender = UdpSocket::bind(ANY_PORT).unwrap();
    sender.connect(("127.0.0.1", intake.address().unwrap().port())).unwrap();
    sender
}

#[test]
fn datagrams_come_with_their_senders_and_whole_lengths() {
    let mut intake = intake(ANY_PORT, WAYS);
    let one = sender(&intake);
    for bytes in [&b"right"[..], &b""[..], &b"much too long"[..]] {
        one.send(bytes).unwrap();
    }
    let mut arrivals = ReceiveRing::new(6, false, false);
    let mut came = Vec::new();
    while came.len() < 3 {
        let count = intake.receive(&mut arrivals, true).unwrap();
        assert!(count > 0, "only {came:?} came");
        for slot in 0..count {
            assert_eq!(arrivals.peer(slot), Some(one.local_addr().unwrap().into()));
            assert_eq!((arrivals.segment(slot), arrivals.stamp_unix_ns(slot)), (0, None));
            came.push((arrivals.bytes(slot).to_vec(), arrivals.length(slot)));
        }
    }
    assert_eq!(came, [(b"right".to_vec(), 5), (Vec::new(), 0), (b"much t".to_vec(), 13)]);
}

#[test]
fn datagrams_that_left_together_come_as_one_and_say_how_to_cut_them() {
    let mut intake = intake(ANY_PORT, ReceiveOptions { coalesced: true, stamps: true, ..WAYS });
    assert!(intake.coalesced());
    let mut flow = Flow::open(intake.address().unwrap(), None, false).unwrap();
    let mut arrivals = ReceiveRing::new(1, true, true);
    // Again and again, so that each slot is used more than once.
    for _ in 0..100 {
        assert_eq!(flow.send_segmented(&mut numbered(8, 24), 8, 24), SendResult::Sent(8));
        let mut bytes = Vec::new();
        while bytes.len() < 8 * 24 {
            let count = intake.receive(&mut arrivals, true).unwrap();
            assert!(count > 0);
            for slot in 0..count {
                let segment = arrivals.segment(slot);
                assert!(segment == 24 || (segment == 0 && arrivals.length(slot) == 24), "{segment}");
                assert!(arrivals.stamp_unix_ns(slot).is_some());
                bytes.extend_from_slice(arrivals.bytes(slot));
            }
        }
        let expected: Vec<u8> = (1..=8).flat_map(|n| [n; 24]).collect();
        assert_eq!(bytes, expected);
    }
}

#[test]
fn the_longest_datagram_fits_where_they_are_coalesced() {
    let mut intake = intake(ANY_PORT, ReceiveOptions { coalesced: true, ..WAYS });
    let longest = vec![7; 65_507];
    sender(&intake).send(&longest).unwrap();
    let mut arrivals = ReceiveRing::new(1, true, false);
    assert_eq!(intake.receive(&mut arrivals, true).unwrap(), 1);
    assert_eq!((arrivals.bytes(0) == longest, arrivals.segment(0)), (true, 0));
}

#[test]
fn one_datagram_goes_to_many_and_one_that_cannot_leave_stops_no_other() {
    let intake = intake(ANY_PORT, WAYS);
    let peers: Vec<_> = (0..150).map(|_| UdpSocket::bind(ANY_PORT).unwrap()).collect();
    let mut to: Vec<Peer> = peers.iter().map(|peer| peer.local_addr().unwrap().into()).collect();
    // Of another family than the socket.
    to.insert(70, "[::1]:9".parse::<SocketAddr>().unwrap().into());
    assert_eq!(intake.send(b"news", &to), 150);
    for peer in peers {
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = [0; 8];
        let (length, from) = peer.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..length], from), (&b"news"[..], intake.address().unwrap()));
    }
}

#[test]
fn a_wildcard_takes_both_families_and_answers_both() {
    let mut intake = intake("[::]:0", WAYS);
    let port = intake.address().unwrap().port();
    let mut arrivals = ReceiveRing::new(64, false, intake.has_control_messages());
    for from in ["127.0.0.1", "::1"] {
        let one = UdpSocket::bind((from, 0)).unwrap();
        one.set_read_timeout(Some(PATIENCE)).unwrap();
        one.connect((from, port)).unwrap();
        one.send(from.as_bytes()).unwrap();
        assert_eq!(intake.receive(&mut arrivals, true).unwrap(), 1);
        let peer = arrivals.peer(0).unwrap();
        assert_eq!(peer.address.ip().to_canonical(), one.local_addr().unwrap().ip());
        intake.answer(b"ready", peer);
        assert_eq!(one.recv(&mut [0; 8]).unwrap(), 5);
    }
}

#[test]
fn a_wildcard_answers_from_the_address_asked() {
    for (at, coalesced) in [("0.0.0.0:0", false), ("0.0.0.0:0", true), ("[::]:0", false), ("[::]:0", true)] {
        let mut intake = intake(at, ReceiveOptions { coalesced, ..WAYS });
        let port = intake.address().unwrap().port();
        let mut arrivals = ReceiveRing::new(64, coalesced, intake.has_control_messages());
        let mut ready = Vec::new();
        let clients: Vec<_> = [1, 2, 3, 1]
            .into_iter()
            .map(|ours| {
                // A connected socket takes nothing from another address.
                let one = UdpSocket::bind(ANY_PORT).unwrap();
                one.set_read_timeout(Some(PATIENCE)).unwrap();
                one.connect(SocketAddr::from(([127, 0, 0, ours], port))).unwrap();
                one.send(b"?").unwrap();
                assert_eq!(intake.receive(&mut arrivals, true).unwrap(), 1);
                ready.push(arrivals.peer(0).unwrap());
                one
            })
            .collect();
        intake.answer(b"you", ready[1]);
        assert_eq!(clients[1].recv(&mut [0; 8]).unwrap(), 3, "{at}");
        assert_eq!(intake.send(b"all", &ready), 4);
        for one in &clients {
            assert_eq!(one.recv(&mut [0; 8]).unwrap(), 3, "{at}");
        }
        // The kernel refuses this source address; another one works.
        let foreign = Local { asked: [192, 0, 2, 1].into(), own: true, interface: 0 };
        let strange = Peer { asked: Some(foreign), ..ready[0] };
        assert_eq!(intake.send(b"still", &[strange, ready[0]]), 2);
        assert_eq!(clients[0].recv(&mut [0; 8]).unwrap(), 5, "{at}");
    }
}

#[test]
fn one_address_is_not_told_with_every_arrival() {
    let mut intake = intake(ANY_PORT, WAYS);
    assert!(!intake.has_control_messages());
    let one = sender(&intake);
    one.send(b"?").unwrap();
    let mut arrivals = ReceiveRing::new(64, false, true);
    assert_eq!(intake.receive(&mut arrivals, true).unwrap(), 1);
    assert_eq!(arrivals.peer(0).unwrap().asked, None);
}

#[test]
fn several_share_one_address_and_drops_are_told() {
    let one = intake(ANY_PORT, ReceiveOptions { buffer: 4096, ..WAYS });
    let address = one.address().unwrap();
    let two = ReceiveSocket::bind(address, WAYS).unwrap();
    assert_eq!(two.address().unwrap(), address);
    drop(two);
    let sender = sender(&one);
    for _ in 0..200 {
        sender.send(&[0; 512]).unwrap();
    }
    assert!(one.memory().drops > 0);
    assert_eq!(crate::check_address_free(address).unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
}

#[test]
fn an_eventfd_is_readable_until_it_is_drained() {
    let readable = |event_fd: &EventFd| {
        let mut poll = libc::pollfd { fd: event_fd.descriptor(), events: libc::POLLIN, revents: 0 };
        // SAFETY: the kernel reads and writes one pollfd.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    };
    let event_fd = EventFd::new().unwrap();
    assert!(!readable(&event_fd));
    event_fd.notify();
    event_fd.notify();
    assert!(readable(&event_fd) && readable(&event_fd));
    event_fd.drain();
    event_fd.drain();
    assert!(!readable(&event_fd));
}
