//! Follows the sequence numbers of many senders: what is missing, what came twice, what came late.
//!
//! Method: a table of sets of eight places, made once, of zeroed memory that costs nothing until a sender needs it. A
//! sender's number names its set and the place tried first, so that senders that are numbered densely lie densely.
//! Where a set is full, the sender that was silent longest is forgotten, and that is counted.
//!
//! Rules: the first number of a sender is its beginning. Up to [`FAR`] ahead, or a quarter of all numbers, is a gap.
//! Up to 64 behind is told apart: seen before or late. Anything else is a jump, which is counted. Where the sender's
//! next number follows that one, it has begun again there; where a later one follows what was left, it was stragglers
//! that came, and all goes on as before. Where several threads read one socket, numbers come in any order: there up to
//! [`BEHIND`] behind is late, and no sender restarts so near.

/// The longest gap: 4 s at a million a second, and less than the step from one number to the next of 4 bytes that are
/// read in the wrong order.
const FAR: u64 = 1 << 22;
/// How far a thread may be behind another that reads the same socket.
const BEHIND: u64 = 1 << 16;
/// How many of the latest numbers are told apart.
const WINDOW: u64 = 64;
const WAYS: usize = 8;
/// A place: the sender, its highest number, which of the 64 up to that have come, and what [`Mark`] says.
const WORDS: usize = 4;
const PAGE: usize = 4096;
/// The widest suspect.
const SUSPECT: u64 = (1 << 31) - 1;

type Slot = [u64; WORDS];

/// What has been found out about sequence numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceCounters {
    /// Numbers that had come before.
    pub duplicate: u64,
    /// Numbers that came after a higher one.
    pub reordered: u64,
    /// Numbers left out so far.
    pub missing: u64,
    /// Numbers too far from the sender's others to be a gap.
    pub restarts: u64,
    /// Messages whose sender found no place, or only by having another forgotten.
    pub untracked: u64,
    /// Senders that were given a place. A sender that was forgotten and returns counts again.
    pub senders: u64,
    /// How often a sender has begun: each once, and once more in each epoch.
    pub begun: u64,
}

/// The last word of a place: when it was used, in which epoch (0: the place is free), how many numbers back its
/// beginning is (at most 64), and the number after which the sender is believed to have begun again.
#[derive(Clone, Copy)]
struct Mark(u64);

impl Mark {
    fn new(fresh: u32, age: u64) -> Self {
        Self(u64::from(fresh) | age << 24)
    }

    fn used(self) -> u16 {
        self.0 as u16
    }

    fn epoch(self) -> u8 {
        (self.0 >> 16) as u8
    }

    fn age(self) -> u64 {
        self.0 >> 24 & 0xff
    }

    fn suspect(self) -> Option<u64> {
        (self.0 >> 63 == 1).then_some(self.0 >> 32 & SUSPECT)
    }

    /// Of the same sender at another time, its beginning so much further back.
    fn refreshed(self, fresh: u32, step: u64) -> Self {
        let age = self.age().saturating_add(step).min(WINDOW);
        Self(self.0 & !u64::from(u32::MAX) | Self::new(fresh, age).0)
    }

    fn suspecting(self, number: u64) -> Self {
        Self(self.0 & u64::from(u32::MAX) | (number & SUSPECT) << 32 | 1 << 63)
    }
}

/// The senders that are followed.
#[derive(Debug)]
pub(crate) struct SequenceTracker {
    table: Vec<u64>,
    /// Words before the first set, so that sets begin with a cache line.
    skew: usize,
    set_bits: u32,
    /// All bits of a sequence number.
    numbers: u64,
    far: u64,
    /// Up to how far behind a number is late.
    late: u64,
    most: usize,
    live: usize,
    /// Now and the epoch, as marks have them.
    fresh: u32,
    counts: SequenceCounters,
    /// Which pages of the table are in use, a bit each.
    pages: Vec<u64>,
    touched: usize,
}

