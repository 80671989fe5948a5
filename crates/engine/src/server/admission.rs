//! Which requests are answered: lists of prefixes, a rate for each client, a bandwidth for all.
//!
//! Method: each worker decides alone and without locks, in memory of fixed size: all of a client's datagrams reach one
//! worker. A client is an address, or the prefix that it belongs to. The rate is a token bucket (as GCRA: one time a
//! client); when it is empty, a random few are answered nevertheless, so that a forger of addresses cannot silence their
//! owner. Time is an argument. No clock, no system call, no allocation after the start.

mod budget;
mod clients;
mod in_driver;
mod prefixes;
mod spread;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub use budget::Budget;
pub use clients::ClientRow;
use clients::{Client, Clients};
pub use in_driver::Refusals;
pub(crate) use in_driver::{InDriver, settle};
pub use prefixes::Class;
use prefixes::Prefixes;
pub(crate) use spread::Spread;
use spread::client_bits;

use crate::pace::Random;
use crate::plan::AdmissionPlan;
use crate::published::lock;

const SECOND: u64 = 1_000_000_000;
/// Between two kiss-o'-death packets to one client.
const KISS_EACH_NS: u64 = 2 * SECOND;
/// Kiss-o'-death packets of one worker: this many a second, as many at once.
const KISSES_PER_S: u64 = 50;

/// The rules, ready for use.
#[derive(Debug, Default)]
struct Policy {
    prefixes: Option<Prefixes>,
    /// Between two requests of a client at its rate; 0: no limit.
    interval_ns: u64,
    /// How much earlier than that requests may come: the burst.
    tolerance_ns: u64,
    /// One in so many of the requests above the rate is answered; 0: none.
    leak: u64,
    kiss: bool,
    v4_mask: u32,
    v6_mask: u64,
}

impl Policy {
    fn new(plan: &AdmissionPlan) -> Self {
        let interval_ns = if plan.client_per_s > 0.0 { (1e9 / plan.client_per_s) as u64 } else { 0 };
        let prefixes = (!plan.prefixes.is_empty() || plan.only_allowed)
            .then(|| Prefixes::new(&plan.prefixes, if plan.only_allowed { Class::Denied } else { Class::Allowed }));
        Self {
            prefixes,
            interval_ns,
            tolerance_ns: interval_ns.saturating_mul(u64::from(plan.client_burst.max(1) - 1)),
            leak: u64::from(plan.client_leak),
            kiss: plan.kiss,
            v4_mask: client_bits(plan).v4_mask(),
            v6_mask: client_bits(plan).v6_mask(),
        }
    }

    /// A client's key: never 0, and different for the two families.
    fn key(&self, client: IpAddr) -> u64 {
        match client {
            // No source is in ffff:ffff::/32, which is multicast.
            IpAddr::V4(v4) => 0xffff_ffff << 32 | u64::from(u32::from(v4) & self.v4_mask),
            IpAddr::V6(v6) => ((u128::from(v6) >> 64) as u64 & self.v6_mask).max(1),
        }
    }
}

/// The rules of a running server, which its owner may replace, and what workers report of their clients.
#[derive(Debug)]
pub(crate) struct Admissions {
    generation: AtomicU64,
    /// The rules, and those before: workers drop their last reference to these, which frees nothing.
    policy: Mutex<[Arc<Policy>; 2]>,
    pub(crate) budget: Budget,
    wanted: AtomicU64,
    rows: Mutex<Vec<(u64, Vec<ClientRow>)>>,
}

impl Admissions {
    /// The first rules, for so many workers.
    pub(crate) fn new(plan: &AdmissionPlan, workers: usize) -> Self {
        let policy = Arc::new(Policy::new(plan));
        Self {
            generation: AtomicU64::new(1),
            policy: Mutex::new([Arc::clone(&policy), policy]),
            budget: Budget::new(plan.bytes_per_s),
            wanted: AtomicU64::new(0),
            rows: Mutex::new((0..workers).map(|_| (0, clients::no_rows())).collect()),
        }
    }

