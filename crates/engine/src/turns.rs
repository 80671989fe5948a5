//! Which requests of a schedule are whose: every n-th for equal shares, and for unequal ones as even as can be.
//!
//! Method: request r stands at r·step modulo the total, and belongs to the portion whose range that falls into. The step
//! is near the golden section of the total and coprime to it, so every place is met once in a period and a range is met
//! evenly. The gaps between two requests of one range have three lengths at most (three-gap theorem; Sós, 1958), so the
//! next one is known without a search.

/// A part of the whole by weight: the units from `before` on, `mine` of `total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject))]
pub struct Portion {
    /// Units of those who come before.
    pub before: u64,
    /// Units, at least one.
    pub mine: u64,
    /// All units.
    pub total: u64,
}

impl Portion {
    /// The n-th of so many equal parts of it, in units that are smaller by as much. All portions of a whole must be
    /// divided by the same number.
    #[must_use]
    pub fn part(self, n: usize, of: usize) -> Self {
        let (n, of) = (n as u64, of as u64);
        Self { before: self.before * of + self.mine * n, mine: self.mine, total: self.total * of }
    }

    /// Its share of the whole.
    #[must_use]
    pub fn fraction(self) -> f64 {
        self.mine as f64 / self.total as f64
    }
}

/// The requests of one worker, as gaps.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    /// Where the present request stands in the worker's range, and the range's length.
    at: u64,
    mine: u64,
    /// The fewest requests after which one stands further ahead in the range, and by how much.
    ahead: (u64, u64),
    /// The same further back.
    back: (u64, u64),
}

impl Turns {
    /// Every `of`-th request.
    #[must_use]
    pub fn every(of: u64) -> Self {
        Self { at: 0, mine: 1, ahead: (of, 0), back: (of, 0) }
    }

    /// The requests of a portion, and the number of the first one.
    #[must_use]
    pub fn of(portion: Portion) -> (u64, Self) {
        let Portion { before, total, .. } = portion;
        let (mine, step) = (portion.mine.min(total), step(total));
        let within = |request: u64| ((u128::from(request) * u128::from(step)) % u128::from(total)) as u64;
        let place = |request: u64| (within(request) + total - before % total) % total;
        let first = (0..total).find(|&request| place(request) < mine).unwrap_or(0);
        // After a whole period a request stands where it stood.
        let ahead = (1..=total).find(|&gap| within(gap) < mine).unwrap_or(total);
        let back = (1..=total).find(|&gap| (total - within(gap)) % total < mine).unwrap_or(total);
        let turns = Self {
            at: place(first),
            mine,
            ahead: (ahead, within(ahead)),
            back: (back, (total - within(back)) % total),
        };
        (first, turns)
    }

    /// How many requests further on the worker's next one is.
    pub fn gap(&mut self) -> u64 {
        let ((ahead, forth), (back, behind)) = (self.ahead, self.back);
        let (may_go_ahead, may_go_back) = (self.at + forth < self.mine, self.at >= behind);
        if may_go_ahead && (ahead <= back || !may_go_back) {
            self.at += forth;
            ahead
        } else if may_go_back {
            self.at -= behind;
            back
        } else {
            self.at = self.at + forth - behind;
            ahead + back
        }
    }
}

/// Near the golden section of the total, and coprime to it.
fn step(total: u64) -> u64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let near = (total as f64 * GOLDEN) as u64;
    (near.max(1)..).find(|&step| coprime(step, total)).unwrap_or(1)
}

fn coprime(mut one: u64, mut other: u64) -> bool {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one == 1
}
