//! What a worker knows of its clients: a table of fixed size, in which the longest silent one makes room for a new one.
//!
//! Method: sets of 8. A client's key chooses its set by a multiplication with a secret factor, so that nobody can choose
//! addresses that share one. The keys of a set are in one cache line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const WAYS: usize = 8;
/// Answers count half after this time.
const HALF_LIFE_S: f32 = 8.0;
/// Sets that are looked at in one turn for a report: at least so many, and one for each `LOOK_NS` since the last turn,
/// so that a worker without work is done in time and one at work does not keep its answers waiting.
const AT_ONCE: u64 = 256;
const AT_REST: u64 = 4096;
const LOOK_NS: u64 = 12_000;
/// The most clients that a report has.
const REPORTED: usize = 100;

/// One client.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Client {
    /// The next request at its rate is due (GCRA's theoretical arrival time), ns.
    due: u64,
    seen: u64,
    pub(super) kiss_after: u64,
    /// Answers, the older the less.
    pub(super) recent: f32,
    pub(super) answered: u32,
    pub(super) limited: u32,
    pub(super) withheld: u32,
}

impl Client {
    /// Takes a token; `false`: there is none.
    #[inline]
    pub(super) fn may_ask(&mut self, now: u64, interval: u64, tolerance: u64) -> bool {
        let until = now.saturating_add(tolerance);
        // Further ahead than this rate can put it: it is of a lower rate, which holds no more.
        self.due = self.due.min(until.saturating_add(interval));
        if self.due > until {
            return false;
        }
        self.due = self.due.max(now).saturating_add(interval);
        true
    }

    /// It asks now; where `weighed`, how many answers it had lately is brought up to date.
    #[inline]
    pub(super) fn ask(&mut self, now: u64, weighed: bool) {
        if weighed && self.recent > 0.0 {
            let passed = now.saturating_sub(self.seen) as f32 / 1e9;
            self.recent *= (-passed / HALF_LIFE_S).exp2();
        }
        self.seen = now;
    }
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Set {
    keys: [u64; WAYS],
    clients: [Client; WAYS],
}

/// A client, for its server's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientRow {
    /// The address, or the first one of its prefix.
    pub address: IpAddr,
    /// Requests that were answered, since it is known.
    pub answered: u32,
    /// Those above its rate.
    pub limited: u32,
    /// Those withheld to keep the bandwidth.
    pub withheld: u32,
    /// How long ago it asked, ns.
    pub silent_ns: u64,
}

impl ClientRow {
    /// What another table has of the same client.
    pub(crate) fn add(&mut self, other: &Self) {
        self.answered = self.answered.saturating_add(other.answered);
        self.limited = self.limited.saturating_add(other.limited);
        self.withheld = self.withheld.saturating_add(other.withheld);
        self.silent_ns = self.silent_ns.min(other.silent_ns);
    }

    fn requests(&self) -> u64 {
        u64::from(self.answered) + u64::from(self.limited) + u64::from(self.withheld)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Clients {
    sets: Box<[Set]>,
    factor: u64,
    shift: u32,
    forgotten: u64,
    /// The last question that was answered, and how far the look for the next one has come.
    reported: u64,
    looked: usize,
    rows: Vec<ClientRow>,
}

impl Clients {
    /// Room for about so many clients, at least 8.
    pub(super) fn new(clients: usize, seed: u64) -> Self {
        let sets = clients.div_ceil(WAYS).max(1).next_power_of_two();
        Self {
            sets: vec![Set::default(); sets].into_boxed_slice(),
            factor: seed | 1,
            shift: 64 - sets.trailing_zeros(),
            forgotten: 0,
            reported: 0,
            looked: 0,
            rows: no_rows(),
        }
    }

    /// The secret.
    #[cfg(test)]
    pub(super) fn factor(&self) -> u64 {
        self.factor
    }

    /// Bytes for each client that there is room for.
    #[cfg(test)]
    pub(super) const BYTES: usize = size_of::<Set>() / WAYS;

    /// The client with this key, which is not 0; an unknown one takes the place of the one that was silent longest.
    #[inline]
    pub(super) fn find(&mut self, key: u64, now: u64) -> &mut Client {
        // Neighbours differ in their low bits, which the product carries to the high ones.
        let hash = (key ^ key >> 32).wrapping_mul(self.factor);
        let hash = (hash ^ hash >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = hash.checked_shr(self.shift).unwrap_or(0) as usize;
        let set = &mut self.sets[at];
        let way = match set.keys.iter().position(|known| *known == key) {
            Some(way) => way,
            None => {
                let way = oldest(set);
                self.forgotten += u64::from(set.keys[way] != 0);
                set.keys[way] = key;
                set.clients[way] = Client { seen: now, ..Client::default() };
                way
            }
        };
        &mut set.clients[way]
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The number of the last question that was answered.
    #[inline]
    pub(super) fn reported(&self) -> u64 {
        self.reported
    }

    /// Looks at the next sets for those that asked most, `passed` ns after the turn before; returns whether these were
    /// the last.
    pub(super) fn look(&mut self, now: u64, passed: u64) -> bool {
        if self.looked == 0 {
            self.rows.clear();
        }
        let count = (passed / LOOK_NS).clamp(AT_ONCE, AT_REST) as usize;
        let until = (self.looked + count).min(self.sets.len());
        for set in &self.sets[self.looked.min(until)..until] {
            for (key, client) in set.keys.iter().zip(&set.clients).filter(|(key, _)| **key != 0) {
                insert(&mut self.rows, row(*key, client, now));
            }
        }
        self.looked = until;
        until == self.sets.len()
    }

    /// Puts what the look has found into `rows`, whose memory is used for the next one.
    pub(super) fn swap_rows(&mut self, question: u64, rows: &mut Vec<ClientRow>) {
        self.looked = 0;
        self.reported = question;
        std::mem::swap(&mut self.rows, rows);
    }
}

/// Room for a report.
pub(super) fn no_rows() -> Vec<ClientRow> {
    Vec::with_capacity(REPORTED + 1)
}

/// A free place, or the one of the client that was silent longest.
fn oldest(set: &Set) -> usize {
    let age = |way: &usize| if set.keys[*way] == 0 { 0 } else { set.clients[*way].seen.max(1) };
    (0..WAYS).min_by_key(age).unwrap_or(0)
}

/// The address of a key, or the first one of its prefix.
pub(super) fn address(key: u64) -> IpAddr {
    if key >> 32 == 0xffff_ffff {
        IpAddr::V4(Ipv4Addr::from(key as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from(u128::from(key) << 64))
    }
}

fn row(key: u64, client: &Client, now: u64) -> ClientRow {
    ClientRow {
        address: address(key),
        answered: client.answered,
        limited: client.limited,
        withheld: client.withheld,
        silent_ns: now.saturating_sub(client.seen),
    }
}

/// Keeps the rows with the most requests, the most first.
pub(super) fn insert(rows: &mut Vec<ClientRow>, row: ClientRow) {
    let at = rows.partition_point(|other| other.requests() >= row.requests());
    if at < REPORTED {
        rows.insert(at, row);
        rows.truncate(REPORTED);
    }
}
