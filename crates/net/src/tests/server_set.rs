//! Servers on several addresses, and groups of sockets that share one.

use std::net::UdpSocket;
use std::sync::Arc;

use super::{Batch, PATIENCE, Server, server};
use crate::{ClientBits, Listen, ServerOptions, ServerSet, balance_by_client};

const OPTIONS: ServerOptions = ServerOptions { wait: PATIENCE, tx_stamps: false };
const ADDRESSES: ClientBits = ClientBits { v4: 32, v6: 64 };

/// Receives until `count` datagrams came, and answers all.
fn serve(set: &mut ServerSet, count: usize) -> Vec<usize> {
    let mut batch = Batch::new(16, 64, true);
    let mut from = Vec::new();
    while from.len() < count {
        let got = set.receive(&mut batch).unwrap();
        assert!(got > 0, "nothing came in time");
        from.extend(std::iter::repeat_n(set.current(), got));
        (0..got).for_each(|slot| batch.answer(slot, batch.length(slot)));
        assert_eq!(set.send_answers(&mut batch), got);
    }
    from
}

#[test]
fn one_worker_serves_several_addresses() {
    let servers: Vec<_> =
        ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"].into_iter().map(|at| Arc::new(server(at))).collect();
    let addresses: Vec<_> = servers.iter().map(|server| server.address().unwrap()).collect();
    let mut set = ServerSet::new(servers, PATIENCE);
    let clients: Vec<_> = addresses
        .iter()
        .map(|address| {
            let client = UdpSocket::bind(if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.connect(address).unwrap();
            client.send(b"hello").unwrap();
            client
        })
        .collect();
    let mut from = serve(&mut set, 3);
    from.sort_unstable();
    assert_eq!(from, [0, 1, 2]);
    for client in clients {
        assert_eq!(client.recv(&mut [0; 64]).unwrap(), 5);
    }
}

#[test]
fn a_busy_address_does_not_keep_the_others_waiting() {
    let servers: Vec<_> = (0..2).map(|_| Arc::new(server("127.0.0.1:0"))).collect();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..64 {
        client.send_to(b"busy", servers[0].address().unwrap()).unwrap();
    }
    client.send_to(b"quiet", servers[1].address().unwrap()).unwrap();
    let from = serve(&mut ServerSet::new(servers, PATIENCE), 65);
    let quiet = from.iter().position(|&n| n == 1).unwrap();
    assert!(quiet <= 16, "after one batch of the busy one: {quiet}");
}

/// Sockets of one group that follow the client's address.
fn group(at: &str, sockets: u32) -> Vec<Server> {
    let first = server(at);
    let address = first.address().unwrap();
    let mut group = vec![first];
    group.extend((1..sockets).map(|_| server(&address.to_string())));
    balance_by_client(&group[0], sockets, 7, ADDRESSES).unwrap();
    group
}

fn received(group: &[Server]) -> Vec<usize> {
    let mut batch = Batch::new(64, 64, true);
    let mut all = |server: &Server| {
        let mut count = 0;
        loop {
            match server.receive_now(&mut batch).unwrap() {
                0 => return count,
                got => count += got,
            }
        }
    };
    group.iter().map(&mut all).collect()
}

#[test]
fn one_client_reaches_one_socket_from_all_its_ports() {
    let group = group("127.0.0.1:0", 4);
    let address = group[0].address().unwrap();
    for host in 1..=8 {
        for _ in 0..32 {
            UdpSocket::bind((std::net::Ipv4Addr::new(127, 0, 0, host), 0)).unwrap().send_to(b"x", address).unwrap();
        }
        let counts = received(&group);
        assert_eq!(counts.iter().filter(|&&count| count == 32).count(), 1, "127.0.0.{host}: {counts:?}");
        assert_eq!(counts.iter().sum::<usize>(), 32);
    }
}

#[test]
fn a_prefix_reaches_one_socket_and_its_bits_may_change() {
    let group = group("127.0.0.1:0", 4);
    let address = group[0].address().unwrap();
    let reached = |bits: u8, prefix: u32| {
        balance_by_client(&group[0], 4, 7, ClientBits { v4: bits, v6: 48 }).unwrap();
        for host in 1..=32 {
            let source = std::net::Ipv4Addr::from(prefix + host);
            UdpSocket::bind((source, 0)).unwrap().send_to(b"x", address).unwrap();
        }
        received(&group).into_iter().filter(|count| *count > 0).count()
    };
    for n in 0..8 {
        assert_eq!(reached(24, 0x7f02_0000 + (n << 8)), 1, "127.2.{n}.0/24");
    }
    assert!(reached(32, 0x7f02_0000) > 1, "of 32 clients");
}

#[test]
fn many_clients_are_spread_evenly_over_a_dual_stack_group() {
    let group = group("[::]:0", 4);
    let port = group[0].address().unwrap().port();
    for host in 0..1024_u32 {
        let source = std::net::Ipv4Addr::from(0x7f01_0000 + host);
        UdpSocket::bind((source, 0)).unwrap().send_to(b"x", ("127.0.0.1", port)).unwrap();
    }
    let counts = received(&group);
    assert_eq!(counts.iter().sum::<usize>(), 1024);
    // A fair share is 256, with a standard deviation of 14.
    assert!(counts.iter().all(|count| (186..=326).contains(count)), "{counts:?}");
}

#[test]
fn v6_follows_the_first_64_bits() {
    let group = group("[::1]:0", 4);
    let address = group[0].address().unwrap();
    for _ in 0..64 {
        UdpSocket::bind("[::1]:0").unwrap().send_to(b"x", address).unwrap();
    }
    assert_eq!(received(&group).into_iter().filter(|&count| count == 64).count(), 1);
}

#[test]
fn an_interface_that_is_not_there_is_an_error() {
    let listen = Listen { interface: Some("nowhere0".into()), ..Listen::at("127.0.0.1:0".parse().unwrap()) };
    assert_eq!(Server::listen(&listen, OPTIONS).err().unwrap().raw_os_error(), Some(libc::ENODEV));
}

#[test]
fn an_address_to_come_can_be_bound() {
    let listen = Listen::at("192.0.2.1:0".parse().unwrap());
    assert_eq!(Server::listen(&listen, OPTIONS).err().unwrap().raw_os_error(), Some(libc::EADDRNOTAVAIL));
    assert!(Server::listen(&Listen { free_bind: true, ..listen }, OPTIONS).is_ok());
}

#[test]
fn both_wildcards_may_be_listened_on() {
    let v4 = server("0.0.0.0:0");
    let at = format!("[::]:{}", v4.address().unwrap().port());
    let listen = Listen { only_v6: true, ..Listen::at(at.parse().unwrap()) };
    listen.check_free().unwrap();
    Server::listen(&listen, OPTIONS).unwrap();
    let all = Listen { only_v6: false, ..listen };
    assert_eq!(all.check_free().unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
}

#[test]
fn a_socket_is_taken_over_by_its_number() {
    let left = UdpSocket::bind("127.0.0.1:0").unwrap();
    left.set_nonblocking(true).unwrap();
    let taken = Server::inherit(std::os::fd::AsRawFd::as_raw_fd(&left), OPTIONS).unwrap();
    assert_eq!(taken.address().unwrap(), left.local_addr().unwrap());
    // SAFETY: fcntl takes no pointers here.
    let flags = unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&left), libc::F_GETFL) };
    assert_eq!(flags & libc::O_NONBLOCK, 0, "its receives wait");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"before", left.local_addr().unwrap()).unwrap();
    let mut batch = Batch::new(4, 64, true);
    assert_eq!(taken.receive(&mut batch).unwrap(), 1);
    assert_eq!(batch.local(0), Some("127.0.0.1".parse().unwrap()), "it tells destinations");
    assert_eq!(Server::inherit(1 << 20, OPTIONS).err().unwrap().raw_os_error(), Some(libc::EBADF));
    let stream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = Server::inherit(std::os::fd::AsRawFd::as_raw_fd(&stream), OPTIONS);
    assert_eq!(refused.err().unwrap().raw_os_error(), Some(libc::EPROTOTYPE));
}
