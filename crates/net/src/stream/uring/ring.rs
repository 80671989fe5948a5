//! One ring: queues, file table, receive buffers and slots.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};

use super::Shared;
use super::slots::{Job, Slot, State, Tag};
use crate::call::CallError;
use crate::stream::StreamStats;
use crate::stream::pool::Pool;

/// Entries of the first ring's queues, and of the others': those share the work. From the second number the kernel also
/// takes the size of its hash of pending operations, which a cancel searches: 256 buckets, the most, from 8192 on.
const QUEUES: [(u32, u32); 2] = [(1024, 8192), (256, 8192)];
/// From 6.13 on one call runs about 20 pieces of deferred work and leaves the rest without a sign: after so many
/// completions there may be more.
const MANY: usize = 8;
/// Completions waited for in one call when a ring shuts down.
const MANY_AT_THE_END: usize = 512;
/// The ring's only buffer group.
pub(super) const GROUP: u16 = 0;

/// The addresses of connections being opened: the kernel reads them during submission only.
pub(super) struct Addresses {
    pub(super) pairs: Vec<[libc::sockaddr_storage; 2]>,
}

impl Addresses {
    /// Connections opened between two submissions.
    pub(super) const MOST: usize = 64;
}

/// One ring.
pub(crate) struct Ring {
    pub(super) io: IoUring,
    pub(super) number: usize,
    /// The index of its first slot.
    pub(super) first: u32,
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<u32>,
    pub(super) pool: Rc<Pool>,
    /// Slots that wait for a receive buffer, oldest first.
    pub(super) awaiting_buffer: VecDeque<u32>,
    /// Entries that did not fit into the submission queue.
    pending: VecDeque<squeue::Entry>,
    pub(super) addresses: Addresses,
    /// Operations that have not completed.
    pub(super) in_flight: usize,
    /// It is shutting down.
    pub(super) ending: bool,
    /// There may be more completions than the kernel's flags show.
    more: bool,
    /// It is listed as having completions.
    pub(super) listed: bool,
}

fn build((submissions, completions): (u32, u32)) -> io::Result<IoUring> {
    let mut fast = IoUring::builder();
    fast.setup_cqsize(completions).setup_clamp().setup_submit_all().setup_single_issuer();
    fast.setup_defer_taskrun().setup_taskrun_flag().setup_no_sqarray();
    // A kernel without one of these flags gets none: slower, otherwise the same.
    let plain = || IoUring::builder().setup_cqsize(completions).setup_clamp().build(submissions);
    fast.build(submissions).or_else(|_| plain()).map_err(|error| CallError::name("io_uring_setup", error))
}

