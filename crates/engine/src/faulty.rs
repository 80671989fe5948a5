//! A server with known faults: the truth that measurements are held against, here and in users' own tests.
//!
//! Method: one spinning thread; each request draws its fate from a seeded sequence, and each fate that was carried out
//! is counted, so a test compares exact numbers. Times count from the kernel's stamp of the request. Never for production.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flatout_net::{Batch, Process, Server};
use flatout_wire::{Protocol, RequestContext, Responder, Table};

use crate::backoff::Backoff;
use crate::clock::unix_now;
use crate::pace::Random;
use crate::plan::ServePlan;
use crate::published::lock;
use crate::thread_group::ThreadGroup;

/// What goes wrong, and how often: shares of requests, which exclude each other and add up to at most 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Not answered.
    pub drop: f64,
    /// Answered twice.
    pub duplicate: f64,
    /// Answered with the bytes spoiled, the first and some others.
    pub corrupt: f64,
    /// Answered `late_by_ns` later.
    pub late: f64,
    /// See `late`.
    pub late_by_ns: u64,
    /// Answered after the next request's answer.
    pub reorder: f64,
    /// Each answer leaves so long after its request came.
    pub delay_ns: u64,
    /// On top of `delay_ns`, evenly drawn from 0 to this.
    pub jitter_ns: u64,
    /// Requests per second that are answered, the rest dropped, by a token bucket of 1 ms; 0: all.
    pub capacity_per_s: f64,
    /// Once, so long after the first request, …
    pub stall_after_ns: u64,
    /// … nothing is done for so long.
    pub stall_ns: u64,
    /// After so many requests it answers no more; 0: never.
    pub die_after: u64,
    /// Of the fates.
    pub seed: u64,
}

/// How often each fate was carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Requests that came.
    pub received: u64,
    /// Answers that left, duplicates and spoiled ones too.
    pub sent: u64,
    /// Requests by fate.
    pub dropped: u64,
    /// Answered twice.
    pub duplicated: u64,
    /// Spoiled.
    pub corrupted: u64,
    /// Held back.
    pub late: u64,
    /// Answered after the next.
    pub reordered: u64,
    /// Beyond the capacity.
    pub over_capacity: u64,
}

/// A running server with faults; stops when it is stopped or dropped.
#[derive(Debug)]
pub struct Faulty {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    done: Arc<Mutex<Done>>,
    failure: Arc<Mutex<Option<String>>>,
    process: Process,
    worker: Mutex<ThreadGroup<()>>,
}

