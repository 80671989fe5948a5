//! What a server says of its clock: leap, stratum, reference, delay, dispersion; computed from the state that it is told.
//!
//! Method: the state is true for the moment in which it was told. Since then the dispersion grows with its rate, the
//! correction goes on at its rate, and the whole holds until it is too old or the system clock is stepped. Then, and
//! before the first state, the server has no time to give: leap 3 and stratum 0, never one of them alone.

use crate::calendar::begins_month;
use crate::{LiveState, STATE_WORDS};

const SECOND_NS: i64 = 1_000_000_000;
/// RFC 5905's MAXDISP: a dispersion that nobody follows.
const DISPERSION_MAX_NS: u64 = 16_000_000_000;
/// The longest poll interval (RFC 5905's MAXPOLL), 36 h: a clock not set for longer is refused by clients.
const REFERENCE_AGE_MAX_S: i64 = 1 << 17;
/// By how much the system clock may differ from a steady one before it counts as stepped: ntpd's step threshold. Both
/// are slewed alike, so that only steps make them differ.
const STEP_NS: u64 = 128_000_000;
/// A smear is linear, from noon to noon UTC, around the leap second.
const SMEAR_HALF_S: i64 = 43_200;
/// 2^-25 s = 30 ns, what reading the clock takes.
const TEST_PRECISION: i8 = -25;
const UNSYNCHRONISED: u8 = 3;
const GIVEN: u64 = 1;

/// What is done with a leap second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leap {
    /// It is announced as the state has it.
    Announce,
    /// It is not announced: the clock is smeared by others.
    Ignore,
    /// It is not announced: this server smears it.
    Smear,
}

impl Leap {
    pub(super) fn from_option(value: i64) -> Option<Self> {
        [Self::Announce, Self::Ignore, Self::Smear].get(usize::try_from(value).ok()?).copied()
    }
}

/// The fields of an answer that describe the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) leap: u8,
    pub(super) stratum: u8,
    pub(super) precision: i8,
    pub(super) root_delay: u32,
    pub(super) root_dispersion: u32,
    pub(super) reference_id: [u8; 4],
    /// As an NTP stamp; `None`: just before the answer.
    pub(super) reference: Option<u64>,
}

impl Header {
    /// A stratum far from any real one, and the reference "LOCL" of RFC 5905 figure 12's style.
    pub(super) const TEST_CLOCK: Self = Self {
        leap: 0,
        stratum: 10,
        precision: TEST_PRECISION,
        root_delay: 0,
        root_dispersion: 0,
        reference_id: *b"LOCL",
        reference: None,
    };

    /// No time to give. `reference`: when the clock was last set, 0: never.
    pub(super) const fn unsynchronised(reference: u64) -> Self {
        Self {
            leap: UNSYNCHRONISED,
            stratum: 0,
            precision: TEST_PRECISION,
            root_delay: 0,
            root_dispersion: short(DISPERSION_MAX_NS),
            reference_id: [0; 4],
            reference: Some(reference),
        }
    }
}

/// A state as told; the order of the words is in `python/flatout/protocols/ntp/state.py` too.
#[derive(Clone, Debug)]
pub(super) struct TimeState {
    leap: u8,
    stratum: u8,
    precision: i8,
    reference_id: [u8; 4],
    /// When the clock was last set, as an NTP stamp; 0: it has no such time.
    pub(super) reference: u64,
    root_delay_ns: u64,
    root_dispersion_ns: u64,
    /// By how much the dispersion grows, ns/s.
    dispersion_ppb: u64,
    /// The true time minus the system clock's, and how that changes, ns/s.
    correction_ns: i64,
    correction_ppb: i64,
    /// How long the state holds, ns; 0: for ever, whatever happens to the clock.
    age_max_ns: u64,
    /// The leap second to smear: the Unix time of its end, s, and 1 or -1; 0: none.
    leap_at_s: i64,
    leap_s: i64,
}

impl TimeState {
    /// The state in `words`; `None`: none was told yet.
    pub(super) fn read(words: &[u64; STATE_WORDS]) -> Option<Self> {
        let &[first, reference, delay, dispersion, rate, correction, change, age_max, leap_at, leap, ..] = words;
        let [given, leap_bits, stratum, precision, a, b, c, d] = first.to_le_bytes();
        (u64::from(given) == GIVEN).then_some(Self {
            leap: leap_bits & 3,
            stratum,
            precision: precision as i8,
            reference_id: [a, b, c, d],
            reference,
            root_delay_ns: delay,
            root_dispersion_ns: dispersion,
            dispersion_ppb: rate,
            correction_ns: correction as i64,
            correction_ppb: change as i64,
            age_max_ns: age_max,
            leap_at_s: leap_at as i64,
            leap_s: (leap as i64).clamp(-1, 1),
        })
    }

