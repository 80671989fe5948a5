//! Tests over real sockets on loopback; no test sleeps.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Batch, Datagrams, Flow, FlowOptions, Flows, Meta, Poller, SendResult, Server, address, thread};

mod batch_sender;
mod call;
mod datagrams;
mod drops;
mod receive_socket;
mod server_set;
mod shared_flows;
mod streams;
mod tx_stamp;
mod watch;
mod xdp;

/// How long a test waits for what should be there at once.
const PATIENCE: Duration = Duration::from_secs(5);
const ANY_PORT: &str = "127.0.0.1:0";

fn server(at: &str) -> Server {
    Server::bind(at.parse().unwrap(), PATIENCE).unwrap()
}

/// A batch whose n-th slot holds `length` bytes of the value n + 1.
fn numbered(slots: usize, length: usize) -> Batch {
    let mut batch = Batch::new(slots, 2048, false);
    for slot in 0..slots {
        batch.slot(slot)[..length].fill(slot as u8 + 1);
        batch.set_length(slot, length);
    }
    batch
}

/// The first byte and the length of each of the next `count` datagrams.
fn received(server: &Server, count: usize) -> Vec<(u8, usize)> {
    let mut batch = Batch::new(count, 2048, true);
    let mut all = Vec::new();
    while all.len() < count {
        let came = server.receive(&mut batch).unwrap();
        assert!(came > 0, "only {all:?} came");
        all.extend((0..came).map(|slot| (batch.packet(slot)[0], batch.length(slot))));
    }
    all
}

/// Waits until `flow` is readable; returns whether that is an error.
fn readable(flow: &Flow) -> bool {
    let mut poller = Poller::new(1).unwrap();
    poller.register(flow, 7).unwrap();
    assert_eq!(poller.poll(PATIENCE).unwrap(), 1);
    let (token, error) = poller.ready(0);
    assert_eq!(token, 7);
    error
}

/// Sends one datagram to `asked` at the server's port, which answers in place; returns the answer.
fn answered(server: &Server, asked: IpAddr) -> Vec<u8> {
    let flow = Flow::open(SocketAddr::new(asked, server.address().unwrap().port()), None, false);
    let mut flow = flow.unwrap();
    assert_eq!(flow.send(&mut numbered(1, 48), 1), SendResult::Sent(1));
    let mut batch = Batch::new(4, 2048, true);
    assert_eq!(server.receive(&mut batch).unwrap(), 1);
    assert_eq!(batch.peer(0).unwrap().port(), flow.source().unwrap().port());
    assert!(batch.local(0).is_none_or(|local| local.to_canonical() == asked));
    assert!(batch.meta(0).unicast);
    batch.slot(0)[0] = 99;
    batch.answer(0, 20);
    assert_eq!((batch.answers(), server.send_answers(&mut batch), batch.answers()), (1, 1, 0));
    assert!(!readable(&flow), "the answer to {asked} came back");
    // A connected socket receives from its peer only: the answer left from the address that was asked.
    assert_eq!(flow.receive(&mut batch).unwrap(), 1);
    batch.packet(0).to_vec()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// Holds a loopback port that refuses: its socket is connected to a peer that no test uses.
fn closed_port() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(ANY_PORT).unwrap();
    socket.connect("127.0.0.1:1").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn datagrams_of_one_call_arrive_each_by_itself() {
    let server = server(ANY_PORT);
    let mut flow = Flow::open(server.address().unwrap(), None, false).unwrap();
    assert_eq!(flow.send(&mut numbered(3, 48), 3), SendResult::Sent(3));
    assert_eq!(received(&server, 3), [(1, 48), (2, 48), (3, 48)]);
    assert_eq!(flow.send(&mut numbered(3, 48), 2), SendResult::Sent(2));
    assert_eq!(received(&server, 2), [(1, 48), (2, 48)]);
}

#[test]
fn the_kernel_cuts_a_segmented_call_into_datagrams() {
    let server = server(ANY_PORT);
    let mut flow = Flow::open(server.address().unwrap(), None, false).unwrap();
    assert_eq!(flow.send_segmented(&mut numbered(5, 48), 5, 48), SendResult::Sent(5));
    assert_eq!(received(&server, 5), [(1, 48), (2, 48), (3, 48), (4, 48), (5, 48)]);
    assert_eq!(flow.send_segmented(&mut numbered(3, 20), 3, 20), SendResult::Sent(3));
    assert_eq!(received(&server, 3), [(1, 20), (2, 20), (3, 20)]);
    assert_eq!(flow.send_segmented(&mut numbered(100, 20), 100, 20), SendResult::Sent(64));
    assert_eq!(received(&server, 64).last(), Some(&(64, 20)));
    assert_eq!(server.memory().queued, 0);
}

#[test]
fn a_wildcard_answers_from_the_address_that_was_asked() {
    let server = server("0.0.0.0:0");
    for asked in [[127, 0, 0, 5], [127, 0, 0, 1], [127, 9, 8, 7]] {
        let answer = answered(&server, IpAddr::from(asked));
        assert_eq!((answer.len(), answer[0], answer[1]), (20, 99, 1));
    }
}

#[test]
fn a_v6_wildcard_answers_both_families_from_the_address_that_was_asked() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("left out: this machine has no IPv6");
        return;
    }
    let server = server("[::]:0");
    for asked in [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::from([127, 0, 0, 5])] {
        assert_eq!(answered(&server, asked).len(), 20);
    }
}

