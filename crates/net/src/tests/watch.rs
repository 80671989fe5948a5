//! The program that counts traffic, in this kernel. Without root there is nothing to test but the obstacle.

use std::net::UdpSocket;
use std::path::Path;

use super::ANY_PORT;
use crate::{BTF_OF_KERNEL, Obstacle, TrafficCounter, WatchedPort};

/// As devices are set for loopback: both directions of what comes from it.
const LOOPBACK: u32 = 3;

/// None, with a line that says why, where this process may not load programs.
fn started(ports: &[u16]) -> Option<TrafficCounter> {
    let watched: Vec<_> =
        ports.iter().map(|port| WatchedPort { ip_protocol: libc::IPPROTO_UDP as u8, port: *port, kind: 0 }).collect();
    match TrafficCounter::start(&watched, Path::new(BTF_OF_KERNEL)) {
        Ok(counter) => Some(counter),
        Err(error) if error.obstacle == Obstacle::Failed => panic!("{error}"),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn counts(counter: &TrafficCounter, port: usize) -> Vec<u64> {
    counter.traffic(0).unwrap()[port].counts[..8].to_vec()
}

#[test]
fn packets_to_and_from_each_port_are_counted_apart() {
    let [one, other, client] = [(); 3].map(|()| UdpSocket::bind(ANY_PORT).unwrap());
    let ports = [one.local_addr().unwrap().port(), other.local_addr().unwrap().port()];
    let Some(mut counter) = started(&ports) else { return };
    client.send_to(b"before any device counts", one.local_addr().unwrap()).unwrap();
    counter.set_devices(&[], LOOPBACK).unwrap();
    for _ in 0..5 {
        client.send_to(&[0; 48], one.local_addr().unwrap()).unwrap();
    }
    for _ in 0..3 {
        other.send_to(&[0; 20], client.local_addr().unwrap()).unwrap();
    }
    assert_eq!(counts(&counter, 0), [5, 0, 0, 0, 5 * 76, 0, 0, 0]);
    assert_eq!(counts(&counter, 1), [0, 0, 3, 0, 0, 0, 3 * 48, 0]);
    assert_eq!(counter.by_cpu().unwrap().iter().sum::<u64>(), 8);
    counter.set_devices(&[(1, 0)], LOOPBACK).unwrap();
    client.send_to(&[0; 48], one.local_addr().unwrap()).unwrap();
    assert_eq!(counts(&counter, 0)[0], 5, "loopback is device 1, and no longer counts");
    counter.set_devices(&[], LOOPBACK).unwrap();
    client.send_to(&[0; 48], one.local_addr().unwrap()).unwrap();
    assert_eq!(counts(&counter, 0)[0], 6);
}

#[test]
fn prefixes_are_taken_out_once_and_a_sample_stands_for_all() {
    let (server, client) = (UdpSocket::bind(ANY_PORT).unwrap(), UdpSocket::bind(ANY_PORT).unwrap());
    let Some(mut counter) = started(&[server.local_addr().unwrap().port()]) else { return };
    counter.set_devices(&[], LOOPBACK).unwrap();
    assert_eq!(counter.talkers(9).unwrap(), []);
    for _ in 0..10 {
        client.send_to(&[0; 48], server.local_addr().unwrap()).unwrap();
    }
    let found = counter.talkers(9).unwrap();
    let [only] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((only.port, only.is_v6, only.prefix, only.packets, only.bytes), (0, false, 0x7f_0000, 10, 760));
    assert_eq!(counter.talkers(9).unwrap(), []);
    counter.set_sampling(16).unwrap();
    for _ in 0..32_000 {
        client.send_to(&[0; 48], server.local_addr().unwrap()).unwrap();
    }
    let found = counter.talkers(9).unwrap();
    let [only] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(only.packets % 16, 0);
    // 2,000 samples on average, with a standard deviation of 43.
    assert!(only.packets.abs_diff(32_000) < 8 * 43 * 16, "{only:?}");
}
