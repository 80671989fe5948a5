//! Counts packets that the kernel drops, by reason: the program of `bpf/drops.bpf.c`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use aya::maps::{MapData, PerCpuArray, PerCpuHashMap};

use super::{BpfError, KernelTypes, Loaded, Obstacle, object, port_words, total};

const OBJECT: &[u8] = object!("drops.bpf.o");
const CORE_REASONS: usize = 512;
/// `struct drop` and `struct dropped` of the program, as words of 32 and 64 bits.
type Key = [u32; 4];
type Value = [u64; 3];

/// Which packets are counted.
#[derive(Clone, Debug)]
pub struct DropFilter {
    /// 4 or 6.
    pub ip_version: u8,
    /// `IPPROTO_UDP` or `IPPROTO_TCP`.
    pub ip_protocol: u8,
    /// Source or destination port.
    pub ports: Vec<u16>,
    /// Addresses that go with these ports, see [`DroppedPackets::known`]. At most 1,024.
    pub addresses: Vec<IpAddr>,
    /// Reasons that are not counted, by the kernel's names without "SKB_DROP_REASON_"; unknown ones have no effect.
    pub ignored: Vec<String>,
}

/// Packets dropped at one place for one reason, since the program was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedPackets {
    /// Inode number of the network namespace; 0 where the packet was at no device and no socket.
    pub netns: u32,
    /// The kernel's name without "SKB_DROP_REASON_", or a number for one of a subsystem or module.
    pub reason: String,
    /// Whether the filter's port is the destination's, or else the source's.
    pub towards: bool,
    /// Whether the address with that port is one of the filter's. It may have been translated (NAT).
    pub known: bool,
    /// The device where the packet was; empty where it was at none.
    pub device: String,
    /// How many.
    pub count: u64,
}

/// The program, counting until it is dropped.
pub struct DropCounter {
    names: BTreeMap<u32, String>,
    subsystems: BTreeMap<u32, String>,
    drops: PerCpuHashMap<MapData, Key, Value>,
    uncounted: PerCpuArray<MapData, u64>,
    _program: Loaded,
}

impl DropCounter {
    /// Starts counting.
    ///
    /// # Errors
    /// [`BpfError`] says what forbids it.
    pub fn start(filter: &DropFilter, btf: &Path) -> Result<Self, BpfError> {
        let kernel = KernelTypes::read(btf)?;
        let names = kernel.enum_names("skb_drop_reason").ok_or_else(|| {
            BpfError::new(Obstacle::Unsupported, "this kernel does not say why it drops packets (Linux 5.17)")
        })?;
        let names = without(names, "SKB_DROP_REASON_");
        let subsystems = kernel.enum_names("skb_drop_reason_subsys").unwrap_or_default();
        let subsystems = without(subsystems, "SKB_DROP_REASON_SUBSYS_");
        let mut ignored = [0_u8; CORE_REASONS];
        for (number, name) in &names {
            if let Some(slot) = ignored.get_mut(*number as usize) {
                *slot = u8::from(filter.ignored.contains(name));
            }
        }
        let globals: [(&str, &[u8]); 3] =
            [("ip_version", &[filter.ip_version]), ("ip_protocol", &[filter.ip_protocol]), ("ignored", &ignored)];
        let mut program = Loaded::open(OBJECT, &globals, &kernel)?;
        let mut ports = program.array::<u64>("ports")?;
        for (word, bits) in port_words(&filter.ports) {
            ports.set(word, bits, 0).map_err(|error| BpfError::of(&error))?;
        }
        let mut addresses = program.hash::<[u8; 16], u8>("addresses")?;
        for address in &filter.addresses {
            addresses.insert(padded(*address), 1, 0).map_err(|error| BpfError::of(&error))?;
        }
        let (drops, uncounted) = (program.per_cpu_hash("drops")?, program.per_cpu_array("uncounted")?);
        program.attach("count_drop", "kfree_skb", &kernel)?;
        Ok(Self { names, subsystems, drops, uncounted, _program: program })
    }

    /// What was dropped so far.
    ///
    /// # Errors
    /// If the kernel does not let its map be read.
    pub fn counts(&self) -> Result<Vec<DroppedPackets>, BpfError> {
        let mut found = Vec::new();
        for entry in self.drops.iter() {
            let (key, values) = entry.map_err(|error| BpfError::of(&error))?;
            found.push(self.decoded(&key, &values));
        }
        Ok(found)
    }

    /// Drops that were seen and not counted, because there were too many different ones.
    ///
    /// # Errors
    /// If the kernel does not let its map be read.
    pub fn uncounted(&self) -> Result<u64, BpfError> {
        self.uncounted.get(&0, 0).map(|values| total(&values)).map_err(|error| BpfError::of(&error))
    }

    fn decoded(&self, key: &Key, values: &[Value]) -> DroppedPackets {
        let [netns, reason, _, flags] = *key;
        let [towards, known, ..] = flags.to_ne_bytes();
        let devices = values.iter().map(|[_, first, second]| [first.to_ne_bytes(), second.to_ne_bytes()].concat());
        let device = devices.filter(|name| name.first() != Some(&0)).max().unwrap_or_default();
        let name = device.split(|byte| *byte == 0).next().unwrap_or_default();
        DroppedPackets {
            netns,
            reason: self.names.get(&reason).cloned().unwrap_or_else(|| unnamed(reason, &self.subsystems)),
            towards: towards != 0,
            known: known != 0,
            device: String::from_utf8_lossy(name).into_owned(),
            count: values.iter().map(|[packets, ..]| packets).sum(),
        }
    }
}

fn without(names: BTreeMap<u32, String>, prefix: &str) -> BTreeMap<u32, String> {
    names.into_iter().map(|(number, name)| (number, name.replacen(prefix, "", 1))).collect()
}

/// A reason without a name: the upper half numbers a subsystem, whose own reasons have names in its module only.
fn unnamed(reason: u32, subsystems: &BTreeMap<u32, String>) -> String {
    let (subsystem, number) = (reason >> 16, reason & 0xffff);
    match subsystems.get(&subsystem) {
        Some(name) if subsystem != 0 => format!("{name} {number}"),
        _ if subsystem != 0 => format!("SUBSYSTEM_{subsystem} {number}"),
        _ => format!("REASON {number}"),
    }
}

fn padded(address: IpAddr) -> [u8; 16] {
    let mut bytes = [0; 16];
    match address {
        IpAddr::V4(v4) => bytes.split_at_mut(4).0.copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => bytes = v6.octets(),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_what_is_looked_for_in_it() {
        let object = aya_obj::Object::parse(OBJECT).expect("an object");
        let mut maps: Vec<&str> = object.maps.keys().map(String::as_str).collect();
        maps.sort_unstable();
        assert_eq!(maps, [".rodata", "addresses", "drops", "ports", "uncounted"]);
        assert!(object.programs.contains_key("count_drop"));
        assert!(object.btf.is_some_and(|btf| btf.to_bytes().len() > 1000) && object.btf_ext.is_some());
        assert_eq!(object.license.to_str(), Ok("Dual MIT/GPL"));
    }

    #[test]
    fn reasons_without_a_name_are_told_by_number() {
        let subsystems = BTreeMap::from([(0, "CORE".to_owned()), (2, "OPENVSWITCH".to_owned())]);
        assert_eq!(unnamed(300, &subsystems), "REASON 300");
        assert_eq!(unnamed(0x0002_0003, &subsystems), "OPENVSWITCH 3");
        assert_eq!(unnamed(0x0009_0001, &subsystems), "SUBSYSTEM_9 1");
    }
}
