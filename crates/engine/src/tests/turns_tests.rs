//! Unequal shares of a schedule: each request is one worker's, and each worker's are spread evenly.

use crate::pace::{Arrivals, Pacer, Random, Segment, Share};
use crate::turns::{Portion, Turns};

/// The first `count` requests of a portion.
fn requests(portion: Portion, count: usize) -> Vec<u64> {
    let (mut at, mut turns) = Turns::of(portion);
    (0..count)
        .map(|_| {
            let request = at;
            at += turns.gap();
            request
        })
        .collect()
}

/// Portions of so many units each.
fn portions(units: &[u64]) -> Vec<Portion> {
    let total = units.iter().sum();
    let before = |n: usize| units[..n].iter().sum();
    units.iter().enumerate().map(|(n, &mine)| Portion { before: before(n), mine, total }).collect()
}

#[test]
fn every_request_is_of_exactly_one_portion_in_each_period() {
    let mut random = Random::new(5);
    for _ in 0..300 {
        let units: Vec<_> = (0..1 + random.bits() % 6).map(|_| 1 + random.bits() % 40).collect();
        let total: u64 = units.iter().sum();
        let mut all: Vec<_> =
            portions(&units).into_iter().flat_map(|portion| requests(portion, portion.mine as usize * 3)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..total * 3).collect::<Vec<_>>(), "{units:?}");
    }
}

#[test]
fn every_request_is_of_exactly_one_thread_of_one_host() {
    for threads in 1..5 {
        // A host of one unit has fewer than threads.
        let parts = portions(&[2, 2, 1]).into_iter().flat_map(|host| (0..threads).map(move |n| host.part(n, threads)));
        let mut all: Vec<_> = parts.flat_map(|part| requests(part, part.mine as usize * 2)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..2 * 5 * threads as u64).collect::<Vec<_>>(), "{threads} threads");
    }
}

#[test]
fn a_portion_of_a_third_has_about_every_third_request() {
    let found = requests(Portion { before: 100_000, mine: 333_333, total: 1_000_000 }, 10_000);
    let gaps: Vec<_> = found.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (1..=5).contains(gap)), "{gaps:?}");
    for (n, request) in found.iter().enumerate() {
        // By four of its own at most.
        assert!(request.abs_diff(n as u64 * 3) <= 12, "request {request} is number {n}");
    }
}

#[test]
fn pacers_of_unequal_portions_share_one_schedule() {
    let profile = [Segment { seconds: 1.0, from_per_s: 1_000.0, to_per_s: 3_000.0 }];
    let whole = Share { index: 0, of: 1 };
    let draws = |mut pacer: Pacer| std::iter::from_fn(move || pacer.draw()).collect::<Vec<_>>();
    let mut together: Vec<_> = portions(&[1, 2, 5])
        .into_iter()
        .flat_map(|portion| draws(Pacer::new(&profile, Arrivals::Constant, whole, 1).taking(portion)))
        .collect();
    together.sort_unstable();
    assert_eq!(together, draws(Pacer::new(&profile, Arrivals::Constant, whole, 1)));
}

#[test]
fn poisson_arrivals_of_a_portion_have_its_rate() {
    let profile = [Segment { seconds: 100.0, from_per_s: 1_000.0, to_per_s: 1_000.0 }];
    let portion = Portion { before: 1, mine: 3, total: 4 };
    let mut pacer = Pacer::new(&profile, Arrivals::Poisson, Share { index: 1, of: 2 }, 3).taking(portion);
    let count = std::iter::from_fn(|| pacer.draw()).count();
    assert!(count.abs_diff(75_000) < 1_500, "{count}");
}
