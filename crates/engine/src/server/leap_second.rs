//! When the system clock may leap: at the end of a month (UTC), or a second before.
//!
//! A state announces the leap seconds that its source knows of; the kernel may have been told of one by others. So what is
//! told in advance, as to a program in the network driver, does not reach over such a moment.

use flatout_wire::calendar::begins_month;

const SECOND_NS: u64 = 1_000_000_000;
const DAY_NS: u64 = 86_400 * SECOND_NS;
/// The kernel steps the clock with a tick behind the moment.
const TICK_NS: u64 = 50_000_000;

/// For how long from this Unix time on (ns) the system clock does not leap; `None`: it may be about to.
pub(super) fn steady_for_ns(unix_ns: u64) -> Option<u64> {
    let (day, into_day) = (unix_ns / DAY_NS, unix_ns % DAY_NS);
    if begins_month(day) && into_day < TICK_NS {
        return None;
    }
    if !begins_month(day + 1) {
        // The next month's end is at least a day away.
        return Some(DAY_NS);
    }
    match into_day.checked_sub(DAY_NS - SECOND_NS) {
        None => Some(DAY_NS - SECOND_NS - into_day),
        Some(0..TICK_NS) => None,
        Some(_) => Some(DAY_NS - into_day),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_over_the_end_of_a_month() {
        // 2017-01-01T00:00:00Z, and ms from there.
        const YEAR_MS: i64 = 1_483_228_800_000;
        let until = |ms: i64| steady_for_ns(((YEAR_MS + ms) * 1_000_000) as u64).map(|ns| ns / 1_000_000);
        let cases = [
            (-1_200, Some(200)),
            (-1_001, Some(1)),
            (-1_000, None),
            (-951, None),
            (-950, Some(950)),
            (-1, Some(1)),
            (0, None),
            (49, None),
            (50, Some(86_400_000)),
        ];
        for (ms, found) in cases {
            assert_eq!(until(ms), found, "{ms} ms");
        }
        // The midnight of no month, and one in February of a leap year.
        assert_eq!((until(86_400_000), until(86_399_999)), (Some(86_400_000), Some(86_400_000)));
        assert_eq!(steady_for_ns(1_456_703_999_900_000_000), Some(86_400_000_000_000));
    }
}
