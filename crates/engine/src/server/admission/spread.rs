//! Gives all datagrams of one client to one worker: what a worker knows of a client is then all that there is to know.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::sync::{Arc, Mutex, Weak};

use flatout_net::{ClientBits, Server, balance_by_client};

use crate::plan::AdmissionPlan;
use crate::published::lock;

/// How many bits of an address make a client.
pub(super) fn client_bits(plan: &AdmissionPlan) -> ClientBits {
    ClientBits { v4: plan.v4_bits, v6: plan.v6_bits }
}

/// The groups of sockets that share an address, and how clients are spread over each.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// A socket of each group, which its worker keeps open, and how many there are.
    groups: Vec<(Weak<Server>, u32)>,
    seed: u32,
    bits: Mutex<Option<ClientBits>>,
}

impl Spread {
    /// Spreads clients over the sockets of each address: one of them, and how many there are. Errors: the kernel's.
    pub(crate) fn by_client(groups: &[(Arc<Server>, usize)], plan: &AdmissionPlan) -> io::Result<Self> {
        let several = groups.iter().filter(|(_, sockets)| *sockets > 1);
        let group = |(first, sockets): &(Arc<Server>, usize)| (Arc::downgrade(first), *sockets as u32);
        let seed = RandomState::new().hash_one(0_u8) as u32;
        let spread = Self { groups: several.map(group).collect(), seed, bits: Mutex::default() };
        spread.set(plan)?;
        Ok(spread)
    }

    /// Takes other bits over: clients may then reach other workers, which do not know them yet. Errors: the kernel's.
    pub(crate) fn set(&self, plan: &AdmissionPlan) -> io::Result<()> {
        let wanted = Some(client_bits(plan));
        let mut bits = lock(&self.bits);
        if *bits != wanted {
            for (first, sockets) in self.groups.iter().filter_map(|(first, count)| Some((first.upgrade()?, *count))) {
                balance_by_client(&first, sockets, self.seed, client_bits(plan))?;
            }
            *bits = wanted;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

    use std::net::{Ipv4Addr, UdpSocket};
    use std::time::Duration;

    use flatout_net::Batch;

    use super::*;

    #[test]
    fn new_bits_are_taken_over_while_the_sockets_are_open() {
        let listen = |at: &str| Arc::new(Server::bind(at.parse().unwrap(), Duration::from_secs(5)).unwrap());
        let first = listen("127.0.0.1:0");
        let address = first.address().unwrap();
        let groups = [(Arc::clone(&first), 4)];
        let mut sockets = vec![first];
        sockets.extend((1..4).map(|_| listen(&address.to_string())));
        let plan = |v4_bits| AdmissionPlan { v4_bits, v6_bits: 64, ..AdmissionPlan::default() };
        let spread = Spread::by_client(&groups, &plan(32)).unwrap();
        let reached = || {
            for host in 1..=32 {
                UdpSocket::bind((Ipv4Addr::new(127, 3, 0, host), 0)).unwrap().send_to(b"x", address).unwrap();
            }
            let mut batch = Batch::new(64, 64, true);
            sockets.iter().filter(|socket| socket.receive_now(&mut batch).unwrap() > 0).count()
        };
        assert!(reached() > 1, "32 clients");
        spread.set(&plan(24)).unwrap();
        assert_eq!(reached(), 1, "one prefix");
        drop((sockets, groups));
        spread.set(&plan(32)).unwrap();
    }
}
