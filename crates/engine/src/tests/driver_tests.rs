//! The program that answers NTP in the network driver, in this kernel: its answers are those of the sockets, byte for
//! byte, and what it does not answer it does not touch. Without root there is nothing to test.

use std::fs;
use std::path::Path;

use super::driver_rig::{DEVICE, Frame, PASS, PORT, Rig, TX, VLAN, request, unix};

/// A frame that is passed up: unchanged, and counted for this reason (empty: none, as it is of others).
fn passed(rig: &mut Rig, frame: &[u8], reason: &str) {
    let before = (rig.counted("answered"), if reason.is_empty() { 0 } else { rig.counted(reason) });
    let (decision, after) = rig.run(frame);
    assert_eq!(decision, PASS, "{reason}: {frame:x?}");
    assert_eq!(after, frame, "{reason}: it was changed");
    let counted = if reason.is_empty() { 0 } else { rig.counted(reason) - 1 };
    assert_eq!((rig.counted("answered"), counted), before, "{reason}");
}

fn answered(rig: &mut Rig, frame: &Frame) {
    let (decision, after) = rig.run(&frame.bytes());
    assert_eq!(decision, TX, "{frame:?}");
    rig.check(frame, &after);
}

fn frames(payload: &[u8]) -> Vec<Frame> {
    let plain = [Frame::v4(payload), Frame::v6(payload)];
    let tagged = plain.clone().map(|frame| Frame { vlan: Some(VLAN), ..frame });
    plain.into_iter().chain(tagged).collect()
}

#[test]
fn plain_requests_get_the_sockets_answers() {
    for options in [&[][..], &[("interleaved", 1)]] {
        let Some(mut rig) = Rig::new(options, false) else { return };
        for version in 1..=4 {
            for mode in [1, 3] {
                frames(&request(version, mode)).iter().for_each(|frame| answered(&mut rig, frame));
            }
        }
        assert_eq!((rig.counted("answered"), rig.counted("sent_bytes")), (32, 16 * (76 + 96)));
        let mut strange = request(4, 3);
        (strange[0], strange[1], strange[2], strange[3]) = (0xe3, 16, 0xff, 0x80);
        strange[4..24].fill(0xaa);
        answered(&mut rig, &Frame::v4(&strange));
        let mut zero = request(3, 3);
        zero[40..].fill(0);
        answered(&mut rig, &Frame::v6(&zero));
    }
}

#[test]
fn other_versions_and_modes_are_for_the_sockets() {
    let Some(mut rig) = Rig::new(&[], false) else { return };
    for first in 0..=255_u8 {
        let (version, mode) = (first >> 3 & 7, first & 7);
        let mut payload = request(0, 0);
        payload[0] = first;
        for frame in [Frame::v4(&payload), Frame::v6(&payload)] {
            if (1..=4).contains(&version) && matches!(mode, 1 | 3) {
                answered(&mut rig, &frame);
            } else {
                passed(&mut rig, &frame.bytes(), "not_plain");
            }
        }
    }
    let Some(mut rig) = Rig::new(&[("symmetric", 0)], false) else { return };
    passed(&mut rig, &Frame::v4(&request(4, 1)).bytes(), "not_plain");
    answered(&mut rig, &Frame::v4(&request(4, 3)));
}

#[test]
fn interleaved_requests_are_for_the_sockets() {
    let Some(mut rig) = Rig::new(&[("interleaved", 1)], false) else { return };
    let mut payload = request(4, 3);
    payload[31] = 1;
    passed(&mut rig, &Frame::v4(&payload).bytes(), "not_plain");
    // A basic request: its receive and transmit stamps are equal; or the stamp that it repeats is a transmit stamp.
    payload[32..40].copy_from_slice(&[9, 8, 7, 6, 5, 4, 3, 2]);
    answered(&mut rig, &Frame::v4(&payload));
    (payload[31], payload[32]) = (2, 0);
    answered(&mut rig, &Frame::v4(&payload));
    let Some(mut rig) = Rig::new(&[], false) else { return };
    payload[31] = 1;
    answered(&mut rig, &Frame::v4(&payload));
}

