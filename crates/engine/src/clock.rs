//! The only clocks of flatout. Everything else takes the time as an argument.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::pace::Random;

/// Time in ns since the clock was made, and what Unix time that is.
pub trait Clock {
    /// Monotonic ns since this clock's beginning.
    fn now(&self) -> u64;
    /// Unix time in ns minus [`Clock::now`]: turns the kernel's stamps into this clock's time.
    fn unix_offset(&self) -> u64;
    /// CLOCK_MONOTONIC in ns minus [`Clock::now`]: turns the stamps of programs in the kernel into this clock's time.
    fn steady_offset(&self) -> u64 {
        0
    }
    /// Lets other threads run for so long: yields the CPU again and again (sched_yield).
    fn give_way(&self, time: Duration);
}

/// CLOCK_MONOTONIC and CLOCK_REALTIME, through the vDSO.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    beginning: Instant,
    /// The same on CLOCK_MONOTONIC, ns.
    steady: u64,
}

impl SystemClock {
    /// A clock that begins now.
    #[must_use]
    pub fn begin() -> Self {
        let mut best = (u64::MAX, Self { beginning: Instant::now(), steady: 0 });
        for _ in 0..8 {
            let before = flatout_net::steady_ns();
            let beginning = Instant::now();
            let took = flatout_net::steady_ns() - before;
            if took < best.0 {
                best = (took, Self { beginning, steady: before + took / 2 });
            }
        }
        best.1
    }
}

impl Clock for SystemClock {
    #[inline]
    fn now(&self) -> u64 {
        self.beginning.elapsed().as_nanos() as u64
    }

    /// Reads both clocks close together: a thread that is put aside between the readings tries again.
    fn unix_offset(&self) -> u64 {
        let mut best = (u64::MAX, 0);
        for _ in 0..8 {
            let (before, unix, after) = (self.now(), unix_now(), self.now());
            let apart = after - before;
            if apart < best.0 {
                best = (apart, unix.wrapping_sub(before + apart / 2));
            }
            if apart < 1_000 {
                break;
            }
        }
        best.1
    }

    fn steady_offset(&self) -> u64 {
        self.steady
    }

    fn give_way(&self, time: Duration) {
        // A sleep lets the CPU halt, and a virtual machine's host may take ms to start it again.
        let until = self.now() + time.as_nanos() as u64;
        while self.now() < until {
            std::thread::yield_now();
        }
    }
}

/// Unix time in ns.
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Steady time in ns since its first reading in this process (CLOCK_MONOTONIC).
#[must_use]
pub fn steady_now() -> u64 {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    BEGINNING.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// A number that no other call gives, in any process: it names, and is no secret.
pub(crate) fn unique() -> u64 {
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    let nth = GIVEN.fetch_add(1, Ordering::Relaxed);
    Random::new(unix_now() ^ u64::from(std::process::id()) << 32 ^ nth.rotate_right(16)).bits()
}
