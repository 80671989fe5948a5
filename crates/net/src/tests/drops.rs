//! The program that counts dropped packets, in this kernel. Without root there is nothing to test but the obstacle.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;

use crate::{BTF_OF_KERNEL, DropCounter, DropFilter, Obstacle};

fn filter(port: u16) -> DropFilter {
    DropFilter {
        ip_version: 4,
        ip_protocol: libc::IPPROTO_UDP as u8,
        ports: vec![port],
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        ignored: Vec::new(),
    }
}

/// None, with a line that says why, where this process may not load programs.
fn started(filter: &DropFilter) -> Option<DropCounter> {
    match DropCounter::start(filter, Path::new(BTF_OF_KERNEL)) {
        Ok(counter) => Some(counter),
        Err(error) if error.obstacle == Obstacle::Failed => panic!("{error}"),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

#[test]
fn a_datagram_to_a_closed_port_is_counted_with_its_reason() {
    let (client, unused) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = unused.local_addr().unwrap();
    drop(unused);
    let Some(counter) = started(&filter(address.port())) else { return };
    for _ in 0..5 {
        client.send_to(b"datagram", address).unwrap();
    }
    let found = counter.counts().unwrap();
    let [only] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((only.reason.as_str(), only.count, only.towards, only.known), ("NO_SOCKET", 5, true, true));
    assert_eq!(only.device, "lo");
    assert_ne!(only.netns, 0);
    assert_eq!(counter.uncounted().unwrap(), 0);
}

#[test]
fn what_is_ignored_and_what_is_of_others_is_not_counted() {
    let (client, unused) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = unused.local_addr().unwrap();
    drop(unused);
    let ignoring = DropFilter { ignored: vec!["NO_SOCKET".into(), "UNKNOWN".into()], ..filter(address.port()) };
    let tcp = DropFilter { ip_protocol: libc::IPPROTO_TCP as u8, ..filter(address.port()) };
    let v6 = DropFilter { ip_version: 6, ..filter(address.port()) };
    for each in [ignoring, tcp, v6, filter(address.port() ^ 1)] {
        let Some(counter) = started(&each) else { return };
        client.send_to(b"datagram", address).unwrap();
        assert_eq!(counter.counts().unwrap(), [], "{each:?}");
    }
}

#[test]
fn segments_of_one_buffer_are_counted_one_by_one() {
    let (client, unused) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = unused.local_addr().unwrap();
    drop(unused);
    let Some(counter) = started(&filter(address.port())) else { return };
    crate::option::set(client.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 100_i32).unwrap();
    client.send_to(&[0; 1000], address).unwrap();
    let found: u64 = counter.counts().unwrap().iter().map(|one| one.count).sum();
    assert_eq!(found, 10);
}
