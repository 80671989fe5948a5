//! Counts the packets of ports as they come and go: the program of `bpf/watch.bpf.c`.

use std::collections::HashMap as StdHashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aya::maps::{Array, MapData, PerCpuArray};

use super::drain::drain;
use super::{BpfError, KernelTypes, Loaded, Obstacle, object};

const OBJECT: &[u8] = object!("watch.bpf.o");
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
/// As many as `watched` has room for in C.
const PORTS_MAX: usize = 16;
/// Devices with a higher index count as all others do.
const DEVICES_MAX: u32 = 16_384;
/// Bins in a second, and in the ring.
const BINS: usize = 64;
const RING: usize = 256;
const PREFIXES: usize = 16_384;
const WORDS: usize = 12;
/// Of the ring in words of 8 bytes: two before the first bin, two for each bin.
const RING_WORDS: usize = 2 + 2 * RING;
type Counts = [u64; WORDS];
type Bins = [u64; RING_WORDS];

/// A port to be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchedPort {
    /// `IPPROTO_UDP` or `IPPROTO_TCP`.
    pub ip_protocol: u8,
    /// In host order.
    pub port: u16,
    /// Which headers are looked at behind the port; 0: none. See `KIND_…` in C.
    pub kind: u8,
}

/// What was counted of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTraffic {
    /// Since the start: packets in over IPv4 and IPv6, packets out; bytes in and out; four counters of the kind.
    pub counts: Counts,
    /// Packets in, by bin of the second that was asked for.
    pub bins_in: Vec<u64>,
    /// Packets out.
    pub bins_out: Vec<u64>,
    /// Bytes in and out of that second.
    pub bytes: [u64; 2],
}

/// Packets of one prefix since the last reading, estimated where only a sample was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Talker {
    /// Which of the ports, by its place in the list.
    pub port: usize,
    /// The first 48 bits of an IPv6 address, or else the first 24 of an IPv4 one.
    pub is_v6: bool,
    /// These bits, as a number.
    pub prefix: u64,
    /// Packets that came from there.
    pub packets: u64,
    /// Their bytes, with IP headers.
    pub bytes: u64,
}

/// The program, counting until it is dropped.
pub struct TrafficCounter {
    ports: usize,
    counts: PerCpuArray<MapData, Counts>,
    bins: PerCpuArray<MapData, Bins>,
    talkers: MapData,
    devices: Array<MapData, u32>,
    settings: Array<MapData, [u32; 2]>,
    set: StdHashMap<u32, u32>,
    present: [u32; 2],
    _program: Loaded,
}

impl TrafficCounter {
    /// Starts counting in the network namespace of this thread. No device counts before `set_devices`.
    ///
    /// # Errors
    /// [`BpfError`] says what forbids it.
    pub fn start(ports: &[WatchedPort], btf: &Path) -> Result<Self, BpfError> {
        let kernel = KernelTypes::read(btf)?;
        let mut watched = [0_u8; 4 * PORTS_MAX];
        for (slot, port) in watched.chunks_exact_mut(4).zip(ports) {
            let [low, high] = port.port.to_ne_bytes();
            slot.copy_from_slice(&[low, high, port.ip_protocol, port.kind]);
        }
        let count = ports.len().min(PORTS_MAX);
        let namespace = fs::metadata(OWN_NAMESPACE)
            .map_err(|error| BpfError::new(Obstacle::Failed, format!("{OWN_NAMESPACE} cannot be read: {error}")))?;
        let globals: [(&str, &[u8]); 4] = [
            ("watched", &watched),
            ("watched_count", &(count as u32).to_ne_bytes()),
            ("netns", &(namespace.ino() as u32).to_ne_bytes()),
            ("tick_ns", &tick_ns().to_ne_bytes()),
        ];
        let mut program = Loaded::open(OBJECT, &globals, &kernel)?;
        let mut counter = Self {
            ports: count,
            counts: program.per_cpu_array("counts")?,
            bins: program.per_cpu_array("bins")?,
            talkers: program.lru_hash("talkers")?,
            devices: program.array("devices")?,
            settings: program.array("settings")?,
            set: StdHashMap::new(),
            present: [1, 0],
            _program: program,
        };
        counter._program.attach("watch_in", "netif_receive_skb", &kernel)?;
        counter._program.attach("watch_out", "net_dev_start_xmit", &kernel)?;
        Ok(counter)
    }

