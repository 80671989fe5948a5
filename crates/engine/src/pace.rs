//! When each request is due: an absolute schedule, computed, never waited for.
//!
//! Method: a profile is a rate over time; its integral is the expected count. Constant arrivals are due where the
//! integral passes whole numbers, Poisson arrivals where it passes sums of exponential gaps. So a late generator
//! never shifts what comes after, and the same seed gives the same schedule. Workers take every n-th request.
//! Senders that send at a tick draw the requests of each tick together, towards its beginning.

use crate::turns::{Portion, Turns};

/// A stretch of time in which the rate goes linearly from one value to another.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject))]
pub struct Segment {
    /// How long, in s.
    pub seconds: f64,
    /// Requests per second at its beginning.
    pub from_per_s: f64,
    /// Requests per second at its end.
    pub to_per_s: f64,
}

impl Segment {
    fn count(&self) -> f64 {
        self.seconds * f64::midpoint(self.from_per_s, self.to_per_s)
    }

    /// When, in s from the segment's beginning, its integral passes `count`.
    fn when(&self, count: f64) -> f64 {
        if self.from_per_s == self.to_per_s {
            // Most loads are steady, and at millions a second the root would be felt.
            return count / self.from_per_s;
        }
        let slope = (self.to_per_s - self.from_per_s) / self.seconds;
        let root = (self.from_per_s * self.from_per_s + 2.0 * slope * count).max(0.0).sqrt();
        let speed = self.from_per_s + root;
        // This form of the quadratic's solution stays exact where the slope is zero or small. Without any speed only
        // the very beginning of a ramp from zero is asked for.
        if speed > 0.0 { 2.0 * count / speed } else { 0.0 }
    }
}

/// How gaps between requests are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly spaced.
    Constant,
    /// Exponential gaps: the arrivals of many independent users.
    Poisson,
}

/// The share of one of several workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject))]
pub struct Share {
    /// Which worker, from 0.
    pub index: u32,
    /// Of how many.
    pub of: u32,
}

/// Senders that each send once a tick, one after another by number: the n-th request is of sender n % `senders`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject))]
pub struct Ticks {
    /// How many, over all workers.
    pub senders: u32,
    /// In which share of the tick all of them send; 1: evenly over all of it.
    pub spread: f64,
}

/// Nearer to a segment's end than this, a request belongs to what follows: 1.1 s at 10/s multiply to a bit over 11.
const EDGE: f64 = 1e-6;

/// Draws due times in order; see the module.
#[derive(Clone, Debug)]
pub struct Pacer {
    /// Each with its count.
    segments: Vec<(Segment, f64)>,
    at: usize,
    /// The integral at the beginning of the present segment, and that segment's beginning in s.
    passed: f64,
    elapsed: f64,
    expected: f64,
    arrivals: Arrivals,
    share: Share,
    turns: Turns,
    /// Between two requests, on average.
    gap: f64,
    random: Random,
    ticking: Option<Ticking>,
}

/// Where a schedule of ticks stands.
#[derive(Clone, Copy, Debug)]
struct Ticking {
    ticks: Ticks,
    /// The count up to the present tick.
    began: f64,
    /// Whose turn in it is next.
    sender: u32,
    /// The whole profile's count: what the spread moves forward must not bring more.
    total: f64,
}

impl Pacer {
    /// The schedule of `share` over `profile`.
    #[must_use]
    pub fn new(profile: &[Segment], arrivals: Arrivals, share: Share, seed: u64) -> Self {
        let mut pacer = Self {
            segments: profile.iter().map(|segment| (*segment, segment.count())).collect(),
            at: 0,
            passed: 0.0,
            elapsed: 0.0,
            expected: f64::from(share.index),
            arrivals,
            share,
            turns: Turns::every(share.of.into()),
            gap: share.of.into(),
            random: Random::of_worker(seed, share.index),
            ticking: None,
        };
        if arrivals == Arrivals::Poisson {
            pacer.expected = pacer.gap();
        }
        pacer
    }

    /// The same for a portion by weight, in place of the share.
    #[must_use]
    pub fn taking(mut self, portion: Portion) -> Self {
        let (first, turns) = Turns::of(portion);
        let gap = 1.0 / portion.fraction();
        self.expected = match self.arrivals {
            Arrivals::Constant => first as f64,
            Arrivals::Poisson => self.expected * gap / self.gap,
        };
        (self.turns, self.gap) = (turns, gap);
        self
    }

    /// A schedule without requests.
    #[must_use]
    pub fn nothing() -> Self {
        Self::new(&[], Arrivals::Constant, Share { index: 0, of: 1 }, 0)
    }

    /// The same for senders at a tick: worker w of n has the senders s with s % n = w, and only constant arrivals.
    ///
    /// A tick is as long as it takes the profile to pass one request of each sender.
    #[must_use]
    pub fn at_ticks(mut self, ticks: Ticks) -> Self {
        let total = self.segments.iter().map(|(_, count)| count).sum();
        self.ticking = Some(Ticking { ticks, began: 0.0, sender: self.share.index, total });
        self
    }

    /// The next due time in ns from the profile's beginning; `None` after its end.
    pub fn draw(&mut self) -> Option<u64> {
        let expected = match &self.ticking {
            None => self.expected,
            Some(ticking) => ticking.expected()?,
        };
        loop {
            let (segment, count) = self.segments.get(self.at)?;
            let ahead = expected - self.passed;
            if ahead + EDGE < *count {
                let due = self.elapsed + segment.when(ahead);
                self.advance();
                return Some((due * 1e9) as u64);
            }
            self.passed += count;
            self.elapsed += segment.seconds;
            self.at += 1;
        }
    }

    fn advance(&mut self) {
        match &mut self.ticking {
            None => self.expected += self.gap(),
            Some(ticking) => ticking.advance(self.share),
        }
    }

    fn gap(&mut self) -> f64 {
        match self.arrivals {
            Arrivals::Constant => self.turns.gap() as f64,
            Arrivals::Poisson => -self.gap * self.random.unit().ln(),
        }
    }
}

impl Ticking {
    fn expected(&self) -> Option<f64> {
        let (sender, Ticks { senders, spread }) = (f64::from(self.sender), self.ticks);
        let due = self.sender < senders && self.began + sender + EDGE < self.total;
        due.then_some(self.began + sender * spread)
    }

    fn advance(&mut self, share: Share) {
        self.sender = self.sender.saturating_add(share.of);
        if self.sender >= self.ticks.senders {
            self.sender = share.index;
            self.began += f64::from(self.ticks.senders);
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and its sequence is part of what a seed promises.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A worker's own sequence: scrambled, for seeds that lie a multiple of the step apart share one shifted sequence.
    fn of_worker(seed: u64, index: u32) -> Self {
        Self::new(Self::new(seed).bits() ^ Self::new(u64::from(index)).bits())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number above 0, at most 1.
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}
