//! Frames that leave by the driver without a socket: written into a queue in memory that a BPF program empties.
//!
//! Method: the kernel runs the program (BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES) tens of thousands of times a
//! call, in a thread of its own, for a call that sends a few frames only costs more than they do. That thread is always
//! in the kernel while there is something to send; when nothing has been there for a whole call, it sleeps. On the CPU of
//! the thread that writes the frames it has a lower priority: it runs while that one sleeps. The program notes when
//! each frame leaves; the driver has it at the end of a batch, some µs later.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use super::mapping::Mapping;
use crate::bpf::{BpfError, LiveProgram, Obstacle};
use crate::datagrams::Departure;
use crate::thread::set_second_priority;

/// These are also in the program.
const FRAMES: usize = 4096;
const BYTES: u64 = 1 << 19;
pub(super) const LONGEST: usize = 2048;
const NOT_SENT: u64 = u64::MAX;
const WAKES_AT: usize = 8;
const TAKEN: usize = 64;
const RUNS_SO_FAR: usize = 72;
const FRAME: usize = 128;
const FRAME_SIZE: usize = 16;
const PAYLOAD: usize = FRAME + FRAMES * FRAME_SIZE;
const SIZE: usize = PAYLOAD + BYTES as usize + LONGEST;

/// Frames that may be on their way out: a fraction of a ms at the highest rates, and what a veth's ring holds.
const WAITING: u64 = 256;
/// Runs of the program in one call: some ms with nothing to send.
const RUNS: u32 = 1 << 16;
/// Runs between two deliveries to the driver; also in the program. Pages come back to a pool of so many, so it is large.
const BATCH: u32 = 128;
/// Without a frame to go by.
const SHORT: usize = 60;

/// What both threads know.
#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    asleep: AtomicBool,
    /// Why the kernel runs the program no more; 0: it does.
    errno: AtomicI32,
}

/// A queue of frames to an interface.
pub struct LiveFrames {
    queue: Mapping,
    interface: u32,
    /// Frames written, and frames that have been told of.
    written: u64,
    told: u64,
    /// Bytes used, and bytes that are free again; they go round.
    used: u64,
    freed: u64,
    loaded: Option<(LiveProgram, Mapping)>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for LiveFrames {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("LiveFrames").field("interface", &self.interface).field("written", &self.written).finish()
    }
}

impl LiveFrames {
    /// A queue to the interface with this index, on which a program must be attached in native mode.
    ///
    /// # Errors
    /// [`BpfError`] says what forbids it.
    pub fn open(interface: u32) -> Result<Self, BpfError> {
        let (program, fd) = LiveProgram::load()?;
        let map = || {
            Mapping::shared(SIZE, &fd, 0)
                .map_err(|error| BpfError::new(Obstacle::Failed, format!("no memory for frames to send: {error}")))
        };
        let (queue, its_own) = (map()?, map()?);
        // Otherwise whoever first runs it learns this.
        program.run(interface, SHORT, 1, BATCH).map_err(unsent)?;
        Ok(Self {
            queue,
            interface,
            written: 0,
            told: 0,
            used: 0,
            freed: 0,
            loaded: Some((program, its_own)),
            shared: Arc::default(),
            thread: None,
        })
    }

    /// Starts sending, in a thread that may run where the calling one may.
    pub fn begin(&mut self) -> io::Result<()> {
        let Some((program, queue)) = self.loaded.take() else { return Ok(()) };
        let (shared, interface) = (Arc::clone(&self.shared), self.interface);
        let runner = Runner { program, queue, shared, interface };
        self.thread = Some(thread::Builder::new().name("flatout-live".into()).spawn(move || runner.run())?);
        Ok(())
    }

    /// Room for a frame of up to `length` bytes; the same again until [`LiveFrames::commit`]. `None`: too many wait.
    #[inline]
    pub fn reserve(&mut self, length: usize) -> Option<&mut [u8]> {
        if self.told == self.written {
            // The same memory again, while the CPU's caches have it.
            self.used = self.used.next_multiple_of(BYTES);
            self.freed = self.used;
        }
        let full = self.written - self.told >= WAITING || self.used + room(length) - self.freed > BYTES;
        if full || length > LONGEST {
            return None;
        }
        let at = self.queue.at(PAYLOAD + (self.used % BYTES) as usize, length)?;
        // SAFETY: within the mapping; the program reads only the bytes of frames that were queued and have not left, and
        // `freed` counts none of these. `self` is borrowed while they are written.
        Some(unsafe { std::slice::from_raw_parts_mut(at, length) })
    }

    /// The reserved room has a frame of `length` bytes, which waits for [`LiveFrames::flush`].
    #[inline]
    pub fn commit(&mut self, length: usize) {
        let at = FRAME + (self.written % FRAMES as u64) as usize * FRAME_SIZE;
        store(&self.queue, at, 0);
        store_half(&self.queue, at + 8, (self.used % BYTES) as u32);
        store_half(&self.queue, at + 12, length as u32);
        self.used += room(length);
        self.written += 1;
    }

