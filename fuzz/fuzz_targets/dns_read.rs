//! DNS's asking end, given any reply.
//!
//! Invariant: whatever the bytes, it does not panic, and
//! - it names a request only by that request's own id, and nobody's where there is no id;
//! - what it takes for right is a response to a query with a code that is right, and walks to its very end: cut or
//!   lengthened by a byte it is malformed;
//! - counting every code as right changes no tally, and only codes become right by it;
//! - a reply whose question is the subject's, byte for byte, fits; after a change in that question it does not.
#![no_main]

use flatout_wire::dns::{Dns, DnsAsker};
use flatout_wire::{Ask, Knob, Protocol, Reading};
use libfuzzer_sys::fuzz_target;

const HEADER: usize = 12;
const MALFORMED: usize = 9;
/// noerror, nxdomain, truncated.
const RIGHT: [usize; 3] = [0, 3, 7];

fuzz_target!(|reply: &[u8]| {
    let strict = asker(0);
    for flow in [0, 1, u32::MAX] {
        let reading = strict.read(flow, reply);
        match reading {
            Reading::Answer { index, tally } => {
                assert!(RIGHT.contains(&tally) && reply[2] & 0xf8 == 0x80 && matches!(reply[3] & 0x0f, 0 | 3));
                assert_eq!(reply[..2], request(&strict, flow, index)[..2]);
                let malformed = Reading::Wrong { index, tally: MALFORMED };
                assert_eq!(strict.read(flow, &reply[..reply.len() - 1]), malformed);
                assert_eq!(strict.read(flow, &[reply, &[0]].concat()), malformed);
            }
            Reading::Wrong { index, tally } => {
                assert!(tally < Dns::TALLIES.len() && !RIGHT.contains(&tally));
                assert_eq!(reply[..2], request(&strict, flow, index)[..2]);
            }
            Reading::Stranger => assert!(reply.len() < 2),
        }
        lenient(reading, asker(1).read(flow, reply));
        if let Some(index) = strict.recognise(flow, reply) {
            assert_eq!(reply[..3], request(&strict, flow, index)[..3], "a quote of another request");
        }
    }
    fitting(&strict, reply);
});

fn lenient(strict: Reading, lenient: Reading) {
    match (strict, lenient) {
        (Reading::Wrong { index, tally }, Reading::Answer { index: same, tally: count }) => {
            assert!(index == same && tally == count && tally < 7, "a code, and nothing else");
        }
        (strict, lenient) => assert_eq!(strict, lenient),
    }
}

fn fitting(asker: &DnsAsker, reply: &[u8]) {
    let Some(rest) = reply.get(HEADER..).filter(|rest| !rest.is_empty()) else { return };
    let asked = reply[4..6] != [0, 0];
    let subject = &rest[..rest.len().min(40)];
    assert_eq!(asker.fits(subject, reply), asked || reply[3] & 0x0f != 0);
    let mut other = subject.to_vec();
    other[subject.len() / 2] ^= 1;
    assert!(!asked || !asker.fits(&other, reply));
}

fn asker(any_code: i64) -> DnsAsker {
    Dns::asker(&[Knob { name: "any_code", value: any_code }], 0x0123_4567_89ab_cdef).expect("0 or 1")
}

fn request(asker: &DnsAsker, flow: u32, index: u32) -> [u8; 29] {
    let mut packet = [0xa5; 29];
    assert!(index < 1 << asker.index_bits());
    assert_eq!(asker.fill(flow, index, &[], &mut packet), 29);
    assert_eq!(asker.recognise(flow, &packet), Some(index), "its own request");
    packet
}
