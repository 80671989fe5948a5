//! Receivers of what goes one way: they bind, start workers, and hand over what was right.
//!
//! Method: each worker takes in by its own socket, and the kernel spreads senders over them; or all read one socket,
//! and then follow sequence numbers in one table, for a sender's messages come by all of them. Or each takes in from a
//! queue of an interface, past the kernel's stack.

mod inflow;
mod parser;
pub(crate) mod sequence;
pub(crate) mod sources;
pub(crate) mod stats;
pub(crate) mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flatout_net::{Process, ReceiveSocket};
use flatout_wire::receiver_stats::LENGTH;
use flatout_wire::{Decode, Protocol};

pub use inflow::LinkReport;
use inflow::{Inflow, Source, Steered};
use sequence::SequenceTracker;
use sources::Sources;
pub use sources::UNKNOWN;
pub use stats::Received;
use stats::{Drops, ReceiverStats, TrackedSenders};
use worker::Worker;

use crate::histogram::Durations;
use crate::plan::ReceivePlan;
use crate::published::lock;
use crate::queue::{RecordBatch, RecordQueue};
use crate::thread_group::ThreadGroup;

/// How often a worker without work looks whether it should stop.
const WAIT: Duration = Duration::from_millis(50);
/// How long the handler waits for more: being woken for each receive call would cost more than all else it does.
const LINGER: Duration = Duration::from_millis(1);

/// A receiver that takes in until it is stopped or dropped. All its faces may be used from several threads.
///
/// In a fork of the process that started it nothing may be used but [`Receiving::is_here`], [`Receiving::alive`] and
/// [`Receiving::stop`].
pub struct Receiving {
    process: Process,
    address: SocketAddr,
    size: usize,
    stats: Arc<ReceiverStats>,
    /// The socket that answers leave by; none once it is stopped.
    answering: Mutex<Option<Arc<ReceiveSocket>>>,
    /// The program that steers datagrams past the sockets, if any.
    steered: Option<Steered>,
    stop: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<String>>>,
    threads: Mutex<ThreadGroup<()>>,
    /// At most one.
    handler: Mutex<ThreadGroup<()>>,
}

