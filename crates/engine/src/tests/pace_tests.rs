//! The schedule: how many, when, and whose.

use crate::pace::{Arrivals, Pacer, Random, Segment, Share};

const WHOLE: Share = Share { index: 0, of: 1 };

fn segment(seconds: f64, from_per_s: f64, to_per_s: f64) -> Segment {
    Segment { seconds, from_per_s, to_per_s }
}

fn draws(mut pacer: Pacer) -> Vec<u64> {
    std::iter::from_fn(|| pacer.draw()).collect()
}

fn constant(profile: &[Segment]) -> Vec<u64> {
    draws(Pacer::new(profile, Arrivals::Constant, WHOLE, 1))
}

fn poisson(profile: &[Segment], seed: u64) -> Vec<u64> {
    draws(Pacer::new(profile, Arrivals::Poisson, WHOLE, seed))
}

fn gaps(due: &[u64]) -> Vec<f64> {
    due.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect()
}

/// Mean, and standard deviation in parts of it.
fn shape(samples: &[f64]) -> (f64, f64) {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let variance = samples.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    (mean, variance.sqrt() / mean)
}

#[test]
fn a_steady_rate_is_even() {
    let due = constant(&[segment(2.0, 1_000.0, 1_000.0)]);
    assert_eq!(due.len(), 2_000);
    assert!(due.iter().enumerate().all(|(n, due)| due.abs_diff(n as u64 * 1_000_000) <= 1));
}

#[test]
fn counts_are_exact_where_floating_products_are_not() {
    for tenths in 1..200 {
        for per_s in [10.0, 30.0, 70.0, 110.0, 1_230.0] {
            let seconds = f64::from(tenths) / 10.0;
            let expected = (f64::from(tenths) * per_s / 10.0).round() as usize;
            let due = constant(&[segment(seconds, per_s, per_s)]);
            assert_eq!(due.len(), expected, "{seconds} s at {per_s}/s");
            assert!(due.iter().all(|&due| due < (seconds * 1e9) as u64));
        }
    }
}

#[test]
fn a_ramp_has_its_area() {
    for (from, to, expected) in [(0.0, 1_000.0, 5_000), (1_000.0, 0.0, 5_000), (500.0, 1_500.0, 10_000)] {
        let due = constant(&[segment(10.0, from, to)]);
        assert_eq!(due.len(), expected, "{from} to {to}");
        assert!(due.is_sorted());
    }
}

#[test]
fn a_ramp_reaches_each_count_when_its_integral_does() {
    let due = constant(&[segment(10.0, 200.0, 1_200.0)]);
    for (n, &ns) in due.iter().enumerate() {
        let t = ns as f64 / 1e9;
        let integral = 200.0 * t + 50.0 * t * t;
        assert!((integral - n as f64).abs() < 1e-4, "request {n} at {t} s: {integral}");
    }
}

#[test]
fn nothing_is_due_at_rate_zero() {
    let profile = [segment(1.0, 10.0, 10.0), segment(5.0, 0.0, 0.0), segment(1.0, 10.0, 10.0)];
    let due = constant(&profile);
    assert_eq!(due.len(), 20);
    assert_eq!((due[9], due[10]), (900_000_000, 6_000_000_000));
    assert!(constant(&[segment(5.0, 0.0, 0.0)]).is_empty());
    assert!(constant(&[]).is_empty());
}

#[test]
fn a_ramp_from_zero_begins_where_it_stands() {
    for before in [segment(1.0, 10.0, 10.0), segment(1.0, 0.0, 0.0), segment(1.0, 20.0, 0.0)] {
        let due = constant(&[before, segment(1.0, 0.0, 100.0)]);
        assert!(due.is_sorted(), "{due:?}");
        assert!(due[due.len() - 50] >= 1_000_000_000, "{due:?}");
        assert_eq!(due.len(), (before.from_per_s + before.to_per_s) as usize / 2 + 50);
    }
}

#[test]
fn any_profile_is_due_in_order_and_in_full() {
    let mut random = Random::new(11);
    for _ in 0..300 {
        let rates: Vec<_> = (0..6).map(|_| (random.bits() % 4 * 250) as f64).collect();
        let profile: Vec<_> =
            rates.windows(2).map(|pair| segment((1 + random.bits() % 4) as f64, pair[0], pair[1])).collect();
        let area: f64 = profile.iter().map(|s| s.seconds * f64::midpoint(s.from_per_s, s.to_per_s)).sum();
        let due = constant(&profile);
        assert_eq!(due.len(), area.ceil() as usize, "{profile:?}");
        assert!(due.is_sorted(), "{profile:?}");
        let random_due = poisson(&profile, 5);
        assert!(random_due.is_sorted(), "{profile:?}");
        assert!((random_due.len() as f64 - area).abs() <= 6.0 * area.sqrt() + 1.0, "{profile:?}");
    }
}