    /// Replaces the rules; what workers know of clients stays.
    pub(crate) fn set(&self, plan: &AdmissionPlan) {
        let fresh = Arc::new(Policy::new(plan));
        let mut policy = lock(&self.policy);
        policy.swap(0, 1);
        policy[0] = fresh;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Asks all workers for their clients; returns the number of the question.
    pub(crate) fn ask_for_clients(&self) -> u64 {
        self.wanted.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The clients that asked most, once all workers have answered this question or a later one.
    pub(crate) fn clients(&self, question: u64) -> Option<Vec<ClientRow>> {
        let rows = lock(&self.rows);
        let all = rows.iter().all(|(answered, _)| *answered >= question);
        all.then(|| rows.iter().flat_map(|(_, rows)| rows.iter().copied()).collect())
    }
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Answer,
    /// A kiss-o'-death instead of an answer.
    Kiss,
    Drop(Refused),
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Refused {
    /// By the lists.
    Denied,
    /// Its client asks more often than it may.
    RateLimited,
    /// All clients together ask for more than the bandwidth for answers.
    OverBudget,
}

impl Refused {
    pub(crate) const WORDS: [&'static str; 3] = ["denied", "rate_limited", "over_budget"];
}

/// One worker's decisions.
pub(crate) struct Admission {
    shared: Arc<Admissions>,
    worker: usize,
    generation: u64,
    policy: Arc<Policy>,
    clients: Clients,
    random: Random,
    /// When the bucket of kiss-o'-death packets is full again.
    kisses_until: u64,
    /// When the last batch began.
    batch_at: u64,
    /// Whether any rule or bandwidth is in force.
    active: bool,
}

impl Admission {
    /// For one worker, with room for so many clients. `seed` need be no secret.
    pub(crate) fn new(shared: Arc<Admissions>, worker: usize, clients: usize, seed: u64) -> Self {
        let policy = Arc::clone(&lock(&shared.policy)[0]);
        Self {
            worker,
            generation: 0,
            policy,
            // Whoever knew the factor could choose addresses that drive others out.
            clients: Clients::new(clients, RandomState::new().hash_one(seed)),
            random: Random::new(seed),
            kisses_until: 0,
            batch_at: 0,
            active: false,
            shared,
        }
    }

    /// Takes new rules over and refills the bandwidth; once a batch.
    #[inline]
    pub(crate) fn begin_batch(&mut self, now: u64) {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation != self.generation
            && let Ok(policy) = self.shared.policy.try_lock()
        {
            self.policy = Arc::clone(&policy[0]);
            self.generation = generation;
        }
        self.active =
            self.shared.budget.begin_batch(now) || self.policy.interval_ns > 0 || self.policy.prefixes.is_some();
        if self.shared.wanted.load(Ordering::Relaxed) != self.clients.reported() {
            self.report(now);
        }
        self.batch_at = now;
    }

    /// Looks at a part of the table for the owner's question.
    #[cold]
    fn report(&mut self, now: u64) {
        let question = self.shared.wanted.load(Ordering::Relaxed);
        if self.clients.look(now, now.saturating_sub(self.batch_at))
            && let Ok(mut rows) = self.shared.rows.try_lock()
            && let Some((answered, mine)) = rows.get_mut(self.worker)
        {
            *answered = question;
            self.clients.swap_rows(question, mine);
        }
    }

    /// What happens to a request of `client` at `now`.
    #[inline]
    pub(crate) fn decide(&mut self, client: Option<IpAddr>, now: u64) -> Verdict {
        match client {
            Some(client) if self.active => self.consider(client.to_canonical(), now),
            _ => Verdict::Answer,
        }
    }

    fn consider(&mut self, client: IpAddr, now: u64) -> Verdict {
        let policy = &*self.policy;
        match policy.prefixes.as_ref().map_or(Class::Allowed, |prefixes| prefixes.class(client)) {
            Class::Denied => return Verdict::Drop(Refused::Denied),
            Class::First => return Verdict::Answer,
            Class::Allowed => {}
        }
        let budget = &self.shared.budget;
        if policy.interval_ns == 0 && !budget.is_set() {
            return Verdict::Answer;
        }
        let (known, weighed) = (self.clients.find(policy.key(client), now), budget.is_set());
        known.ask(now, weighed);
        if policy.interval_ns > 0 && !known.may_ask(now, policy.interval_ns, policy.tolerance_ns) {
            let leaks = policy.leak > 0 && self.random.bits().is_multiple_of(policy.leak);
            if !leaks {
                known.limited = known.limited.saturating_add(1);
                return kiss(policy, known, &mut self.kisses_until, now);
            }
        }
        if weighed {
            if !budget.admits(known.recent) {
                known.withheld = known.withheld.saturating_add(1);
                return Verdict::Drop(Refused::OverBudget);
            }
            known.recent += 1.0;
        }
        known.answered = known.answered.saturating_add(1);
        Verdict::Answer
    }

    /// An answer of so many bytes leaves, IP header included.
    #[inline]
    pub(crate) fn spend(&self, bytes: u64) {
        self.shared.budget.spend(bytes);
    }

    /// Clients that had to be forgotten for others.
    pub(crate) fn forgotten(&self) -> u64 {
        self.clients.forgotten()
    }
}

/// A kiss-o'-death where it is allowed, to this client and to all.
fn kiss(policy: &Policy, client: &mut Client, until: &mut u64, now: u64) -> Verdict {
    const EACH: u64 = SECOND / KISSES_PER_S;
    if !policy.kiss || now < client.kiss_after || *until > now + SECOND - EACH {
        return Verdict::Drop(Refused::RateLimited);
    }
    client.kiss_after = now + KISS_EACH_NS;
    *until = (*until).max(now) + EACH;
    Verdict::Kiss
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