impl Receiving {
    /// Binds all sockets, then starts all workers. Errors are the kernel's, or name an invalid option.
    pub fn start<P: Protocol>(plan: &ReceivePlan) -> io::Result<Self> {
        let options: Vec<_> =
            plan.options.iter().map(|(name, value)| flatout_wire::ProtocolOption { name, value: *value }).collect();
        let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidInput, what);
        let decoder = P::decoder(&options).map_err(|bad| invalid(bad.expected))?;
        let workers = plan.workers.max(1);
        let inflow = Inflow::open(plan, workers, WAIT)?;
        let stats = stats(plan, workers, &decoder, &inflow.sources)?;
        let receiving = Self {
            process: Process::this(),
            address: inflow.address,
            size: decoder.size(),
            stats,
            answering: Mutex::new(Some(inflow.answering)),
            steered: inflow.steered,
            stop: Arc::default(),
            failures: Arc::default(),
            threads: Mutex::default(),
            handler: Mutex::default(),
        };
        // One byte more than any message has, so that a longer one is noticed.
        let longest = decoder.size().max(if plan.tells { LENGTH } else { 0 }) + 1;
        for (number, source) in inflow::spread(inflow.sources, workers).into_iter().enumerate() {
            let arrivals = source.ring(longest);
            let stats = Arc::clone(&receiving.stats);
            let worker = Worker::new(number, decoder.clone(), (source, arrivals), stats, plan.tells);
            receiving.spawn(plan.cpus.get(number % plan.cpus.len().max(1)).copied(), worker)?;
        }
        Ok(receiving)
    }

    fn spawn<T: Decode>(&self, cpu: Option<usize>, worker: Worker<T, Source>) -> io::Result<()> {
        let (stop, failures, stats) = (Arc::clone(&self.stop), Arc::clone(&self.failures), Arc::clone(&self.stats));
        lock(&self.threads).start("flatout-receive", move || {
            if let Some(cpu) = cpu {
                // A CPU that has gone since the plan was made: the scheduler's choice will do.
                let _ = flatout_net::pin(cpu);
            }
            if let Err(why) = worker.run(&stop) {
                lock(&failures).push(why);
                // The others end too: who waits for messages must not wait for ever.
                stop.store(true, Ordering::Relaxed);
                stats.queue.stop();
            }
        })
    }

    /// Whether this is the process that started it.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.process.is_this()
    }

    /// Where it listens, the port resolved.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of every message.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether all workers are at work.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.is_here() && !self.stop.load(Ordering::Relaxed) && lock(&self.threads).is_at_work()
    }

    /// Why workers could not go on: the calls that failed.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        lock(&self.failures).clone()
    }

    /// The queue to the handler.
    #[must_use]
    pub fn queue(&self) -> &RecordQueue {
        &self.stats.queue
    }

    /// Takes messages as [`RecordQueue::take`] does.
    #[must_use]
    pub fn take(&self, most: usize, wait: Duration, linger: Duration) -> Option<RecordBatch> {
        self.stats.queue.take(most, wait, linger)
    }

    /// Starts a handler that does nothing but count. Errors: no threads left.
    pub fn drain(&self) -> io::Result<()> {
        let mut handler = lock(&self.handler);
        if handler.is_empty() {
            let (stats, stop) = (Arc::clone(&self.stats), Arc::clone(&self.stop));
            let drain = move || {
                while !stop.load(Ordering::Relaxed) {
                    stats.queue.discard(WAIT, LINGER);
                }
            };
            handler.start("flatout-handle", drain)?;
        }
        Ok(())
    }

    /// The address with this number.
    #[must_use]
    pub fn source(&self, number: u32) -> Option<SocketAddr> {
        self.stats.sources.address(number)
    }

    /// Sends one datagram to each of these addresses, from where it sends to; returns how many left.
    #[must_use]
    pub fn send(&self, bytes: &[u8], to: &[u32]) -> usize {
        let socket = lock(&self.answering).clone();
        socket.map_or(0, |socket| socket.send(bytes, &self.stats.sources.peers(to)))
    }

    /// How it takes datagrams from an interface; none where it does so by sockets.
    #[must_use]
    pub fn link(&self) -> Option<&LinkReport> {
        self.steered.as_ref().map(|steered| &steered.report)
    }

    /// Each worker's numbers; those that workers share stand with the first.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.stats.received()
    }

    /// How long messages were under way, ns, where they carry the time of their sending. Of messages that came as one
    /// only the first is timed.
    #[must_use]
    pub fn delays(&self) -> Durations {
        self.stats.delays()
    }

    /// Stops all workers and waits for them. What waits for the handler may still be taken. In a fork it does nothing.
    pub fn stop(&self) {
        if !self.is_here() {
            return;
        }
        self.stop.store(true, Ordering::Relaxed);
        self.stats.queue.stop();
        // What comes from now on is for the socket, so that nothing of it is lost unseen.
        self.steered.as_ref().inspect(|steered| steered.detach());
        lock(&self.threads).join();
        let mut handler = lock(&self.handler);
        if !handler.is_empty() {
            handler.join();
            self.stats.queue.discard(Duration::ZERO, Duration::ZERO);
        }
        lock(&self.answering).take();
        self.stats.drops.iter().for_each(Drops::close);
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.stop();
    }
}

fn stats<T: Decode>(
    plan: &ReceivePlan,
    workers: usize,
    decoder: &T,
    sources: &[Source],
) -> io::Result<Arc<ReceiverStats>> {
    let bits = decoder.sequence_bits();
    let most = if bits > 0 { plan.tracked } else { 1 };
    let followings = sources
        .iter()
        .map(|_| TrackedSenders::new(SequenceTracker::new(most, bits, plan.shared && workers > 1)))
        .collect();
    let queue = RecordQueue::new(workers, decoder.size(), plan.queue, plan.when_full)?;
    let shape = (decoder.size(), bits, decoder.field_layout());
    let drops = sources.iter().map(Source::drops).collect();
    Ok(ReceiverStats::new(queue, Sources::new(plan.tracked), (workers, followings, drops), shape))
}
