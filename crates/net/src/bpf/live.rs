//! The program of `bpf/live.bpf.c`, which sends frames of a queue in memory; see [`crate::LiveFrames`].

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use aya::maps::Map;
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};

use super::driver::permission;
use super::obstacle::errno;
use super::{BpfError, Loaded, object};

const OBJECT: &[u8] = object!("live.bpf.o");

/// The program, loaded; it runs by calls only.
pub(crate) struct LiveProgram {
    // Dropped first, and the device it is attached to then.
    _attached: Option<(FdLink, OwnedFd)>,
    program: Loaded,
}

impl fmt::Debug for LiveProgram {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("LiveProgram")
    }
}

impl LiveProgram {
    /// Loads it; returns its queue's descriptor too, which can be mapped.
    pub(crate) fn load() -> Result<(Self, OwnedFd), BpfError> {
        let mut program = Loaded::open_plain(OBJECT, &[], &[]).map_err(permission)?;
        let Map::Array(queue) = program.take("queues")? else { return Err(BpfError::absent("queues")) };
        let queue = queue.fd().as_fd().try_clone_to_owned().map_err(|error| BpfError::of(&error))?;
        let found = program.0.program_mut("live").ok_or_else(|| BpfError::absent("live"))?;
        let xdp: &mut Xdp = found.try_into().map_err(|error: ProgramError| BpfError::of(&error))?;
        xdp.load().map_err(|error| permission(BpfError::of(&error)))?;
        let attached = thread::scope(|scope| scope.spawn(|| attach_aside(xdp)).join().ok().flatten());
        Ok((Self { _attached: attached, program }, queue))
    }

    /// Runs it `times` times as if frames of `length` bytes had come by the interface with this index; what has been
    /// sent after every `batch` runs the driver gets then. Errors: an errno, EINTR for a signal.
    pub(crate) fn run(&self, interface: u32, length: usize, times: u32, batch: u32) -> Result<(), i32> {
        let frame = vec![0; length];
        let length = length as u32;
        // xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context: Vec<u8> =
            [0, length, 0, interface, 0, 0].iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        let mut options = TestRunOptions::default();
        (options.data_in, options.ctx_in, options.repeat) = (Some(frame.as_slice()), Some(context.as_slice()), times);
        options.attrs = TestRunAttrs::new().xdp_live_frames(batch);
        let found = self.program.0.program("live").ok_or(libc::ENOENT)?;
        let xdp: &Xdp = found.try_into().map_err(|_| libc::ENOENT)?;
        xdp.test_run(options).map(drop).map_err(|error| errno(&error).unwrap_or(libc::EIO))
    }
}

/// Attaches the program to the loopback device of a network namespace of its own, where nothing ever comes, and moves the
/// calling thread there; the namespace lives as long as the descriptor. `None`: not permitted (CAP_SYS_ADMIN).
///
/// The kernel has the programs that are attached somewhere called directly (its XDP dispatcher). With one that is not,
/// each call changes that twice, and waits for all CPUs each time: 5 to 20 ms.
fn attach_aside(program: &mut Xdp) -> Option<(FdLink, OwnedFd)> {
    const LOOPBACK: u32 = 1;
    // SAFETY: unshare takes no pointers; only the calling thread moves.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return None;
    }
    let namespace = File::open("/proc/thread-self/ns/net").ok()?;
    let id = program.attach_to_if_index(LOOPBACK, XdpMode::Skb).ok()?;
    let link = FdLink::try_from(program.take_link(id).ok()?).ok()?;
    Some((link, namespace.into()))
}
