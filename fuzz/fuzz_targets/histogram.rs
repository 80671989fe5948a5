//! The reader of stored histograms, given any bytes.
//!
//! Invariant: it does not panic and never asks for more memory than the largest histogram of HDR tools needs (about
//! 50 MiB; `.ci/fuzz` ends a process at 512); what it accepts can be asked, added to and written, and what is written
//! reads back as the same.
//!
//! Any bytes are tried as they are, and once more packed: the fuzzer would have to guess a checksum otherwise.
#![no_main]

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use flatout_engine::histogram::Durations;
use libfuzzer_sys::fuzz_target;

/// "V2, compressed" (HdrHistogram log format).
const PACKED: [u8; 4] = 0x1c84_9314_u32.to_be_bytes();

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    check(&packed(bytes));
});

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory takes all");
    let body = encoder.finish().expect("memory takes all");
    [&PACKED[..], &(body.len() as u32).to_be_bytes(), &body].concat()
}

fn check(bytes: &[u8]) {
    let Ok(read) = Durations::from_bytes(bytes) else { return };
    assert!(read.min() <= read.max() && read.quantile(0.5) <= read.max());
    assert!(read.mean() >= 0.0 && read.count_above(0) <= read.count() && read.count_above(read.max()) == 0);

    let mut sum = Durations::new();
    sum.add(&read);
    sum.add(&read);
    assert_eq!(sum.count(), read.count().saturating_mul(2));

    let again = Durations::from_bytes(&read.to_bytes()).expect("its own writing");
    assert_eq!((again.count(), again.min(), again.max()), (read.count(), read.min(), read.max()));
}
