//! The answer table as the program in the network driver has it (`bpf/dns.bpf.c`): short names and short answers.

use super::responder::{ANY_NAME, APEX, HEAD, ZONES};
use crate::{DRIVER_KEY, DRIVER_VALUE, DriverEntry};

/// Bytes of a name in a key, and of an answer's records in a value.
const NAME: usize = 64;
const RECORDS: usize = 496;
/// Where a value's length, sum and records are.
const LENGTH: usize = 6;
const SUM: usize = 8;
const START: usize = 16;
/// The length of records that the sockets alone have.
const ELSEWHERE: u16 = u16::MAX;

/// An entry; `None` where no question that the program reads leads to it.
pub(super) fn entry(key: &[u8], value: &[u8]) -> Option<DriverEntry> {
    let (name, kind) = key.split_last_chunk::<2>()?;
    // The program knows no names below a wildcard, and none that do not exist.
    if key == ZONES || key.first() == Some(&APEX) || name.len() > NAME {
        return None;
    }
    let whole = match name {
        [ANY_NAME] => true,
        [.., last] => *last == 0,
        [] => false,
    };
    if !whole {
        return None;
    }
    let mut made = DriverEntry { key: [0; DRIVER_KEY], value: [0; DRIVER_VALUE] };
    made.key.get_mut(..name.len())?.copy_from_slice(name);
    made.key.get_mut(NAME..NAME + 2)?.copy_from_slice(kind);
    let (head, records) = value.split_first_chunk::<HEAD>()?;
    made.value.first_chunk_mut::<HEAD>()?.clone_from(head);
    let fits = records.len() <= RECORDS;
    let length = if fits { u16::try_from(records.len()).ok()? } else { ELSEWHERE };
    made.value.get_mut(LENGTH..SUM)?.copy_from_slice(&length.to_ne_bytes());
    if fits {
        made.value.get_mut(SUM..SUM + 4)?.copy_from_slice(&u32::from(sum(records)).to_ne_bytes());
        made.value.get_mut(START..START + records.len())?.copy_from_slice(records);
    }
    Some(made)
}

/// The ones' complement sum (RFC 1071) of words in this machine's byte order, as the program adds them.
fn sum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |byte| u16::from_ne_bytes([*byte, 0]));
    let mut sum: u32 = words.iter().map(|word| u32::from(u16::from_ne_bytes(*word))).sum::<u32>() + u32::from(last);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}
