//! Lists of prefixes: what they say of an address, found in a few steps however long they are.
//!
//! Method: nested prefixes become ranges that do not overlap, sorted; the most specific prefix decides. For v4 a table
//! of the first 16 bits leads to the few ranges there.

use std::net::IpAddr;

use flatout_net::DriverLists;

/// What lists say of an address. Of two prefixes that are the same the later of these decides; the
/// network driver has them as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// It is answered.
    Allowed,
    /// It is not answered.
    Denied,
    /// It is always answered, whatever the limits and other lists say.
    First,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Prefixes {
    /// Where each range begins; the first one at 0.
    v4: Box<[u32]>,
    v4_classes: Box<[Class]>,
    /// For each value of the first 16 bits: how many ranges begin before the addresses with them.
    index: Box<[u32]>,
    v6: Box<[u128]>,
    v6_classes: Box<[Class]>,
}

const HALVES: usize = 1 << 16;
/// The bits of ::ffff:0:0/96, which v4-mapped addresses have in common.
const MAPPED: u8 = 96;

impl Prefixes {
    /// Of (address, bits, class); an address that no prefix covers has the class `other`.
    pub(super) fn new(prefixes: &[(IpAddr, u8, Class)], other: Class) -> Self {
        let canonical = || prefixes.iter().map(|(address, bits, class)| (canonical(*address, *bits), *class));
        let v4 = canonical().filter_map(|((address, bits), class)| match address {
            IpAddr::V4(v4) => Some((u128::from(u32::from(v4)), 32_u32.saturating_sub(bits.into()), class)),
            IpAddr::V6(_) => None,
        });
        let v6 = canonical().filter_map(|((address, bits), class)| match address {
            IpAddr::V6(v6) => Some((u128::from(v6), 128_u32.saturating_sub(bits.into()), class)),
            IpAddr::V4(_) => None,
        });
        let (v4, v6) = (ranges(v4.map(bounds).collect(), other), ranges(v6.map(bounds).collect(), other));
        let starts: Box<[u32]> = v4.iter().filter_map(|(start, _)| u32::try_from(*start).ok()).collect();
        let before = |half: usize| starts.partition_point(|start| (*start >> 16) < half as u32) as u32;
        Self {
            index: (0..=HALVES).map(before).collect(),
            v4_classes: v4.iter().take(starts.len()).map(|(_, class)| *class).collect(),
            v4: starts,
            v6: v6.iter().map(|(start, _)| *start).collect(),
            v6_classes: v6.iter().map(|(_, class)| *class).collect(),
        }
    }

    /// The same for a program in the network driver.
    pub(super) fn for_driver(&self) -> DriverLists {
        let v4 = self.v4.iter().zip(&self.v4_classes).map(|(begin, class)| (*begin, *class as u8));
        let v6 = self.v6.iter().zip(&self.v6_classes).map(|(begin, class)| (*begin, *class as u8));
        let index = self.index.windows(2).map(|bounds| (bounds[0], bounds[1]));
        DriverLists { index: index.collect(), v4: v4.collect(), v6: v6.collect() }
    }

    /// What they say of `address`.
    #[inline]
    pub(super) fn class(&self, address: IpAddr) -> Class {
        match address {
            IpAddr::V4(v4) => {
                let v4 = u32::from(v4);
                let half = (v4 >> 16) as usize;
                let (from, until) = (self.index[half] as usize, self.index[half + 1] as usize);
                let at = from + self.v4[from..until].partition_point(|start| *start <= v4);
                self.v4_classes[at - 1]
            }
            IpAddr::V6(v6) => {
                let at = self.v6.partition_point(|start| *start <= u128::from(v6));
                self.v6_classes[at - 1]
            }
        }
    }
}

/// A prefix of v4-mapped addresses is one of v4, as clients are; a shorter one, such as ::/0, is of v6 clients alone.
fn canonical(address: IpAddr, bits: u8) -> (IpAddr, u8) {
    match (address.to_canonical(), address) {
        (IpAddr::V4(v4), IpAddr::V6(_)) if bits >= MAPPED => (IpAddr::V4(v4), bits - MAPPED),
        _ => (address, bits),
    }
}

/// The first and the last address of a prefix, given the bits behind it.
fn bounds((address, behind, class): (u128, u32, Class)) -> (u128, u128, Class) {
    let low = 1_u128.checked_shl(behind).map_or(u128::MAX, |size| size - 1);
    (address & !low, address | low, class)
}

/// Ranges that do not overlap, by where they begin; the first begins at 0.
fn ranges(mut prefixes: Vec<(u128, u128, Class)>, other: Class) -> Vec<(u128, Class)> {
    // A prefix comes before those inside it, and of equal ones the deciding one last.
    prefixes.sort_unstable_by_key(|(first, last, class)| (*first, u128::MAX - last, *class));
    let mut made = vec![(0, other)];
    let mut open: Vec<(u128, Class)> = Vec::new();
    let inner = |open: &[(u128, Class)]| match open.last() {
        _ if open.iter().any(|(_, class)| *class == Class::First) => Class::First,
        Some((_, class)) => *class,
        None => other,
    };
    for (first, last, class) in prefixes {
        close(&mut open, Some(first), &mut made, inner);
        open.push((last, class));
        begin(&mut made, first, inner(&open));
    }
    close(&mut open, None, &mut made, inner);
    made
}

/// Ends the open prefixes that end before `next`.
fn close(
    open: &mut Vec<(u128, Class)>,
    next: Option<u128>,
    made: &mut Vec<(u128, Class)>,
    inner: impl Fn(&[(u128, Class)]) -> Class,
) {
    while let Some((last, _)) = open.last().copied()
        && next.is_none_or(|next| last < next)
    {
        open.pop();
        if let Some(behind) = last.checked_add(1) {
            begin(made, behind, inner(open));
        }
    }
}

/// From `start` on it is `class`.
fn begin(made: &mut Vec<(u128, Class)>, start: u128, class: Class) {
    if made.last().is_some_and(|(last, _)| *last == start) {
        made.pop();
    }
    if made.last().is_none_or(|(_, last)| *last != class) {
        made.push((start, class));
    }
}
