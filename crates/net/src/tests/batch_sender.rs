//! Batch senders and query sockets, against plain sockets.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::{ANY_PORT, PATIENCE, closed_port};
use crate::{BatchSender, QuerySocket, SendSummary};

/// A far end that receives, with room for all that a test sends.
fn far_end() -> UdpSocket {
    let socket = UdpSocket::bind(ANY_PORT).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// `count` messages of `size` bytes, each filled with its number.
fn messages(count: usize, size: usize) -> Vec<u8> {
    (0..count).flat_map(|n| vec![n as u8; size]).collect()
}

fn received(far_end: &UdpSocket, count: usize) -> Vec<(Vec<u8>, u16)> {
    let mut buffer = [0; 70_000];
    (0..count)
        .map(|_| {
            let (length, from) = far_end.recv_from(&mut buffer).unwrap();
            (buffer[..length].to_vec(), from.port())
        })
        .collect()
}

fn arrives_whole(segmented: bool, size: usize) {
    let far_end = far_end();
    let mut outlet = BatchSender::open(&[far_end.local_addr().unwrap()], &[], 1, size, segmented).unwrap();
    // Cut, these are a call with three buffers and one with the rest.
    let sent = messages(200, size);
    assert_eq!(outlet.send(&sent).unwrap(), SendSummary { processed: 200, sent: 200 });
    let came: Vec<_> = received(&far_end, 200).into_iter().flat_map(|(bytes, _)| bytes).collect();
    assert_eq!(came, sent, "in order, each a datagram of its own");
    assert_eq!((outlet.sent(), outlet.refused().unwrap(), outlet.dropped()), (200, 0, 0));
}

#[test]
fn each_message_is_a_datagram() {
    arrives_whole(false, 24);
}

#[test]
fn each_message_is_a_datagram_where_the_kernel_cuts() {
    arrives_whole(true, 24);
}

#[test]
fn one_call_holds_no_more_than_a_datagram_may() {
    let far_end = far_end();
    let mut outlet = BatchSender::open(&[far_end.local_addr().unwrap()], &[], 1, 1_400, true).unwrap();
    assert_eq!(outlet.send(&messages(64, 1_400)).unwrap().sent, 64);
    assert!(received(&far_end, 64).iter().all(|(bytes, _)| bytes.len() == 1_400));
}

#[test]
fn what_the_way_does_not_cut_is_sent_one_by_one() {
    // Longer than a loopback packet may be once cut: the kernel refuses to cut, not to send.
    let far_end = far_end();
    let mut outlet = BatchSender::open(&[far_end.local_addr().unwrap()], &[], 1, 32_000, true).unwrap();
    assert_eq!(outlet.send(&messages(4, 32_000)).unwrap().sent, 4);
    assert!(received(&far_end, 4).iter().all(|(bytes, _)| bytes.len() == 32_000));
}

#[test]
fn flows_take_turns_over_groups_and_targets() {
    let (one, other) = (far_end(), far_end());
    let targets = [one.local_addr().unwrap(), other.local_addr().unwrap()];
    let mut outlet = BatchSender::open(&targets, &[], 4, 8, false).unwrap();
    assert_eq!(outlet.send(&messages(256, 8)).unwrap().sent, 256);
    for far_end in [one, other] {
        let mut ports: Vec<_> = received(&far_end, 128).into_iter().map(|(_, port)| port).collect();
        assert!(ports[..64].iter().all(|port| *port == ports[0]));
        ports.dedup();
        assert_eq!(ports.len(), 2, "two flows, a group of 64 each");
    }
}

#[test]
fn sources_are_taken_in_turn() {
    let far_end = far_end();
    let sources = [7, 8].map(|last| SocketAddr::from(([127, 0, 0, last], 0)));
    let mut outlet = BatchSender::open(&[far_end.local_addr().unwrap()], &sources, 2, 8, true).unwrap();
    outlet.send(&messages(128, 8)).unwrap();
    let mut buffer = [0; 8];
    let mut from: Vec<_> = (0..128).map(|_| far_end.recv_from(&mut buffer).unwrap().1.ip()).collect();
    from.dedup();
    assert_eq!(from, sources.map(|source| source.ip()));
}

#[test]
fn refusals_are_counted_and_stop_nothing() {
    let (_held, closed) = closed_port();
    for segmented in [false, true] {
        let mut outlet = BatchSender::open(&[closed], &[], 1, 8, segmented).unwrap();
        let all = messages(200, 8);
        let mut at = 0;
        while at < 200 {
            at += outlet.send(&all[at * 8..]).unwrap().processed;
        }
        assert_eq!((at, outlet.sent()), (200, 200));
        // What was not cut yet is refused at once.
        assert_eq!(outlet.refused().unwrap(), if segmented { 4 } else { 200 });
    }
}

#[test]
fn nothing_is_nothing_and_a_part_is_left_over() {
    let far_end = far_end();
    let mut outlet = BatchSender::open(&[far_end.local_addr().unwrap()], &[], 1, 8, true).unwrap();
    assert_eq!(outlet.send(&[]).unwrap(), SendSummary { processed: 0, sent: 0 });
    assert_eq!(outlet.send(&[1; 20]).unwrap(), SendSummary { processed: 2, sent: 2 });
}

#[test]
fn sizes_that_no_datagram_has_are_refused() {
    let target = [far_end().local_addr().unwrap()];
    for size in [0, 65_508] {
        assert!(BatchSender::open(&target, &[], 1, size, true).is_err());
    }
    assert!(BatchSender::open(&[], &[], 1, 8, true).is_err());
    assert!(BatchSender::open(&target, &[], 0, 8, true).is_err());
}

#[test]
fn a_line_hears_answers_and_refusals() {
    let far_end = far_end();
    let line = QuerySocket::open(far_end.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 4];
    assert_eq!(line.receive(&mut buffer, Duration::ZERO).unwrap(), None);
    line.send(b"who?").unwrap();
    let (_, from) = far_end.recv_from(&mut buffer).unwrap();
    far_end.send_to(b"longer than asked", from).unwrap();
    assert_eq!(line.receive(&mut buffer, PATIENCE).unwrap(), Some(4));
    assert_eq!(&buffer, b"long");

    let (_held, closed) = closed_port();
    let line = QuerySocket::open(closed).unwrap();
    line.send(b"who?").unwrap();
    assert_eq!(line.receive(&mut buffer, PATIENCE).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