#[test]
fn a_server_on_one_address_answers_too() {
    assert_eq!(answered(&server(ANY_PORT), IpAddr::V4(Ipv4Addr::LOCALHOST)).len(), 20);
}

#[test]
fn what_was_sent_to_a_broadcast_address_is_told_apart() {
    let server = server("0.0.0.0:0");
    let client = UdpSocket::bind(ANY_PORT).unwrap();
    client.set_broadcast(true).unwrap();
    client.send_to(b"anybody", ("127.255.255.255", server.address().unwrap().port())).unwrap();
    let mut batch = Batch::new(1, 64, true);
    assert_eq!(server.receive(&mut batch).unwrap(), 1);
    assert!(!batch.meta(0).unicast);
}

#[test]
fn an_answer_that_cannot_leave_stops_no_other() {
    let server = server(ANY_PORT);
    let mut flow = Flow::open(server.address().unwrap(), None, false).unwrap();
    let mut batch = Batch::new(3, 2048, true);
    for _ in 0..3 {
        flow.send(&mut numbered(1, 48), 1);
    }
    let mut came = 0;
    while came < 3 {
        came += server.receive(&mut batch).unwrap();
        assert!(came == 3 || came == 0, "loopback has delivered all three before this");
    }
    (0..3).for_each(|slot| batch.answer(slot, 10 + slot));
    batch.answers[1].msg_hdr.msg_namelen = 1;
    assert_eq!(server.send_answers(&mut batch), 2);
    readable(&flow);
    assert_eq!(flow.receive(&mut batch).unwrap(), 2);
    assert_eq!((batch.length(0), batch.length(1)), (10, 12));
}

#[test]
fn a_closed_port_refuses_and_quotes_the_datagram() {
    let (_held, closed) = closed_port();
    let mut flow = Flow::open(closed, None, false).unwrap();
    assert_eq!(flow.send(&mut numbered(1, 48), 1), SendResult::Sent(1));
    assert!(readable(&flow), "a refusal is an error to read");
    let mut quote = [0; 576];
    let refused = flow.refused(&mut quote).unwrap().unwrap();
    assert_eq!((refused.quoted, refused.errno), (48, libc::ECONNREFUSED));
    assert_eq!(quote[..48], [1; 48]);
    assert!(flow.refused(&mut quote).unwrap().is_none());
    assert_eq!(flow.send(&mut numbered(1, 48), 1), SendResult::Sent(1), "a refusal that was read spoils no call");
}

#[test]
fn a_refusal_that_was_not_read_spoils_one_send_and_is_kept() {
    let (_held, closed) = closed_port();
    let mut flow = Flow::open(closed, None, true).unwrap();
    let mut batch = numbered(1, 48);
    assert_eq!(flow.send(&mut batch, 1), SendResult::Sent(1));
    assert_eq!(flow.send(&mut batch, 1), SendResult::Refused);
    assert_eq!(flow.send(&mut batch, 1), SendResult::Sent(1));
    let mut quote = [0; 16];
    let quoted: Vec<_> =
        std::iter::from_fn(|| flow.refused(&mut quote).unwrap()).map(|refused| refused.quoted).collect();
    assert_eq!(quoted, [16, 16]);
}

