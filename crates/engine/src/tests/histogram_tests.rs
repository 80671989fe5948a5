//! The distributions: their range, their exactness, and what other tools read.

use hdrhistogram::Histogram;

use crate::histogram::{Durations, LONGEST_NS, Offsets, Recorder};
use crate::pace::Random;

fn of(samples: &[u64]) -> Durations {
    let mut durations = Durations::new();
    samples.iter().for_each(|&ns| durations.record(ns));
    durations
}

fn random_samples(seed: u64, count: usize) -> Vec<u64> {
    let mut random = Random::new(seed);
    // Of every size from 1 ns to beyond the longest.
    (0..count).map(|_| (random.unit().powi(8) * 2e11) as u64 + 1).collect()
}

fn same(one: &Durations, other: &Durations) {
    assert_eq!((one.count(), one.min(), one.max()), (other.count(), other.min(), other.max()));
    assert_eq!(one.mean().to_bits(), other.mean().to_bits());
    for thousandths in 0..=1_000 {
        let at = f64::from(thousandths) / 1_000.0;
        assert_eq!(one.quantile(at), other.quantile(at));
    }
}

#[test]
fn the_library_accepts_the_bounds() {
    assert!(Histogram::<u64>::new_with_bounds(1, LONGEST_NS, 3).is_ok());
}

#[test]
fn each_size_is_kept_to_a_thousandth() {
    let mut size = 1;
    while size <= LONGEST_NS {
        let durations = of(&[size]);
        for found in [durations.max(), durations.min(), durations.quantile(0.5)] {
            assert!(found.abs_diff(size) * 1_000 <= size, "{size} became {found}");
        }
        size = size * 11 / 7 + 1;
    }
}

#[test]
fn small_sizes_are_exact() {
    let durations = of(&(0..2_000).collect::<Vec<_>>());
    assert_eq!((durations.count(), durations.min(), durations.max()), (2_000, 0, 1_999));
    assert_eq!((durations.quantile(0.5), durations.quantile(0.99)), (999, 1_979));
}

#[test]
fn bands_are_tenths_of_a_decade_and_have_every_sample() {
    assert_eq!(of(&[]).bands(), []);
    assert_eq!(
        of(&[0, 1, 9, 10, 999, 1_000, 1_200, 1_300]).bands(),
        [(0, 2), (9, 1), (10, 1), (29, 1), (30, 2), (31, 1)]
    );
    assert_eq!(of(&[1_000_000, u64::MAX]).bands(), [(60, 1), (110, 1)]);
    let many = of(&random_samples(5, 10_000)).bands();
    assert_eq!(many.iter().map(|band| band.1).sum::<u64>(), 10_000);
    assert!(many.is_sorted_by_key(|band| band.0));
}

#[test]
fn what_is_too_long_counts_as_the_longest() {
    let durations = of(&[LONGEST_NS * 2, u64::MAX]);
    assert_eq!(durations.count(), 2);
    assert!(durations.max().abs_diff(LONGEST_NS) * 1_000 <= LONGEST_NS, "{}", durations.max());
    assert_eq!(durations.count_above(LONGEST_NS), 0);
}

#[test]
fn no_quantile_is_beyond_the_maximum() {
    let durations = of(&[123_456_789, 987_654_321]);
    assert!([0.0, 0.5, 0.999, 1.0].iter().all(|&at| durations.quantile(at) <= durations.max()));
    assert_eq!(durations.quantile(1.0), durations.max());
}

#[test]
fn counting_above_agrees_with_counting() {
    let samples = random_samples(1, 5_000);
    let durations = of(&samples);
    assert_eq!(durations.count_above(0), 5_000);
    for limit in [100, 2_000, 1_000_000, 50_000_000, 10_000_000_000] {
        let (low, high) = (limit * 998 / 1_000, limit * 1_002 / 1_000);
        let above = |line| samples.iter().filter(|&&ns| ns > line).count() as u64;
        let found = durations.count_above(limit);
        assert!((above(high)..=above(low)).contains(&found), "{limit}: {found}");
    }
    assert_eq!(of(&[10, 20, 30]).count_above(20), 1);
    assert_eq!(Durations::new().count_above(0), 0);
}

#[test]
fn merging_is_as_recording_in_one() {
    let samples = random_samples(2, 6_000);
    let mut merged = Durations::new();
    samples.chunks(1_000).for_each(|part| merged.add(&of(part)));
    same(&merged, &of(&samples));
}

#[test]
fn what_is_written_is_read_back_alike() {
    for samples in [vec![], vec![0], vec![1, 1, LONGEST_NS], random_samples(3, 5_000)] {
        let durations = of(&samples);
        let read = Durations::from_bytes(&durations.to_bytes()).unwrap();
        same(&read, &durations);
        let mut twice = read;
        twice.add(&durations);
        assert_eq!(twice.count(), 2 * durations.count());
    }
}

#[test]
fn nonsense_is_no_histogram() {
    let good = of(&[1, 2, 3]).to_bytes();
    let mut spoiled = good.clone();
    spoiled[0] ^= 0xff;
    for bytes in [&[][..], b"nonsense", &good[..good.len() / 2], &spoiled] {
        assert!(Durations::from_bytes(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn clearing_forgets_all() {
    let mut durations = of(&random_samples(4, 100));
    durations.clear();
    same(&durations, &Durations::new());
}

#[test]
fn a_recorder_adds_and_clears_each_of_its_distributions() {
    let recorder = |times: u64| Recorder {
        from_due: of(&[times]),
        from_sent: of(&[2, times]),
        lateness: of(&[3, 3, times]),
        reading: of(&[times]),
        response: of(&[times]),
        offset: Offsets { behind: of(&[times, 4]), ahead: of(&[times]) },
    };
    let mut sum = recorder(10);
    sum.add(&recorder(20));
    let counts = |of: &Recorder| {
        let offset = &of.offset;
        let all = [&of.from_due, &of.from_sent, &of.lateness, &of.reading, &of.response, &offset.behind, &offset.ahead];
        all.map(Durations::count)
    };
    assert_eq!(counts(&sum), [2, 4, 6, 2, 2, 4, 2]);
    assert_eq!([sum.from_due.max(), sum.from_sent.max(), sum.lateness.max()], [20, 20, 20]);
    sum.clear();
    assert_eq!(counts(&sum), [0; 7]);
}

#[test]
fn a_packed_histogram_that_claims_gigabytes_is_refused_before_room_is_made() {
    let bytes = b"\x1c\x84\x93\x14\x00\x00\x00\x2e\x78\x9c\x93\x69\x99\x2c\xfc\x1f\x08\x18\x20\x80\x19\x4a\x33\x02\
        \xb1\xb8\x47\xd9\x0b\x06\xfb\x0f\x10\x01\xa6\xd3\xfc\x4c\x0f\x23\x58\xba\xc3\x98\x0e\xfe\x60\x64\
        \x02\x00\x6c\x17\x0c\xed";
    assert_eq!(Durations::from_bytes(bytes).unwrap_err(), "the histogram is cut off");
}
