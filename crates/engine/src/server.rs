//! Workers that answer: each with its own sockets on the shared addresses, one thread a link.
//!
//! Laws: per message no allocation, no lock, no log; what gets no answer is counted by reason; what one client does, or
//! one answer that cannot leave, never stops the others; only requests are answered.

pub(crate) mod admission;
pub(crate) mod age_list;
mod bind;
mod datagrams;
mod driver;
mod leap_second;
pub(crate) mod live;
pub(crate) mod pending_input;
mod stamp_numbers;
mod streams;
mod supervisor;
mod transmit;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use flatout_net::{Epoll, Listener, Process, Streams, Uring};
pub use flatout_wire::STATE_WORDS;
use flatout_wire::{DropReason, Link, Protocol, Responder};

use crate::answer_table::AnswerTable;
use crate::clock::{SystemClock, unique};
use crate::generator::start::uses_uring;
use crate::histogram::Durations;
use crate::plan::{AdmissionPlan, Io, ServePlan};
use crate::published::{Published, lock};
use crate::thread_group::ThreadGroup;

use admission::{Admission, Admissions, Refused, Spread};
pub use admission::{Class, ClientRow, Refusals};
use bind::WorkerSocket;
pub use driver::Counted;
use driver::{Answers, Driver, Limits, Sockets};
use live::{LiveReader, SharedState, read_clocks};
use supervisor::{AllPublished, Post, Replacements, Supervisor, Work};
use transmit::SharedErrors;

#[cfg(test)]
pub(crate) use streams::Worker as Answering;

/// How often a worker without work looks whether it should stop.
const WAIT: Duration = Duration::from_millis(50);
/// How often a busy worker leaves its counters.
const PUBLISH_NS: u64 = 10_000_000;
const REASONS: usize = TOO_LONG_ANSWER + 1;

/// Why a request got no answer: the protocol's reasons first, then those of datagrams.
pub const DROPPED: [&str; REASONS] = reasons();
const TOO_LONG: usize = DropReason::WORDS.len();
const NOT_UNICAST: usize = TOO_LONG + 1;
const UNSENT: usize = TOO_LONG + 2;
/// Those of the admission.
const REFUSED: usize = TOO_LONG + 3;
/// An answer longer than its request: a fault of this program, which must not help to flood others.
const TOO_LONG_ANSWER: usize = REFUSED + Refused::WORDS.len();

const fn reasons() -> [&'static str; REASONS] {
    let mut all = [""; REASONS];
    let mut n = 0;
    while n < TOO_LONG {
        all[n] = DropReason::WORDS[n];
        n += 1;
    }
    (all[TOO_LONG], all[NOT_UNICAST], all[UNSENT]) = ("too_long", "not_unicast", "unsent");
    n = 0;
    while n < Refused::WORDS.len() {
        all[REFUSED + n] = Refused::WORDS[n];
        n += 1;
    }
    all[TOO_LONG_ANSWER] = "too_long_answer";
    all
}

counters! {
    /// One worker's cumulative counters.
    pub struct Served {
        /// Requests that came: datagrams, and whole messages of streams. Where a stream has no messages: pieces.
        received: u64,
        /// Answers that left, or that a stream's connection took to send.
        answered: u64,
        /// Requests without answer, by [`DROPPED`].
        dropped: [u64; REASONS],
        /// Of the answers over datagrams those that are a kiss-o'-death.
        kissed: u64,
        /// Bytes of the answers over datagrams, with UDP and IP headers.
        sent_bytes: u64,
        /// Clients that had to be forgotten for others, so that their limits began anew.
        clients_forgotten: u64,
        /// Datagrams without a credible stamp of the kernel: their arrival is when the worker read them.
        unstamped: u64,
        /// Answers that tell when the answer before left.
        interleaved: u64,
        /// Answers of which the kernel's own transmit stamp was read.
        tx_sampled: u64,
        /// Those of them that had left before the stamp in them.
        tx_late: u64,
        /// Datagrams that the kernel dropped because the worker did not read them in time.
        kernel_drops: u64,
        /// CPU time of the worker's threads, ns.
        cpu_ns: u64,
        /// Connections that stand now.
        connections: u64,
        /// Connections accepted.
        accepted: u64,
        /// Accepts that failed.
        accept_errors: u64,
        /// Connections cut off by a reset, or given up by the network.
        resets: u64,
        /// Connections that their clients ended in order.
        ended: u64,
        /// Connections closed because the client took no answers.
        stalled: u64,
        /// Connections closed because the rest of a cut request did not come.
        incomplete: u64,
        /// Connections closed because the memory for cut requests was needed by others.
        evicted: u64,
        /// Connections closed because nothing came for as long as they may be idle.
        idle_closed: u64,
        /// Connections closed because what came can be no request.
        broken: u64,
        /// Bytes received over streams.
        bytes_in: u64,
        /// Bytes sent over streams.
        bytes_out: u64,
        /// Memory held for connections now, in bytes; the kernel's is beside it.
        memory_bytes: u64,
    }
}

