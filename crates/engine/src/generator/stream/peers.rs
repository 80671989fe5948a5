//! What a worker knows of each connection, by its place, and which of them may be asked.

use flatout_net::Conn;

use crate::pace::Random;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// No connection is here.
    #[default]
    Vacant,
    /// On its way.
    ConnectionPlan,
    /// Stands; its wrap still shakes hands.
    Shaking,
    /// May be asked.
    Live,
    /// Is only kept.
    Held,
    /// Has been asked often enough and waits for its last answers.
    Retiring,
}

/// One place. There may be a million: every byte counts.
#[derive(Default)]
pub(super) struct Peer<T> {
    /// When it began to be opened or to retire, ns.
    pub(super) since: u64,
    pub(super) generation: u32,
    /// Its place among those that may be asked.
    at: u32,
    /// Requests sent; once it retires, those that nothing has answered.
    pub(super) asked: u32,
    pub(super) phase: Phase,
    /// It is only to be kept.
    pub(super) held: bool,
    /// An answer has come over it.
    pub(super) answered: bool,
    /// So many before it, one in place of the other, came to nothing.
    pub(super) failures: u8,
    /// The beginning of a message that is not whole yet.
    #[allow(clippy::box_collection, reason = "8 bytes instead of 24, and hardly ever there")]
    pub(super) partial: Option<Box<Vec<u8>>>,
    pub(super) layer: T,
}

/// All places.
pub(super) struct Peers<T> {
    peers: Box<[Peer<T>]>,
    live: Vec<u32>,
    occupied: usize,
}

impl<T: Default> Peers<T> {
    pub(super) fn new(slots: usize) -> Self {
        Self { peers: (0..slots).map(|_| Peer::default()).collect(), live: Vec::new(), occupied: 0 }
    }

    pub(super) fn at(&mut self, slot: usize) -> &mut Peer<T> {
        &mut self.peers[slot]
    }

    /// The place of a connection, unless that is of an older one.
    pub(super) fn slot(&self, conn: Conn) -> Option<usize> {
        let slot = conn.index as usize;
        let peer = self.peers.get(slot)?;
        (peer.phase != Phase::Vacant && peer.generation == conn.generation).then_some(slot)
    }

    /// The connection at a place.
    pub(super) fn conn(&self, slot: usize) -> Conn {
        Conn { index: slot as u32, generation: self.peers[slot].generation }
    }

    /// Any of those that may be asked, each as likely.
    pub(super) fn choose(&self, random: &mut Random) -> Option<usize> {
        // The high half of a product: no division, and a bias below one in 2^32 / n.
        let n = self.live.len() as u64;
        let at = ((random.bits() >> 32) * n) >> 32;
        self.live.get(at as usize).map(|slot| *slot as usize)
    }

    /// Whether the connection at a place is still on its way, or shakes hands.
    pub(super) fn coming(&self, slot: usize) -> bool {
        matches!(self.peers[slot].phase, Phase::ConnectionPlan | Phase::Shaking)
    }

    /// Whether there is room for another.
    pub(super) fn room(&self) -> bool {
        self.occupied < self.peers.len()
    }

    /// How many may be asked.
    pub(super) fn live(&self) -> usize {
        self.live.len()
    }

    /// A connection is on its way to this place.
    pub(super) fn begin(&mut self, conn: Conn, now: u64, held: bool, failures: u8) {
        self.occupied += 1;
        let peer = &mut self.peers[conn.index as usize];
        let phase = Phase::ConnectionPlan;
        *peer = Peer { since: now, generation: conn.generation, phase, held, failures, ..Peer::default() };
    }

    /// The connection at a place may be asked.
    pub(super) fn enter(&mut self, slot: usize) {
        let peer = &mut self.peers[slot];
        (peer.phase, peer.at) = (Phase::Live, self.live.len() as u32);
        self.live.push(slot as u32);
    }

    /// The connection at a place may be asked no more.
    pub(super) fn leave(&mut self, slot: usize) {
        let at = self.peers[slot].at as usize;
        self.live.swap_remove(at);
        if let Some(&moved) = self.live.get(at) {
            self.peers[moved as usize].at = at as u32;
        }
    }

    /// The place is free again; returns what was there.
    pub(super) fn clear(&mut self, slot: usize) -> Peer<T> {
        if self.peers[slot].phase == Phase::Live {
            self.leave(slot);
        }
        self.occupied -= 1;
        std::mem::take(&mut self.peers[slot])
    }

    /// All places where a connection is.
    pub(super) fn taken(&self) -> impl Iterator<Item = Conn> {
        let taken = self.peers.iter().enumerate().filter(|(_, peer)| peer.phase != Phase::Vacant);
        taken.map(|(slot, peer)| Conn { index: slot as u32, generation: peer.generation })
    }

    /// The memory they take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.peers) + self.live.capacity() * size_of::<u32>()
    }
}