#[test]
fn other_lengths_are_for_the_sockets() {
    let Some(mut rig) = Rig::new(&[], false) else { return };
    for length in (0..120).filter(|length| *length != 48).chain([500, 1400]) {
        let payload: Vec<_> = request(4, 3).into_iter().chain([0; 1400]).take(length).collect();
        for frame in [Frame::v4(&payload), Frame::v6(&payload)] {
            // Shorter ones than any request are not looked at.
            passed(&mut rig, &frame.bytes(), if length < 48 { "" } else { "not_plain" });
        }
    }
    let frame = Frame::v4(&request(4, 3));
    // Padding behind the packet, as on Ethernet: the answer has it too.
    let mut padded = frame.bytes();
    padded.extend([0; 6]);
    assert_eq!((rig.run(&padded).0, rig.run(&padded).1.len()), (TX, padded.len()));
    for length in 14..frame.bytes().len() {
        passed(&mut rig, &frame.bytes()[..length], "");
    }
    for (at, value) in [(16, 1), (38, 1), (39, 57), (17, 75), (17, 77)] {
        let mut lying = frame.bytes();
        lying[at] = value;
        passed(&mut rig, &lying, "not_plain");
    }
}

#[test]
fn fragments_options_and_other_protocols_are_for_the_sockets() {
    let Some(mut rig) = Rig::new(&[], false) else { return };
    let frame = Frame::v4(&request(4, 3));
    let changed = |at: usize, value: u8| {
        let mut bytes = frame.bytes();
        bytes[at] = value;
        frame.seal(&mut bytes);
        bytes
    };
    passed(&mut rig, &changed(20, 0x20), "not_plain");
    passed(&mut rig, &changed(21, 3), "not_plain");
    passed(&mut rig, &changed(14, 0x46), "");
    passed(&mut rig, &changed(14, 0x65), "");
    passed(&mut rig, &changed(23, 6), "");
    passed(&mut rig, &changed(12, 0x88), "");
    let v6 = Frame::v6(&request(4, 3));
    for next in [0, 43, 44, 51, 60, 58, 6] {
        let mut bytes = v6.bytes();
        bytes[20] = next;
        passed(&mut rig, &bytes, "");
    }
    let mut twice = Frame { vlan: Some(VLAN), ..frame.clone() }.bytes();
    twice.splice(12..12, [0x81, 0, 0, 11]);
    passed(&mut rig, &twice, "");
    // A tag with a priority only, and one of another VLAN.
    passed(&mut rig, &Frame { vlan: Some(0), ..frame.clone() }.bytes(), "");
    passed(&mut rig, &Frame { vlan: Some(11), ..frame }.bytes(), "address");
}

