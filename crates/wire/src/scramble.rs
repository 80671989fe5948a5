//! A keyed permutation of 64-bit numbers, which makes requests unguessable.

/// Odd, so that multiplication permutes; from Steele, Lea and Flood, "Fast splittable generators" (2014).
const MIX: u64 = 0xbf58_476d_1ce4_e5b9;
const UNMIX: u64 = inverse(MIX);

/// A permutation of 64 bits that spreads nearby numbers; [`unscramble`] inverts it.
#[must_use]
pub(crate) fn scramble(plain: u64, key: u64) -> u64 {
    let mixed = (plain ^ key).wrapping_mul(MIX);
    (mixed ^ mixed >> 32).wrapping_mul(MIX)
}

/// The inverse of [`scramble`] with the same key.
#[must_use]
pub(crate) fn unscramble(mixed: u64, key: u64) -> u64 {
    let mixed = mixed.wrapping_mul(UNMIX);
    (mixed ^ mixed >> 32).wrapping_mul(UNMIX) ^ key
}

/// The inverse of an odd number modulo 2^64, by Newton's iteration.
const fn inverse(odd: u64) -> u64 {
    let mut found = odd;
    let mut step = 0;
    while step < 5 {
        found = found.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(found)));
        step += 1;
    }
    found
}
