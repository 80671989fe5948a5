//! The running kernel's description of its own types (BTF): where fields are, which tracepoints and enums there are.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use aya::{Btf, Endianness};

use super::{BpfError, Obstacle};

/// Where kernels since 5.4 have it, if they are built with CONFIG_DEBUG_INFO_BTF.
pub const BTF_OF_KERNEL: &str = "/sys/kernel/btf/vmlinux";
const HEADER: usize = 24;
const KIND_ENUM: u32 = 6;

/// The kernel's types.
#[derive(Debug)]
pub(super) struct KernelTypes {
    pub(super) parsed: Btf,
    raw: Vec<u8>,
}

impl KernelTypes {
    /// Reads them from a file such as [`BTF_OF_KERNEL`].
    pub(super) fn read(path: &Path) -> Result<Self, BpfError> {
        let raw = fs::read(path).map_err(|error| {
            let why = match error.kind() {
                ErrorKind::NotFound => "does not exist (CONFIG_DEBUG_INFO_BTF)".to_owned(),
                _ => format!("cannot be read: {error}"),
            };
            BpfError::new(Obstacle::NoBtf, format!("the kernel does not describe its types: {} {why}", path.display()))
        })?;
        let parsed = Btf::parse(&raw, Endianness::default()).map_err(|error| {
            let text = format!("{} is not a description of types: {error}", path.display());
            BpfError::new(Obstacle::NoBtf, text)
        })?;
        Ok(Self { parsed, raw })
    }

    /// The names of an enum's values; None where the kernel has no such enum.
    pub(super) fn enum_names(&self, name: &str) -> Option<BTreeMap<u32, String>> {
        enum_names(&self.raw, name)
    }
}

/// The names of an enum's values in raw BTF (Documentation/bpf/btf.rst); None where it has none, or is cut off.
fn enum_names(raw: &[u8], name: &str) -> Option<BTreeMap<u32, String>> {
    let header: Vec<usize> = [4, 8, 12, 16, 20].iter().filter_map(|at| word(raw, *at)).map(|n| n as usize).collect();
    let [length, types_at, types_length, strings_at, strings_length] = *header.as_slice() else { return None };
    if length < HEADER {
        return None;
    }
    let types = part(raw, length.checked_add(types_at)?, types_length)?;
    let strings = part(raw, length.checked_add(strings_at)?, strings_length)?;
    let mut at = 0;
    while at < types.len() {
        let (title, info) = (word(types, at)?, word(types, at + 4)?);
        let (kind, entries) = (info >> 24 & 31, (info & 0xffff) as usize);
        at += 12;
        if kind == KIND_ENUM && entries > 0 && text(strings, title)? == name {
            let found = (0..entries).map(|entry| {
                let value = at + entry * 8;
                Some((word(types, value + 4)?, text(strings, word(types, value)?)?.to_owned()))
            });
            return found.collect();
        }
        at += trailing(kind, entries)?;
    }
    None
}

/// How many bytes follow the common part of a type.
fn trailing(kind: u32, entries: usize) -> Option<usize> {
    match kind {
        // Integer, variable, tag of a declaration.
        1 | 14 | 17 => Some(4),
        // Array.
        3 => Some(12),
        // Struct, union, section of data, 64-bit enum.
        4 | 5 | 15 | 19 => Some(entries * 12),
        // Enum, parameters of a function.
        6 | 13 => Some(entries * 8),
        0 | 20.. => None,
        _ => Some(0),
    }
}

fn part(raw: &[u8], at: usize, length: usize) -> Option<&[u8]> {
    raw.get(at..at.checked_add(length)?)
}

fn word(raw: &[u8], at: usize) -> Option<u32> {
    let bytes: [u8; 4] = raw.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

fn text(strings: &[u8], at: u32) -> Option<&str> {
    let rest = strings.get(at as usize..)?;
    std::str::from_utf8(rest.split(|byte| *byte == 0).next()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BTF with an integer, an empty forward of the enum, and the enum.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0skb_drop_reason\0SKB_A\0SKB_B\0";
        let types: [u32; 14] = [
            1,
            1 << 24,
            4,
            32, // int
            5,
            6 << 24,
            4, // a forward declaration
            5,
            6 << 24 | 2,
            4,
            21,
            2,
            27,
            70000,
        ];
        let header: [u32; 5] = [24, 0, 56, 56, strings.len() as u32];
        let mut raw = vec![0x9f, 0xeb, 1, 0];
        for number in header.iter().chain(&types) {
            raw.extend(number.to_ne_bytes());
        }
        raw.extend(strings);
        raw
    }

    #[test]
    fn names_of_an_enum() {
        let found = enum_names(&sample(), "skb_drop_reason");
        assert_eq!(found, Some(BTreeMap::from([(2, "SKB_A".to_owned()), (70000, "SKB_B".to_owned())])));
        assert_eq!(enum_names(&sample(), "another"), None);
    }

    #[test]
    fn no_input_makes_it_panic() {
        let whole = sample();
        for length in 0..whole.len() {
            let _ = enum_names(&whole[..length], "skb_drop_reason");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[at] = value;
                let _ = enum_names(&broken, "skb_drop_reason");
            }
        }
    }

    #[test]
    fn a_missing_file_and_one_of_something_else() {
        for (path, words) in [("/nonexistent/vmlinux", "does not exist"), ("/proc/version", "not a description")] {
            let error = KernelTypes::read(Path::new(path)).expect_err(path);
            assert_eq!(error.obstacle, Obstacle::NoBtf);
            assert!(error.text.contains(words), "{error}");
        }
    }
}