    /// What is counted where, by bits: 1: packets to a port that come from a device, 2: packets from a port that come
    /// from it, 4: packets from a port that go to it. `usual` is for devices that are not in `devices`.
    ///
    /// # Errors
    /// If the kernel does not let its maps be written.
    pub fn set_devices(&mut self, devices: &[(u32, u32)], usual: u32) -> Result<(), BpfError> {
        let wanted: StdHashMap<u32, u32> = devices
            .iter()
            .filter(|(index, _)| *index < DEVICES_MAX)
            .map(|(index, bits)| (*index, bits ^ usual))
            .collect();
        let gone: Vec<u32> = self.set.keys().filter(|index| !wanted.contains_key(index)).copied().collect();
        for (index, bits) in
            gone.into_iter().map(|index| (index, 0)).chain(wanted.iter().map(|(at, bits)| (*at, *bits)))
        {
            if self.set.get(&index) != Some(&bits) {
                self.devices.set(index, bits, 0).map_err(|error| BpfError::of(&error))?;
            }
        }
        self.set = wanted;
        self.settle([self.present[0], usual])
    }

    /// One packet in so many is looked at for its prefix: a power of two.
    ///
    /// # Errors
    /// If the kernel does not let its maps be written.
    pub fn set_sampling(&mut self, gap: u32) -> Result<(), BpfError> {
        self.settle([gap.max(1).next_power_of_two(), self.present[1]])
    }

    fn settle(&mut self, wanted: [u32; 2]) -> Result<(), BpfError> {
        if wanted != self.present || self.set.is_empty() {
            self.settings.set(0, wanted, 0).map_err(|error| BpfError::of(&error))?;
            self.present = wanted;
        }
        Ok(())
    }

    /// What was counted, of each port, with the bins of a second of `CLOCK_MONOTONIC`, which may be 2 s ago at most.
    ///
    /// # Errors
    /// If the kernel does not let its maps be read.
    pub fn traffic(&self, second: u64) -> Result<Vec<PortTraffic>, BpfError> {
        (0..self.ports).map(|port| self.port_traffic(port as u32, second)).collect()
    }

    fn port_traffic(&self, port: u32, second: u64) -> Result<PortTraffic, BpfError> {
        let values = self.counts.get(&port, 0).map_err(|error| BpfError::of(&error))?;
        let mut counts = [0; WORDS];
        for of_cpu in values.iter() {
            counts.iter_mut().zip(of_cpu).for_each(|(sum, value)| *sum += value);
        }
        let (bins_in, bytes_in) = self.second_of(2 * port, second)?;
        let (bins_out, bytes_out) = self.second_of(2 * port + 1, second)?;
        Ok(PortTraffic { counts, bins_in, bins_out, bytes: [bytes_in, bytes_out] })
    }

    fn second_of(&self, ring: u32, second: u64) -> Result<(Vec<u64>, u64), BpfError> {
        let values = self.bins.get(&ring, 0).map_err(|error| BpfError::of(&error))?;
        let mut packets = vec![0; BINS];
        let mut bytes = 0;
        for of_cpu in values.iter() {
            bytes += add_second(of_cpu, second, &mut packets);
        }
        Ok((packets, bytes))
    }

    /// Packets of all ports, in and out, that each CPU has counted since the start.
    ///
    /// # Errors
    /// If the kernel does not let its maps be read.
    pub fn by_cpu(&self) -> Result<Vec<u64>, BpfError> {
        let mut sums = Vec::new();
        for port in 0..self.ports {
            let values = self.counts.get(&(port as u32), 0).map_err(|error| BpfError::of(&error))?;
            sums.resize(values.len(), 0);
            sums.iter_mut().zip(values.iter()).for_each(|(sum, counts)| *sum += counts.iter().take(4).sum::<u64>());
        }
        Ok(sums)
    }

    /// The prefixes that packets came from since the last call, of each port the `most` with the most packets.
    ///
    /// # Errors
    /// If the kernel does not let its map be read.
    pub fn talkers(&mut self, most: usize) -> Result<Vec<Talker>, BpfError> {
        let drained = drain::<16, 16>(&self.talkers, PREFIXES).map_err(|error| {
            BpfError::new(Obstacle::Failed, format!("the prefixes cannot be read from the kernel: {error}"))
        })?;
        let mut found: Vec<Talker> = drained.iter().map(|(key, value)| decoded(key, value)).collect();
        found.sort_by(|one, other| (one.port, other.packets, one.prefix).cmp(&(other.port, one.packets, other.prefix)));
        let mut kept = vec![0_usize; self.ports];
        found.retain(|talker| {
            kept.get_mut(talker.port).is_some_and(|count| {
                *count += 1;
                *count <= most
            })
        });
        Ok(found)
    }
}

