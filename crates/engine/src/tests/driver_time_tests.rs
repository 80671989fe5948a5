//! The stamps that the program in the network driver gives, at times that it is told to the ns: those of the sockets.

use flatout_net::DriverAnswer;

use super::driver_rig::{Frame, Rig, TX, request};

const SECOND: u64 = 1_000_000_000;
/// NTP's second era begins: 2036-02-07T06:28:16Z.
const ERA: u64 = 2_085_978_496 * SECOND;
/// The offset changes as fast as the clock goes, and against it: the time stands still.
const AGAINST: i64 = -(1 << 32);

/// Seconds with times around their beginnings; leap seconds, eras, and the end of 32 bits.
fn times() -> Vec<u64> {
    let seconds = [1, 1_483_228_800, 1_800_000_000, 2_147_483_648, 4_102_444_800, 6_380_945_791].map(|s| s * SECOND);
    let around = |at: u64| [at - 1, at, at + 1, at + 2, at + 3, at + 4, at + 500_000_000, at + SECOND - 1];
    seconds.into_iter().chain([ERA]).flat_map(around).collect()
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Has the program answer at this Unix time, ns.
fn at(rig: &mut Rig, frame: &Frame, unix_ns: u64) -> Vec<u8> {
    for _ in 0..20 {
        rig.tell();
        let told =
            DriverAnswer { unix_offset: (unix_ns as i64) - rig.answer.told as i64, change: AGAINST, ..rig.answer };
        rig.program.tell(&told).unwrap();
        let (decision, after) = rig.program.run_on(&frame.bytes()).unwrap();
        if decision == TX {
            return after;
        }
    }
    panic!("the clock never fits");
}

#[test]
fn stamps_are_the_sockets_to_the_bit_in_every_second_and_era() {
    for interleaved in [0, 1] {
        let Some(mut rig) = Rig::new(&[("interleaved", interleaved)], false) else { return };
        for unix_ns in times() {
            for frame in [Frame::v4(&request(4, 3)), Frame::v6(&request(3, 1))] {
                let after = at(&mut rig, &frame, unix_ns);
                let answer = rig.by_socket(&frame, unix_ns).unwrap();
                assert_eq!(after, frame.answered(&answer), "{unix_ns} {interleaved}");
            }
        }
    }
}

#[test]
fn the_transmit_stamp_is_behind_the_receive_stamp_whatever_the_client_sent() {
    for interleaved in [0, 1] {
        let Some(mut rig) = Rig::new(&[("interleaved", interleaved)], false) else { return };
        for unix_ns in times() {
            let plain = at(&mut rig, &Frame::v4(&request(4, 3)), unix_ns);
            let receive = word(&plain, 42 + 32);
            // What a client sent may be any of the stamps that it would be answered with.
            for sent in (receive.wrapping_sub(2)..=receive.wrapping_add(4)).chain([0, u64::MAX]) {
                let mut payload = request(4, 3);
                payload[40..].copy_from_slice(&sent.to_be_bytes());
                let frame = Frame::v4(&payload);
                let after = at(&mut rig, &frame, unix_ns);
                let [origin, receive, transmit] = [24, 32, 40].map(|field| word(&after, 42 + field));
                assert_eq!(origin, sent);
                assert!((1..=4).contains(&transmit.wrapping_sub(receive)), "{unix_ns} {receive:x} {transmit:x}");
                assert!(receive != sent && transmit != sent, "{unix_ns} {sent:x}");
                let answer = rig.by_socket(&frame, unix_ns).unwrap();
                assert_eq!(after, frame.answered(&answer), "{unix_ns} {sent:x}");
            }
        }
    }
}
