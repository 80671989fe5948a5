//! Counters of a run's subintervals, by due time: what a short disturbance of the generator can be cut out of.
//!
//! A request counts in the subinterval in which it was due, and so does its answer, whenever that arrives.

use flatout_net::RunDelay;

use super::Times;

/// The shortest subinterval: 2^22 ns, 4.2 ms; a scheduler's time slice is about as long.
const SHORTEST_SHIFT: u32 = 22;
/// A run has at most so many; in a longer run they are longer.
const MOST: u64 = 4096;

/// What was due in one subinterval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subinterval {
    /// Requests that left.
    pub sent: u64,
    /// Requests that did not leave.
    pub unsent: u64,
    /// Requests answered in time.
    pub answered: u64,
    /// Those of them that were answered later after due than the goal allows.
    pub slow: u64,
    /// The largest lateness of the generator, ns.
    pub lateness_max: u64,
    /// The longest that a thread of the target waited for a CPU, ns; 0 where none can be read.
    pub target_waited: u64,
}

impl Subinterval {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.unsent += other.unsent;
        self.answered += other.answered;
        self.slow += other.slow;
        self.lateness_max = self.lateness_max.max(other.lateness_max);
        self.target_waited = self.target_waited.max(other.target_waited);
    }
}

/// The subintervals of a run, from its counted beginning on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subintervals {
    shift: u32,
    all: Vec<Subinterval>,
}

impl Subintervals {
    /// For the counted time of a run.
    #[must_use]
    pub fn new(times: Times) -> Self {
        let length = times.end.saturating_sub(times.counted_from);
        let mut shift = SHORTEST_SHIFT;
        while length >> shift >= MOST {
            shift += 1;
        }
        let count = (length.max(1) - 1) >> shift;
        Self { shift, all: vec![Subinterval::default(); count as usize + 1] }
    }

    /// The one in which a request was due, `since` ns after the counted beginning.
    #[inline]
    pub fn at(&mut self, since: u64) -> Option<&mut Subinterval> {
        self.all.get_mut((since >> self.shift) as usize)
    }

    /// A thread of the target waited for a CPU for so many ns since the last sample, `first` subintervals after the
    /// counted beginning; returns the first that the next sample is about.
    fn note_wait(&mut self, first: usize, since: u64, ns: u64) -> usize {
        let end = ((since >> self.shift) as usize).min(self.all.len());
        self.all.iter_mut().take(end).skip(first).for_each(|one| one.target_waited = ns);
        end.max(first)
    }

    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        if self.all.is_empty() {
            self.shift = other.shift;
        }
        self.all.resize(self.all.len().max(other.all.len()), Subinterval::default());
        self.all.iter_mut().zip(&other.all).for_each(|(mine, theirs)| mine.add(theirs));
    }

    /// Their length, ns.
    #[must_use]
    pub fn length_ns(&self) -> u64 {
        1 << self.shift
    }

    /// All of them, in order.
    #[must_use]
    pub fn all(&self) -> &[Subinterval] {
        &self.all
    }
}

/// Samples how long the target's threads wait for a CPU, once in each subinterval.
#[derive(Debug)]
pub(super) struct TargetDelay {
    delay: RunDelay,
    /// The subinterval that the next sample is about; `None` before the counted beginning.
    next: Option<usize>,
}

impl TargetDelay {
    pub(super) fn new(delay: RunDelay) -> Self {
        Self { delay, next: None }
    }

    /// To be called every ms; `since`: ns since the counted beginning, `None` before it.
    #[inline]
    pub(super) fn tick(&mut self, since: Option<u64>, subintervals: &mut Subintervals) {
        let Some(since) = since.filter(|_| !self.delay.is_empty()) else { return };
        match self.next {
            None => {
                // What was waited until now was before the count.
                self.delay.since_last();
                self.next = Some(0);
            }
            Some(next) if (since >> subintervals.shift) as usize > next => {
                self.next = Some(subintervals.note_wait(next, since, self.delay.since_last()));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seconds: u64) -> Times {
        let from = 5_000_000_000;
        Times { begin: 0, counted_from: from, end: from + seconds * 1_000_000_000, timeout: 1 }
    }

    #[test]
    fn a_second_has_239_of_4_ms() {
        let mut all = Subintervals::new(times(1));
        assert_eq!((all.length_ns(), all.all().len()), (1 << 22, 239));
        all.at((1 << 22) - 1).expect("the first").sent += 1;
        all.at(1 << 22).expect("the second").sent += 2;
        assert!(all.at(2_000_000_000).is_none(), "beyond the end");
        assert_eq!(all.all().iter().map(|one| one.sent).take(3).collect::<Vec<_>>(), [1, 2, 0]);
    }

    #[test]
    fn a_long_run_has_a_bounded_number() {
        let all = Subintervals::new(times(86_400));
        assert!(all.all().len() as u64 <= MOST);
        assert!(all.length_ns() * all.all().len() as u64 >= 86_400_000_000_000);
    }

    #[test]
    fn a_wait_is_noted_in_all_subintervals_since_the_last_sample() {
        let mut all = Subintervals::new(times(1));
        let next = all.note_wait(0, 1 << 22, 7);
        let after = all.note_wait(next, (3 << 22) + 5, 9);
        assert_eq!((next, after), (1, 3));
        assert_eq!(all.all().iter().map(|one| one.target_waited).take(4).collect::<Vec<_>>(), [7, 9, 9, 0]);
        assert_eq!(all.note_wait(after, u64::MAX, 1), all.all().len(), "not beyond the end");
    }

    #[test]
    fn workers_add_up() {
        let mut sum = Subintervals::default();
        let mut one = Subintervals::new(times(1));
        *one.at(0).expect("the first") =
            Subinterval { sent: 3, unsent: 1, answered: 2, slow: 1, lateness_max: 7, target_waited: 5 };
        sum.add(&one);
        one.at(0).expect("the first").lateness_max = 9;
        sum.add(&one);
        let first = Subinterval { sent: 6, unsent: 2, answered: 4, slow: 2, lateness_max: 9, target_waited: 5 };
        assert_eq!((sum.all()[0], sum.length_ns()), (first, 1 << 22));
    }
}
