//! Receivers of what goes one way: they bind, start workers, and hand over what was right.
//!
//! Method: each worker takes in by its own socket, and the kernel spreads senders over them; or all read one socket,
//! and then follow sequence numbers in one table, for a sender's messages come by all of them.

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

use flatout_net::{Process, ReceiveOptions, ReceiveRing, ReceiveSocket};
use flatout_wire::receiver_stats::LENGTH;
use flatout_wire::{Decode, Protocol};

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
    /// None once it is stopped.
    intake: Mutex<Option<Arc<ReceiveSocket>>>,
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
        let intakes = bind(plan, workers)?;
        let address = intakes.first().map_or_else(|| Ok(plan.listen), |intake| intake.address())?;
        let stats = stats(plan, workers, &decoder, &intakes)?;
        let receiving = Self {
            process: Process::this(),
            address,
            size: decoder.size(),
            stats,
            intake: Mutex::new(intakes.first().cloned()),
            stop: Arc::default(),
            failures: Arc::default(),
            threads: Mutex::default(),
            handler: Mutex::default(),
        };
        for (number, intake) in intakes.iter().cycle().take(workers).enumerate() {
            // One byte more than any message has, so that a longer one is noticed.
            let longest = decoder.size().max(if plan.tells { LENGTH } else { 0 }) + 1;
            let arrivals = ReceiveRing::new(longest, intake.coalesced(), intake.has_control_messages());
            let inflow = (Arc::clone(intake), arrivals);
            let worker = Worker::new(number, decoder.clone(), inflow, Arc::clone(&receiving.stats), plan.tells);
            receiving.spawn(plan.cpus.get(number % plan.cpus.len().max(1)).copied(), worker)?;
        }
        Ok(receiving)
    }

    fn spawn<T: Decode>(&self, cpu: Option<usize>, worker: Worker<T, Arc<ReceiveSocket>>) -> io::Result<()> {
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
        let intake = lock(&self.intake).clone();
        intake.map_or(0, |intake| intake.send(bytes, &self.stats.sources.peers(to)))
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
        lock(&self.threads).join();
        let mut handler = lock(&self.handler);
        if !handler.is_empty() {
            handler.join();
            self.stats.queue.discard(Duration::ZERO, Duration::ZERO);
        }
        lock(&self.intake).take();
        self.stats.drops.iter().for_each(Drops::close);
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One socket a worker, or one for all.
fn bind(plan: &ReceivePlan, workers: usize) -> io::Result<Vec<Arc<ReceiveSocket>>> {
    let ways = ReceiveOptions { wait: WAIT, buffer: plan.buffer, stamps: plan.stamps, coalesced: plan.coalesced };
    flatout_net::check_address_free(plan.listen)?;
    let first = ReceiveSocket::bind(plan.listen, ways)?;
    let address = first.address()?;
    let mut intakes = vec![Arc::new(first)];
    for _ in 1..if plan.shared { 1 } else { workers } {
        intakes.push(Arc::new(ReceiveSocket::bind(address, ways)?));
    }
    Ok(intakes)
}

fn stats<T: Decode>(
    plan: &ReceivePlan,
    workers: usize,
    decoder: &T,
    intakes: &[Arc<ReceiveSocket>],
) -> io::Result<Arc<ReceiverStats>> {
    let bits = decoder.sequence_bits();
    let most = if bits > 0 { plan.tracked } else { 1 };
    let followings = intakes
        .iter()
        .map(|_| TrackedSenders::new(SequenceTracker::new(most, bits, plan.shared && workers > 1)))
        .collect();
    let drops = |intake: &Arc<ReceiveSocket>| {
        let intake = Arc::clone(intake);
        Drops::new(move || intake.memory().drops)
    };
    let queue = RecordQueue::new(workers, decoder.size(), plan.queue, plan.when_full)?;
    let shape = (decoder.size(), bits, decoder.field_layout());
    let sources = Sources::new(plan.tracked);
    Ok(ReceiverStats::new(queue, sources, (workers, followings, intakes.iter().map(drops).collect()), shape))
}