/// How long a tick of the kernel's is (jiffy), in ns.
fn tick_ns() -> u64 {
    let mut found = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    let done = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut found) };
    // The longest that kernels are built for; a shorter one is only more exact.
    if done == 0 && found.tv_nsec > 0 { found.tv_nsec as u64 } else { 10_000_000 }
}

/// Adds the bins of a second in one CPU's ring to `packets`; returns their bytes.
fn add_second(ring: &Bins, second: u64, packets: &mut [u64]) -> u64 {
    let first = second.wrapping_mul(BINS as u64);
    let mut bytes = 0;
    for (offset, sum) in packets.iter_mut().enumerate() {
        let number = first.wrapping_add(offset as u64);
        let at = 2 + 2 * (number % RING as u64) as usize;
        let [head, of_bin] = [ring[at], ring[at + 1]];
        // struct bin: two numbers of 4 bytes, then the bytes.
        let [n0, n1, n2, n3, p0, p1, p2, p3] = head.to_ne_bytes();
        if u32::from_ne_bytes([n0, n1, n2, n3]) == number as u32 {
            *sum += u64::from(u32::from_ne_bytes([p0, p1, p2, p3]));
            bytes += of_bin;
        }
    }
    bytes
}

/// struct prefix and struct weight.
fn decoded(key: &[u8; 16], value: &[u8; 16]) -> Talker {
    let words = |bytes: &[u8; 16]| -> [u64; 2] {
        let [b0, b1, b2, b3, b4, b5, b6, b7, c0, c1, c2, c3, c4, c5, c6, c7] = *bytes;
        [u64::from_ne_bytes([b0, b1, b2, b3, b4, b5, b6, b7]), u64::from_ne_bytes([c0, c1, c2, c3, c4, c5, c6, c7])]
    };
    let [prefix, rest] = words(key);
    let [p0, p1, p2, p3, f0, f1, f2, f3] = rest.to_ne_bytes();
    let [packets, bytes] = words(value);
    Talker {
        port: u32::from_ne_bytes([p0, p1, p2, p3]) as usize,
        is_v6: u32::from_ne_bytes([f0, f1, f2, f3]) != 0,
        prefix,
        packets,
        bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_what_is_looked_for_in_it() {
        let object = aya_obj::Object::parse(OBJECT).expect("an object");
        let mut maps: Vec<&str> = object.maps.keys().map(String::as_str).collect();
        maps.sort_unstable();
        assert_eq!(maps, [".rodata", "bins", "counts", "devices", "settings", "talkers"]);
        let sizes = |name: &str| object.maps.get(name).map(|map| (map.key_size(), map.value_size(), map.max_entries()));
        assert_eq!(sizes("counts"), Some((4, size_of::<Counts>() as u32, PORTS_MAX as u32)));
        assert_eq!(sizes("bins"), Some((4, size_of::<Bins>() as u32, 2 * PORTS_MAX as u32)));
        // What is drained is written into buffers of these sizes.
        assert_eq!(sizes("talkers"), Some((16, 16, PREFIXES as u32)));
        assert_eq!(sizes("devices"), Some((4, 4, DEVICES_MAX)));
        assert!(object.programs.contains_key("watch_in") && object.programs.contains_key("watch_out"));
        assert_eq!(object.license.to_str(), Ok("Dual MIT/GPL"));
    }

    #[test]
    fn only_bins_of_the_second_count() {
        let mut ring: Bins = [0; RING_WORDS];
        let mut put = |number: u32, packets: u32, bytes: u64| {
            let at = 2 + 2 * (number as usize % RING);
            let [n, p] = [number.to_ne_bytes(), packets.to_ne_bytes()];
            ring[at] = u64::from_ne_bytes([n[0], n[1], n[2], n[3], p[0], p[1], p[2], p[3]]);
            ring[at + 1] = bytes;
        };
        put(64 * 7, 5, 500);
        put(64 * 7 + 63, 6, 600);
        put(64 * 8, 7, 700);
        // A bin of 4 s earlier, whose place in the ring is that of bin 3 of this second.
        put(64 * 3 + 3, 9, 900);
        let mut packets = vec![0; BINS];
        assert_eq!(add_second(&ring, 7, &mut packets), 1100);
        assert_eq!((packets[0], packets[3], packets[63], packets.iter().sum::<u64>()), (5, 0, 6, 11));
    }
}
