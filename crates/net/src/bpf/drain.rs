//! Takes all entries out of a hash map of the kernel's in one call (`BPF_MAP_LOOKUP_AND_DELETE_BATCH`, Linux 5.6).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::MapData;

const LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;

/// Keys and values.
pub(super) type Entries<const K: usize, const V: usize> = Vec<([u8; K], [u8; V])>;

/// The part of `union bpf_attr` for batches.
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Empties a map whose keys have `K` bytes and whose values `V`, and that has room for `most` entries.
pub(super) fn drain<const K: usize, const V: usize>(map: &MapData, most: usize) -> io::Result<Entries<K, V>> {
    let mut keys = vec![[0_u8; K]; most];
    let mut values = vec![[0_u8; V]; most];
    // The kernel writes here where it stopped, which is of no interest.
    let mut stopped = 0_u64;
    let mut batch = Batch {
        in_batch: 0,
        out_batch: (&raw mut stopped).expose_provenance() as u64,
        keys: keys.as_mut_ptr().expose_provenance() as u64,
        values: values.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(most).unwrap_or(u32::MAX),
        map_fd: map.fd().as_fd().as_raw_fd() as u32,
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: `batch` lives through the call and has the size that is given; the buffers have room for `count` entries
    // of K and V bytes, the map's sizes in its C source, and `stopped` for a position.
    let done = unsafe { libc::syscall(libc::SYS_bpf, LOOKUP_AND_DELETE_BATCH, &raw mut batch, size_of::<Batch>()) };
    let error = io::Error::last_os_error();
    // "No entry" says that all of them were taken.
    if done != 0 && error.raw_os_error() != Some(libc::ENOENT) {
        return Err(error);
    }
    keys.truncate(batch.count as usize);
    Ok(keys.into_iter().zip(values).collect())
}