    /// What to add to the system clock, ns.
    pub(super) fn offset_ns(&self, live: &LiveState, now_unix_ns: u64, leap: Leap) -> i64 {
        let change = grown(live.age_ns, self.correction_ppb.unsigned_abs());
        let change = i64::try_from(change).unwrap_or(i64::MAX).saturating_mul(self.correction_ppb.signum());
        let corrected = self.correction_ns.saturating_add(change);
        // A correction ends at zero, and does not turn round.
        let ended = self.correction_ns != 0 && corrected.signum() != self.correction_ns.signum();
        let corrected = if ended { 0 } else { corrected };
        let smeared = if leap == Leap::Smear { self.smear_ns(now_unix_ns) } else { 0 };
        corrected.saturating_add(smeared)
    }

    /// The smeared time minus UTC, ns.
    fn smear_ns(&self, now_unix_ns: u64) -> i64 {
        let (Ok(now), Some(leap_ns)) = (i64::try_from(now_unix_ns), self.leap_at_s.checked_mul(SECOND_NS)) else {
            return 0;
        };
        let since_leap = now.saturating_sub(leap_ns);
        if self.leap_s == 0 || since_leap.unsigned_abs() >= SMEAR_HALF_S.unsigned_abs() * 1_000_000_000 {
            return 0;
        }
        let passed = if since_leap < 0 { 0 } else { self.leap_s };
        let elapsed = since_leap + (SMEAR_HALF_S + passed) * SECOND_NS;
        passed * SECOND_NS - self.leap_s * (elapsed / (2 * SMEAR_HALF_S + self.leap_s))
    }

    /// What an answer says at `now_unix_ns` of the system clock; `None`: there is no time to give.
    pub(super) fn header(&self, live: &LiveState, now_unix_ns: u64, leap: Leap) -> Option<Header> {
        let dispersion_ns = self.dispersion_ns(live);
        let synchronised = self.leap != UNSYNCHRONISED
            && (1..=15).contains(&self.stratum)
            && dispersion_ns < DISPERSION_MAX_NS
            && self.holds(live)
            && self.was_set_lately(now_unix_ns)
            && (leap == Leap::Ignore || !self.leaps_now(now_unix_ns));
        synchronised.then_some(Header {
            leap: if leap == Leap::Announce { self.leap } else { 0 },
            stratum: self.stratum,
            precision: self.precision,
            root_delay: short(self.root_delay_ns),
            root_dispersion: short(dispersion_ns),
            reference_id: self.reference_id,
            reference: (self.reference != 0).then_some(self.reference),
        })
    }

    /// The dispersion by now: a step too small to end the state is an error that it did not know of.
    fn dispersion_ns(&self, live: &LiveState) -> u64 {
        let stepped = if self.age_max_ns == 0 { 0 } else { live.stepped_ns.unsigned_abs() };
        self.root_dispersion_ns.saturating_add(grown(live.age_ns, self.dispersion_ppb)).saturating_add(stepped)
    }

    /// Whether the state is young enough, and the clock has gone on steadily since.
    fn holds(&self, live: &LiveState) -> bool {
        let stepped = live.stepped_ns.unsigned_abs() > STEP_NS;
        self.age_max_ns == 0 || (live.age_ns <= self.age_max_ns && !stepped)
    }

    fn was_set_lately(&self, now_unix_ns: u64) -> bool {
        let age = super::from_unix(now_unix_ns).wrapping_sub(self.reference) as i64;
        self.reference == 0 || (age >> 32) < REFERENCE_AGE_MAX_S
    }

    /// In the seconds around a leap second, at the midnight UTC between two months, the system clock is ambiguous.
    fn leaps_now(&self, now_unix_ns: u64) -> bool {
        let now_s = now_unix_ns / 1_000_000_000;
        // Of a midnight's two seconds: the day that begins.
        let (midnight, into_day) = ((now_s + 1) / 86_400, now_s % 86_400);
        let announced = matches!(self.leap, 1 | 2) && self.leap_at_s == 0;
        let leap_day = self.leap_s != 0 && now_s.abs_diff(u64::try_from(self.leap_at_s).unwrap_or(0)) <= 2;
        (into_day == 0 || into_day == 86_399) && (leap_day || (announced && begins_month(midnight)))
    }
}

/// What grows with `ppb` (ns/s) in `age_ns`, rounded up.
fn grown(age_ns: u64, ppb: u64) -> u64 {
    let grown = (u128::from(age_ns) * u128::from(ppb)).div_ceil(1_000_000_000);
    u64::try_from(grown).unwrap_or(u64::MAX)
}

/// ns in NTP's short format, 16.16 bits of seconds, rounded up and saturating.
pub(super) const fn short(ns: u64) -> u32 {
    let units = ((ns as u128) << 16).div_ceil(1_000_000_000);
    if units > u32::MAX as u128 { u32::MAX } else { units as u32 }
}
