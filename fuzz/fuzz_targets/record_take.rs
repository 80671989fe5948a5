//! record's receiving end, given any datagram.
//!
//! Invariant: it never panics; it takes what has the layout's size and nothing else, and says of each other whether it is
//! too short or too long; sender and sequence are the bytes at their places.
#![no_main]

use flatout_wire::record::Record;
use flatout_wire::{Knob, Malformed, Protocol, Take, Taken};
use libfuzzer_sys::fuzz_target;

const SIZE: usize = 24;

fuzz_target!(|datagram: &[u8]| {
    let knobs = [("size", SIZE as i64), ("identity", 4 << 16), ("sequence", 4 | 4 << 16)];
    let taker = Record::taker(&knobs.map(|(name, value)| Knob { name, value })).expect("a layout");
    let number = |at: usize| u32::from_le_bytes(datagram[at..at + 4].try_into().expect("4 bytes")).into();
    match taker.take(datagram) {
        Ok(taken) => assert_eq!(taken, Taken { sender: number(0), sequence: number(4) }),
        Err(why) => assert_eq!(why, if datagram.len() < SIZE { Malformed::Short } else { Malformed::Long }),
    }
    assert_eq!(taker.take(datagram).is_ok(), datagram.len() == SIZE);
});
