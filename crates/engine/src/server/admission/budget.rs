//! The bandwidth for answers, of all workers together.
//!
//! Method: a token bucket of bytes that all workers share. Its level says how many recent answers a client may have had
//! to get another one: the lower it is, the fewer. So those who ask most wait first, and the rest get an equal share.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use flatout_net::DriverBudget;

/// The bucket holds what so much time brings, at least `LEAST_DEPTH` bytes.
const DEPTH_NS: u64 = 100_000_000;
const LEAST_DEPTH: i64 = 16 << 10;
/// The bucket is filled in steps.
const STEP_NS: u64 = 1_000_000;

/// What all workers write with each answer has a cache line of its own, beside what they only read.
#[derive(Debug)]
#[repr(align(64))]
struct Tokens(AtomicI64);

/// See the module. A rate of `u64::MAX` means no limit.
#[derive(Debug)]
pub struct Budget {
    bytes_per_s: AtomicU64,
    /// Of the bucket, bytes.
    depth: AtomicI64,
    tokens: Tokens,
    filled_at: AtomicU64,
}

impl Budget {
    /// A bucket that is full; `None`: no limit.
    #[must_use]
    pub fn new(bytes_per_s: Option<u64>) -> Self {
        let budget = Self {
            bytes_per_s: AtomicU64::new(0),
            depth: AtomicI64::new(0),
            tokens: Tokens(AtomicI64::new(0)),
            filled_at: AtomicU64::new(0),
        };
        budget.set(bytes_per_s);
        budget.tokens.0.store(budget.depth(), Ordering::Relaxed);
        budget
    }

    /// Another rate; `None`: no limit.
    pub fn set(&self, bytes_per_s: Option<u64>) {
        let rate = bytes_per_s.unwrap_or(u64::MAX);
        let depth = u128::from(rate) * u128::from(DEPTH_NS) / 1_000_000_000;
        // Small enough to be multiplied by 16.
        let depth = i64::try_from(depth).unwrap_or(i64::MAX).clamp(LEAST_DEPTH, i64::MAX / 16);
        self.depth.store(depth, Ordering::Relaxed);
        self.tokens.0.fetch_min(depth, Ordering::Relaxed);
        self.bytes_per_s.store(rate, Ordering::Relaxed);
    }

    fn rate(&self) -> u64 {
        self.bytes_per_s.load(Ordering::Relaxed)
    }

    #[inline]
    fn depth(&self) -> i64 {
        self.depth.load(Ordering::Relaxed)
    }

    /// Whether there is a limit.
    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.rate() != u64::MAX
    }

    /// Fills the bucket for the time since it was filled; returns whether there is a limit.
    #[inline]
    pub(crate) fn begin_batch(&self, now: u64) -> bool {
        if !self.is_set() {
            return false;
        }
        let filled_at = self.filled_at.load(Ordering::Relaxed);
        let passed = now.saturating_sub(filled_at);
        let mine = || self.filled_at.compare_exchange(filled_at, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if passed >= STEP_NS && mine() {
            let gained = u128::from(self.rate()) * u128::from(passed) / 1_000_000_000;
            let (gained, depth) = (i64::try_from(gained).unwrap_or(i64::MAX), self.depth());
            // Those who are always answered may spend more than comes in: the others do not wait for it afterwards.
            self.tokens.0.fetch_max(-depth, Ordering::Relaxed);
            // Another worker may spend at the same time: both changes count.
            let tokens = self.tokens.0.load(Ordering::Relaxed);
            self.tokens.0.fetch_add(gained.min(depth.saturating_sub(tokens)).max(0), Ordering::Relaxed);
        }
        true
    }

    /// Whether a client that had so many recent answers gets another one.
    #[inline]
    pub(super) fn admits(&self, recent: f32) -> bool {
        let (tokens, depth) = (self.tokens.0.load(Ordering::Relaxed), self.depth());
        if tokens <= 0 {
            return false;
        }
        // In sixteenths of the bucket: from half on all are admitted, below the threshold halves with each.
        let level = (tokens.min(depth) * 16 / depth) as u32;
        level >= 8 || recent < (1_u32 << level) as f32
    }

    /// The bucket as it is at `at`, for a program in the network driver, which fills its own from there on.
    pub(crate) fn for_driver(&self, at: u64) -> DriverBudget {
        if !self.is_set() {
            return DriverBudget { at, ..DriverBudget::default() };
        }
        let (tokens, depth) = (self.tokens.0.load(Ordering::Relaxed), self.depth());
        DriverBudget { at, tokens, depth: depth.unsigned_abs(), bytes_per_s: self.rate() }
    }

    /// Takes the bytes of an answer.
    #[inline]
    pub(crate) fn spend(&self, bytes: u64) {
        if self.is_set() {
            self.tokens.0.fetch_sub(bytes as i64, Ordering::Relaxed);
        }
    }
}
