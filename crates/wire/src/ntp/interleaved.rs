//! When answers to interleaved clients left (RFC 9769): a table of fixed size, found by the answer's receive stamp.
//!
//! A client in interleaved mode repeats the receive stamp of its last answer; it gets the time at which that answer
//! really left. Only answers to requests that look so are remembered, so basic clients cost nothing. An entry is used
//! once, and gives way to another answer that falls into its place: its client then gets a basic answer.

use core::cell::Cell;

use crate::scramble::scramble;

/// Answers remembered by each worker: 64 KiB.
const ENTRIES: usize = 4096;
const KEY: u64 = 0x696e_7465_726c_6561;
/// An answer leaves within a second, or what is told of it is of another one or of a clock that was set.
const SECOND: u64 = 1 << 32;

/// The receive stamps of answers, and when these left; 0: nothing.
#[derive(Clone)]
pub(super) struct Departures([Cell<(u64, u64)>; ENTRIES]);

impl core::fmt::Debug for Departures {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(out, "{ENTRIES} departures")
    }
}

impl Departures {
    pub(super) const fn new() -> Self {
        Self([const { Cell::new((0, 0)) }; ENTRIES])
    }

    fn entry(&self, receive: u64) -> Option<&Cell<(u64, u64)>> {
        self.0.get(scramble(receive, KEY) as usize % ENTRIES)
    }

    /// When the answer with this receive stamp left; it is forgotten.
    pub(super) fn take(&self, receive: u64) -> Option<u64> {
        let entry = self.entry(receive)?;
        let (found, left) = entry.get();
        (receive != 0 && found == receive).then(|| {
            entry.set((0, 0));
            left
        })
    }

    pub(super) fn remember(&self, receive: u64, left: u64) {
        if left.wrapping_sub(receive) < SECOND
            && let Some(entry) = self.entry(receive)
        {
            entry.set((receive, left));
        }
    }
}