#[test]
fn ten_million_draws_do_not_drift() {
    let mut pacer = Pacer::new(&[segment(100.0, 300_000.0, 300_000.0)], Arrivals::Constant, WHOLE, 1);
    for n in 0..10_000_000 {
        let due = pacer.draw();
        if n % 1_000 == 0 {
            assert!(due.is_some_and(|due| due.abs_diff(n * 10_000 / 3) <= 1), "draw {n}: {due:?}");
        }
    }
    let mut late = Pacer::new(
        &[segment(10_000_000.0, 1.0, 1.0), segment(10.0, 100.0, 100.0)],
        Arrivals::Constant,
        Share { index: 0, of: 1_000_000 },
        1,
    );
    let due = draws_of(&mut late);
    assert_eq!(due, (0..10).map(|n| n * 1_000_000_000_000_000).collect::<Vec<_>>());
}

fn draws_of(pacer: &mut Pacer) -> Vec<u64> {
    std::iter::from_fn(|| pacer.draw()).take(10).collect()
}

#[test]
fn workers_share_one_schedule() {
    let profile = [segment(1.0, 100.0, 900.0), segment(0.5, 0.0, 0.0), segment(1.0, 900.0, 100.0)];
    for of in [2, 3, 7] {
        let mut shares: Vec<u64> =
            (0..of).flat_map(|index| draws(Pacer::new(&profile, Arrivals::Constant, Share { index, of }, 1))).collect();
        shares.sort_unstable();
        assert_eq!(shares, constant(&profile), "{of} workers");
    }
}

#[test]
fn random_gaps_are_exponential() {
    let due = poisson(&[segment(50.0, 2_000.0, 2_000.0)], 9);
    assert!((due.len() as f64 - 100_000.0).abs() < 1_500.0, "{}", due.len());
    let gaps = gaps(&due);
    let (mean, spread) = shape(&gaps);
    assert!((mean - 500_000.0).abs() < 5_000.0, "{mean}");
    assert!((spread - 1.0).abs() < 0.02, "{spread}");
    let long = gaps.iter().filter(|&&gap| gap > 1_500_000.0).count() as f64 / gaps.len() as f64;
    assert!((long - (-3.0_f64).exp()).abs() < 0.003, "{long}");
}

#[test]
fn a_seed_promises_a_schedule() {
    let profile = [segment(1.0, 500.0, 1_500.0)];
    assert_eq!(poisson(&profile, 4), poisson(&profile, 4));
    assert_ne!(poisson(&profile, 4), poisson(&profile, 5));
}

#[test]
fn workers_random_shares_are_independent_whatever_the_seed() {
    let profile = [segment(20.0, 1_000.0, 1_000.0)];
    for seed in 0..24 {
        let share = |index| draws(Pacer::new(&profile, Arrivals::Poisson, Share { index, of: 2 }, seed));
        let (one, other) = (share(0), share(1));
        for (a, b) in [(&one[1..], &other[..]), (&one[..], &other[1..]), (&one[..], &other[..])] {
            let same = gaps(a).iter().zip(gaps(b)).filter(|(x, y)| (*x - y).abs() < 2.0).count();
            assert!(same < 10, "seed {seed}: {same} gaps are shared");
        }
        let mut both = [one, other].concat();
        both.sort_unstable();
        let (_, spread) = shape(&gaps(&both));
        assert!((spread - 1.0).abs() < 0.05, "seed {seed}: together they are not Poisson: {spread}");
    }
}

#[test]
fn random_units_are_never_zero_and_fill_the_range() {
    let mut random = Random::new(1);
    let units: Vec<_> = (0..100_000).map(|_| random.unit()).collect();
    assert!(units.iter().all(|&unit| unit > 0.0 && unit <= 1.0));
    let (mean, spread) = shape(&units);
    assert!((mean - 0.5).abs() < 0.005 && (spread - 0.577).abs() < 0.01, "{mean} {spread}");
}

#[test]
fn the_generator_is_split_mix() {
    // The reference implementation's first values for seed 1234567 (Vigna, splitmix64.c).
    let mut random = Random::new(1_234_567);
    let first = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
    assert_eq!([random.bits(), random.bits(), random.bits()], first);
}