#[test]
fn a_flow_is_named_again_while_refusals_are_left() {
    let (_held, closed) = closed_port();
    let mut flows =
        Flows::open(&[closed], &[], 1, FlowOptions { stamps: true, segmented: false, busy_poll_us: 0 }).unwrap();
    let mut batch = numbered(1, 48);
    let left = (0..10).filter(|_| flows.send(0, &mut batch, 1, 48) == SendResult::Sent(1)).count();
    assert_eq!(left, 5, "every other call only tells of a refusal");
    let mut quote = [0; 64];
    for _ in 0..5 {
        assert_eq!((flows.poll(PATIENCE).unwrap(), flows.ready(0)), (1, (0, true)));
        assert!(flows.refused(0, &mut quote).unwrap().is_some());
    }
    assert!(flows.refused(0, &mut quote).unwrap().is_none());
}

#[test]
fn what_a_full_queue_drops_is_counted() {
    let far_end = UdpSocket::bind(ANY_PORT).unwrap();
    let flows = Flows::open(
        &[far_end.local_addr().unwrap()],
        &[],
        1,
        FlowOptions { stamps: false, segmented: false, busy_poll_us: 0 },
    );
    let mut flows = flows.unwrap();
    let mut batch = numbered(32, 8);
    flows.send(0, &mut batch, 1, 8);
    let mut request = [0; 8];
    let (_, source) = far_end.recv_from(&mut request).unwrap();
    assert_eq!(flows.drops(), 0);
    for _ in 0..4_000 {
        far_end.send_to(&[7; 1_400], source).unwrap();
    }
    let calls = std::iter::from_fn(|| Some(flows.receive(0, &mut batch).unwrap()).filter(|&count| count > 0));
    let kept: usize = calls.sum();
    assert!(flows.drops() > 0);
    assert_eq!(kept as u64 + flows.drops(), 4_000);
}

#[test]
fn a_datagram_longer_than_its_slot_is_flagged() {
    let server = server(ANY_PORT);
    let mut flow = Flow::open(server.address().unwrap(), None, false).unwrap();
    let mut batch = Batch::new(2, 16, true);
    for (length, truncated) in [(16, false), (17, true), (16, false)] {
        flow.send(&mut numbered(1, length), 1);
        assert_eq!(server.receive(&mut batch).unwrap(), 1);
        assert_eq!((batch.length(0), batch.meta(0).truncated), (16, truncated), "{length} bytes");
        assert_eq!(batch.packet(0), [1; 16]);
    }
}

#[test]
fn arrivals_carry_the_kernel_s_stamp_where_asked() {
    let server = server(ANY_PORT);
    let mut batch = Batch::new(1, 2048, true);
    for stamps in [true, false] {
        let mut flow = Flow::open(server.address().unwrap(), None, stamps).unwrap();
        let before = unix_now();
        flow.send(&mut numbered(1, 48), 1);
        assert_eq!(server.receive(&mut batch).unwrap(), 1);
        let stamp = batch.meta(0).stamp_unix_ns.unwrap();
        assert!((before..=unix_now()).contains(&stamp));
        assert!(server.send_to(&[1; 48], batch.peer(0).unwrap()));
        readable(&flow);
        assert_eq!(flow.receive(&mut batch).unwrap(), 1);
        match batch.meta(0).stamp_unix_ns {
            Some(answer) => assert!(stamps && (stamp..=unix_now()).contains(&answer)),
            None => assert!(!stamps),
        }
    }
}

#[test]
fn flows_leave_from_the_sources_in_turn() {
    let server = server(ANY_PORT);
    let sources = [SocketAddr::from(([127, 0, 0, 2], 0)), SocketAddr::from(([127, 0, 0, 3], 0))];
    let options = FlowOptions { stamps: true, segmented: true, busy_poll_us: 0 };
    let mut flows = Flows::open(&[server.address().unwrap()], &sources, 3, options).unwrap();
    assert_eq!(flows.flows(), 3);
    let mut batch = Batch::new(4, 2048, true);
    let mut ports = Vec::new();
    for (flow, last) in [(0, 2), (1, 3), (2, 2)] {
        assert_eq!(flows.send(flow, &mut numbered(2, 48), 2, 48), SendResult::Sent(2));
        received(&server, 1);
        assert_eq!(server.receive(&mut batch).unwrap(), 1);
        let peer = batch.peer(0).unwrap();
        assert_eq!(peer.ip(), IpAddr::from([127, 0, 0, last]));
        ports.push((peer.ip(), peer.port()));
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 3, "the far end can tell the flows apart");
}

