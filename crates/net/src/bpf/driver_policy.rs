//! The rules and the bandwidth by which a program in the network driver (XDP) answers, and what it knows of clients.
//!
//! The layouts are those of `bpf/admission.h`. Maps are made when the program is loaded, for rules that come later too:
//! a process that has given up its capabilities may write them, but makes none.

use std::fmt;

use aya::maps::{Array, MapData, PerCpuArray};

use super::{BpfError, Loaded, Obstacle};

/// Of the program's structures, in words of 8 bytes.
const RULES: usize = 12;
const BUDGET: usize = 6;
const CPU: usize = 7;
const WAYS: usize = 8;
const CLIENT: usize = 6;
const SET: usize = WAYS * (1 + CLIENT);
/// Each version of the lists has room for at least so many words: some 150,000 prefixes of v6, or 450,000 of v4.
const LEAST_WORDS: u32 = 1 << 20;
/// Times are added up without an overflow.
const LONGEST_NS: u64 = 1 << 62;

/// What the policy counts: requests without answer, by reason, answers that are a kiss-o'-death, clients forgotten.
pub const POLICY_COUNTERS: [&str; 5] = ["denied", "rate_limited", "over_budget", "kissed", "clients_forgotten"];

/// Lists of prefixes as ranges that do not overlap, sorted, each with its class: 0 is answered, 1 not, 2 always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverLists {
    /// For each value of a v4 address's first 16 bits: which of the ranges begin there, from and until.
    pub index: Vec<(u32, u32)>,
    /// Where v4 ranges begin, the first at 0.
    pub v4: Vec<(u32, u8)>,
    /// The same of v6.
    pub v6: Vec<(u128, u8)>,
}

impl DriverLists {
    fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let index = self.index.iter().map(|(from, until)| u64::from(*from) << 32 | u64::from(*until));
        let v4 = self.v4.iter().map(|(begin, class)| u64::from(*begin) << 8 | u64::from(*class));
        let upper = self.v6.iter().map(|(begin, _)| (begin >> 64) as u64);
        let lower = self.v6.iter().map(|(begin, _)| *begin as u64);
        let classes = self.v6.iter().map(|(_, class)| u64::from(*class));
        index.chain(v4).chain(upper).chain(lower).chain(classes)
    }

    fn length(&self) -> usize {
        self.index.len() + self.v4.len() + 3 * self.v6.len()
    }
}

/// Which requests are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverRules {
    /// Between two requests of a client at its rate, ns; 0: no limit.
    pub interval_ns: u64,
    /// How much earlier than that they may come, ns.
    pub tolerance_ns: u64,
    /// One in so many of the requests above the rate is answered; 0: none.
    pub leak: u64,
    /// Whether some of the others get a kiss-o'-death.
    pub kiss: bool,
    /// The bits of a v4 address that make a client.
    pub v4_mask: u32,
    /// Those of the first half of a v6 address.
    pub v6_mask: u64,
    /// `None`: all are answered.
    pub lists: Option<DriverLists>,
}

/// How much is known at once; fixed when the program is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverRoom {
    /// Clients, at least 8.
    pub clients: usize,
    /// Words of the lists, of each version.
    words: u32,
    /// Nobody may know it.
    secret: u64,
}

impl DriverRoom {
    /// For so many clients, these rules, and others with up to twice as long lists.
    #[must_use]
    pub fn new(clients: usize, rules: &DriverRules, secret: u64) -> Self {
        let now = rules.lists.as_ref().map_or(0, DriverLists::length);
        let words = u32::try_from(2 * now).unwrap_or(u32::MAX / 2).clamp(LEAST_WORDS, u32::MAX / 2);
        Self { clients, words, secret }
    }

    fn sets(self) -> u32 {
        let sets = self.clients.div_ceil(WAYS).next_power_of_two();
        // Of one set the shift would be as wide as the hash.
        u32::try_from(sets).unwrap_or(1 << 28).clamp(2, 1 << 28)
    }

    /// Sizes of maps.
    pub(super) fn sizes(self) -> [(&'static str, u32); 2] {
        [("lists", 2 * self.words), ("clients", self.sets())]
    }

    /// The program's constants, as [`DriverRoom::globals`] borrows them.
    pub(super) fn constants(self) -> [[u8; 8]; 2] {
        [(self.secret | 1).to_ne_bytes(), u64::from(64 - self.sets().trailing_zeros()).to_ne_bytes()]
    }

    pub(super) fn globals(constants: &[[u8; 8]; 2]) -> [(&'static str, &[u8]); 3] {
        [("limited", &[1]), ("factor", &constants[0]), ("set_shift", &constants[1])]
    }
}

/// One client of the program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverClient {
    /// As the program has it: the bits of its address, v4 behind 0xffff_ffff.
    pub key: u64,
    /// When it asked last, CLOCK_MONOTONIC, ns.
    pub seen_ns: u64,
    /// Requests that were answered, since it is known.
    pub answered: u32,
    /// Those above its rate.
    pub limited: u32,
    /// Those withheld to keep the bandwidth.
    pub withheld: u32,
}

fn words<const N: usize>(bytes: impl Iterator<Item = u64>) -> [u64; N] {
    let mut out = [0; N];
    for (slot, word) in out.iter_mut().zip(bytes) {
        *slot = word;
    }
    out
}

/// The rules of a program; it outlives it.
pub struct DriverPolicy {
    rules: Array<MapData, [u64; RULES]>,
    versions: Array<MapData, u64>,
    lists: Array<MapData, u64>,
    clients: Array<MapData, [u64; SET]>,
    cpus: PerCpuArray<MapData, [u64; CPU]>,
    version: u64,
}

impl fmt::Debug for DriverPolicy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("rules of a program")
    }
}