#[test]
fn what_is_not_for_this_host_or_has_an_odd_source_is_for_the_sockets() {
    let Some(mut rig) = Rig::new(&[], false) else { return };
    let payload = request(4, 3);
    let (v4, v6) = (Frame::v4(&payload), Frame::v6(&payload));
    for to in ["198.51.100.2:123", "198.51.100.255:123", "224.0.1.1:123", "255.255.255.255:123"] {
        passed(&mut rig, &Frame { to: to.parse().unwrap(), ..v4.clone() }.bytes(), "address");
    }
    passed(&mut rig, &Frame { to: "198.51.100.1:124".parse().unwrap(), ..v4.clone() }.bytes(), "");
    passed(&mut rig, &Frame { to: "[ff02::101]:123".parse().unwrap(), ..v6.clone() }.bytes(), "address");
    for from in [
        "192.0.2.1:0",
        "0.0.0.0:9",
        "0.1.2.3:9",
        "127.0.0.1:9",
        "224.0.1.1:9",
        "240.0.0.1:9",
        "255.255.255.255:9",
        "198.51.100.1:123",
        "198.51.100.1:9",
        "192.0.2.255:9",
    ] {
        passed(&mut rig, &Frame { from: from.parse().unwrap(), ..v4.clone() }.bytes(), "source");
    }
    for from in ["[2001:db8::1]:0", "[::]:9", "[::1]:9", "[ff02::1]:9", "[::ffff:192.0.2.1]:9", "[2001:db8:1::1]:9"] {
        passed(&mut rig, &Frame { from: from.parse().unwrap(), ..v6.clone() }.bytes(), "source");
    }
    for from in ["192.0.2.1:123", "[2001:db8::1]:123", "[fe80::1]:123", "223.255.255.1:65535", "1.0.0.1:1"] {
        let from: std::net::SocketAddr = from.parse().unwrap();
        let frame = if from.is_ipv4() { &v4 } else { &v6 };
        answered(&mut rig, &Frame { from, ..frame.clone() });
    }
    let mut frame = v4.bytes();
    frame[5] ^= 1;
    passed(&mut rig, &frame, "address");
    frame[..6].fill(0xff);
    passed(&mut rig, &frame, "address");
    let mut frame = v4.bytes();
    frame[6] |= 1;
    passed(&mut rig, &frame, "address");
}

#[test]
fn checksums_decide() {
    for generic in [false, true] {
        let Some(mut rig) = Rig::new(&[], generic) else { return };
        for frame in frames(&request(4, 3)) {
            let (bytes, at) = (frame.bytes(), frame.udp_at() + 6);
            let with = |sum: u16| {
                let mut changed = bytes.clone();
                changed[at..at + 2].copy_from_slice(&sum.to_be_bytes());
                changed
            };
            passed(&mut rig, &with(u16::from_be_bytes([bytes[at], bytes[at + 1]]) ^ 0x0100), "checksum");
            // Packets of this host carry a part of it, and in generic mode so do the answers: the kernel adds the rest.
            let (decision, mut after) = rig.run(&with(frame.pseudo_sum(&bytes)));
            assert_eq!(decision, TX);
            let sum = u16::from_be_bytes([after[at], after[at + 1]]);
            assert_eq!(sum == frame.pseudo_sum(&after), generic);
            assert_eq!(frame.udp_sum(&after) == 0xffff, !generic);
            frame.seal(&mut after);
            rig.check(&frame, &after);
            if frame.to.is_ipv4() {
                let (decision, after) = rig.run(&with(0));
                assert_eq!(decision, TX, "no checksum at all, which IPv4 allows");
                rig.check(&frame, &after);
                let mut changed = bytes.clone();
                changed[frame.ip_at() + 8] ^= 0x10;
                passed(&mut rig, &changed, "checksum");
            } else {
                passed(&mut rig, &with(0), "checksum");
            }
        }
    }
}

#[test]
fn no_changed_byte_gets_a_wrong_answer() {
    let Some(mut rig) = Rig::new(&[("interleaved", 1)], false) else { return };
    let mut answers = 0;
    for frame in frames(&request(4, 3)) {
        let whole = frame.bytes();
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff, whole[at] ^ 0x10] {
                let mut changed = whole.clone();
                changed[at] = value;
                let (decision, after) = rig.run(&changed);
                if decision == PASS {
                    assert_eq!(after, changed, "byte {at}: {value}");
                    continue;
                }
                // Without a new checksum: it is the same frame, or differs where no checksum reaches.
                let (ip, v6) = (frame.ip_at(), frame.to.is_ipv6());
                let free = (6..12).contains(&at)
                    || (frame.vlan.is_some() && at == 14)
                    || (v6 && ((ip..ip + 4).contains(&at) || at == ip + 7));
                assert!(decision == TX && (changed == whole || free), "byte {at}: {value}");
                assert_eq!(after.len(), changed.len());
                answers += 1;
            }
            if at >= frame.udp_at() + 8 {
                let mut changed = frame.clone();
                changed.payload[at - frame.udp_at() - 8] ^= 0x55;
                let (decision, after) = rig.run(&changed.bytes());
                match decision {
                    TX => rig.check(&changed, &after),
                    _ => assert_eq!(after, changed.bytes()),
                }
            }
        }
    }
    assert!(answers > 0);
}

