//! The same rules for a program in the network driver, and its clients among those of the workers.
//!
//! Method: the program has the tables of the workers, and a part of the time its own view of the bandwidth: what it has
//! spent is taken from the bucket of all, and the bucket is told to it anew, 20 times a second.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex};

use flatout_net::{
    BpfError, DriverClient, DriverPolicy, DriverResponder, DriverRoom, DriverRules, DriverSpending, POLICY_COUNTERS,
    clock_offsets,
};

use super::clients::{address, insert, no_rows};
use super::{Admissions, ClientRow, Policy};
use crate::clock::{steady_now, unique};
use crate::published::lock;

/// What the program's rules count, by name.
pub type Refusals = [(&'static str, u64); POLICY_COUNTERS.len()];

impl Policy {
    fn for_driver(&self) -> DriverRules {
        DriverRules {
            interval_ns: self.interval_ns,
            tolerance_ns: self.tolerance_ns,
            leak: self.leak,
            kiss: self.kiss,
            v4_mask: self.v4_mask,
            v6_mask: self.v6_mask,
            lists: self.prefixes.as_ref().map(super::Prefixes::for_driver),
        }
    }
}

impl Admissions {
    /// The rules that hold now.
    pub(crate) fn for_driver(&self) -> DriverRules {
        let policy = Arc::clone(&lock(&self.policy)[0]);
        policy.for_driver()
    }

    /// Room for them and for so many clients; `None`: the server began without limits, and gets none.
    pub(crate) fn room(&self, clients: usize) -> Option<DriverRoom> {
        (clients > 0).then(|| DriverRoom::new(clients, &self.for_driver(), RandomState::new().hash_one(unique())))
    }
}

/// The rules of a program.
#[derive(Debug)]
pub(crate) struct InDriver {
    policy: Mutex<DriverPolicy>,
}

impl InDriver {
    /// Tells a program the rules; also returns what tells it the bandwidth. `None`: it has neither.
    ///
    /// # Errors
    /// As [`InDriver::replace`].
    pub(crate) fn begin(
        program: &mut DriverResponder,
        admissions: &Admissions,
    ) -> Result<Option<(Self, DriverSpending)>, BpfError> {
        let Some((policy, spending)) = program.take_limits() else { return Ok(None) };
        let made = Self { policy: Mutex::new(policy) };
        made.replace(admissions)?;
        Ok(Some((made, spending)))
    }

    /// Tells the program the rules that hold now.
    ///
    /// # Errors
    /// If the lists are longer than there is room for, or the kernel refuses: the program then answers nothing.
    pub(crate) fn replace(&self, admissions: &Admissions) -> Result<(), BpfError> {
        let rules = admissions.for_driver();
        lock(&self.policy).set(&rules)
    }

    /// # Errors
    /// If the kernel does not let the counters be read.
    pub(crate) fn refusals(&self) -> Result<Refusals, BpfError> {
        let counted = lock(&self.policy).counters()?;
        Ok(std::array::from_fn(|n| (POLICY_COUNTERS[n], counted[n])))
    }

    /// The clients that asked most; none where the kernel does not let them be read.
    pub(crate) fn clients(&self) -> Vec<ClientRow> {
        let (mut rows, now) = (no_rows(), clock_offsets().steady_ns);
        let _ = lock(&self.policy).each_client(|client| insert(&mut rows, row(&client, now)));
        rows
    }
}

fn row(client: &DriverClient, now: u64) -> ClientRow {
    ClientRow {
        address: address(client.key),
        answered: client.answered,
        limited: client.limited,
        withheld: client.withheld,
        silent_ns: now.saturating_sub(client.seen_ns),
    }
}

/// Takes what the program has spent from the bucket, and tells it what is left.
///
/// # Errors
/// If the kernel does not let its maps be read and written.
pub(crate) fn settle(spending: &mut DriverSpending, admissions: &Admissions) -> Result<(), BpfError> {
    let budget = &admissions.budget;
    budget.spend(spending.spent()?);
    budget.begin_batch(steady_now());
    spending.tell(&budget.for_driver(clock_offsets().steady_ns))
}
