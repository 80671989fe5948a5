//! Counters of a run's subintervals, by due time: what a short disturbance of the generator can be cut out of.
//!
//! A request counts in the subinterval in which it was due, and so does its answer, whenever that arrives.

use super::Times;

/// The shortest subinterval: 2^24 ns, 17 ms.
const SHORTEST_SHIFT: u32 = 24;
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
}

impl Subinterval {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.unsent += other.unsent;
        self.answered += other.answered;
        self.slow += other.slow;
        self.lateness_max = self.lateness_max.max(other.lateness_max);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seconds: u64) -> Times {
        let from = 5_000_000_000;
        Times { begin: 0, counted_from: from, end: from + seconds * 1_000_000_000, timeout: 1 }
    }

    #[test]
    fn a_second_has_sixty_of_17_ms() {
        let mut all = Subintervals::new(times(1));
        assert_eq!((all.length_ns(), all.all().len()), (1 << 24, 60));
        all.at((1 << 24) - 1).expect("the first").sent += 1;
        all.at(1 << 24).expect("the second").sent += 2;
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
    fn workers_add_up() {
        let mut sum = Subintervals::default();
        let mut one = Subintervals::new(times(1));
        *one.at(0).expect("the first") = Subinterval { sent: 3, unsent: 1, answered: 2, slow: 1, lateness_max: 7 };
        sum.add(&one);
        one.at(0).expect("the first").lateness_max = 9;
        sum.add(&one);
        let first = Subinterval { sent: 6, unsent: 2, answered: 4, slow: 2, lateness_max: 9 };
        assert_eq!((sum.all()[0], sum.length_ns()), (first, 1 << 24));
    }
}