#[test]
fn real_packets_get_the_sockets_answers_or_are_passed_up() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/packets/ntp");
    let Some(mut rig) = Rig::new(&[("interleaved", 1)], false) else { return };
    let (mut requests, mut answers) = (0, 0);
    for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "hex") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let payload: Vec<u8> = text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        requests += 1;
        for frame in frames(&payload) {
            let (decision, after) = rig.run(&frame.bytes());
            if decision == TX {
                rig.check(&frame, &after);
                answers += 1;
            } else {
                assert_eq!(after, frame.bytes(), "{file:?}");
            }
        }
    }
    assert!(requests > 30 && answers > 4 * 10, "{requests} packets, {answers} answers");
}

#[test]
fn the_lease_the_clock_and_a_withdrawal_decide() {
    let Some(mut rig) = Rig::new(&[], false) else { return };
    let (frame, told) = (Frame::v4(&request(4, 3)).bytes(), rig.answer);
    let mut with = |answer: Option<flatout_net::DriverAnswer>, reason: &str| {
        match &answer {
            Some(answer) => rig.program.tell(answer).unwrap(),
            None => rig.program.withdraw().unwrap(),
        }
        let before = rig.counted(reason);
        let (decision, after) = rig.program.run_on(&frame).unwrap();
        assert_eq!((decision, after == frame, rig.counted(reason)), (PASS, true, before + 1), "{reason} {answer:?}");
    };
    with(None, "no_state");
    with(Some(flatout_net::DriverAnswer { valid_until: told.told + 1, ..told }), "no_state");
    with(Some(flatout_net::DriverAnswer { told: told.told + 50_000_000_000, ..told }), "no_state");
    with(Some(flatout_net::DriverAnswer { unix_offset: -told.valid_until.cast_signed(), ..told }), "no_state");
    for step in
        [1_000_000_000, -1_000_000_000, 3_600_000_000_000, -3_600_000_000_000, 37_000_000_000, 1_000_000, -50_000]
    {
        with(Some(flatout_net::DriverAnswer { tai_offset: told.tai_offset + step, ..told }), "clock_set");
    }
    rig.tell();
    answered(&mut rig, &Frame::v4(&request(4, 3)));
}

#[test]
fn the_offset_and_its_change_are_in_the_stamps() {
    let Some(mut rig) = Rig::new(&[], false) else { return };
    let frame = Frame::v4(&request(4, 3));
    for change_ppm in [0, 100_000, -100_000_i64] {
        rig.tell();
        let told = rig.answer.told - 10_000_000_000;
        let change = (change_ppm << 32) / 1_000_000;
        rig.program.tell(&flatout_net::DriverAnswer { told, change, ..rig.answer }).unwrap();
        let (decision, after) = rig.run(&frame.bytes());
        assert_eq!(decision, TX);
        let given = unix(u64::from_be_bytes(after[74..82].try_into().unwrap())) as i64;
        let plain = flatout_net::clock_offsets().steady_ns as i64 + rig.answer.unix_offset;
        let changed_ms = (given - plain) / 1_000_000;
        assert!((changed_ms - change_ppm / 100).abs() < 400, "{change_ppm} ppm in 10 s: {changed_ms} ms");
    }
}

#[test]
fn only_its_ports_are_looked_at() {
    let Some(mut rig) = Rig::new(&[], false) else { return };
    for port in [0, 53, PORT + 1, PORT.swap_bytes()] {
        let mut frame = Frame::v4(&request(4, 3));
        frame.to.set_port(port);
        passed(&mut rig, &frame.bytes(), "");
    }
    assert_ne!(DEVICE[0] & 1, 1);
}
