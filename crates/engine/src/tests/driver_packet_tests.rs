//! Whatever comes, to the program in the network driver: it gives the sockets' answer or passes the frame up unchanged,
//! an answer has its request's length, and each frame is counted once at most.

use std::fs;
use std::path::Path;

use flatout_net::DRIVER_COUNTERS;

use super::driver_rig::{DEVICE, Frame, PASS, ROUTER, Rig, TX, VLAN, request};

const SENT_BYTES: usize = 1;

/// All packets of `tests/packets`, of every protocol, and some of no protocol: they are the seeds of the fuzzers too.
fn packets() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/packets");
    let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let read = |file: std::path::PathBuf| {
        let text = fs::read_to_string(file).unwrap();
        text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>().ok()
    };
    let hex = files.filter(|file| file.extension().is_some_and(|extension| extension == "hex"));
    let found: Vec<_> = hex.filter_map(read).filter(|packet| packet.len() < 1_400).collect();
    assert!(found.len() > 60, "{}", found.len());
    found.into_iter().chain([vec![], vec![0; 48], vec![0xff; 48], vec![0x23; 48]]).collect()
}

/// Runs the program on a frame, and fails unless it was counted once at most and kept its length.
fn run(rig: &mut Rig, frame: &[u8]) -> (u32, Vec<u8>) {
    loop {
        let before = rig.counters.read().unwrap();
        let (decision, after) = rig.program.run_on(frame).unwrap();
        let mut counted = rig.counters.read().unwrap();
        for (count, before) in counted.iter_mut().zip(before) {
            *count -= before;
        }
        let sent = std::mem::take(&mut counted[SENT_BYTES]);
        match decision {
            TX => assert!(counted[0] == 1 && [76, 96].contains(&sent), "{counted:?}"),
            PASS => assert_eq!((counted[0], sent), (0, 0)),
            other => panic!("{other}: {frame:x?}"),
        }
        assert!(counted.iter().sum::<u64>() <= 1, "{DRIVER_COUNTERS:?} {counted:?}: {frame:x?}");
        assert_eq!(after.len(), frame.len(), "{frame:x?}");
        // The CPU was taken away between two readings of the clock: again.
        if counted[3] == 0 {
            return (decision, after);
        }
    }
}

/// Runs it on a frame that says the same as `frame`, but for what no checksum covers: the answer is the sockets'.
fn check(rig: &mut Rig, frame: &Frame, bytes: &[u8]) -> bool {
    let (decision, mut after) = run(rig, bytes);
    if decision == PASS {
        assert_eq!(after, bytes, "it was changed");
        return false;
    }
    assert_eq!(after[..12], [&bytes[6..12], &bytes[..6]].concat(), "back to where it came from");
    after[..12].copy_from_slice(&[ROUTER, DEVICE].concat());
    if let Some(vlan) = frame.vlan {
        assert_eq!(after[12..16], bytes[12..16], "with the same tag");
        after[14..16].copy_from_slice(&(vlan | 5 << 13).to_be_bytes());
    }
    rig.check(frame, &after);
    true
}

/// Over both families, with and without a VLAN's tag.
fn frames(payload: &[u8]) -> Vec<Frame> {
    let plain = [Frame::v4(payload), Frame::v6(payload)];
    plain.into_iter().flat_map(|frame| [frame.clone(), Frame { vlan: Some(VLAN), ..frame }]).collect()
}

#[test]
fn every_packet_whole_and_cut_off_anywhere() {
    let Some(mut rig) = Rig::new(&[("interleaved", 1)], false) else { return };
    let mut answers = 0;
    for payload in packets() {
        for length in (0..payload.len()).chain([payload.len()]) {
            let frame = Frame::v4(&payload[..length]);
            answers += usize::from(check(&mut rig, &frame, &frame.bytes()));
        }
        for frame in frames(&payload) {
            let bytes = frame.bytes();
            for length in 14..bytes.len() {
                assert_eq!(run(&mut rig, &bytes[..length]).0, PASS, "cut off at {length}");
            }
            answers += usize::from(check(&mut rig, &frame, &bytes));
        }
    }
    assert!(answers > 60, "{answers}");
}

#[test]
fn every_packet_with_another_byte() {
    let Some(mut rig) = Rig::new(&[("interleaved", 1)], false) else { return };
    for payload in packets().into_iter().filter(|payload| payload.len() == 48) {
        for at in 0..payload.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = payload.clone();
                changed[at] ^= change;
                let frame = if at % 2 == 0 { Frame::v4(&changed) } else { Frame::v6(&changed) };
                check(&mut rig, &frame, &frame.bytes());
            }
        }
    }
}

/// Bytes of the frame that may be others in a request that is answered: addresses of the client, its port, and what
/// belongs to the way. All other headers make it a frame of another kind.
fn is_free(frame: &Frame, at: usize) -> bool {
    let (ip, udp, v4) = (frame.ip_at(), frame.udp_at(), frame.to.is_ipv4());
    let source = if v4 { ip + 12..ip + 16 } else { ip + 8..ip + 24 };
    let way: &[usize] =
        if v4 { &[ip + 1, ip + 4, ip + 5, ip + 6, ip + 8] } else { &[ip, ip + 1, ip + 2, ip + 3, ip + 7] };
    (6..12).contains(&at)
        || (frame.vlan.is_some() && at == 14)
        || source.contains(&at)
        || (udp..udp + 2).contains(&at)
        || way.contains(&at)
        // The checksums, which are made right again.
        || (v4 && (ip + 10..ip + 12).contains(&at))
        || (udp + 6..udp + 8).contains(&at)
}