impl DriverPolicy {
    pub(super) fn of(program: &mut Loaded) -> Result<Self, BpfError> {
        Ok(Self {
            rules: program.array("rules")?,
            versions: program.array("rules_version")?,
            lists: program.array("lists")?,
            clients: program.array("clients")?,
            cpus: program.per_cpu_array("cpus")?,
            version: 0,
        })
    }

    /// Replaces the rules, as a whole, for the next request. Where they cannot be had, all are for the sockets.
    ///
    /// # Errors
    /// If the lists are longer than there is room for, or the kernel does not let its maps be written.
    pub fn set(&mut self, rules: &DriverRules) -> Result<(), BpfError> {
        let done = self.replace(rules);
        if done.is_err() {
            self.versions.set(0, 0, 0).map_err(|error| BpfError::of(&error))?;
        }
        done
    }

    fn replace(&mut self, rules: &DriverRules) -> Result<(), BpfError> {
        let version = self.version + 1;
        let slot = (version & 1) as u32;
        let room = self.lists.len() / 2;
        let none = DriverLists::default();
        let lists = rules.lists.as_ref().unwrap_or(&none);
        if lists.length() > room as usize {
            let text = format!("lists of {} ranges are longer than there is room for: restart", lists.length());
            return Err(BpfError::new(Obstacle::Failed, text));
        }
        let begin = slot * room;
        for (at, word) in (begin..).zip(lists.words()) {
            self.lists.set(at, word, 0).map_err(|error| BpfError::of(&error))?;
        }
        let index = u64::from(begin);
        let v4 = index + lists.index.len() as u64;
        let v6 = v4 + lists.v4.len() as u64;
        let told = [
            version,
            rules.interval_ns.min(LONGEST_NS),
            rules.tolerance_ns.min(LONGEST_NS),
            rules.leak,
            u64::from(rules.kiss),
            u64::from(rules.v4_mask),
            rules.v6_mask,
            u64::from(rules.lists.is_some()),
            index,
            v4,
            v6,
            lists.v6.len() as u64,
        ];
        self.rules.set(slot, told, 0).map_err(|error| BpfError::of(&error))?;
        self.versions.set(0, version, 0).map_err(|error| BpfError::of(&error))?;
        self.version = version;
        Ok(())
    }

    /// Sums over all CPUs, in the order of [`POLICY_COUNTERS`].
    ///
    /// # Errors
    /// If the kernel does not let its map be read.
    pub fn counters(&self) -> Result<[u64; POLICY_COUNTERS.len()], BpfError> {
        let cpus = self.cpus.get(&0, 0).map_err(|error| BpfError::of(&error))?;
        Ok(words((0..POLICY_COUNTERS.len()).map(|n| cpus.iter().map(|cpu| cpu[n]).sum())))
    }

    /// Looks at all clients.
    ///
    /// # Errors
    /// If the kernel does not let its map be read.
    pub fn each_client(&self, mut look: impl FnMut(DriverClient)) -> Result<(), BpfError> {
        for at in 0..self.clients.len() {
            let set = self.clients.get(&at, 0).map_err(|error| BpfError::of(&error))?;
            let (keys, clients) = set.split_at(WAYS);
            for (key, client) in keys.iter().zip(clients.chunks_exact(CLIENT)).filter(|(key, _)| **key != 0) {
                let ([_, answered], [limited, withheld]) = (halves(client[4]), halves(client[5]));
                look(DriverClient { key: *key, seen_ns: client[1], answered, limited, withheld });
            }
        }
        Ok(())
    }
}

/// Two numbers of 32 bits, in the order of their addresses.
fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

/// What may be spent from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverBudget {
    /// CLOCK_MONOTONIC, ns.
    pub at: u64,
    /// Bytes in the bucket; may be less than none.
    pub tokens: i64,
    /// The most of them; 0: no limit.
    pub depth: u64,
    /// How fast it is filled.
    pub bytes_per_s: u64,
}

/// The bandwidth of a program, which whoever keeps the program up to date tells it.
pub struct DriverSpending {
    budgets: Array<MapData, [u64; BUDGET]>,
    versions: Array<MapData, u64>,
    spent: Array<MapData, u64>,
    version: u64,
    counted: u64,
}

impl fmt::Debug for DriverSpending {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the bandwidth of a program")
    }
}

impl DriverSpending {
    pub(super) fn of(program: &mut Loaded) -> Result<Self, BpfError> {
        let (budgets, versions) = (program.array("budgets")?, program.array("budget_version")?);
        Ok(Self { budgets, versions, spent: program.array("spent")?, version: 0, counted: 0 })
    }

    /// Bytes of answers since the last call, but for up to 1 KiB of each CPU.
    ///
    /// # Errors
    /// If the kernel does not let its map be read.
    pub fn spent(&mut self) -> Result<u64, BpfError> {
        let all = self.spent.get(&0, 0).map_err(|error| BpfError::of(&error))?;
        let fresh = all - self.counted;
        self.counted = all;
        Ok(fresh)
    }

    /// Tells the program, after [`DriverSpending::spent`] was taken from the bucket.
    ///
    /// # Errors
    /// If the kernel does not let its map be written.
    pub fn tell(&mut self, budget: &DriverBudget) -> Result<(), BpfError> {
        self.version += 1;
        let told = [self.version, budget.at, budget.tokens as u64, budget.depth, budget.bytes_per_s, self.counted];
        // The slot that is not read now; then the version, which is one word, leads to it.
        self.budgets.set((self.version & 1) as u32, told, 0).map_err(|error| BpfError::of(&error))?;
        self.versions.set(0, self.version, 0).map_err(|error| BpfError::of(&error))
    }
}