/// Servers that run until they are stopped or dropped. All methods may be called from several threads at once.
#[derive(Debug)]
pub struct Serving {
    addresses: Vec<SocketAddr>,
    backend: &'static str,
    capacity: usize,
    stop: Arc<AtomicBool>,
    /// Of each worker, one a thread.
    published: Arc<AllPublished>,
    failures: Arc<Mutex<Vec<String>>>,
    replacements: Arc<Replacements>,
    process: Process,
    threads: Mutex<ThreadGroup<()>>,
    live: Arc<SharedState>,
    tx_errors: SharedErrors,
    admissions: Arc<Admissions>,
    spread: Spread,
    driver: Driver,
}

/// What all threads begin with.
struct Shared<P: Protocol> {
    responder: P::Responder,
    answer_table: Arc<AnswerTable>,
    io: Io,
    /// Connections at once, of one worker and address.
    connections: usize,
    idle_ms: Option<u32>,
}

/// A worker's own responder.
fn own<P: Protocol>(responder: &P::Responder) -> P::Responder {
    let mut own = responder.clone();
    own.seed(unique());
    own
}

impl Serving {
    /// Binds all sockets, then starts all workers. Errors are the kernel's, or name an invalid option.
    pub fn start<P: Protocol>(plan: &ServePlan) -> io::Result<Self> {
        let options: Vec<_> =
            plan.options.iter().map(|(name, value)| flatout_wire::ProtocolOption { name, value: *value }).collect();
        let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidInput, what);
        let responder = P::responder(&options).map_err(|bad| invalid(bad.expected))?;
        if plan.links.is_empty() || !plan.links.iter().all(|link| P::LINKS.contains(link)) {
            return Err(invalid("a link that the protocol speaks"));
        }
        let answer_table = Arc::new(AnswerTable::build(&plan.entries)?);
        let bound = bind::all(plan)?;
        let (workers, restricted) = (plan.workers.max(1), bound.restricted(plan));
        let shared = Shared::<P> {
            responder,
            answer_table,
            io: plan.io,
            connections: plan.connections.div_ceil(workers * bound.addresses.len().max(1)),
            idle_ms: plan.idle_timeout_ns.map(|ns| u32::try_from(ns.div_ceil(1_000_000)).unwrap_or(u32::MAX)),
        };
        let mut serving = Self {
            addresses: bound.addresses,
            backend: "",
            capacity: 0,
            stop: Arc::default(),
            published: Arc::new(Mutex::new((0..workers).map(|_| Vec::new()).collect())),
            failures: Arc::default(),
            replacements: Arc::default(),
            process: Process::this(),
            threads: Mutex::default(),
            live: Arc::default(),
            tx_errors: Arc::default(),
            admissions: Arc::new(Admissions::new(&plan.admission, workers)),
            spread: bound.spread,
            driver: Driver::default(),
        };
        let cpu = |n: usize| plan.cpus.get(n % plan.cpus.len().max(1)).copied();
        if plan.links.contains(&Link::Udp) {
            let clients = plan.admission.clients.div_ceil(workers);
            serving.start_datagrams(bound.sockets, &shared, clients, cpu)?;
        }
        for (n, listeners) in bound.listeners.into_iter().enumerate() {
            for (listener, address) in listeners {
                serving.spawn_streams(n, cpu(n), &shared, (listener, address))?;
            }
        }
        serving.start_driver::<P>(plan, &shared.responder, &shared.answer_table, restricted)?;
        Ok(serving)
    }

    /// Starts the program in the network driver that the plan asks for, and the thread that keeps it up to date.
    fn start_driver<P: Protocol>(
        &mut self,
        plan: &ServePlan,
        responder: &P::Responder,
        table: &Arc<AnswerTable>,
        restricted: Vec<Arc<flatout_net::Server>>,
    ) -> io::Result<()> {
        let Some(driver) = &plan.driver else { return Ok(()) };
        if P::DRIVER_PROGRAM.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a protocol that is answered in the driver"));
        }
        let sockets = Sockets {
            addresses: self.addresses.clone(),
            restricted,
            // Where both families have sockets of their own, it makes no difference. Those handed over may be either.
            dual_stack: plan.inherited.is_empty(),
        };
        let answers = Answers::new::<P>(table, &plan.entries);
        let live = LiveReader::new(Arc::clone(&self.live));
        let limits = Limits { admissions: Arc::clone(&self.admissions), clients: plan.admission.clients };
        let (driver, keeper) = driver::start::<P>(driver, responder.clone(), live, &sockets, &limits, &answers)?;
        self.driver = driver;
        let Some(keeper) = keeper else { return Ok(()) };
        let stop = Arc::clone(&self.stop);
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        threads.start("flatout-driver", move || keeper.run(&stop))
    }

    /// Starts the workers that answer datagrams, and the thread that looks after them.
    fn start_datagrams<P: Protocol>(
        &mut self,
        sockets: Vec<Vec<WorkerSocket>>,
        shared: &Shared<P>,
        clients: usize,
        cpu: impl Fn(usize) -> Option<usize>,
    ) -> io::Result<()> {
        let mut supervisor = Supervisor::new(
            Arc::clone(&self.stop),
            Arc::clone(&self.published),
            Arc::clone(&self.failures),
            Arc::clone(&self.replacements),
        );
        for (n, sockets) in sockets.into_iter().enumerate() {
            let (responder, answer_table) = (shared.responder.clone(), Arc::clone(&shared.answer_table));
            let (live, admissions) = (Arc::clone(&self.live), Arc::clone(&self.admissions));
            let errors = Arc::clone(&self.tx_errors);
            let make = move || {
                let (responder, table) = (own::<P>(&responder), Arc::clone(&answer_table));
                let live = (LiveReader::new(Arc::clone(&live)), Arc::clone(&errors));
                let sockets = sockets.clone();
                let admission = Admission::new(Arc::clone(&admissions), n, clients, unique());
                Box::new(move |post: &Post, published: &Published<Served>, drops: u64| {
                    datagrams::Worker::<P>::new(sockets, responder, table, live, admission, drops).run(post, published)
                }) as Box<Work>
            };
            supervisor.start(n, cpu(n), Box::new(make))?;
        }
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        threads.start("flatout-watch", move || supervisor.watch())
    }

    fn spawn(
        &mut self,
        worker: usize,
        cpu: Option<usize>,
        run: impl FnOnce(&AtomicBool, &Published<Served>) -> Result<(), String> + Send + 'static,
    ) -> io::Result<()> {
        let published = Arc::<Published<Served>>::default();
        let (stop, theirs, failures) = (Arc::clone(&self.stop), Arc::clone(&published), Arc::clone(&self.failures));
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        threads.start("flatout-serve", move || {
            if let Some(cpu) = cpu {
                // A CPU that has gone since the plan was made: the scheduler's choice will do.
                let _ = flatout_net::pin(cpu);
            }
            if let Err(why) = run(&stop, &theirs) {
                lock(&failures).push(why);
            }
        })?;
        if let Some(of_worker) = lock(&self.published).get_mut(worker) {
            of_worker.push(published);
        }
        Ok(())
    }

    /// Starts a thread for streams, and waits until it has its carrier: rings stay on the thread that made them.
    fn spawn_streams<P: Protocol>(
        &mut self,
        n: usize,
        cpu: Option<usize>,
        shared: &Shared<P>,
        (listener, address): (Listener, SocketAddr),
    ) -> io::Result<()> {
        let (responder, answer_table) = (own::<P>(&shared.responder), Arc::clone(&shared.answer_table));
        let (io, connections, idle_ms) = (shared.io, shared.connections, shared.idle_ms);
        let (tell, reported) = mpsc::channel();
        self.spawn(n, cpu, move |stop, published| {
            let begin =
                Begin::<P> { responder, answer_table, address, connections, idle_ms, stop, published, tell: &tell };
            match begin.run(io, listener) {
                Ok(ended) => ended,
                Err(error) => {
                    let why = error.to_string();
                    // The thread that started it waits for this message.
                    let _ = tell.send(Err(error));
                    Err(why)
                }
            }
        })?;
        // A thread that has ended without a word has panicked.
        let (backend, capacity) =
            reported.recv().unwrap_or_else(|_| Err(io::Error::other("a serving thread has ended")))?;
        self.backend = backend;
        self.capacity += capacity;
        Ok(())
    }

    /// Tells all workers the state that they answer from, as the protocol's Python file packs it; from their next batch
    /// of datagrams on.
    pub fn set_state(&self, words: &[u64; STATE_WORDS]) {
        let (steady, unix) = read_clocks(1_000_000, 4);
        self.live.set(words, steady, unix);
    }

    /// By how much the transmit stamps in answers are before the kernel's own, ns: of sampled answers.
    #[must_use]
    pub fn tx_errors(&self) -> Durations {
        lock(&self.tx_errors).clone()
    }

    /// Replaces the rules of which datagrams are answered; what is known of clients stays, as does the bandwidth.
    pub fn set_admission(&self, plan: &AdmissionPlan) {
        self.admissions.set(plan);
        // The kernel took the same program with other numbers before.
        let _ = self.spread.set(plan);
        self.driver.set_admission(&self.admissions);
    }

    /// The bandwidth for answers over datagrams from now on, bytes per s; `None`: no limit.
    pub fn set_budget(&self, bytes_per_s: Option<u64>) {
        self.admissions.budget.set(bytes_per_s);
    }

    /// Asks all workers for the clients that ask most; returns the number of the question.
    #[must_use]
    pub fn ask_for_clients(&self) -> u64 {
        self.admissions.ask_for_clients()
    }

    /// The answer to such a question, once all workers have given it; with the clients of the driver's program.
    #[must_use]
    pub fn clients(&self, question: u64) -> Option<Vec<ClientRow>> {
        let mut rows = self.admissions.clients(question)?;
        self.driver.add_clients(&mut rows);
        Some(rows)
    }

    /// Where it listens, the ports resolved; at least one.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How many workers that answer datagrams were replaced, and why the last one was.
    #[must_use]
    pub fn replaced(&self) -> (u64, String) {
        (self.replacements.count.load(Ordering::Relaxed), lock(&self.replacements.last).clone())
    }

    /// The word for what carries streams; empty where there are none.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        self.backend
    }

    /// How many connections all workers together have places for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether this is the process that started it; in a fork its counters cannot be read.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.process.is_this()
    }

    /// Each worker's counters.
    #[must_use]
    pub fn served(&self) -> Vec<Served> {
        let sum = |published: &Vec<Arc<Published<Served>>>| {
            published.iter().fold(Served::default(), |mut sum, published| {
                sum += &published.read();
                sum
            })
        };
        lock(&self.published).iter().map(sum).collect()
    }

    /// Why threads could not go on: the calls that failed.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        lock(&self.failures).clone()
    }

    /// Whether all workers are still at work.
    #[must_use]
    pub fn alive(&self) -> bool {
        if !self.is_here() || self.stop.load(Ordering::Relaxed) || !lock(&self.failures).is_empty() {
            return false;
        }
        // Held only by one that stops it.
        self.threads.try_lock().is_ok_and(|threads| threads.is_at_work())
    }

    /// Stops all threads and waits for them. In a fork of the process that started them it does nothing.
    pub fn stop(&self) {
        if !self.is_here() {
            return;
        }
        self.stop.store(true, Ordering::Relaxed);
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).join();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a thread for streams needs besides its carrier.
struct Begin<'a, P: Protocol> {
    responder: P::Responder,
    answer_table: Arc<AnswerTable>,
    address: SocketAddr,
    connections: usize,
    idle_ms: Option<u32>,
    stop: &'a AtomicBool,
    published: &'a Published<Served>,
    tell: &'a mpsc::Sender<io::Result<(&'static str, usize)>>,
}

impl<P: Protocol> Begin<'_, P> {
    /// Runs until it is stopped; returns how it ended. Errors: no carrier of the kind wanted.
    fn run(self, io: Io, mut listener: Listener) -> io::Result<Result<(), String>> {
        if uses_uring(io)? {
            match Uring::new(self.connections, Some(listener)) {
                Ok(streams) => return Ok(self.serve(streams)),
                Err(error) if io == Io::Uring => return Err(error),
                // A ring that this process may not have: too little memory allowed, a filter of system calls.
                Err(_) => listener = Listener::bind(self.address)?,
            }
        }
        let streams = Epoll::new(self.connections, Some(listener))?;
        Ok(self.serve(streams))
    }

    fn serve(self, streams: impl Streams) -> Result<(), String> {
        // The thread that started it waits for this message.
        let _ = self.tell.send(Ok((streams.name(), streams.capacity())));
        let clock = SystemClock::begin();
        let port = self.address.port();
        streams::Worker::<P, _, _>::new(streams, clock, self.responder, self.answer_table, port, self.idle_ms)
            .run(self.stop, self.published)
    }
}
