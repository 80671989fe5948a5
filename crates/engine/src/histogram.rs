//! Distributions of durations: HDR histograms of 3 digits from 1 ns to 100 s, all alike, so that they add exactly.

use std::io::Read;

use flate2::read::ZlibDecoder;
use flatout_wire::Timing;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// Longer durations count as this one.
pub const LONGEST_NS: u64 = 100_000_000_000;
const DIGITS: u8 = 3;
/// How many bands of [`Durations::bands`] lie between 1 µs and 10 µs, and so on.
const BANDS_A_DECADE: f64 = 10.0;
/// The log format V2 begins with one of these (HdrHistogram's own number for each format).
const PLAIN: u32 = 0x1c84_9313;
const PACKED: u32 = 0x1c84_9314;
/// Cookie, payload's length, offset, digits, bounds and ratio of the V2 format come before the counts.
const HEADER: usize = 40;
/// No histogram is read further than this once unpacked: some 100 times what ours can need.
const MOST_BYTES: u64 = 32 << 20;
/// More samples than this no run has, and sums of a thousand such still fit.
const MOST_SAMPLES: u64 = 1 << 53;

/// A distribution of durations in ns.
#[derive(Clone, Debug)]
pub struct Durations(Histogram<u64>);

impl Default for Durations {
    fn default() -> Self {
        Self::new()
    }
}

impl Durations {
    /// No samples yet.
    #[must_use]
    pub fn new() -> Self {
        // The bounds are constants that the library accepts, as a test shows; an auto-sized one stands in otherwise.
        let made = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).or_else(|_| Histogram::new(DIGITS));
        Self(made.unwrap_or_else(|_| unreachable!("3 digits are within the library's 0 to 5")))
    }

    /// Counts one duration.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Counts so many equal durations.
    #[inline]
    pub fn record_many(&mut self, ns: u64, count: u64) {
        self.0.saturating_record_n(ns, count);
    }

    /// Adds all samples of another.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds, so nothing can be out of range.
        let _ = self.0.add(&other.0);
    }

    /// Forgets all samples.
    pub fn clear(&mut self) {
        // One that is never used keeps the memory that it was never given.
        if self.count() > 0 {
            self.0.reset();
        }
    }

    /// How many samples.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The least, to the histogram's precision.
    #[must_use]
    pub fn min(&self) -> u64 {
        self.0.min()
    }

    /// The greatest, to the histogram's precision.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.mean()
    }

    /// The value below or at which the fraction `quantile` of the samples lies.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile).min(self.0.max())
    }

    /// How many samples are greater than `ns`, to the histogram's precision.
    #[must_use]
    pub fn count_above(&self, ns: u64) -> u64 {
        self.count() - self.0.count_between(0, ns)
    }

    /// Counts in coarse bands of equal width on a log scale: (band, samples), those with samples only, in order.
    ///
    /// Band n begins at 10^(n/10) ns; what is shorter than 1 ns is in band 0.
    #[must_use]
    pub fn bands(&self) -> Vec<(u8, u64)> {
        let mut bands: Vec<(u8, u64)> = Vec::new();
        for step in self.0.iter_recorded() {
            // A step of the histogram is far narrower than a band: its value says in which it lies.
            let band = ((step.value_iterated_to().max(1) as f64).log10() * BANDS_A_DECADE) as u8;
            match bands.last_mut() {
                Some((last, count)) if *last == band => *count += step.count_at_value(),
                _ => bands.push((band, step.count_at_value())),
            }
        }
        bands
    }

    /// The log format V2, compressed; with base64 around it, what other HDR tools read.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to memory cannot fail, and the counts are in range by construction.
        let _ = V2DeflateSerializer::new().serialize(&self.0, &mut bytes);
        bytes
    }

    /// Reads what [`Durations::to_bytes`] or another HDR tool wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let plain = unpacked(bytes)?;
        check(&plain)?;
        let mut reader = &plain[..];
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut reader).map_err(|e| e.to_string())?;
        let mut made = Self::new();
        made.0.add(&read).map_err(|e| e.to_string())?;
        Ok(made)
    }
}