impl SequenceTracker {
    /// Up to `most` senders whose numbers have `bits` bits; `shared`: several threads read what they sent.
    pub(crate) fn new(most: usize, bits: u32, shared: bool) -> Self {
        let sets = (most.clamp(1, 1 << 40) * 2).div_ceil(WAYS).next_power_of_two();
        let words = sets * WAYS * WORDS;
        let table = vec![0_u64; words + WAYS];
        let skew = table.as_ptr().align_offset(64).min(WAYS);
        let numbers = u64::MAX >> (64 - bits.clamp(1, 64));
        let near = |bound: u64| bound.min(numbers / 4 + 1);
        Self {
            table,
            skew,
            set_bits: sets.trailing_zeros(),
            numbers,
            far: near(FAR),
            late: if shared { near(BEHIND) } else { WINDOW - 1 },
            most: most.max(1),
            live: 0,
            fresh: 1 << 16,
            counts: SequenceCounters::default(),
            pages: vec![0; (words * 8).div_ceil(PAGE).div_ceil(64)],
            touched: 0,
        }
    }

    /// What comes now comes at `unix_ns` and in this epoch: no number continues one of another epoch.
    pub(crate) fn begin(&mut self, unix_ns: u64, epoch: u64) {
        // Some 17 ms a tick, so that it takes 18 minutes until a sender of old looks new.
        let tick = (unix_ns >> 24) as u16;
        self.fresh = u32::from(tick) | (1 + (epoch % 255) as u32) << 16;
    }

    /// What has been found out so far.
    pub(crate) fn counts(&self) -> SequenceCounters {
        self.counts
    }

    /// Memory in use, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.touched * PAGE + self.pages.len() * 8
    }

    /// Notes a number of a sender that cannot be told from others.
    pub(crate) fn pass_over(&mut self) {
        self.counts.untracked += 1;
    }

    /// Notes a number of a sender.
    #[inline]
    pub(crate) fn follow(&mut self, sender: u64, number: u64) {
        let at = self.skew + self.set(sender) * (WAYS * WORDS);
        let fresh = self.fresh;
        let Some(set) = self.table.get_mut(at..at + WAYS * WORDS) else { return };
        let slots = set.as_chunks_mut::<WORDS>().0;
        let home = (sender % WAYS as u64) as usize;
        // The usual case: the place tried first, heard of in this tick, the next number.
        if let Some(slot) = slots.get_mut(home)
            && slot[0] == sender
            && slot[3] as u32 == (fresh | (WINDOW as u32) << 24)
            && number == (slot[1].wrapping_add(1) & self.numbers)
        {
            slot[1] = number;
            slot[2] = slot[2] << 1 | 1;
            return;
        }
        match slots.iter_mut().find(|slot| slot[0] == sender && Mark(slot[3]).epoch() != 0) {
            Some(slot) if Mark(slot[3]).epoch() == (fresh >> 16) as u8 => {
                let bounds = Bounds { numbers: self.numbers, far: self.far, late: self.late };
                classify_number(slot, number, fresh, &bounds, &mut self.counts);
            }
            Some(slot) => {
                *slot = beginning(sender, number, fresh);
                self.counts.begun += 1;
            }
            None => self.admit(at, sender, number),
        }
    }

    /// Which set a sender belongs to.
    #[inline]
    fn set(&self, sender: u64) -> usize {
        if self.set_bits == 0 {
            return 0;
        }
        let most = (1 << self.set_bits) - 1;
        let mut set = sender / WAYS as u64;
        while set > most {
            set = (set & most) ^ (set >> self.set_bits);
        }
        set as usize
    }

    /// Finds a place for a sender that has none.
    #[cold]
    fn admit(&mut self, at: usize, sender: u64, number: u64) {
        let Some(set) = self.table.get_mut(at..at + WAYS * WORDS) else { return };
        let slots = set.as_chunks_mut::<WORDS>().0;
        let home = (sender % WAYS as u64) as usize;
        let is_free = |slot: &Slot| Mark(slot[3]).epoch() == 0;
        let free = (0..WAYS).map(|n| (home + n) % WAYS).find(|n| slots.get(*n).is_some_and(is_free));
        let way = match free {
            Some(way) if self.live < self.most => {
                self.live += 1;
                way
            }
            _ => {
                let idle = |slot: &Slot| idle(Mark(slot[3]), self.fresh);
                let oldest = slots.iter().enumerate().filter(|(_, slot)| !is_free(slot));
                let Some((way, slot)) = oldest.max_by_key(|(_, slot)| idle(slot)) else {
                    self.counts.untracked += 1;
                    return;
                };
                // A sender last seen in another epoch is forgotten anyway.
                self.counts.untracked += u64::from(idle(slot) != u32::MAX);
                way
            }
        };
        if let Some(slot) = slots.get_mut(way) {
            *slot = beginning(sender, number, self.fresh);
            self.counts.senders += 1;
            self.counts.begun += 1;
        }
        self.touch((at - self.skew + way * WORDS) * 8);
    }

    fn touch(&mut self, byte: usize) {
        let page = byte / PAGE;
        if let Some(word) = self.pages.get_mut(page / 64) {
            let bit = 1 << (page % 64);
            self.touched += usize::from(*word & bit == 0);
            *word |= bit;
        }
    }
}

