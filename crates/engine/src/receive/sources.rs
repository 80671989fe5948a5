//! Numbers for the addresses that datagrams come from: dense, from 0, one list for all workers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

/// The number of all addresses beyond those that are kept.
pub const UNKNOWN: u32 = u32::MAX;
/// Addresses that a worker finds without asking the others.
const AT_HAND: usize = 1024;

/// All addresses, by number.
#[derive(Debug)]
pub(crate) struct Sources {
    most: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    numbers: HashMap<SocketAddr, u32>,
    list: Vec<SocketAddr>,
}

impl Sources {
    /// Up to `most` addresses.
    pub(crate) fn new(most: usize) -> Self {
        Self { most: most.min(UNKNOWN as usize), known: Mutex::default() }
    }

    /// An address's number, and whether it is new; [`UNKNOWN`] where there is no room for another.
    fn number(&self, address: SocketAddr) -> (u32, bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.numbers.get(&address) {
            return (*number, false);
        }
        if known.list.len() >= self.most {
            return (UNKNOWN, false);
        }
        let number = known.list.len() as u32;
        known.numbers.insert(address, number);
        known.list.push(address);
        (number, true)
    }

    /// The address with this number.
    pub(crate) fn address(&self, number: u32) -> Option<SocketAddr> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).list.get(number as usize).copied()
    }

    /// The addresses with these numbers; those without one are left out.
    pub(crate) fn addresses(&self, numbers: &[u32]) -> Vec<SocketAddr> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.iter().filter_map(|number| known.list.get(*number as usize).copied()).collect()
    }
}

/// The addresses that one worker has at hand.
pub(crate) struct AtHand {
    latest: Option<(SocketAddr, u32)>,
    kept: Vec<Option<(SocketAddr, u32)>>,
}

impl AtHand {
    pub(crate) fn new() -> Self {
        Self { latest: None, kept: vec![None; AT_HAND] }
    }

    /// An address's number, and whether it is new.
    #[inline]
    pub(crate) fn number(&mut self, all: &Sources, address: SocketAddr) -> (u32, bool) {
        match self.latest {
            Some((known, number)) if known == address => (number, false),
            _ => self.look_up(all, address),
        }
    }

    fn look_up(&mut self, all: &Sources, address: SocketAddr) -> (u32, bool) {
        let place = self.kept.get_mut(place(address));
        if let Some(Some((known, number))) = place.as_deref()
            && *known == address
        {
            self.latest = Some((address, *number));
            return (*number, false);
        }
        let (number, new) = all.number(address);
        self.latest = Some((address, number));
        if let Some(place) = place {
            *place = self.latest;
        }
        (number, new)
    }
}

/// Neighbouring addresses and ports lie apart.
fn place(address: SocketAddr) -> usize {
    let ip = match address {
        SocketAddr::V4(v4) => u32::from(*v4.ip()),
        SocketAddr::V6(v6) => u128::from(*v6.ip()) as u32,
    };
    ((ip.wrapping_mul(0x9e37_79b1) >> 16 ^ u32::from(address.port())) as usize) % AT_HAND
}