/// The plain form. The library would make room for what a packed histogram claims to be, up to 4 GiB.
fn unpacked(bytes: &[u8]) -> Result<Vec<u8>, String> {
    if number(bytes, 0) != Some(PACKED) {
        return Ok(bytes.to_vec());
    }
    let mut plain = Vec::new();
    let packed = bytes.get(8..).unwrap_or_default();
    ZlibDecoder::new(packed).take(MOST_BYTES).read_to_end(&mut plain).map_err(|e| e.to_string())?;
    Ok(plain)
}

/// What the library takes on trust: that counts are as long as the header says, and that they can be added up.
fn check(plain: &[u8]) -> Result<(), String> {
    if number(plain, 0) != Some(PLAIN) {
        return Err("this is no histogram in HDR's log format V2".into());
    }
    let length = number(plain, 4).unwrap_or_default() as usize;
    let mut counts =
        plain.get(HEADER..).and_then(|remaining| remaining.get(..length)).ok_or("the histogram is cut off")?;
    let mut sum = 0_u64;
    while !counts.is_empty() {
        let (count, remaining) = next_count(counts);
        // Negative: so many empty places are passed over.
        sum = sum.saturating_add(count.max(0) as u64);
        if count == i64::MIN || sum > MOST_SAMPLES {
            return Err("the histogram's counts make no sense".into());
        }
        counts = remaining;
    }
    Ok(())
}

/// The first count: zigzag, little end first, seven bits a byte and all eight of the ninth.
fn next_count(counts: &[u8]) -> (i64, &[u8]) {
    let longest = counts.get(..9).unwrap_or(counts);
    let length = longest.iter().take(8).position(|byte| *byte < 0x80).map_or(longest.len(), |last| last + 1);
    let bits = |(n, byte): (usize, &u8)| u64::from(if n < 8 { byte & 0x7f } else { *byte }) << (7 * n);
    let packed = longest.iter().take(length).enumerate().map(bits).fold(0, |sum, part| sum | part);
    ((packed >> 1) as i64 ^ -((packed & 1) as i64), counts.get(length..).unwrap_or_default())
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|found| u32::from_be_bytes(*found))
}

/// A distribution of times that may be negative: both sides apart, so that they add exactly as durations do.
#[derive(Clone, Debug, Default)]
pub struct Offsets {
    /// Those below 0, as durations.
    pub behind: Durations,
    /// Those from 0 on.
    pub ahead: Durations,
}

impl Offsets {
    /// Counts one, in ns.
    pub fn record(&mut self, ns: i64) {
        let side = if ns < 0 { &mut self.behind } else { &mut self.ahead };
        side.record(ns.unsigned_abs());
    }

    /// Adds all samples of another.
    pub fn add(&mut self, other: &Self) {
        self.behind.add(&other.behind);
        self.ahead.add(&other.ahead);
    }

    /// Forgets all samples.
    pub fn clear(&mut self) {
        self.behind.clear();
        self.ahead.clear();
    }
}

/// The distributions of a run.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// From due to answer.
    pub from_due: Durations,
    /// From sent to answer.
    pub from_sent: Durations,
    /// From due to sent: the generator's own.
    pub lateness: Durations,
    /// From the kernel's stamp of an answer to its reading.
    pub reading: Durations,
    /// From the server's receive stamp to its transmit stamp.
    pub response: Durations,
    /// How far the server's clock is ahead.
    pub offset: Offsets,
}

impl Recorder {
    /// Whether there are no samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from_due.count() + self.from_sent.count() + self.lateness.count() == 0
    }

    /// Records what an answer says of the server's time.
    #[inline]
    pub fn note_timing(&mut self, timing: Timing) {
        self.response.record(timing.response_ns);
        if let Some(ns) = timing.offset_ns {
            self.offset.record(ns);
        }
    }

    /// Adds all samples of another.
    pub fn add(&mut self, other: &Self) {
        self.from_due.add(&other.from_due);
        self.from_sent.add(&other.from_sent);
        self.lateness.add(&other.lateness);
        self.reading.add(&other.reading);
        if other.response.count() > 0 {
            self.response.add(&other.response);
            self.offset.add(&other.offset);
        }
    }

    /// Forgets all samples.
    pub fn clear(&mut self) {
        self.from_due.clear();
        self.from_sent.clear();
        self.lateness.clear();
        self.reading.clear();
        self.response.clear();
        self.offset.clear();
    }
}
