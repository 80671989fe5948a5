//! AF_XDP: what is steered, by BPF's test run; and frames over a veth pair in a network namespace of the test's own.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use super::PATIENCE;
use crate::{
    BpfError, FrameFault, Obstacle, SteeringCounters, SteeringFilter, UdpFrame, XdpOptions, XdpSocket, XdpSteering,
    clock_offsets, devices,
};

const PASS: u32 = 2;
const REDIRECT: u32 = 4;
const V4: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
const V6: [&str; 2] = ["2001:db8::1", "2001:db8::2"];

fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// A frame from port 4000; `whole`: with the datagram's checksum, else with the sum of the pseudo-header only.
fn frame(ends: [&str; 2], port: u16, payload: &[u8], whole: bool) -> Vec<u8> {
    let octets = |ip: &str| match ip.parse().unwrap() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let addresses = [octets(ends[0]), octets(ends[1])].concat();
    let length = (8 + payload.len()) as u16;
    let mut udp = [4000_u16.to_be_bytes(), port.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
    udp.extend(payload);
    let pseudo = [&addresses[..], &[0, 17], &length.to_be_bytes()].concat();
    let check = if whole { !sum(&[&pseudo[..], &udp].concat()) } else { sum(&pseudo) };
    udp[6..8].copy_from_slice(&check.to_be_bytes());
    let (kind, mut ip) = if addresses.len() == 8 {
        let total = (20 + length).to_be_bytes();
        (8_u16, [&[0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, 17, 0, 0], &addresses[..]].concat())
    } else {
        let [high, low] = length.to_be_bytes();
        (0x86dd, [&[0x60, 0, 0, 0, high, low, 17, 64], &addresses[..]].concat())
    };
    if kind == 8 {
        let check = !sum(&ip);
        ip[10..12].copy_from_slice(&check.to_be_bytes());
    }
    let kind = if kind == 8 { [8, 0] } else { [0x86, 0xdd] };
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1], &kind[..], &ip, &udp].concat()
}