impl Faulty {
    /// Binds and starts.
    pub fn start<P: Protocol>(plan: &ServePlan, faults: Faults) -> io::Result<Self> {
        let invalid = |bad: flatout_wire::InvalidOption| io::Error::new(io::ErrorKind::InvalidInput, bad.expected);
        let responder = P::responder(&[]).map_err(invalid)?;
        let listen = *plan.listen.first().ok_or(io::ErrorKind::InvalidInput)?;
        flatout_net::check_address_free(listen)?;
        let socket = Server::bind(listen, Duration::from_millis(50))?;
        let address = socket.address()?;
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Done>>::default());
        let (their_stop, their_done) = (Arc::clone(&stop), Arc::clone(&done));
        let failure = Arc::<Mutex<Option<String>>>::default();
        let their_failure = Arc::clone(&failure);
        let cpu = plan.cpus.first().copied();
        let mut worker = ThreadGroup::default();
        worker.start("flatout-faulty", move || {
            if let Some(cpu) = cpu {
                // A CPU that has gone since the plan was made: the scheduler's choice will do.
                let _ = flatout_net::pin(cpu);
            }
            flatout_net::raise_priority(-10);
            if let Err(why) = Worker::<P>::new(socket, responder, faults).run(&their_stop, &their_done) {
                *lock(&their_failure) = Some(why);
            }
        })?;
        Ok(Self { address, stop, done, failure, process: Process::this(), worker: Mutex::new(worker) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has done so far; all of it once it is stopped.
    #[must_use]
    pub fn done(&self) -> Done {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it could not go on: the call that failed.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    /// Stops and waits for the end; does nothing in a fork of the process that started it.
    pub fn stop(&self) {
        if !self.process.is_this() {
            return;
        }
        self.stop.store(true, Ordering::Relaxed);
        self.worker.lock().unwrap_or_else(PoisonError::into_inner).join();
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An answer that waits for its time: (when, order, peer, bytes).
type Waiting = Reverse<(u64, u64, SocketAddr, Vec<u8>)>;

struct Worker<P: Protocol> {
    socket: Server,
    responder: P::Responder,
    faults: Faults,
    random: Random,
    batch: Batch,
    waiting: BinaryHeap<Waiting>,
    held: Option<(SocketAddr, Vec<u8>)>,
    tokens: f64,
    filled_at: u64,
    stall_at: Option<u64>,
    order: u64,
    done: Done,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SendOutcome {
    Drop,
    Duplicate,
    Corrupt,
    Late,
    Reorder,
    Answer,
}

impl<P: Protocol> Worker<P> {
    fn new(socket: Server, responder: P::Responder, faults: Faults) -> Self {
        Self {
            socket,
            responder,
            faults,
            random: Random::new(faults.seed),
            batch: Batch::new(32, P::DATAGRAM_MAX, true),
            waiting: BinaryHeap::new(),
            held: None,
            tokens: 0.0,
            filled_at: 0,
            stall_at: None,
            order: 0,
            done: Done::default(),
        }
    }

    fn run(mut self, stop: &AtomicBool, published: &Mutex<Done>) -> Result<(), String> {
        let mut backoff = Backoff::default();
        while backoff.goes_on() && !stop.load(Ordering::Relaxed) {
            let count = backoff.tried(self.socket.receive_now(&mut self.batch));
            for slot in 0..count {
                self.take(slot);
            }
            let now = unix_now();
            self.stall(now);
            self.send_due(now);
            if let Ok(mut done) = published.try_lock() {
                *done = self.done;
            }
        }
        *published.lock().unwrap_or_else(PoisonError::into_inner) = self.done;
        backoff.end()
    }

    fn take(&mut self, slot: usize) {
        let (length, meta) = (self.batch.length(slot), self.batch.meta(slot));
        let Some(peer) = self.batch.peer(slot) else { return };
        let now = unix_now();
        let came = meta.stamp_unix_ns.unwrap_or(now);
        if self.done.received == 0 {
            self.filled_at = came;
            self.stall_at = (self.faults.stall_ns > 0).then_some(came + self.faults.stall_after_ns);
        }
        self.done.received += 1;
        let context = RequestContext {
            received_unix_ns: came,
            now_unix_ns: now.max(came),
            client: Some(peer),
            ..RequestContext::default()
        };
        let Ok(answer) = self.responder.answer(Table::default(), &context, self.batch.slot(slot), length) else {
            return;
        };
        let bytes = self.batch.slot(slot).get(..answer).unwrap_or_default().to_vec();
        let dead = self.faults.die_after > 0 && self.done.received > self.faults.die_after;
        if !dead && self.has_capacity(came) {
            self.carry_out(came, peer, bytes);
        }
    }

    fn has_capacity(&mut self, came: u64) -> bool {
        let capacity = self.faults.capacity_per_s;
        if capacity <= 0.0 {
            return true;
        }
        let since = came.saturating_sub(self.filled_at) as f64 / 1e9;
        self.filled_at = self.filled_at.max(came);
        self.tokens = (self.tokens + since * capacity).min((capacity / 1e3).max(1.0));
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        } else {
            self.done.over_capacity += 1;
        }
        enough
    }

    fn outcome_of_send(&mut self) -> SendOutcome {
        let faults = &self.faults;
        let shares = [
            (SendOutcome::Drop, faults.drop),
            (SendOutcome::Duplicate, faults.duplicate),
            (SendOutcome::Corrupt, faults.corrupt),
            (SendOutcome::Late, faults.late),
            (SendOutcome::Reorder, faults.reorder),
        ];
        let mut drawn = 1.0 - self.random.unit();
        for (outcome_of_send, share) in shares {
            if drawn < share {
                return outcome_of_send;
            }
            drawn -= share;
        }
        SendOutcome::Answer
    }

    fn carry_out(&mut self, came: u64, peer: SocketAddr, mut bytes: Vec<u8>) {
        let at = came + self.faults.delay_ns + (self.random.unit() * self.faults.jitter_ns as f64) as u64;
        match self.outcome_of_send() {
            SendOutcome::Drop => {
                self.done.dropped += 1;
                return;
            }
            SendOutcome::Duplicate => {
                self.done.duplicated += 1;
                self.wait(at, peer, bytes.clone());
            }
            SendOutcome::Corrupt => {
                self.done.corrupted += 1;
                self.spoil(&mut bytes);
            }
            SendOutcome::Late => {
                self.done.late += 1;
                self.wait(at + self.faults.late_by_ns, peer, bytes);
                return;
            }
            SendOutcome::Reorder if self.held.is_none() => {
                self.done.reordered += 1;
                self.held = Some((peer, bytes));
                return;
            }
            SendOutcome::Reorder | SendOutcome::Answer => {}
        }
        self.wait(at, peer, bytes);
        if let Some((peer, bytes)) = self.held.take() {
            self.wait(at, peer, bytes);
        }
    }

    /// Any bytes may be hit, the ones that name the request too.
    fn spoil(&mut self, bytes: &mut [u8]) {
        let hit = self.random.bits();
        for (n, byte) in bytes.iter_mut().enumerate() {
            if n == 0 || hit >> (n % 64) & 1 == 1 {
                *byte = !*byte;
            }
        }
    }

    fn wait(&mut self, at: u64, peer: SocketAddr, bytes: Vec<u8>) {
        self.order += 1;
        self.waiting.push(Reverse((at, self.order, peer, bytes)));
    }

    fn stall(&mut self, now: u64) {
        if self.stall_at.is_some_and(|at| now >= at) {
            self.stall_at = None;
            std::thread::sleep(Duration::from_nanos(self.faults.stall_ns));
        }
    }

    fn send_due(&mut self, now: u64) {
        while self.waiting.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            if let Some(Reverse((_, _, peer, bytes))) = self.waiting.pop() {
                self.done.sent += u64::from(self.socket.send_to(&bytes, peer));
            }
        }
    }
}
