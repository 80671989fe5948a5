//! The system clocks relative to the steady one, and word of when they are set.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::null_mut;
use std::time::Duration;

use crate::socket::{errno, own};

const READINGS: usize = 8;
/// In some hundred years: an absolute timer that ends only because its clock was set.
const FAR_S: libc::time_t = 1 << 40;

/// CLOCK_REALTIME and CLOCK_TAI minus CLOCK_MONOTONIC, ns; constant between two settings of the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffsets {
    /// CLOCK_MONOTONIC at the reading, ns.
    pub steady_ns: u64,
    /// CLOCK_REALTIME minus it.
    pub unix_ns: i64,
    /// CLOCK_TAI minus it.
    pub tai_ns: i64,
    /// How long the reading took: twice the largest error. More where the clock was set meanwhile, by that.
    pub took_ns: u64,
}

/// Reads the three clocks together: the shortest of several readings.
#[must_use]
pub fn clock_offsets() -> ClockOffsets {
    let mut best = ClockOffsets { took_ns: u64::MAX, ..ClockOffsets::default() };
    for _ in 0..READINGS {
        let before = read(libc::CLOCK_MONOTONIC);
        let (unix, tai, again) = (read(libc::CLOCK_REALTIME), read(libc::CLOCK_TAI), read(libc::CLOCK_REALTIME));
        let offsets = of_reading([before, read(libc::CLOCK_MONOTONIC)], [unix, again], tai);
        if offsets.took_ns < best.took_ns {
            best = offsets;
        }
    }
    best
}

/// CLOCK_MONOTONIC, ns.
#[must_use]
pub fn steady_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC).unsigned_abs()
}

/// From one reading: the steady clock first and last, the system clock before and behind TAI.
fn of_reading([before, after]: [i64; 2], [unix, again]: [i64; 2], tai: i64) -> ClockOffsets {
    let took = after - before;
    let steady = before + took / 2;
    ClockOffsets {
        steady_ns: steady.unsigned_abs(),
        unix_ns: unix - steady,
        tai_ns: tai - steady,
        took_ns: took.unsigned_abs().max(again.abs_diff(unix)),
    }
}

/// ns; 0 where the kernel has no such clock.
fn read(clock: libc::clockid_t) -> i64 {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec into `at`.
    unsafe { libc::clock_gettime(clock, &raw mut at) };
    at.tv_sec * 1_000_000_000 + at.tv_nsec
}

/// Wakes when CLOCK_REALTIME is set (a timerfd with TFD_TIMER_CANCEL_ON_SET).
#[derive(Debug)]
pub struct ClockWatch(OwnedFd);

impl ClockWatch {
    /// Watches from now on. Errors: no descriptors left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: timerfd_create takes no pointers.
        let made = own(unsafe { libc::timerfd_create(libc::CLOCK_REALTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) })?;
        let watch = Self(made);
        watch.arm()?;
        Ok(watch)
    }

    fn arm(&self) -> io::Result<()> {
        // SAFETY: an itimerspec of zeros is a valid one.
        let mut timer: libc::itimerspec = unsafe { zeroed() };
        timer.it_value.tv_sec = FAR_S;
        let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
        // SAFETY: the kernel reads one itimerspec and writes none.
        match unsafe { libc::timerfd_settime(self.0.as_raw_fd(), flags, &raw const timer, null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits until the clock is set, at most so long; returns whether it was.
    pub fn wait(&self, at_most: Duration) -> bool {
        let mut polled = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let ms = i32::try_from(at_most.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `polled` is one pollfd.
        unsafe { libc::poll(&raw mut polled, 1, ms) };
        let mut ended = 0_u64;
        // SAFETY: the kernel writes at most eight bytes into `ended`.
        let read = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut ended).cast(), size_of::<u64>()) };
        let set = read < 0 && errno() == libc::ECANCELED;
        if set {
            // It stays armed; where the kernel would not, the caller compares the offsets at each turn.
            let _ = self.arm();
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_steady_and_of_the_right_clocks() {
        let (one, other) = (clock_offsets(), clock_offsets());
        assert!(one.unix_ns.abs_diff(other.unix_ns) < 1_000_000, "{one:?} {other:?}");
        assert!((one.tai_ns - one.unix_ns).unsigned_abs() < 60_000_000_000, "TAI is at most some seconds ahead");
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let read = one.steady_ns as i64 + one.unix_ns;
        assert!(read.abs_diff(unix.as_nanos() as i64) < 10_000_000_000);
    }

    #[test]
    fn a_reading_in_which_the_clock_was_set_took_too_long() {
        const UNIX: i64 = 1_800_000_000_000_000_000;
        let plain = of_reading([1_000, 1_200], [UNIX, UNIX + 100], UNIX + 37_000_000_050);
        assert_eq!((plain.steady_ns, plain.took_ns, plain.unix_ns), (1_100, 200, UNIX - 1_100));
        for step in [1_000_000_000, -1_000_000_000, 3_600_000_000_000, -50_000] {
            let stepped = of_reading([1_000, 1_200], [UNIX, UNIX + step], UNIX + step);
            assert!(stepped.took_ns >= 50_000, "{step}");
        }
    }

    #[test]
    fn a_clock_that_nobody_sets_is_waited_for_in_vain() {
        assert!(!ClockWatch::new().expect("a timer").wait(Duration::from_millis(1)));
    }
}