/// `None`, with a line that says why, where this process may not do that.
fn permitted<T>(made: Result<T, BpfError>) -> Option<T> {
    match made {
        Ok(made) => Some(made),
        Err(error) if error.obstacle == Obstacle::Failed => panic!("{error}"),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn filter() -> SteeringFilter {
    let addresses = vec![V4[1].parse().unwrap(), V6[1].parse().unwrap()];
    SteeringFilter { first_port: 5000, ports: 10, addresses, longest: 1514 }
}

#[test]
fn whole_datagrams_for_these_addresses_and_ports_are_steered_and_nothing_else() {
    in_namespace(|[_, right]| steers_at(right));
}

fn steers_at(interface: u32) {
    let Some(mut steering) = permitted(XdpSteering::load(&filter())) else { return };
    let plain = frame(V4, 5000, b"record", true);
    assert_eq!(steering.run_on(&plain).unwrap(), PASS, "its queue has no socket");
    let options = XdpOptions { copy: true, ..XdpOptions::default() };
    let Some(socket) = permitted(XdpSocket::open(interface, 0, options)) else { return };
    steering.set_socket(0, &socket).unwrap();
    let steered = [plain.clone(), frame(V4, 5009, b"", true), frame(V6, 5004, b"record", true)];
    for frame in &steered {
        assert_eq!(steering.run_on(frame).unwrap(), REDIRECT);
    }
    let with = |at: usize, byte: u8| {
        let mut changed = plain.clone();
        changed[at] = byte;
        changed
    };
    let tagged = [&plain[..12], &[0x81, 0, 0, 5], &plain[12..]].concat();
    let passed = [
        frame(V4, 4999, b"", true),
        frame(V4, 5010, b"", true),
        frame([V4[1], V4[0]], 5000, b"", true),
        frame([V6[1], V6[0]], 5000, b"", true),
        tagged,
        with(14, 0x46),
        with(20, 0x20),
        with(21, 1),
        with(23, 6),
        plain[..30].to_vec(),
    ];
    for frame in &passed {
        assert_eq!(steering.run_on(frame).unwrap(), PASS, "{frame:?}");
    }
    for odd in [with(17, 200), frame(V4, 5000, &[7; 1500], true)] {
        assert_eq!(steering.run_on(&odd).unwrap(), PASS, "it claims more than came, or is too long");
    }
    let expected = SteeringCounters { redirected: 3, passed: 10, not_plain: 2, no_socket: 1, unstamped: 0 };
    assert_eq!(steering.counters().unwrap(), expected);
    let error = steering.set_socket(256, &socket).unwrap_err();
    assert!(error.text.contains("at most 256"), "{error}");
}

#[test]
fn obstacles_are_named() {
    in_namespace(|[left, _]| {
        let options = XdpOptions { copy: true, ..XdpOptions::default() };
        let Some(_socket) = permitted(XdpSocket::open(left, 0, options)) else { return };
        for (interface, queue, words) in [(left, 77, "no queue 77"), (999_999, 0, "gone"), (left, 0, "already")] {
            let error = XdpSocket::open(interface, queue, options).unwrap_err();
            assert!(error.text.contains(words), "{error}");
        }
    });
}

#[test]
fn datagrams_are_read_as_they_were_written() {
    for (ends, whole) in [(V4, true), (V4, false), (V6, true), (V6, false)] {
        for payload in [&b""[..], b"1", b"odd", b"even", &[0xff; 1400]] {
            let mut frame = frame(ends, 5000, payload, whole);
            let read = UdpFrame::parse(&frame).unwrap();
            assert_eq!((read.payload, read.source.port(), read.destination.port()), (payload, 4000, 5000));
            assert_eq!([read.source.ip().to_string(), read.destination.ip().to_string()], ends);
            // Padding.
            frame.extend([1, 2, 3]);
            assert_eq!(UdpFrame::parse(&frame).unwrap().payload, payload);
        }
    }
}

#[test]
fn what_is_damaged_is_told_apart() {
    let with = |frame: &[u8], at: usize, byte: u8| {
        let mut changed = frame.to_vec();
        changed[at] = byte;
        changed
    };
    let (v4, v6) = (frame(V4, 5000, b"record", true), frame(V6, 5000, b"record", true));
    let unsummed = with(&with(&v4, 40, 0), 41, 0);
    assert_eq!(UdpFrame::parse(&unsummed).unwrap().payload, b"record", "IPv4 may do without");
    let cases = [
        (with(&v4, 45, 0), FrameFault::Checksum),
        (with(&v4, 22, 1), FrameFault::Checksum),
        (with(&v6, 63, 0), FrameFault::Checksum),
        (with(&with(&v6, 60, 0), 61, 0), FrameFault::Checksum),
        (v4[..v4.len() - 1].to_vec(), FrameFault::Length),
        (v6[..v6.len() - 1].to_vec(), FrameFault::Length),
        (with(&v6, 58, 0xff), FrameFault::Length),
        (with(&v6, 59, 7), FrameFault::Length),
        (with(&v6, 20, 6), FrameFault::NotPlain),
        (with(&v4, 12, 0x81), FrameFault::NotPlain),
        (with(&v4, 14, 0x46), FrameFault::NotPlain),
        (Vec::new(), FrameFault::NotPlain),
    ];
    for (frame, fault) in cases {
        assert_eq!(UdpFrame::parse(&frame), Err(fault), "{frame:?}");
    }
}

/// Runs on a thread of its own, in a network namespace that ends with it and has a veth pair: the indices of its ends.
fn in_namespace(test: impl FnOnce([u32; 2]) + Send + 'static) {
    let done = std::thread::spawn(|| veth_pair().map(test));
    done.join().unwrap();
}

fn veth_pair() -> Option<[u32; 2]> {
    // SAFETY: it takes no pointers; only this thread changes its namespace.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        eprintln!("skipped: not permitted to make a network namespace");
        return None;
    }
    let made = Command::new("ip").args("link add left type veth peer name right".split(' ')).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no veth pair (ip link add)");
        return None;
    }
    for end in ["left", "right"] {
        assert!(Command::new("ip").args(["link", "set", end, "up"]).status().unwrap().success());
    }
    let found = devices().unwrap();
    let index = |name: &str| found.iter().find(|(_, device)| device.name == name).map(|(index, _)| *index);
    Some([index("left")?, index("right")?])
}