impl Ring {
    /// A ring for `size` connections out of `per_ring` slots.
    pub(super) fn new(number: usize, per_ring: usize, size: usize, buffers: usize, buffer: usize) -> io::Result<Self> {
        let io = build(QUEUES[number.min(1)])?;
        let pool = Pool::for_ring(buffer, buffers);
        let (entries, count) = pool.ring();
        io.submitter().register_files_sparse(size as u32)?;
        // SAFETY: the entries are page-aligned, `count` of them, and live as long as the pool, which `shut` leaks where
        // the kernel may still use it.
        unsafe { io.submitter().register_buf_ring_with_flags(entries, count, GROUP, 0) }?;
        Ok(Self {
            io,
            number,
            first: (number * per_ring) as u32,
            slots: (0..size).map(|_| Slot::free(0)).collect(),
            free: (0..size as u32).rev().collect(),
            pool,
            awaiting_buffer: VecDeque::new(),
            pending: VecDeque::new(),
            addresses: Addresses { pairs: Vec::new() },
            in_flight: 0,
            ending: false,
            more: false,
            listed: false,
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Memory held, in bytes: the queues too, which the kernel shares with us.
    pub(super) fn held(&self) -> usize {
        let (submissions, completions) = (self.io.params().sq_entries(), self.io.params().cq_entries());
        let queues =
            submissions as usize * size_of::<squeue::Entry>() + completions as usize * size_of::<cqueue::Entry>();
        let lists = (self.free.capacity() + self.awaiting_buffer.capacity()) * size_of::<u32>();
        let waiting = self.pending.capacity() * size_of::<squeue::Entry>();
        let addresses = self.addresses.pairs.capacity() * size_of::<[libc::sockaddr_storage; 2]>();
        queues + self.slots.capacity() * size_of::<Slot>() + lists + waiting + addresses + self.pool.held()
    }

    pub(super) fn has_completions(&mut self) -> bool {
        !self.io.completion().is_empty()
    }

    /// Whether there is something to submit or to collect.
    pub(super) fn has_work(&mut self) -> bool {
        let queue = self.io.submission();
        self.more || !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// The next call is made even where the kernel shows no work.
    pub(super) fn expect_more(&mut self) {
        self.more = true;
    }

    /// Enables or disables notification by eventfd; while the thread is busy it would only cost.
    pub(super) fn enable_event_fd(&mut self, on: bool) {
        let queue = self.io.completion();
        if on { queue.enable_eventfd() } else { queue.disable_eventfd() }
    }

    /// Registers the eventfd for this ring's completions, disabled.
    pub(super) fn register_event_fd(&mut self, fd: &OwnedFd) -> io::Result<()> {
        self.io.submitter().register_eventfd(fd.as_raw_fd())?;
        self.enable_event_fd(false);
        Ok(())
    }

    pub(super) fn next(&mut self) -> Option<cqueue::Entry> {
        self.io.completion().next()
    }

    /// Queues one operation of a slot; it is counted until it completes.
    pub(super) fn push(&mut self, index: u32, entry: squeue::Entry) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.in_flight += 1;
            self.in_flight += 1;
            self.queue(entry);
        }
    }

    /// Queues an entry behind all others.
    pub(super) fn queue(&mut self, entry: squeue::Entry) {
        // SAFETY: an entry points at nothing but a block or buffer that stays until it completes, a static, or an
        // address that stays until it is submitted.
        if !self.pending.is_empty() || unsafe { self.io.submission().push(&entry) }.is_err() {
            self.pending.push_back(entry);
        }
    }

    /// Queues linked entries, all or none: a chain ends where a submission ends.
    pub(super) fn queue_chain(&mut self, chain: &[squeue::Entry]) -> bool {
        // SAFETY: as in `queue`.
        self.pending.is_empty() && unsafe { self.io.submission().push_multiple(chain) }.is_ok()
    }

    /// Submits until all pending entries are in the queue.
    pub(super) fn catch_up(&mut self, shared: &mut Shared) -> io::Result<()> {
        while let Some(entry) = self.pending.pop_front() {
            // SAFETY: as in `queue`.
            if unsafe { self.io.submission().push(&entry) }.is_ok() {
                continue;
            }
            self.pending.push_front(entry);
            self.enter(None, &mut shared.stats)?;
            if self.io.submission().is_full() {
                break;
            }
        }
        Ok(())
    }

    /// Submits queued entries and collects completions, waiting up to `wait` if given.
    pub(super) fn enter(&mut self, wait: Option<Duration>, stats: &mut StreamStats) -> io::Result<()> {
        let submit = self.io.submission().len() as u32;
        let before = self.io.completion().len();
        stats.calls += 1;
        let done = match wait {
            None => {
                let flags = EnterFlags::GETEVENTS.bits();
                // SAFETY: no argument is passed, and the queue holds as many entries as are submitted.
                unsafe { self.io.submitter().enter::<libc::sigset_t>(submit, 0, flags, None) }
            }
            Some(wait) => {
                let time = types::Timespec::from(wait);
                let args = types::SubmitArgs::new().timespec(&time);
                // At shutdown one call collects many: else the kernel stops at about 20.
                let want = if self.ending { self.in_flight.clamp(1, MANY_AT_THE_END) } else { 1 };
                self.io.submitter().submit_with_args(want, &args)
            }
        };
        self.more = self.io.completion().len() >= before + MANY;
        if self.io.submission().is_empty() {
            self.addresses.pairs.clear();
        }
        match done.as_ref().map_err(io::Error::raw_os_error) {
            Ok(_) | Err(Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Ok(()),
            Err(_) => done.map(drop).map_err(|error| CallError::name("io_uring_enter", error)),
        }
    }

    /// Arms a receive on a slot, if it may receive and is not armed.
    pub(super) fn arm(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if slot.state != State::Open || slot.armed || slot.paused || slot.awaits_buffer || self.ending {
            return;
        }
        slot.armed = true;
        let tag = Tag::new(Job::Receive, index, slot.generation);
        self.push(index, opcode::RecvMulti::new(types::Fixed(index), GROUP).build().user_data(tag.0));
    }

    /// Arms receives again on slots that found no buffer: in order, and at most as many as there are buffers.
    pub(super) fn rearm(&mut self) {
        for _ in 0..self.pool.available().min(self.awaiting_buffer.len()) {
            let Some(index) = self.awaiting_buffer.pop_front() else { return };
            if let Some(slot) = self.slots.get_mut(index as usize)
                && std::mem::take(&mut slot.awaits_buffer)
            {
                self.arm(index);
            }
        }
    }

    /// Sends what was appended to a slot since the last turn.
    pub(super) fn flush(&mut self, index: u32, shared: &mut Shared) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.dirty = false;
            self.submit_send(index, shared);
        }
    }

    /// Submits the filling block, if no block is submitted.
    pub(super) fn submit_send(&mut self, index: u32, shared: &mut Shared) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if !matches!(slot.state, State::Open | State::Draining) || self.ending {
            return;
        }
        let Some((start, length)) = slot.out.submit(&mut shared.blocks) else { return };
        let tag = Tag::new(Job::Send, index, 0);
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let send = opcode::Send::new(types::Fixed(index), start, length).flags(flags);
        self.push(index, send.build().user_data(tag.0));
    }
}

/// Tries all that is used here. Errors: io_uring is refused, or lacks an operation (EOPNOTSUPP).
pub(crate) fn works() -> Result<(), CallError> {
    let tried = || -> io::Result<bool> {
        let ring = Ring::new(0, 8, 8, 8, 64)?;
        let mut probe = io_uring::Probe::new();
        ring.io.submitter().register_probe(&mut probe)?;
        let codes = [
            opcode::Socket::CODE,
            opcode::SetSockOpt::CODE,
            opcode::Bind::CODE,
            opcode::Connect::CODE,
            opcode::Accept::CODE,
            opcode::RecvMulti::CODE,
            opcode::Send::CODE,
            opcode::AsyncCancel2::CODE,
            opcode::Close::CODE,
        ];
        Ok(codes.iter().all(|&code| probe.is_supported(code)) && super::accept_queue::trial(ring)?)
    };
    let errno = match tried() {
        Ok(true) => return Ok(()),
        Ok(false) => libc::EOPNOTSUPP,
        Err(error) => match error.downcast::<CallError>() {
            Ok(named) => return Err(named),
            Err(error) => error.raw_os_error().unwrap_or(libc::EOPNOTSUPP),
        },
    };
    Err(CallError { call: "io_uring_register", errno })
}
