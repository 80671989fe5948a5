//! Admission in virtual time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::net::{Ipv4Addr, Ipv6Addr};

use super::clients::Clients;
use super::prefixes::Prefixes;
use super::*;

const MS: u64 = 1_000_000;

fn plan() -> AdmissionPlan {
    AdmissionPlan { client_burst: 1, v4_bits: 32, v6_bits: 64, clients: 1024, ..AdmissionPlan::default() }
}

fn admission(plan: &AdmissionPlan) -> Admission {
    Admission::new(Arc::new(Admissions::new(plan, 1)), 0, plan.clients, 7)
}

fn v4(n: u32) -> Option<IpAddr> {
    Some(IpAddr::V4(Ipv4Addr::from(n)))
}

/// How many of `count` requests, one every `step`, get an answer.
fn answered(admission: &mut Admission, client: Option<IpAddr>, from: u64, count: u64, step: u64) -> u64 {
    (0..count)
        .filter(|n| {
            let now = from + n * step;
            admission.begin_batch(now);
            admission.decide(client, now) == Verdict::Answer
        })
        .count() as u64
}

#[test]
fn without_rules_all_are_answered() {
    let mut admission = admission(&plan());
    assert_eq!(answered(&mut admission, v4(1), 0, 1000, 0), 1000);
    assert_eq!(answered(&mut admission, None, 0, 10, 0), 10);
}

#[test]
fn a_client_gets_its_rate_and_its_burst() {
    let mut admission = admission(&AdmissionPlan { client_per_s: 10.0, client_burst: 8, ..plan() });
    assert_eq!(answered(&mut admission, v4(1), SECOND, 100, 0), 8, "the burst");
    assert_eq!(answered(&mut admission, v4(2), SECOND, 100, 0), 8, "each client its own");
    // 10 s of 100/s: 10/s and nothing of the burst, which is spent.
    let got = answered(&mut admission, v4(1), SECOND, 1000, 10 * MS);
    assert!((99..=101).contains(&got), "{got}");
    assert_eq!(answered(&mut admission, v4(1), 60 * SECOND, 100, 0), 8, "after a pause it is full again");
}

#[test]
fn one_that_asks_at_its_rate_is_never_limited() {
    let mut admission = admission(&AdmissionPlan { client_per_s: 1.0, client_burst: 2, ..plan() });
    assert_eq!(answered(&mut admission, v4(1), 0, 1000, SECOND), 1000);
}

#[test]
fn a_forger_cannot_silence_the_owner_of_an_address() {
    let mut admission = admission(&AdmissionPlan { client_per_s: 0.1, client_leak: 4, ..plan() });
    let got = answered(&mut admission, v4(1), SECOND, 40_000, MS / 100);
    assert!((9_500..=10_500).contains(&got), "one in four: {got}");
}

#[test]
fn a_prefix_is_one_client() {
    let mut admission = admission(&AdmissionPlan { client_per_s: 0.1, v4_bits: 24, v6_bits: 56, ..plan() });
    let mut ask = |ip: &str| admission_answers(&mut admission, ip);
    assert!(ask("10.0.0.1") && !ask("10.0.0.255") && ask("10.0.1.1"));
    assert!(!ask("::ffff:10.0.1.2"), "a v4 client is one, on whatever socket");
    assert!(ask("2001:db8::1") && !ask("2001:db8:0:ff::2") && ask("2001:db8:0:100::1"));
}

fn admission_answers(admission: &mut Admission, ip: &str) -> bool {
    admission.begin_batch(SECOND);
    admission.decide(Some(ip.parse().unwrap()), SECOND) == Verdict::Answer
}

#[test]
fn kisses_are_rare_for_each_client_and_in_all() {
    let mut admission = admission(&AdmissionPlan { client_per_s: 0.01, kiss: true, ..plan() });
    let mut kisses = |client, from, count, step| {
        let mut kiss = |n| {
            admission.begin_batch(from + n * step);
            admission.decide(client, from + n * step) == Verdict::Kiss
        };
        (0..count).filter(|n| kiss(*n)).count()
    };
    let got = kisses(v4(1), SECOND, 1000, 10 * MS);
    assert!((4..=6).contains(&got), "0.5/s to one client: {got}");
    let all: usize = (0..1000).map(|n| kisses(v4(100 + n), 100 * SECOND, 2, 0)).sum();
    assert_eq!(all, 50, "all at once");
}