/// Sends `count` numbered datagrams from one socket to the other and returns the numbers and stamps that came.
fn carried(from: &mut XdpSocket, to: &mut XdpSocket, count: u32) -> Vec<(u32, u64)> {
    let (mut came, mut next) = (Vec::new(), 0_u32);
    let until = Instant::now() + PATIENCE;
    while came.len() < count as usize && Instant::now() < until {
        // Less than what the receive ring holds, as there is no flow control.
        for _ in 0..32 {
            let datagram = frame(V4, 5000, &next.to_be_bytes(), next % 2 == 0);
            if next == count {
                break;
            }
            let Some(room) = from.reserve() else { break };
            room[..datagram.len()].copy_from_slice(&datagram);
            from.commit(datagram.len());
            next += 1;
        }
        from.kick().unwrap();
        to.wait(Duration::from_millis(1)).unwrap();
        to.receive(usize::MAX, |frame, stamp| {
            let read = UdpFrame::parse(frame).unwrap();
            came.push((u32::from_be_bytes(read.payload.try_into().unwrap()), stamp));
        });
    }
    came
}

#[test]
fn frames_go_out_and_come_in_by_way_of_the_rings() {
    const COUNT: u32 = 1000;
    in_namespace(|[left, right]| {
        for generic in [false, true] {
            let options = XdpOptions { copy: generic, receive: 256, transmit: 64, ..XdpOptions::default() };
            let Some(mut from) = permitted(XdpSocket::open(left, 0, options)) else { return };
            let mut to = permitted(XdpSocket::open(right, 0, options)).unwrap();
            let mut steering = permitted(XdpSteering::load(&filter())).unwrap();
            steering.set_socket(0, &to).unwrap();
            steering.attach(right, generic).unwrap();
            let mut other = permitted(XdpSteering::load(&filter())).unwrap();
            let error = other.attach(right, generic).unwrap_err();
            assert!(error.text.contains("another XDP program"), "{error}");
            let before = clock_offsets().steady_ns;
            let came = carried(&mut from, &mut to, COUNT);
            let after = clock_offsets().steady_ns;
            assert!(came.iter().map(|(number, _)| *number).eq(0..COUNT), "generic: {generic}: {came:?}");
            assert!(came.is_sorted_by_key(|(_, stamp)| *stamp));
            assert!(came.iter().all(|(_, stamp)| (before..after).contains(stamp)), "{before} {after} {came:?}");
            assert!(!from.zero_copy() && !to.zero_copy(), "veth has none");
            assert_eq!((to.statistics().lost(), from.statistics().invalid), (0, 0));
            let counters = steering.counters().unwrap();
            assert_eq!((counters.redirected, counters.unstamped), (u64::from(COUNT), 0));
        }
    });
}

#[test]
fn what_does_not_fit_into_the_rings_is_counted() {
    in_namespace(|[left, right]| {
        let options = XdpOptions { copy: true, receive: 64, transmit: 512, ..XdpOptions::default() };
        let Some(mut from) = permitted(XdpSocket::open(left, 0, options)) else { return };
        let mut to = permitted(XdpSocket::open(right, 0, options)).unwrap();
        let mut steering = permitted(XdpSteering::load(&filter())).unwrap();
        steering.set_socket(0, &to).unwrap();
        steering.attach(right, true).unwrap();
        let datagram = frame(V4, 5000, b"record", true);
        for _ in 0..100 {
            from.reserve().unwrap()[..datagram.len()].copy_from_slice(&datagram);
            from.commit(datagram.len());
        }
        let until = Instant::now() + PATIENCE;
        while from.kick().unwrap() > 0 && Instant::now() < until {}
        while steering.counters().unwrap().redirected < 100 && Instant::now() < until {}
        let received = to.receive(usize::MAX, |_, _| {});
        assert_eq!((received, to.statistics().lost()), (64, 36), "{:?}", to.statistics());
    });
}
