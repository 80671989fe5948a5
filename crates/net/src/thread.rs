//! The calling thread and its process: affinity, priority, CPU time, descriptor limit.

use std::io;
use std::mem::{size_of, zeroed};

/// The process in which an object was created.
///
/// A fork has a copy of its memory and none of its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(libc::pid_t);

impl Process {
    /// The calling one.
    #[must_use]
    pub fn this() -> Self {
        // SAFETY: getpid takes no arguments and cannot fail.
        Self(unsafe { libc::getpid() })
    }

    /// Whether it is the calling one.
    #[must_use]
    pub fn is_this(self) -> bool {
        self == Self::this()
    }
}

/// The CPUs that the calling thread may run on (sched_getaffinity).
pub fn affinity() -> io::Result<Vec<usize>> {
    // SAFETY: cpu_set_t is plain old data; all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    // SAFETY: the kernel writes at most the given size into `set`.
    let done = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let limit = libc::CPU_SETSIZE as usize;
    // SAFETY: `cpu` is below CPU_SETSIZE.
    Ok((0..limit).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// Pins the calling thread to one CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: cpu_set_t is plain old data; all zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    // SAFETY: `cpu` is below CPU_SETSIZE.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the kernel reads the given size from `set`.
    let done = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes the calling thread's timers exact to 1 µs and, where that is allowed, raises its priority.
///
/// Returns whether the priority was granted (CAP_SYS_NICE or RLIMIT_NICE).
pub fn raise_priority(niceness: i32) -> bool {
    // SAFETY: PR_SET_TIMERSLACK takes a number of ns and no pointer.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000_usize, 0_usize, 0_usize, 0_usize) };
    let granted = set_slice(niceness);
    if !granted {
        set_slice(0);
    }
    granted
}

/// Gives the calling thread time slices of 0.1 ms (Linux 6.12), at its own niceness.
///
/// Python's thread shares the CPUs with spinning workers, which should not wait for it for whole ms.
pub fn shorten_timeslice() {
    // SAFETY: getpriority takes no pointers.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    set_slice(nice);
}

/// Has the calling thread run whenever the thread that it works for does not: before ordinary ones where that is allowed,
/// and with time slices so long that the other one, on waking up, preempts it (Linux 6.12).
pub(crate) fn set_second_priority() -> bool {
    set_attributes(-5, LONG_SLICE_NS) || set_attributes(0, LONG_SLICE_NS)
}

/// The scheduler's parameters of an ordinary thread, first version (sched_setattr(2)).
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Since 6.12 a thread with a short slice preempts others when it wakes; older kernels ignore it.
const SLICE_NS: u64 = 100_000;

/// The default one of machines with many CPUs.
const LONG_SLICE_NS: u64 = 3_000_000;

fn set_slice(nice: i32) -> bool {
    set_attributes(nice, SLICE_NS)
}

fn set_attributes(nice: i32, runtime: u64) -> bool {
    let attributes = SchedAttr { size: size_of::<SchedAttr>() as u32, nice, runtime, ..SchedAttr::default() };
    // SAFETY: the kernel reads `size` bytes of `attributes`.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    done == 0
}

/// CPU time of the calling thread, user and system, in ns.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How a thread fared among others: what it waited for a CPU, and how often it was switched away from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contention {
    /// Time for which it could run and waited for a CPU, ns (schedstat); `None`: this kernel does not count it.
    pub run_delay_ns: Option<u64>,
    /// Switches to other threads that it did not ask for (ru_nivcsw).
    pub involuntary_switches: u64,
}

impl Contention {
    /// Adds another thread's.
    pub fn add(&mut self, other: Self) {
        let delays = [self.run_delay_ns, other.run_delay_ns];
        self.run_delay_ns = delays.into_iter().flatten().reduce(|sum, one| sum + one);
        self.involuntary_switches += other.involuntary_switches;
    }
}

/// How the calling thread has fared since it began.
#[must_use]
pub fn thread_contention() -> Contention {
    // Its fields: time on a CPU, time waiting for one, turns (Documentation/scheduler/sched-stats.rst).
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let run_delay_ns = schedstat.and_then(|text| run_delay_ns(&text));
    // SAFETY: rusage is plain old data; all zeroes is a valid one.
    let mut usage: libc::rusage = unsafe { zeroed() };
    // SAFETY: the kernel writes one rusage.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    Contention { run_delay_ns, involuntary_switches: usage.ru_nivcsw as u64 }
}

/// The second field, unless all are zero: then the kernel has the file but does not count.
fn run_delay_ns(schedstat: &str) -> Option<u64> {
    let mut fields = schedstat.split_whitespace().map(|word| word.parse::<u64>().ok());
    let (_, delay, turns) = (fields.next()??, fields.next()??, fields.next()??);
    (turns > 0).then_some(delay)
}

/// Raises the soft limit on open descriptors to the hard one; returns what it is now.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads one rlimit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_does_not_count_is_no_thread_that_never_waited() {
        assert_eq!(run_delay_ns("2 7 1\n"), Some(7));
        assert_eq!(run_delay_ns("5 0 1\n"), Some(0));
        for unknown in ["0 0 0\n", "", "5 x 1", "5 7"] {
            assert_eq!(run_delay_ns(unknown), None, "{unknown}");
        }
    }
}