#[test]
fn lists_decide_before_limits() {
    let list = |prefixes: &[(&str, u8, Class)], only_allowed| AdmissionPlan {
        prefixes: prefixes.iter().map(|(ip, bits, class)| (ip.parse().unwrap(), *bits, *class)).collect(),
        only_allowed,
        client_per_s: 0.01,
        bytes_per_s: Some(0),
        ..plan()
    };
    let mut first = admission(&list(&[("10.1.0.0", 16, Class::First), ("10.0.0.0", 8, Class::Denied)], false));
    assert_eq!(answered(&mut first, v4(0x0a01_0001), SECOND, 100, 0), 100, "neither limit nor budget");
    first.begin_batch(SECOND);
    assert_eq!(first.decide(v4(0x0a02_0001), SECOND), Verdict::Drop(Refused::Denied));
    let mut only = admission(&AdmissionPlan { bytes_per_s: None, ..list(&[("10.0.0.0", 8, Class::Allowed)], true) });
    assert!(admission_answers(&mut only, "10.0.0.1") && !admission_answers(&mut only, "11.0.0.1"));
    assert!(!admission_answers(&mut only, "2001:db8::1"));
}

#[test]
fn new_rules_are_taken_over_and_clients_stay_known() {
    let shared = Arc::new(Admissions::new(&AdmissionPlan { client_per_s: 0.01, ..plan() }, 1));
    let mut admission = Admission::new(Arc::clone(&shared), 0, 64, 7);
    assert_eq!(answered(&mut admission, v4(1), SECOND, 10, 0), 1);
    shared.set(&AdmissionPlan { client_per_s: 0.02, client_burst: 3, ..plan() });
    assert_eq!(answered(&mut admission, v4(1), SECOND, 10, 0), 1, "what it asked before counts");
    shared.set(&plan());
    assert_eq!(answered(&mut admission, v4(1), SECOND, 10, 0), 10);
}

#[test]
fn an_old_due_time_of_a_lower_rate_is_forgotten() {
    let shared = Arc::new(Admissions::new(&AdmissionPlan { client_per_s: 1.0 / 3600.0, ..plan() }, 1));
    let mut admission = Admission::new(Arc::clone(&shared), 0, 64, 7);
    assert_eq!(answered(&mut admission, v4(1), SECOND, 10, 0), 1);
    shared.set(&AdmissionPlan { client_per_s: 10.0, ..plan() });
    let got = answered(&mut admission, v4(1), 2 * SECOND, 11, 100 * MS);
    assert_eq!(got, 10, "the new rate, after its first interval");
}

#[test]
fn those_who_are_always_answered_do_not_silence_the_others_afterwards() {
    let prefixes = vec![("10.0.0.0".parse().unwrap(), 8, Class::First)];
    let mut admission = admission(&AdmissionPlan { prefixes, bytes_per_s: Some(1_000_000), ..plan() });
    // A minute of ten times the bandwidth.
    for tick in 0..60_000 {
        let now = SECOND + tick * MS;
        admission.begin_batch(now);
        assert_eq!(admission.decide(v4(0x0a00_0001), now), Verdict::Answer);
        admission.spend(10_000);
    }
    let now = 61 * SECOND;
    assert_eq!(answered(&mut admission, v4(1), now, 10, 0), 0, "while they do");
    assert_eq!(answered(&mut admission, v4(1), now + 250 * MS, 10, 0), 10, "and as soon as they do not");
}

#[test]
fn the_budget_holds_and_those_who_ask_most_wait() {
    const ANSWER: u64 = 76;
    // 1,000 answers a second; one client wants 2,000 and 400 want 2 each.
    let mut admission = admission(&AdmissionPlan { bytes_per_s: Some(1000 * ANSWER), ..plan() });
    let (mut heavy, mut light) = (0, 0);
    for tick in 0..30_000_u64 {
        let now = SECOND + tick * MS;
        admission.begin_batch(now);
        let mut ask = |client| {
            let answers = admission.decide(client, now) == Verdict::Answer;
            if answers {
                admission.spend(ANSWER);
            }
            u64::from(answers)
        };
        let counts = tick >= 10_000;
        let got = ask(v4(1)) + ask(v4(1));
        heavy += if counts { got } else { 0 };
        if tick % 5 < 4 {
            let got = ask(v4(1000 + (tick / 5 * 4 + tick % 5) as u32 % 400));
            light += if counts { got } else { 0 };
        }
    }
    let all = heavy + light;
    assert!((19_000..=20_500).contains(&all), "20 s of 1,000/s: {all}");
    assert!(light >= 15_500, "16,000 requests that each ask little: {light} answered, the heavy one {heavy}");
}

