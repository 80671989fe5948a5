//! The rules of which requests are answered: the program in the network driver and the sockets decide the same.
//!
//! Both get the same requests at the same times: the program says when it saw each.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use flatout_net::{
    DriverAnswer, DriverBudget, DriverLists, DriverPolicy, DriverRules, DriverSpending, POLICY_COUNTERS, clock_offsets,
};
use flatout_wire::{RequestContext, Responder, Table};

use super::driver_rig::{Frame, PASS, Rig, TX, request};
use crate::pace::Random;
use crate::plan::AdmissionPlan;
use crate::server::Class;
use crate::server::admission::{Admission, Admissions, Refused, Verdict, settle};

const DROP: u32 = 1;
const MS: u64 = 1_000_000;
/// The program's clock may be told to be so far from the true one.
const SHIFT_MS: i64 = 1_900;
const STEP_NS: i64 = 500_000;

fn plan() -> AdmissionPlan {
    AdmissionPlan { client_burst: 1, v4_bits: 32, v6_bits: 64, clients: 64, ..AdmissionPlan::default() }
}

/// Both paths under the same rules.
struct Both {
    rig: Rig,
    policy: DriverPolicy,
    spending: DriverSpending,
    admissions: Arc<Admissions>,
    sockets: Admission,
    began: u64,
    told: u64,
}

impl Both {
    fn new(plan: &AdmissionPlan) -> Option<Self> {
        let admissions = Arc::new(Admissions::new(plan, 1));
        let mut rig = Rig::limited(&[], false, admissions.room(plan.clients))?;
        let (policy, spending) = rig.program.take_limits().expect("limits");
        let sockets = Admission::new(Arc::clone(&admissions), 0, plan.clients, 7);
        let mut both = Self { rig, policy, spending, admissions, sockets, began: clock_offsets().steady_ns, told: 0 };
        both.policy.set(&both.admissions.for_driver()).unwrap();
        settle(&mut both.spending, &both.admissions).unwrap();
        both.at(0);
        Some(both)
    }

    /// Sets the program's clock to `ms` after the beginning, if that is up to 4 s, and a little later each time.
    fn at(&mut self, ms: u64) {
        let clocks = clock_offsets();
        self.told += 1;
        // The clock is taken for one that was slewed since: by so much.
        let told = clocks.steady_ns - 10_000 * MS;
        let wanted = self.began as i64 + (ms as i64 - SHIFT_MS) * MS as i64 + self.told as i64 * STEP_NS;
        let change = ((wanted - clocks.steady_ns as i64) << 32) / (10_000 * MS as i64);
        let answer = DriverAnswer { told, change, valid_until: clocks.steady_ns + 60_000 * MS, ..self.rig.answer };
        self.rig.program.tell(&answer).unwrap();
    }

    fn run(&mut self, client: IpAddr) -> (u32, Vec<u8>) {
        let from = SocketAddr::new(client, 40_000);
        let plain = if client.is_ipv4() { Frame::v4(&request(4, 3)) } else { Frame::v6(&request(4, 3)) };
        self.rig.run(&Frame { from, ..plain }.bytes())
    }

    /// What the program does with a request.
    fn by_driver(&mut self, client: IpAddr) -> Verdict {
        let before = self.policy.counters().unwrap();
        let (decision, after) = self.run(client);
        let mut counted = self.policy.counters().unwrap();
        for (count, before) in counted.iter_mut().zip(before) {
            *count -= before;
        }
        let kissed = after[after.len() - 48 + 12..][..4] == *b"RATE";
        match (decision, counted) {
            (TX, [0, 0, 0, 0, _]) => Verdict::Answer,
            (TX, [0, 0, 0, 1, _]) if kissed => Verdict::Kiss,
            (DROP, [1, 0, 0, 0, _]) => Verdict::Drop(Refused::Denied),
            (DROP, [0, 1, 0, 0, _]) => Verdict::Drop(Refused::RateLimited),
            (DROP, [0, 0, 1, 0, _]) => Verdict::Drop(Refused::OverBudget),
            other => panic!("{client} {other:?} {POLICY_COUNTERS:?}"),
        }
    }