#[test]
fn headers_with_another_byte_and_right_checksums() {
    let Some(mut rig) = Rig::new(&[], false) else { return };
    let mut answers = 0;
    for frame in frames(&request(4, 3)) {
        let whole = frame.bytes();
        for at in 0..frame.udp_at() + 8 {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                frame.seal(&mut changed);
                let (decision, after) = run(&mut rig, &changed);
                if decision == PASS {
                    assert_eq!(after, changed);
                    continue;
                }
                assert!(is_free(&frame, at), "{frame:?}: byte {at}, bit {bit}");
                let from = at_source(&frame, &changed);
                answers += usize::from(check(&mut rig, &Frame { from, ..frame.clone() }, &changed));
            }
        }
    }
    assert!(answers > 4 * 50, "{answers}");
}

/// The source that a frame of this kind names.
fn at_source(frame: &Frame, bytes: &[u8]) -> std::net::SocketAddr {
    let (ip, udp) = (frame.ip_at(), frame.udp_at());
    let port = u16::from_be_bytes([bytes[udp], bytes[udp + 1]]);
    if frame.to.is_ipv4() {
        return (<[u8; 4]>::try_from(&bytes[ip + 12..ip + 16]).unwrap(), port).into();
    }
    (<[u8; 16]>::try_from(&bytes[ip + 8..ip + 24]).unwrap(), port).into()
}

#[test]
fn what_is_between_the_headers_makes_a_request_one_for_the_sockets() {
    let Some(mut rig) = Rig::new(&[], false) else { return };
    for frame in frames(&request(4, 3)) {
        let (whole, ip) = (frame.bytes(), frame.ip_at());
        // Further tags, before and behind: of VLANs in VLANs, by both numbers, and of a priority only.
        for (at, kind, vlan) in [
            (12, 0x88a8, 7),
            (12, 0x8100, 7),
            (12, 0x9100, 7),
            (ip - 2, 0x8100, VLAN),
            (ip - 2, 0x88a8, VLAN),
            (12, 0x8100, 0),
        ] {
            let mut tagged = whole.clone();
            tagged.splice(at..at, [kind >> 8, kind & 0xff, vlan >> 8, vlan & 0xff].map(|byte| byte as u8));
            let known = frame.vlan.is_none() && kind == 0x8100 && vlan == VLAN;
            assert_eq!(run(&mut rig, &tagged).0 == TX, known, "{kind:x} {vlan} at {at}: {frame:?}");
        }
        let inserted = if frame.to.is_ipv4() { with_options(&frame) } else { with_extensions(&frame) };
        for bytes in inserted {
            let (decision, after) = run(&mut rig, &bytes);
            assert_eq!((decision, after), (PASS, bytes));
        }
    }
}

/// IPv4 options of each length (1: no operation), and fragments: the first one, one in the middle, the last.
fn with_options(frame: &Frame) -> Vec<Vec<u8>> {
    let ip = frame.ip_at();
    let options = (1..=10).map(|words: u8| {
        let mut bytes = frame.bytes();
        bytes.splice(ip + 20..ip + 20, vec![1; usize::from(words) * 4]);
        bytes[ip] += words;
        bytes[ip + 3] += words * 4;
        bytes
    });
    let fragments = [0x2000_u16, 0x2001, 0x0001, 0x1fff].map(|flags| {
        let mut bytes = frame.bytes();
        bytes[ip + 6..ip + 8].copy_from_slice(&flags.to_be_bytes());
        frame.seal(&mut bytes);
        bytes
    });
    options.chain(fragments).collect()
}

/// IPv6 extension headers: hop by hop, routing, fragment (also of a whole packet), destination options, none.
fn with_extensions(frame: &Frame) -> Vec<Vec<u8>> {
    let ip = frame.ip_at();
    let with = |kind: u8, header: [u8; 8]| {
        let mut bytes = frame.bytes();
        bytes.splice(ip + 40..ip + 40, header);
        bytes[ip + 5] += 8;
        bytes[ip + 6] = kind;
        bytes
    };
    let padding = [17, 0, 1, 4, 0, 0, 0, 0];
    let kinds = [0, 43, 60, 135, 59].map(|kind| with(kind, padding));
    let fragments = [0, 1, 8, 0xfff8].map(|offset: u16| {
        let [high, low] = offset.to_be_bytes();
        with(44, [17, 0, high, low, 1, 2, 3, 4])
    });
    kinds.into_iter().chain(fragments).collect()
}

#[test]
fn long_frames_and_wrong_checksums() {
    let Some(mut rig) = Rig::new(&[], false) else { return };
    for frame in frames(&request(4, 3)) {
        let whole = frame.bytes();
        for length in [whole.len() + 1, 128, 512, 1_500] {
            let mut padded = whole.clone();
            padded.resize(length, 0xaa);
            let (decision, after) = run(&mut rig, &padded);
            assert!(decision == PASS || after[whole.len()..] == padded[whole.len()..], "nothing but the request's own");
        }
        let sum = frame.udp_at() + 6;
        let right = u16::from_be_bytes([whole[sum], whole[sum + 1]]);
        // All wrong ones that differ in one bit, or are the right one the other way round.
        for wrong in (0..16).map(|bit| right ^ 1 << bit).chain([right.swap_bytes(), !right]) {
            let mut changed = whole.clone();
            changed[sum..sum + 2].copy_from_slice(&wrong.to_be_bytes());
            assert!(right == wrong || wrong == 0 || run(&mut rig, &changed).0 == PASS, "{wrong:x} for {right:x}");
        }
    }
}
