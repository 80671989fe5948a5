//! NTP's client, given any reply.
//!
//! Invariant: for any bytes it does not panic, and
//! - it matches a request only if the reply's origin is this request's transmit stamp;
//! - a valid answer stays valid when unchecked bytes change (leap 1 and 2, any stratum
//!   from 1 to 15, poll, precision, reference id, anything behind the header but a crypto-NAK);
//! - it is unmatched once its origin changes, or in another flow.
#![no_main]

use flatout_wire::ntp::{HEADER, Ntp, NtpClient};
use flatout_wire::{Client, Protocol, Reply, RequestContext, Responder, Table};
use libfuzzer_sys::fuzz_target;

const SECRET: u64 = 0x0123_4567_89ab_cdef;
const ORIGIN: core::ops::Range<usize> = 24..32;
const NOW: u64 = 1_800_000_000_123_456_789;
/// Poll and precision, and the reference id of a server with a stratum. Leap and stratum have values that are checked.
const UNCHECKED: [core::ops::Range<usize>; 2] = [2..4, 12..16];

fuzz_target!(|reply: &[u8]| {
    for version in 1..=4 {
        let option = flatout_wire::ProtocolOption { name: "version", value: version };
        let client = Ntp::client(&[option], SECRET).expect("a version that is spoken");
        any_reply(&client, reply);
        own_answer(&client, reply);
    }
});

fn any_reply(client: &NtpClient, reply: &[u8]) {
    for flow in [0, 1, u32::MAX] {
        match client.read(flow, reply) {
            Reply::Valid { index, tally } | Reply::Invalid { index, tally } => {
                assert!(tally < Ntp::TALLIES.len());
                assert_eq!(reply[ORIGIN], request(client, flow, index)[40..48], "a reply to another request");
            }
            Reply::Unmatched => {}
        }
        if let Some(index) = client.recognise(flow, reply) {
            assert_eq!(reply[40..48], request(client, flow, index)[40..48], "a quote of another request");
        }
    }
}

fn own_answer(client: &NtpClient, noise: &[u8]) {
    let (flow, index) = (number(noise, 0), number(noise, 4));
    let mut packet = request(client, flow, index).to_vec();
    let context = RequestContext {
        received_unix_ns: NOW - 1000,
        now_unix_ns: NOW,
        client: Some(([192, 0, 2, 1], 40_000).into()),
        ..RequestContext::default()
    };
    let responder = Ntp::responder(&[]).expect("no options");
    responder.answer(Table::default(), &context, &mut packet, HEADER).expect("an asker's request is answered");
    let right = Reply::Valid { index, tally: 0 };
    assert_eq!(client.read(flow, &packet), right);

    for unchecked in UNCHECKED {
        for (byte, noise) in packet[unchecked].iter_mut().zip(noise) {
            *byte ^= noise;
        }
    }
    packet[0] = packet[0] & 0x3f | (noise.first().unwrap_or(&0) % 3) << 6;
    packet[1] = noise.get(1).unwrap_or(&0) % 15 + 1;
    if noise != [0; 4] {
        packet.extend_from_slice(noise);
    }
    assert_eq!(client.read(flow, &packet), right, "after unchecked bytes changed");

    assert_eq!(client.read(flow ^ 1, &packet), Reply::Unmatched, "in another flow");
    for (byte, noise) in packet[ORIGIN].iter_mut().zip(noise) {
        *byte ^= noise;
    }
    let same = noise.iter().take(8).all(|byte| *byte == 0);
    assert!(same || client.read(flow, &packet) != right, "another origin, the same request");
}

fn request(client: &NtpClient, flow: u32, index: u32) -> [u8; HEADER] {
    let mut packet = [0xa5; HEADER];
    assert_eq!(client.fill(flow, index, &[], &mut packet), HEADER);
    assert_eq!(client.recognise(flow, &packet), Some(index), "its own request");
    packet
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.iter().skip(at).take(4).fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}
