//! Workers that answer: each its own socket on the shared address, a batch at a time, in place.
//!
//! Laws: per packet no allocation, no lock, no log; what gets no answer is counted by reason; one answer that cannot
//! leave never stops the others; only requests are answered, never longer than they came.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use flatout_net::{Batch, Server};
use flatout_wire::{Answer, Moment, Protocol, Refusal, Table};

use crate::clock::unix_now;
use crate::plan::ServePlan;

const BATCH: usize = 64;
/// How often a worker without work looks whether it should stop.
const WAIT: Duration = Duration::from_millis(50);
const REASONS: usize = Refusal::WORDS.len() + 3;

/// Why a datagram got no answer: the protocol's reasons first.
pub const DROPPED: [&str; REASONS] =
    ["short", "version", "not_a_request", "malformed", "authenticated", "too_long", "not_unicast", "unsent"];
const TOO_LONG: usize = Refusal::WORDS.len();
const NOT_UNICAST: usize = TOO_LONG + 1;
const UNSENT: usize = TOO_LONG + 2;

/// One worker's cumulative counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Datagrams that came.
    pub received: u64,
    /// Answers that left.
    pub answered: u64,
    /// Datagrams without answer, by [`DROPPED`].
    pub dropped: [u64; REASONS],
    /// Datagrams that the kernel dropped because the worker did not read them in time.
    pub kernel_drops: u64,
    /// CPU time of the worker, ns.
    pub cpu_ns: u64,
}

/// Servers that run until they are stopped or dropped.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    boards: Vec<Arc<Mutex<Served>>>,
    workers: Vec<JoinHandle<()>>,
}

impl Serving {
    /// Binds all sockets, then starts all workers.
    pub fn start<P: Protocol>(plan: &ServePlan) -> io::Result<Self> {
        let knobs: Vec<_> = plan.knobs.iter().map(|(name, value)| flatout_wire::Knob { name, value: *value }).collect();
        let invalid = |bad: flatout_wire::BadKnob| io::Error::new(io::ErrorKind::InvalidInput, bad.expected);
        let answerer = Arc::new(P::answerer(&knobs).map_err(invalid)?);
        flatout_net::vacant(plan.listen)?;
        let first = Server::bind(plan.listen, WAIT)?;
        let address = first.address()?;
        let mut sockets = vec![first];
        for _ in 1..plan.workers {
            sockets.push(Server::bind(address, WAIT)?);
        }
        let mut serving = Self { address, stop: Arc::default(), boards: Vec::new(), workers: Vec::new() };
        for (n, socket) in sockets.into_iter().enumerate() {
            let cpu = (!plan.cpus.is_empty()).then(|| plan.cpus[n % plan.cpus.len()]);
            serving.spawn::<P>(socket, Arc::clone(&answerer), cpu)?;
        }
        Ok(serving)
    }

    fn spawn<P: Protocol>(&mut self, socket: Server, answerer: Arc<P::Answerer>, cpu: Option<usize>) -> io::Result<()> {
        let board = Arc::<Mutex<Served>>::default();
        let (stop, theirs) = (Arc::clone(&self.stop), Arc::clone(&board));
        let worker = std::thread::Builder::new().name("flatout-serve".into()).spawn(move || {
            if let Some(cpu) = cpu {
                // A CPU that has gone since the plan was made: the scheduler's choice will do.
                let _ = flatout_net::pin(cpu);
            }
            Worker::<P> {
                socket,
                answerer,
                served: Served::default(),
                batch: Batch::new(BATCH, P::DATAGRAM_MAX, true),
            }
            .run(&stop, &theirs);
        })?;
        self.boards.push(board);
        self.workers.push(worker);
        Ok(())
    }

    /// Where it listens, the port resolved.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Each worker's counters.
    #[must_use]
    pub fn served(&self) -> Vec<Served> {
        self.boards.iter().map(|board| *board.lock().unwrap_or_else(PoisonError::into_inner)).collect()
    }

    /// Whether all workers are still at work.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.workers.iter().all(|worker| !worker.is_finished())
    }

    /// Stops all workers and waits for them.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            // A worker that panicked has left its counters; there is nothing more to be had from it.
            let _ = worker.join();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Worker<P: Protocol> {
    socket: Server,
    answerer: Arc<P::Answerer>,
    served: Served,
    batch: Batch,
}

impl<P: Protocol> Worker<P> {
    fn run(mut self, stop: &AtomicBool, board: &Mutex<Served>) {
        let mut published = 0;
        while !stop.load(Ordering::Relaxed) {
            let count = self.socket.receive(&mut self.batch);
            let now = unix_now();
            for slot in 0..count {
                self.consider(slot, now);
            }
            self.send();
            if count == 0 || now > published + 10_000_000 {
                published = now;
                self.publish(board);
            }
        }
        self.publish(board);
    }

    fn consider(&mut self, slot: usize, now: u64) {
        self.served.received += 1;
        let (meta, length) = (self.batch.meta(slot), self.batch.length(slot));
        if meta.truncated {
            self.served.dropped[TOO_LONG] += 1;
        } else if !meta.unicast {
            self.served.dropped[NOT_UNICAST] += 1;
        } else {
            let received_unix_ns = meta.stamp_unix_ns.unwrap_or(now);
            let peer_port = self.batch.peer_port(slot);
            let moment = Moment {
                received_unix_ns,
                now_unix_ns: now.max(received_unix_ns),
                peer_port,
                own_port: 0,
                stream: false,
            };
            match self.answerer.answer(Table::default(), &moment, self.batch.slot(slot), length) {
                Ok(answer) if answer <= length => self.batch.answer(slot, answer),
                Ok(_) => self.served.dropped[Refusal::Malformed as usize] += 1,
                Err(refusal) => self.served.dropped[refusal as usize] += 1,
            }
        }
    }

    fn send(&mut self) {
        let queued = self.batch.answers() as u64;
        let left = self.socket.send_answers(&mut self.batch) as u64;
        self.served.answered += left;
        self.served.dropped[UNSENT] += queued - left;
    }

    fn publish(&mut self, board: &Mutex<Served>) {
        self.served.kernel_drops = u64::from(self.socket.memory().drops);
        self.served.cpu_ns = flatout_net::thread_cpu_ns();
        *board.lock().unwrap_or_else(PoisonError::into_inner) = self.served;
    }
}