    /// The calling thread will look again at that time (CLOCK_MONOTONIC, ns), and until then writes nothing.
    pub fn rests_until(&self, at: u64) {
        store(&self.queue, WAKES_AT, at);
    }

    /// Hands over what was committed. Errors: the kernel sends no more (errno).
    #[inline]
    pub fn flush(&mut self) -> Result<(), i32> {
        store(&self.queue, 0, self.written);
        // Either this end sees that the other sleeps, or that sees what was just written.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::Relaxed)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        self.error()
    }

    /// Errors: the kernel sends no more (errno).
    pub fn error(&self) -> Result<(), i32> {
        match self.shared.errno.load(Ordering::Relaxed) {
            0 => Ok(()),
            errno => Err(errno),
        }
    }

    /// What became of the oldest frame of which this has not told yet; `None`: it waits, or there is none.
    #[inline]
    pub fn departed(&mut self) -> Option<Departure> {
        if self.told == self.written {
            return None;
        }
        let at = FRAME + (self.told % FRAMES as u64) as usize * FRAME_SIZE;
        let left = load(&self.queue, at);
        if left == 0 {
            return None;
        }
        self.freed += room(load_half(&self.queue, at + 12) as usize);
        self.told += 1;
        Some(if left == NOT_SENT { Departure::Failed } else { Departure::At(left) })
    }
}

impl Drop for LiveFrames {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// The other thread.
struct Runner {
    program: LiveProgram,
    queue: Mapping,
    shared: Arc<Shared>,
    interface: u32,
}

impl Runner {
    fn run(self) {
        set_second_priority();
        while !self.shared.over.load(Ordering::SeqCst) {
            if self.is_empty() {
                self.sleep();
                continue;
            }
            store(&self.queue, RUNS_SO_FAR, 0);
            match self.program.run(self.interface, self.next_length(), RUNS, BATCH) {
                Ok(()) | Err(libc::EINTR | libc::EAGAIN) => {}
                Err(errno) => {
                    self.shared.errno.store(errno, Ordering::Relaxed);
                    return;
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        load(&self.queue, 0) == load(&self.queue, TAKEN)
    }

    /// Until there is something to send, or nothing ever.
    fn sleep(&self) {
        self.shared.asleep.store(true, Ordering::SeqCst);
        if self.is_empty() && !self.shared.over.load(Ordering::SeqCst) {
            thread::park();
        }
        self.shared.asleep.store(false, Ordering::SeqCst);
    }

    /// Frames of this length need not be cut in the kernel.
    fn next_length(&self) -> usize {
        let at = FRAME + (load(&self.queue, TAKEN) % FRAMES as u64) as usize * FRAME_SIZE;
        (load_half(&self.queue, at + 12) as usize).clamp(SHORT, LONGEST)
    }
}

fn unsent(errno: i32) -> BpfError {
    match errno {
        libc::ENODEV => BpfError::new(Obstacle::Failed, "the interface is gone"),
        libc::EINVAL => BpfError::new(
            Obstacle::Unsupported,
            "no frames can be sent from the driver: needs Linux 5.18, and a program on the interface in native mode",
        ),
        libc::EPERM => BpfError::new(Obstacle::NotPermitted, "not permitted to run XDP programs: needs root"),
        _ => BpfError::new(Obstacle::Failed, format!("frames to send: {}", io::Error::from_raw_os_error(errno))),
    }
}

/// Frames do not share words.
fn room(length: usize) -> u64 {
    length.next_multiple_of(8) as u64
}

fn word(queue: &Mapping, at: usize) -> Option<&AtomicU64> {
    let word = queue.at(at, size_of::<u64>())?;
    // SAFETY: within the mapping, at a multiple of 8; it lives as long as `queue`, and all access is atomic.
    Some(unsafe { &*word.cast::<AtomicU64>() })
}

fn half(queue: &Mapping, at: usize) -> Option<&AtomicU32> {
    let half = queue.at(at, size_of::<u32>())?;
    // SAFETY: as above, at a multiple of 4.
    Some(unsafe { &*half.cast::<AtomicU32>() })
}

#[inline]
fn load(queue: &Mapping, at: usize) -> u64 {
    word(queue, at).map_or(0, |word| word.load(Ordering::Acquire))
}

#[inline]
fn store(queue: &Mapping, at: usize, value: u64) {
    if let Some(word) = word(queue, at) {
        word.store(value, Ordering::Release);
    }
}

#[inline]
fn load_half(queue: &Mapping, at: usize) -> u32 {
    half(queue, at).map_or(0, |half| half.load(Ordering::Relaxed))
}

#[inline]
fn store_half(queue: &Mapping, at: usize, value: u32) {
    if let Some(half) = half(queue, at) {
        half.store(value, Ordering::Relaxed);
    }
}
