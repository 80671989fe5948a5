//! Numbers for the addresses that datagrams come from: dense, from 0, one list for all workers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use flatout_net::{Local, Peer};

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
    /// Which address of ours each sent to last; empty until one is known.
    asked: Vec<Option<Local>>,
}

impl Known {
    fn note_asked(&mut self, number: u32, asked: Option<Local>) {
        if asked.is_some() {
            self.asked.resize(self.list.len(), None);
        }
        if let Some(slot) = self.asked.get_mut(number as usize) {
            *slot = asked;
        }
    }
}

impl Sources {
    /// Up to `most` addresses.
    pub(crate) fn new(most: usize) -> Self {
        Self { most: most.min(UNKNOWN as usize), known: Mutex::default() }
    }

    /// An address's number, and whether it is new; [`UNKNOWN`] where there is no room for another.
    fn number(&self, Peer { address, asked }: Peer) -> (u32, bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.numbers.get(&address).copied() {
            known.note_asked(number, asked);
            return (number, false);
        }
        if known.list.len() >= self.most {
            return (UNKNOWN, false);
        }
        let number = known.list.len() as u32;
        known.numbers.insert(address, number);
        known.list.push(address);
        known.note_asked(number, asked);
        (number, true)
    }

    /// The address with this number.
    pub(crate) fn address(&self, number: u32) -> Option<SocketAddr> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).list.get(number as usize).copied()
    }

    /// The addresses with these numbers; numbers without an address are left out.
    pub(crate) fn peers(&self, numbers: &[u32]) -> Vec<Peer> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = |number: usize| known.asked.get(number).copied().flatten();
        let peer = |number: usize| Some(Peer { address: *known.list.get(number)?, asked: asked(number) });
        numbers.iter().filter_map(|number| peer(*number as usize)).collect()
    }
}

/// The addresses that one worker has at hand.
pub(crate) struct AtHand {
    latest: Option<(Peer, u32)>,
    kept: Vec<Option<(SocketAddr, u32)>>,
    /// Beside those: which address of ours each sent to; empty until one is known.
    asked: Vec<Option<Local>>,
}

impl AtHand {
    pub(crate) fn new() -> Self {
        Self { latest: None, kept: vec![None; AT_HAND], asked: Vec::new() }
    }

    /// An address's number, and whether it is new.
    #[inline]
    pub(crate) fn number(&mut self, all: &Sources, peer: Peer) -> (u32, bool) {
        match self.latest {
            Some((known, number)) if known == peer => (number, false),
            _ => self.look_up(all, peer),
        }
    }

    fn look_up(&mut self, all: &Sources, peer: Peer) -> (u32, bool) {
        let at = slot(peer.address);
        let asked = self.asked.get(at).copied().flatten();
        if let Some(Some((known, number))) = self.kept.get(at).copied()
            && (known, asked) == (peer.address, peer.asked)
        {
            self.latest = Some((peer, number));
            return (number, false);
        }
        let (number, new) = all.number(peer);
        self.latest = Some((peer, number));
        if let Some(kept) = self.kept.get_mut(at) {
            *kept = Some((peer.address, number));
        }
        if peer.asked.is_some() {
            // Once, and on sockets only that listen on all addresses.
            self.asked.resize(AT_HAND, None);
        }
        if let Some(asked) = self.asked.get_mut(at) {
            *asked = peer.asked;
        }
        (number, new)
    }
}

/// Neighbouring addresses and ports lie apart.
fn slot(address: SocketAddr) -> usize {
    let ip = match address {
        SocketAddr::V4(v4) => u32::from(*v4.ip()),
        SocketAddr::V6(v6) => u128::from(*v6.ip()) as u32,
    };
    ((ip.wrapping_mul(0x9e37_79b1) >> 16 ^ u32::from(address.port())) as usize) % AT_HAND
}