#[test]
fn the_budget_can_be_changed_and_lifted() {
    let shared = Arc::new(Admissions::new(&AdmissionPlan { bytes_per_s: Some(0), ..plan() }, 1));
    let mut admission = Admission::new(Arc::clone(&shared), 0, 64, 7);
    admission.spend(1 << 20);
    assert_eq!(answered(&mut admission, v4(1), SECOND, 10, 0), 0);
    shared.budget.set(None);
    assert_eq!(answered(&mut admission, v4(1), SECOND, 10, 0), 10);
    // What an unlimited bucket holds is not carried over.
    shared.budget.set(Some(0));
    admission.spend(16 << 10);
    assert_eq!(answered(&mut admission, v4(1), SECOND, 10, 0), 0);
}

#[test]
fn the_longest_silent_client_makes_room() {
    let mut clients = Clients::new(8, 7);
    for key in 1..=8 {
        clients.find(key, key).answered = key as u32;
    }
    let first = clients.find(1, 20);
    first.ask(20, false);
    first.answered += 100;
    assert_eq!(clients.find(9, 21).answered, 0);
    assert_eq!((clients.find(1, 22).answered, clients.find(3, 22).answered), (101, 3));
    assert_eq!(clients.find(2, 23).answered, 0, "2 was silent longest");
    assert_eq!(clients.forgotten(), 2);
    const { assert!(Clients::BYTES <= 64) };
}

#[test]
fn as_many_clients_as_there_is_room_for_are_nearly_all_remembered() {
    let mut clients = Clients::new(1 << 16, 99);
    for key in 0..1_u64 << 15 {
        clients.find(0xffff_ffff << 32 | key, key + 1);
    }
    let lost = clients.forgotten();
    assert!(lost < 1 << 10, "at half load, neighbours: {lost}");
}

#[test]
fn nobody_can_know_which_clients_share_a_set() {
    let shared = Arc::new(Admissions::new(&plan(), 2));
    let factor = |worker| Admission::new(Arc::clone(&shared), worker, 64, 7).clients.factor();
    assert_ne!(factor(0), factor(1), "not even with the seed");
}

#[test]
fn a_report_takes_little_of_each_turn_and_no_new_memory() {
    // 2,048 sets.
    let shared = Arc::new(Admissions::new(&AdmissionPlan { client_per_s: 1.0, ..plan() }, 1));
    let mut admission = Admission::new(Arc::clone(&shared), 0, 1 << 14, 7);
    answered(&mut admission, v4(1), SECOND, 5, 0);
    let turns = |admission: &mut Admission, from: u64, each: u64| {
        admission.begin_batch(from);
        let question = shared.ask_for_clients();
        let mut turn = |n| {
            admission.begin_batch(from + n * each);
            Some((n, shared.clients(question)?.len()))
        };
        (1..100).find_map(&mut turn).unwrap()
    };
    assert_eq!(turns(&mut admission, 2 * SECOND, MS), (8, 1), "256 sets a turn at work");
    assert_eq!(turns(&mut admission, 3 * SECOND, 50 * MS), (1, 1), "without work more");
    assert_eq!(turns(&mut admission, 4 * SECOND, 12 * MS), (3, 1));
    assert!(lock(&shared.rows)[0].1.capacity() > 100, "the two buffers change places");
}