    /// When the program saw each client last.
    fn seen(&self) -> BTreeMap<u64, u64> {
        let mut seen = BTreeMap::new();
        self.policy.each_client(|client| assert!(seen.insert(client.key, client.seen_ns).is_none())).unwrap();
        seen
    }

    /// Has both decide, at the time at which the program saw the request.
    fn ask(&mut self, client: IpAddr) -> Verdict {
        let before = self.seen();
        let by_driver = self.by_driver(client);
        let after = self.seen();
        // One that no limit looked at may have come at any time.
        let seen = after.iter().find(|(key, seen)| before.get(key) != Some(seen)).map_or(self.began, |(_, seen)| *seen);
        self.sockets.begin_batch(seen);
        assert_eq!(self.sockets.decide(Some(client), seen), by_driver, "{client} at {}", seen / MS);
        by_driver
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn list(prefixes: &[(&str, u8, Class)]) -> Vec<(IpAddr, u8, Class)> {
    prefixes.iter().map(|(address, bits, class)| (ip(address), *bits, *class)).collect()
}

const ANSWER: char = 'a';

/// The verdict in a letter: answered, kissed, denied, limited, over the bandwidth.
fn letter(verdict: Verdict) -> char {
    match verdict {
        Verdict::Answer => ANSWER,
        Verdict::Kiss => 'k',
        Verdict::Drop(Refused::Denied) => 'd',
        Verdict::Drop(Refused::RateLimited) => 'l',
        Verdict::Drop(Refused::OverBudget) => 'b',
    }
}

/// Rules, requests as "ms client", and what becomes of them.
type Case = (&'static str, AdmissionPlan, &'static str, &'static str);

fn list_cases() -> Vec<Case> {
    let nested = [("10.0.0.0", 8, Class::Denied), ("10.1.0.0", 16, Class::Allowed), ("10.1.1.0", 24, Class::Denied)];
    let both = [("10.1.0.0", 16, Class::Allowed), ("10.1.0.0", 16, Class::Denied), ("::", 0, Class::Denied)];
    let mapped = [("::ffff:10.0.0.0", 104, Class::Denied)];
    let first = [("10.1.0.0", 16, Class::First), ("10.1.1.0", 24, Class::Denied), ("2001:db8::", 32, Class::First)];
    let of = |prefixes: &[_]| AdmissionPlan { prefixes: list(prefixes), ..plan() };
    let limited = AdmissionPlan { bytes_per_s: Some(0), client_per_s: 0.1, ..of(&first) };
    let only = AdmissionPlan { only_allowed: true, ..of(&nested) };
    vec![
        ("no rule", plan(), "0 10.0.0.1, 0 10.0.0.1, 0 2001:db8::1", "aaa"),
        ("longest", of(&nested), "0 10.2.0.1, 0 10.1.0.1, 0 10.1.1.1, 0 11.0.0.1, 0 2001:db8::1", "dadaa"),
        ("only these", only, "0 10.1.0.1, 0 9.0.0.1, 0 223.255.255.1, 0 2001:db8::1", "addd"),
        ("one prefix in two lists", of(&both), "0 10.1.0.1, 0 10.2.0.1, 0 2001:db8::1", "dad"),
        ("a mapped prefix", of(&mapped), "0 10.0.0.1, 0 11.0.0.1, 0 2001:db8::1", "daa"),
        (
            "monitors before limits and lists",
            limited,
            "0 10.1.1.1, 0 10.1.1.1, 0 2001:db8::1, 0 2001:db8::1, 0 10.2.0.1, 0 10.2.0.1",
            "aaaaal",
        ),
    ]
}

fn limit_cases() -> Vec<Case> {
    let rate = |client_per_s, client_burst| AdmissionPlan { client_per_s, client_burst, ..plan() };
    let wide = AdmissionPlan { v4_bits: 24, v6_bits: 56, ..rate(0.1, 1) };
    let leaky = AdmissionPlan { client_leak: 1, ..rate(0.1, 1) };
    let kissing = AdmissionPlan { kiss: true, ..rate(0.1, 1) };
    let denied = AdmissionPlan { prefixes: list(&[("10.0.0.1", 32, Class::Denied)]), v4_bits: 24, ..rate(0.1, 1) };
    let of_prefixes = "0 10.0.0.1, 0 10.0.0.255, 0 10.0.1.1, 0 2001:db8::1, 0 2001:db8:0:ff::1, 0 2001:db8:0:100::1";
    let burst = "0 10.0.0.1, 0 10.0.0.1, 0 10.0.0.1, 0 10.0.0.1, 0 10.0.0.2, 150 10.0.0.1, 160 10.0.0.1, 3000 10.0.0.1";
    let kisses =
        "0 10.0.0.1, 0 10.0.0.1, 0 10.0.0.1, 1900 10.0.0.1, 2100 10.0.0.1, 2100 10.0.0.1, 2100 10.0.0.2, 2100 10.0.0.2";
    vec![
        ("rate and burst", rate(10.0, 3), burst, "aaalaala"),
        ("a client is a prefix", wide, of_prefixes, "alaala"),
        ("all of those above it leak", leaky, "0 10.0.0.1, 0 10.0.0.1, 0 10.0.0.1", "aaa"),
        ("a kiss each 2 s", kissing, kisses, "akllklak"),
        ("a denied client takes no token", denied, "0 10.0.0.1, 0 10.0.0.1, 0 10.0.0.2, 0 10.0.0.2", "ddal"),
    ]
}

#[test]
fn a_table_of_rules_has_the_same_outcome_on_both_paths() {
    for (name, plan, requests, outcome) in list_cases().into_iter().chain(limit_cases()) {
        let Some(mut both) = Both::new(&plan) else { return };
        let mut found = String::new();
        for (ms, client) in requests.split(", ").filter_map(|request| request.split_once(' ')) {
            both.at(ms.parse().unwrap());
            found.push(letter(both.ask(ip(client))));
        }
        assert_eq!(found, outcome, "{name}");
    }
}

/// A list, rates and bits at random, in a small part of all addresses.
fn random_plan(random: &mut Random) -> AdmissionPlan {
    let classes = [Class::Allowed, Class::Denied, Class::First];
    let count = random.bits() % 12;
    let prefixes = (0..count).map(|_| {
        let class = classes[(random.bits() % 3) as usize];
        let address = client(random);
        let bits = if address.is_ipv4() { random.bits() % 33 } else { random.bits() % 129 };
        (address, bits as u8, class)
    });
    AdmissionPlan {
        prefixes: prefixes.collect(),
        only_allowed: random.bits().is_multiple_of(3),
        client_per_s: [0.0, 0.3, 3.0, 50.0][(random.bits() % 4) as usize],
        client_burst: 1 + (random.bits() % 4) as u32,
        client_leak: (random.bits() % 2) as u32,
        kiss: random.bits().is_multiple_of(2),
        v4_bits: [24, 32][(random.bits() % 2) as usize],
        v6_bits: [48, 64][(random.bits() % 2) as usize],
        ..plan()
    }
}

fn client(random: &mut Random) -> IpAddr {
    let bits = random.bits();
    if bits.is_multiple_of(2) {
        IpAddr::from([10, (bits >> 8 & 1) as u8, (bits >> 9 & 1) as u8, 1 + (bits >> 10 & 3) as u8])
    } else {
        let [low, subnet, site] = [8, 9, 10].map(|at| (bits >> at & 1) as u16);
        IpAddr::from([0x2001, 0xdb8, 2 + site, subnet, 0, 0, low << 15, 1 + low])
    }
}

#[test]
fn random_rules_and_requests_have_the_same_outcome_on_both_paths() {
    let mut random = Random::new(14);
    let mut found = BTreeMap::<char, u32>::new();
    for _ in 0..30 {
        let plan = random_plan(&mut random);
        let Some(mut both) = Both::new(&plan) else { return };
        let mut ms = 0;
        for _ in 0..40 {
            ms = (ms + random.bits() % 150).min(3_900);
            both.at(ms);
            *found.entry(letter(both.ask(client(&mut random)))).or_default() += 1;
        }
        assert_rows(&mut both);
    }
    assert!(found.len() == 4 && found.values().all(|count| *count > 2), "{found:?}");
}

/// Both count the same of each client.
fn assert_rows(both: &mut Both) {
    let question = both.admissions.ask_for_clients();
    both.sockets.begin_batch(0);
    let of_sockets = both.admissions.clients(question).expect("an answer");
    let mut of_driver = Vec::new();
    both.policy.each_client(|client| of_driver.push((client.answered, client.limited, client.withheld))).unwrap();
    let mut of_sockets: Vec<_> = of_sockets.iter().map(|row| (row.answered, row.limited, row.withheld)).collect();
    of_driver.sort_unstable();
    of_sockets.sort_unstable();
    assert_eq!(of_driver, of_sockets);
}

#[test]
fn a_kiss_is_that_of_the_sockets() {
    let limits = AdmissionPlan { kiss: true, client_per_s: 0.1, ..plan() };
    for client in ["10.0.0.1", "2001:db8::7"].map(ip) {
        let Some(mut both) = Both::new(&limits) else { return };
        assert_eq!(both.by_driver(client), Verdict::Answer);
        let (decision, done) = both.run(client);
        assert_eq!(decision, TX);
        let plain = if client.is_ipv4() { Frame::v4(&request(4, 3)) } else { Frame::v6(&request(4, 3)) };
        let frame = Frame { from: SocketAddr::new(client, 40_000), ..plain };
        let mut packet = frame.payload.clone();
        let context = RequestContext { client: Some(frame.from), ..RequestContext::default() };
        assert_eq!(both.rig.responder.kiss(Table::default(), &context, &mut packet, 48), Ok(48));
        assert_eq!(done, frame.answered(&packet));
    }
}

#[test]
fn rules_are_replaced_as_a_whole_and_without_them_nothing_is_answered() {
    let denied = |address: &str| AdmissionPlan { prefixes: list(&[(address, 32, Class::Denied)]), ..plan() };
    let admissions = Admissions::new(&denied("10.0.0.1"), 1);
    let Some(mut rig) = Rig::limited(&[], false, admissions.room(8)) else { return };
    let (mut policy, mut spending) = rig.program.take_limits().expect("limits");
    let mut ask = |client: &str| {
        let from = SocketAddr::new(ip(client), 40_000);
        rig.run(&Frame { from, ..Frame::v4(&request(4, 3)) }.bytes()).0
    };
    assert_eq!(ask("10.0.0.2"), PASS, "no rules yet");
    policy.set(&admissions.for_driver()).unwrap();
    assert_eq!((ask("10.0.0.1"), ask("10.0.0.2")), (DROP, PASS), "no bandwidth yet");
    settle(&mut spending, &admissions).unwrap();
    assert_eq!((ask("10.0.0.1"), ask("10.0.0.2")), (DROP, TX));
    for address in ["10.0.0.2", "10.0.0.1", "10.0.0.2"] {
        admissions.set(&denied(address));
        policy.set(&admissions.for_driver()).unwrap();
        assert_eq!(ask(address), DROP);
        assert_eq!(ask("10.0.0.3"), TX);
    }
    let long = DriverLists { v4: vec![(0, 0); (1 << 20) + 1], ..DriverLists::default() };
    let error = policy.set(&DriverRules { lists: Some(long), ..DriverRules::default() }).unwrap_err();
    assert!(error.to_string().contains("restart"));
    assert_eq!(ask("10.0.0.3"), PASS, "the sockets know");
    admissions.set(&denied("10.0.0.3"));
    policy.set(&admissions.for_driver()).unwrap();
    assert_eq!((ask("10.0.0.3"), ask("10.0.0.2")), (DROP, TX));
}

#[test]
fn the_bandwidth_of_both_paths_is_one() {
    let Some(mut both) = Both::new(&AdmissionPlan { bytes_per_s: Some(0), ..plan() }) else { return };
    let left = |both: &Both| both.admissions.budget.for_driver(0).tokens;
    let full = left(&both);
    // What the sockets spend, the driver does not have: three sixteenths of the bucket are left.
    both.admissions.budget.spend(full as u64 * 25 / 32);
    settle(&mut both.spending, &both.admissions).unwrap();
    let verdicts: String = (0..12).map(|_| letter(both.by_driver(ip("10.0.0.1")))).collect();
    assert!(verdicts.starts_with("aaaaaaaa") && verdicts.ends_with("bb"), "who had many waits first: {verdicts}");
    assert_eq!(both.by_driver(ip("10.0.0.2")), Verdict::Answer);
    // What the driver spends, the sockets do not have.
    let before = left(&both);
    let clients = (0..).map(|n: u32| IpAddr::from([10, 1, (n >> 8) as u8, n as u8]));
    let answered = clients.take(200).filter(|client| both.by_driver(*client) == Verdict::Answer).count() as i64;
    settle(&mut both.spending, &both.admissions).unwrap();
    let spent = before - left(&both);
    assert!((answered * 76..answered * 76 + 1024).contains(&spent), "{answered} answers, {spent} bytes");
    assert!((-1024..=0).contains(&left(&both)), "{} left", left(&both));
    both.sockets.begin_batch(both.began);
    let sockets = both.sockets.decide(Some(ip("10.0.0.3")), both.began);
    assert_eq!((sockets, both.by_driver(ip("10.0.0.3"))), (Verdict::Drop(Refused::OverBudget), sockets));
}

#[test]
fn a_bandwidth_is_filled_between_two_tellings_and_never_above_its_depth() {
    let Some(mut both) = Both::new(&AdmissionPlan { bytes_per_s: Some(1 << 40), ..plan() }) else { return };
    let mut told = |tokens, at_ms: u64, bytes_per_s| {
        let at = both.began - (SHIFT_MS as u64 - at_ms) * MS;
        both.spending.spent().unwrap();
        both.spending.tell(&DriverBudget { at, tokens, depth: 16 << 10, bytes_per_s }).unwrap();
        both.at(100);
        let clients = (0..300_u32).map(|n| IpAddr::from([10, 2, (n >> 8) as u8, n as u8]));
        clients.filter(|client| both.by_driver(*client) == Verdict::Answer).count()
    };
    assert_eq!(told(0, 0, 0), 0);
    // 100 ms bring 5,000 bytes, 65 answers, and what comes in meanwhile; a CPU may spend 1 KiB more.
    let filled = told(0, 0, 50_000);
    assert!((60..=200).contains(&filled), "{filled}");
    let full = told(0, 0, 1 << 30);
    assert!((16 << 10) / 76 <= full, "{full}");
    assert_eq!(told(-5_000, 0, 10_000), 0, "a debt is paid first");
    assert_eq!(told(i64::MIN / 32, 0, 10_000), 0);
}

#[test]
fn recent_answers_count_half_after_8_s() {
    let Some(mut both) = Both::new(&AdmissionPlan { bytes_per_s: Some(1 << 40), ..plan() }) else { return };
    let mut told = |level: i64, count: usize| {
        let at = clock_offsets().steady_ns;
        both.spending.spent().unwrap();
        // The level of the bucket, however much is spent of it meanwhile.
        both.spending
            .tell(&DriverBudget { at, tokens: (level << 30) + (1 << 29), depth: 16 << 30, bytes_per_s: 0 })
            .unwrap();
        (0..count).filter(|_| both.by_driver(ip("10.0.0.1")) == Verdict::Answer).count()
    };
    // It may have grown a little less meanwhile.
    assert!((8..=9).contains(&told(3, 20)));
    assert!((7..=9).contains(&told(4, 20)), "8 more");
    assert_eq!(told(8, 20), 20, "half of the bucket: all");
    assert_eq!(told(5, 20), 0, "it has had 36");
    assert_eq!(told(0, 1), 0);
}

#[test]
fn a_full_set_forgets_the_client_that_was_silent_longest() {
    // Two sets of 8.
    let Some(mut both) = Both::new(&AdmissionPlan { client_per_s: 0.1, clients: 16, ..plan() }) else { return };
    for n in 0..100 {
        assert_eq!(both.by_driver(IpAddr::from([10, 0, 0, n])), Verdict::Answer);
    }
    let seen = both.seen();
    let forgotten = both.policy.counters().unwrap()[4];
    assert_eq!((seen.len() as u64, forgotten), (16, 84));
    // The last two of each set are certainly among the last 16 or so that asked.
    assert_eq!(both.by_driver(ip("10.0.0.99")), Verdict::Drop(Refused::RateLimited));
    assert_eq!(both.by_driver(ip("10.0.0.0")), Verdict::Answer, "it was forgotten");
}