#[test]
fn a_flow_is_named_once_for_what_has_come() {
    let server = server(ANY_PORT);
    let mut flows = Flows::open(
        &[server.address().unwrap()],
        &[],
        3,
        FlowOptions { stamps: true, segmented: false, busy_poll_us: 0 },
    )
    .unwrap();
    let mut batch = Batch::new(4, 2048, true);
    flows.send(1, &mut numbered(1, 48), 1, 48);
    assert_eq!(server.receive(&mut batch).unwrap(), 1);
    assert_eq!(flows.poll(Duration::ZERO).unwrap(), 0);
    server.send_to(&[1; 8], batch.peer(0).unwrap());
    assert_eq!((flows.poll(PATIENCE).unwrap(), flows.ready(0)), (1, (1, false)));
    assert_eq!(flows.poll(Duration::ZERO).unwrap(), 0);
    assert_eq!([1, 1, 0].map(|flow| flows.receive(flow, &mut batch)), [Ok(1), Ok(0), Ok(0)]);
    assert_eq!(flows.send(3, &mut batch, 1, 48), SendResult::Failed(libc::EBADF));
}

#[test]
fn a_delivered_packet_is_laid_as_the_kernel_lays_it() {
    let mut batch = Batch::new(2, 16, false);
    let meta = Meta { stamp_unix_ns: Some(5), unicast: true, ..Meta::default() };
    batch.deliver(1, &[3; 10], meta);
    assert_eq!((batch.packet(1), batch.length(1), batch.meta(1).stamp_unix_ns), (&[3; 10][..], 10, Some(5)));
    batch.deliver(0, &[4; 20], meta);
    assert_eq!((batch.packet(0), batch.meta(0).truncated), (&[4; 16][..], true));
}

#[test]
fn slots_that_do_not_exist_are_empty() {
    let mut batch = Batch::new(2, 16, true);
    batch.deliver(2, &[1; 4], Meta::default());
    batch.set_length(2, 4);
    batch.answer(2, 4);
    assert_eq!((batch.slot(2).len(), batch.packet(2).len(), batch.length(2), batch.answers()), (0, 0, 0, 0));
    assert_eq!((batch.peer(2), batch.local(2), batch.slots()), (None, None, 2));
    (0..5).for_each(|_| batch.answer(0, 4));
    assert_eq!(batch.answers(), 2);
    batch.clear_answers();
    assert_eq!(batch.answers(), 0);
}

#[test]
fn addresses_come_back_from_the_kernel_s_form() {
    for text in ["192.0.2.1:123", "[2001:db8::1]:65535", "[fe80::1%3]:1", "[::ffff:192.0.2.1]:5"] {
        let mut address: SocketAddr = text.replace("%3", "").parse().unwrap();
        if let SocketAddr::V6(v6) = &mut address {
            v6.set_scope_id(3);
            v6.set_flowinfo(9);
        }
        assert_eq!(address::from_kernel(&address::to_kernel(address).0), Some(address));
    }
}

#[test]
fn a_thread_knows_its_cpus_and_what_it_used() {
    let before = thread::thread_cpu_ns();
    let cpus = thread::affinity().unwrap();
    assert!(!cpus.is_empty() && cpus.is_sorted());
    assert!(thread::thread_cpu_ns() > before);
    assert!(thread::pin(usize::MAX).is_err());
    let pinned = std::thread::spawn(move || (thread::pin(cpus[0]), cpus[0], thread::affinity().unwrap())).join();
    let (done, cpu, left) = pinned.unwrap();
    assert!(done.is_ok() && left == [cpu]);
}

#[test]
fn only_what_is_even_now_is_cut_apart() {
    let far_end = UdpSocket::bind(ANY_PORT).unwrap();
    far_end.set_read_timeout(Some(PATIENCE)).unwrap();
    let options = FlowOptions { stamps: false, segmented: true, busy_poll_us: 0 };
    let mut flows = Flows::open(&[far_end.local_addr().unwrap()], &[], 1, options).unwrap();
    let mut buffer = [0; 64];
    for lengths in [[8, 8, 8], [8, 8, 8], [4, 8, 8], [8, 4, 8], [8, 8, 4]] {
        let mut batch = numbered(3, 8);
        for send in 0..2 {
            let lengths = if send == 0 { [8, 8, 8] } else { lengths };
            (0..3).for_each(|slot| batch.set_length(slot, lengths[slot]));
            assert_eq!(flows.send(0, &mut batch, 3, lengths[2]), SendResult::Sent(3));
            for (slot, length) in lengths.into_iter().enumerate() {
                assert_eq!(far_end.recv(&mut buffer).unwrap(), length);
                assert_eq!(buffer[..length], vec![slot as u8 + 1; length]);
            }
        }
    }
}