/// For how long nothing was heard, in ticks; the longest where the place is of another epoch.
fn idle(mark: Mark, fresh: u32) -> u32 {
    if mark.epoch() == (fresh >> 16) as u8 { u32::from((fresh as u16).wrapping_sub(mark.used())) } else { u32::MAX }
}

fn beginning(sender: u64, number: u64, fresh: u32) -> Slot {
    [sender, number, 1, Mark::new(fresh, 1).0]
}

/// What numbers there are, and what their distances mean.
struct Bounds {
    numbers: u64,
    far: u64,
    late: u64,
}

/// What a number says after those before it.
fn classify_number(slot: &mut Slot, number: u64, fresh: u32, bounds: &Bounds, counts: &mut SequenceCounters) {
    let Bounds { numbers, far, late } = *bounds;
    let [_, highest, seen, word] = slot;
    let mark = Mark(*word);
    let ahead = number.wrapping_sub(*highest) & numbers;
    let behind = highest.wrapping_sub(number) & numbers;
    let after = || {
        let after = number.wrapping_sub(mark.suspect()?) & numbers & SUSPECT;
        (1..=WINDOW).contains(&after).then_some(after)
    };
    if (1..=WINDOW).contains(&ahead) || ((1..=far).contains(&ahead) && after().is_none()) {
        counts.missing += ahead - 1;
        (*highest, *seen) = (number, shifted(*seen, ahead));
        *word = mark.refreshed(fresh, ahead).0;
    } else if behind < WINDOW && *seen >> behind & 1 == 1 {
        counts.duplicate += 1;
        *word = mark.refreshed(fresh, 0).0;
    } else if behind <= late {
        counts.reordered += 1;
        // Numbers before the sender's beginning have not been missed.
        let missed = behind < mark.age() || behind >= WINDOW;
        counts.missing = counts.missing.saturating_sub(missed.into());
        *seen |= 1_u64.checked_shl(behind as u32).unwrap_or(0);
        *word = mark.refreshed(fresh, 0).0;
    } else if let Some(after) = after() {
        counts.missing += after - 1;
        *word = Mark::new(fresh, (after + 1).min(WINDOW)).suspecting(*highest).0;
        (*highest, *seen) = (number, shifted(1, after));
    } else {
        counts.restarts += 1;
        *word = mark.refreshed(fresh, 0).suspecting(number).0;
    }
}

fn shifted(seen: u64, by: u64) -> u64 {
    if by < WINDOW { seen << by | 1 } else { 1 }
}