#[test]
fn the_owner_sees_those_who_ask_most() {
    let shared = Arc::new(Admissions::new(&AdmissionPlan { client_per_s: 1.0, ..plan() }, 1));
    let mut admission = Admission::new(Arc::clone(&shared), 0, 1024, 7);
    for client in 1..=200 {
        answered(&mut admission, v4(client), SECOND, u64::from(client), 0);
    }
    let question = shared.ask_for_clients();
    assert_eq!(shared.clients(question), None);
    (0..4).for_each(|_| admission.begin_batch(3 * SECOND));
    let rows = shared.clients(question).unwrap();
    assert_eq!(rows.len(), 100);
    let most =
        ClientRow { address: v4(200).unwrap(), answered: 1, limited: 199, withheld: 0, silent_ns: rows[0].silent_ns };
    assert_eq!(rows[0], most);
}

/// The class by the definition: the longest prefix decides, of equal ones the greater class; First over all.
fn by_definition(prefixes: &[(IpAddr, u8, Class)], address: u32, other: Class) -> Class {
    let covers = |ip: IpAddr, bits: u8| match ip {
        IpAddr::V4(v4) => bits == 0 || (u32::from(v4) ^ address) >> (32 - u32::from(bits)) == 0,
        IpAddr::V6(_) => false,
    };
    let mine: Vec<_> = prefixes.iter().filter(|(ip, bits, _)| covers(*ip, *bits)).collect();
    if mine.iter().any(|(_, _, class)| *class == Class::First) {
        return Class::First;
    }
    mine.iter().max_by_key(|(_, bits, class)| (*bits, *class)).map_or(other, |(_, _, class)| *class)
}

#[test]
fn prefixes_mean_what_they_say() {
    let mut random = Random::new(5);
    for _ in 0..200 {
        // Few values, so that prefixes nest and repeat.
        let prefixes: Vec<_> = (0..random.bits() % 30)
            .map(|_| {
                let address = (random.bits() as u32) & 0xc003_8003;
                let class = [Class::Allowed, Class::Denied, Class::First][(random.bits() % 7).min(2) as usize];
                (IpAddr::V4(Ipv4Addr::from(address)), (random.bits() % 33) as u8, class)
            })
            .collect();
        let other = if random.bits().is_multiple_of(2) { Class::Allowed } else { Class::Denied };
        let ready = Prefixes::new(&prefixes, other);
        for _ in 0..200 {
            let address = (random.bits() as u32) & 0xc003_8007;
            let class = ready.class(IpAddr::V4(Ipv4Addr::from(address)));
            assert_eq!(class, by_definition(&prefixes, address, other), "{address:#x} {prefixes:?}");
        }
    }
}

#[test]
fn prefixes_of_v4_mapped_addresses_are_v4_prefixes() {
    let all = [("::ffff:10.0.0.0", 104), ("::ffff:192.0.2.1", 128), ("::", 1)];
    let all = all.map(|(ip, bits)| (ip.parse().unwrap(), bits, Class::Denied));
    let ready = Prefixes::new(&all, Class::Allowed);
    let class = |ip: &str| ready.class(ip.parse().unwrap());
    assert_eq!((class("10.1.2.3"), class("192.0.2.1")), (Class::Denied, Class::Denied));
    assert_eq!((class("11.0.0.0"), class("192.0.2.2")), (Class::Allowed, Class::Allowed), "::/1 is of v6");
    assert_eq!((class("2001:db8::1"), class("8000::")), (Class::Denied, Class::Allowed));
    let mapped = Prefixes::new(&[("::ffff:0.0.0.0".parse().unwrap(), 96, Class::Denied)], Class::Allowed);
    assert_eq!(mapped.class("255.255.255.255".parse().unwrap()), Class::Denied, "all of v4");
}

#[test]
fn the_last_addresses_have_prefixes_too() {
    let all = [
        ("255.255.255.255".parse().unwrap(), 32, Class::Denied),
        (IpAddr::V6(Ipv6Addr::from(u128::MAX)), 128, Class::Denied),
        ("2001:db8::".parse().unwrap(), 32, Class::Denied),
    ];
    let ready = Prefixes::new(&all, Class::Allowed);
    let class = |ip: &str| ready.class(ip.parse().unwrap());
    assert_eq!((class("255.255.255.255"), class("255.255.255.254")), (Class::Denied, Class::Allowed));
    assert_eq!(
        (class("2001:db8::1"), class("2001:db9::1"), class("::")),
        (Class::Denied, Class::Allowed, Class::Allowed)
    );
    assert_eq!(ready.class(IpAddr::V6(Ipv6Addr::from(u128::MAX))), Class::Denied);
}
