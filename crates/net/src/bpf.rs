//! Programs in the kernel: the objects of `bpf/`, loaded and attached to tracepoints. Unloaded when dropped.
//!
//! The objects are built in advance (`make bpf`) and are part of this binary. A further program is one more C source
//! there, one more file beside `drops.rs`, and one line of `pub use`.

mod attachment;
mod btf;
mod drain;
mod driver;
mod driver_policy;
mod drops;
mod live;
mod obstacle;
mod steering;
mod watch;

use std::collections::BTreeMap;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues};
use aya::programs::{BtfTracePoint, ProgramError};
use aya::{BtfError, Ebpf, EbpfLoader, Pod};

pub use btf::BTF_OF_KERNEL;
use btf::KernelTypes;
pub use driver::{DRIVER_COUNTERS, DriverAnswer, DriverAnswerEntry, DriverCounters, DriverResponder, Place};
pub use driver_policy::{
    DriverBudget, DriverClient, DriverLists, DriverPolicy, DriverRoom, DriverRules, DriverSpending, POLICY_COUNTERS,
};
pub use drops::{DropCounter, DropFilter, DroppedPackets};
pub(crate) use live::LiveProgram;
pub use obstacle::{BpfError, Obstacle};
pub use steering::{SteeringCounters, SteeringFilter, XdpSteering};
pub use watch::{PortTraffic, Talker, TrafficCounter, WatchedPort};

/// The bytes of an object of `bpf/`, aligned as its parser needs them.
macro_rules! object {
    ($name:literal) => {
        aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../bpf/", $name))
    };
}
use object;

/// Values for an object's `const volatile` variables, by name.
type Globals<'a> = [(&'a str, &'a [u8])];

/// A loaded object: its maps exist, its programs run once they are attached.
#[derive(Debug)]
struct Loaded(Ebpf);

impl Loaded {
    /// Creates an object's maps. `globals` replace the values in the source.
    fn open(bytes: &[u8], globals: &Globals<'_>, kernel: &KernelTypes) -> Result<Self, BpfError> {
        let mut loader = EbpfLoader::new();
        loader.btf(Some(&kernel.parsed));
        for (name, value) in globals {
            loader.override_global(name, *value, true);
        }
        loader.load(bytes).map(Self).map_err(|error| BpfError::of(&error))
    }

    /// The same for an object that reads no structures of the kernel; `sizes` replace those of maps in the source.
    fn open_plain(bytes: &[u8], globals: &Globals<'_>, sizes: &[(&str, u32)]) -> Result<Self, BpfError> {
        let mut loader = EbpfLoader::new();
        for (name, size) in sizes {
            loader.map_max_entries(name, *size);
        }
        for (name, value) in globals {
            loader.override_global(name, *value, true);
        }
        loader.load(bytes).map(Self).map_err(|error| BpfError::of(&error))
    }

    /// Starts a program of type `tp_btf`; `program` is its function's name in C.
    fn attach(&mut self, program: &str, tracepoint: &str, kernel: &KernelTypes) -> Result<(), BpfError> {
        let found = self.0.program_mut(program).ok_or_else(|| BpfError::absent(program))?;
        let tracing: &mut BtfTracePoint = found.try_into().map_err(|error: ProgramError| BpfError::of(&error))?;
        tracing.load(tracepoint, &kernel.parsed).map_err(|error| match error {
            ProgramError::Btf(BtfError::UnknownBtfTypeName { .. }) => {
                BpfError::new(Obstacle::Unsupported, format!("this kernel has no tracepoint {tracepoint}"))
            }
            other => BpfError::of(&other),
        })?;
        tracing.attach().map(drop).map_err(|error| BpfError::of(&error))
    }

    fn take(&mut self, name: &str) -> Result<Map, BpfError> {
        self.0.take_map(name).ok_or_else(|| BpfError::absent(name))
    }

    /// A map of the object, by its name and kind: `array`, `hash`, `per_cpu_hash`, `per_cpu_array`.
    fn array<V: Pod>(&mut self, name: &str) -> Result<Array<MapData, V>, BpfError> {
        self.take(name)?.try_into().map_err(|error: MapError| BpfError::of(&error))
    }

    fn hash<K: Pod, V: Pod>(&mut self, name: &str) -> Result<HashMap<MapData, K, V>, BpfError> {
        self.take(name)?.try_into().map_err(|error: MapError| BpfError::of(&error))
    }

    /// A hash of which the kernel drops what was used longest ago.
    fn lru_hash(&mut self, name: &str) -> Result<MapData, BpfError> {
        match self.take(name)? {
            Map::LruHashMap(data) => Ok(data),
            _ => Err(BpfError::absent(name)),
        }
    }

    fn per_cpu_hash<K: Pod, V: Pod>(&mut self, name: &str) -> Result<PerCpuHashMap<MapData, K, V>, BpfError> {
        self.take(name)?.try_into().map_err(|error: MapError| BpfError::of(&error))
    }

    fn per_cpu_array<V: Pod>(&mut self, name: &str) -> Result<PerCpuArray<MapData, V>, BpfError> {
        self.take(name)?.try_into().map_err(|error: MapError| BpfError::of(&error))
    }
}

/// A bit for each port: what `ports` has in C.
fn port_words(ports: &[u16]) -> impl Iterator<Item = (u32, u64)> {
    let mut words = BTreeMap::<u32, u64>::new();
    for port in ports {
        *words.entry(u32::from(*port) / 64).or_default() |= 1 << (port % 64);
    }
    words.into_iter()
}

/// The sum over all CPUs.
fn total(values: &PerCpuValues<u64>) -> u64 {
    values.iter().sum()
}
