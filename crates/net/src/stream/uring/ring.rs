//! One ring: its queues, its file table, its receive buffers, its slots.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};

use super::Shared;
use super::slots::{Job, Slot, State, Tag};
use crate::stream::StreamStats;
use crate::stream::pool::Pool;

/// Entries of the first ring's queues, and of the others': those share the work. From the second number the kernel also
/// takes the size of its hash of what is in hand, which a cancel searches: 256 buckets, the most, from 8192 on.
const QUEUES: [(u32, u32); 2] = [(1024, 8192), (256, 8192)];
/// From 6.13 on one call runs about 20 pieces of deferred work and keeps the rest without a sign: so many completions
/// mean that there may be more.
const MANY: usize = 8;
/// Completions waited for in one call when a ring ends.
const MANY_AT_THE_END: usize = 512;
/// The one group of buffers in a ring.
pub(super) const GROUP: u16 = 0;

/// The addresses of connections that are to be opened: the kernel reads them at the submission and not after it.
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
    /// The place of its first slot.
    pub(super) first: u32,
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<u32>,
    pub(super) pool: Rc<Pool>,
    /// Slots that wait for a receive buffer, the longest first.
    pub(super) starving: VecDeque<u32>,
    /// What did not fit into the submission queue.
    pending: VecDeque<squeue::Entry>,
    pub(super) addresses: Addresses,
    /// Operations that have not completed.
    pub(super) in_flight: usize,
    /// Nothing new may begin.
    pub(super) ending: bool,
    /// There may be more to collect than the kernel's flags say.
    more: bool,
    /// It is listed as having completions.
    pub(super) listed: bool,
}

fn build((submissions, completions): (u32, u32)) -> io::Result<IoUring> {
    let mut fast = IoUring::builder();
    fast.setup_cqsize(completions).setup_clamp().setup_submit_all().setup_single_issuer();
    fast.setup_defer_taskrun().setup_taskrun_flag().setup_no_sqarray();
    // Where some flag is not known, do without all of them: slower, and otherwise the same.
    fast.build(submissions).or_else(|_| IoUring::builder().setup_cqsize(completions).setup_clamp().build(submissions))
}

impl Ring {
    /// A ring for `size` connections out of `per_ring` places.
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
            starving: VecDeque::new(),
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
        let lists = (self.free.capacity() + self.starving.capacity()) * size_of::<u32>();
        let waiting = self.pending.capacity() * size_of::<squeue::Entry>();
        let addresses = self.addresses.pairs.capacity() * size_of::<[libc::sockaddr_storage; 2]>();
        queues + self.slots.capacity() * size_of::<Slot>() + lists + waiting + addresses + self.pool.held()
    }

    pub(super) fn has_completions(&mut self) -> bool {
        !self.io.completion().is_empty()
    }

    /// Whether entering the kernel would do anything: something to submit, or to collect.
    pub(super) fn has_work(&mut self) -> bool {
        let queue = self.io.submission();
        self.more || !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// The next call is made even where the kernel shows no work.
    pub(super) fn expect_more(&mut self) {
        self.more = true;
    }

    /// Lets this ring's completions ring the bell, or not. While we are busy it would only cost.
    pub(super) fn ring_bell(&mut self, on: bool) {
        let queue = self.io.completion();
        if on { queue.enable_eventfd() } else { queue.disable_eventfd() }
    }

    /// This ring rings `bell` when it is told to.
    pub(super) fn hang_bell(&mut self, bell: &OwnedFd) -> io::Result<()> {
        self.io.submitter().register_eventfd(bell.as_raw_fd())?;
        self.ring_bell(false);
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

    /// Queues an operation behind all others.
    pub(super) fn queue(&mut self, entry: squeue::Entry) {
        // SAFETY: an entry points at nothing but a block or buffer that stays until it completes, a static, or an
        // address that stays until it is submitted.
        if !self.pending.is_empty() || unsafe { self.io.submission().push(&entry) }.is_err() {
            self.pending.push_back(entry);
        }
    }

    /// Queues linked operations, all or none: a chain is cut where a submission ends.
    pub(super) fn queue_chain(&mut self, chain: &[squeue::Entry]) -> bool {
        // SAFETY: as in `queue`.
        self.pending.is_empty() && unsafe { self.io.submission().push_multiple(chain) }.is_ok()
    }

    /// Submits until all that is pending is in the queue.
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

    /// Submits what is queued and collects what has happened, waiting for it if told to.
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
                // When all ends, one call is to collect much: else the kernel stops at about 20.
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
            Err(_) => done.map(drop),
        }
    }

    /// Receives on a slot from now on, if it may and does not already.
    pub(super) fn arm(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        if slot.state != State::Open || slot.armed || slot.paused || slot.starving || self.ending {
            return;
        }
        slot.armed = true;
        let tag = Tag::new(Job::Receive, index, slot.generation);
        self.push(index, opcode::RecvMulti::new(types::Fixed(index), GROUP).build().user_data(tag.0));
    }

    /// Receives again on those that found no buffer: in their order, and no more of them than there are buffers.
    pub(super) fn feed(&mut self) {
        for _ in 0..self.pool.available().min(self.starving.len()) {
            let Some(index) = self.starving.pop_front() else { return };
            if let Some(slot) = self.slots.get_mut(index as usize)
                && std::mem::take(&mut slot.starving)
            {
                self.arm(index);
            }
        }
    }

    /// Sends what a slot was given since the last turn.
    pub(super) fn flush(&mut self, index: u32, shared: &mut Shared) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.dirty = false;
            self.submit_send(index, shared);
        }
    }

    /// Sends the filling block, if none flies.
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

/// Whether io_uring does all that is used here, found by doing it.
pub(crate) fn works() -> bool {
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
    tried().unwrap_or(false)
}
