//! How a run's workers begin: each made of the plan, on a thread of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use flatout_net::{
    Datagrams, Epoll, FlowOptions, Flows, RunDelay, SharedFlows, Streams, Uring, XdpFlowOptions, XdpFlows,
};
use flatout_wire::{Client, Decode, Link, Protocol, ProtocolOption};

use crate::clock::{Clock, SystemClock, unix_now};
use crate::generator::one_way::{GROUP, OneWayParts, OneWaySender};
use crate::generator::opener::ConnectionPlan;
use crate::generator::senders::Senders;
use crate::generator::start_barrier::StartBarrier;
use crate::generator::stream::{Lengths, StreamClient, StreamParts};
use crate::generator::{DatagramClient, DatagramParts, Times, WorkerOptions};
use crate::log::{Log, LogWriter};
use crate::pace::{Arrivals, Pacer, Random, Segment, Share};
use crate::plan::{Io, LoadPlan, XdpMode, XdpTransmit};
use crate::published::PublishedRun;
use crate::query_set::{Cursor, QuerySet};
use crate::stream_layer::{Plain, StreamLayer};
use crate::tally::Counts;
use crate::thread_group::ThreadGroup;
use crate::tls::Tls;

/// Time to start all threads before the first request is due.
const LEAD_NS: u64 = 10_000_000;
/// Spinning workers should not be put aside for a drawing terminal; far from the most urgent that there is.
const NICENESS: i32 = -10;
/// Who of several senders goes first within so many s is not told apart, where each has its own flow.
const UNTOLD_S: f64 = 1e-3;

/// Workers that have begun.
#[derive(Default)]
pub(crate) struct Workers {
    pub(crate) published: Vec<Arc<PublishedRun>>,
    pub(crate) threads: ThreadGroup<Counts>,
}

/// What all workers of a run share.
struct Common<'a, P: Protocol> {
    plan: &'a LoadPlan,
    /// Where connections go.
    target: SocketAddr,
    clock: SystemClock,
    barrier: &'a Arc<StartBarrier>,
    log: Option<&'a Log>,
    client: P::Client,
    query_set: Arc<QuerySet>,
}

/// When the schedule of a plan begins: at once for datagrams, after all connections stand for streams, and where it is
/// held not before its release.
pub(crate) fn barrier(plan: &LoadPlan, clock: SystemClock) -> Arc<StartBarrier> {
    let asked_for = plan.start_at_unix_ns.map_or(0, |unix| unix.saturating_sub(clock.unix_offset()));
    let begin = asked_for.max(clock.now() + LEAD_NS);
    Arc::new(match plan.link {
        _ if plan.held => StartBarrier::held(plan.workers, LEAD_NS),
        Link::Udp => StartBarrier::open(begin),
        Link::Tcp | Link::Tls => StartBarrier::closed(plan.workers, begin, LEAD_NS),
    })
}

/// Starts the workers of a plan. Errors are the kernel's, or name an invalid option or line.
pub(crate) fn workers<P: Protocol>(
    plan: &LoadPlan,
    clock: SystemClock,
    barrier: &Arc<StartBarrier>,
    log: Option<&Log>,
) -> io::Result<Workers> {
    if !P::LINKS.contains(&plan.link) {
        return Err(invalid("this protocol does not travel so"));
    }
    let Some(target) = plan.targets.first() else { return Err(invalid("a target")) };
    let secret = Random::new(unix_now() ^ plan.seed).bits();
    let options: Vec<_> = plan.options.iter().map(|(name, value)| ProtocolOption { name, value: *value }).collect();
    let client = P::client(&options, secret).map_err(|bad| invalid(bad.expected))?;
    let query_set = QuerySet::compile::<P>(&plan.lines, plan.queries.as_deref())?;
    let common = Common::<P> { plan, target: *target, clock, barrier, log, client, query_set };
    match plan.link {
        Link::Udp if common.client.one_way() => {
            let decoder = P::decoder(&options).map_err(|bad| invalid(bad.expected))?;
            let named = decoder.carries_sender_id();
            if plan.xdp.is_some() {
                return common.one_way(open_xdp_links(plan)?, XdpFlows::name, named);
            }
            common.one_way(open_links(plan)?, |_| "", named)
        }
        Link::Udp if plan.xdp.is_some() => common.over_datagrams(open_xdp_links(plan)?, XdpFlows::name),
        Link::Udp if plan.shared_sockets => common.over_datagrams(open_shared_links::<P>(plan)?, |_| ""),
        Link::Udp => common.over_datagrams(open_links(plan)?, |_| ""),
        Link::Tcp => common.over_streams(&Plain),
        Link::Tls => common.over_streams(&Tls::new(&plan.policy.tls)?),
    }
}

/// Whether io_uring carries streams. Errors: it was asked for and does not work here.
pub(crate) fn uses_uring(io: Io) -> io::Result<bool> {
    match (io, flatout_net::uring_refusal()) {
        (Io::Epoll, _) | (Io::Auto, Some(_)) => Ok(false),
        (_, None) => Ok(true),
        (Io::Uring, Some(why)) => {
            let text = format!(
                "{why}; io_uring is not available or not permitted here (a sandbox, the sysctl \
                 kernel.io_uring_disabled, or Linux before 6.11): use --io auto"
            );
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.to_owned())
}

impl<P: Protocol> Common<'_, P> {
    fn over_datagrams<L: Datagrams + Send + 'static>(
        &self,
        links: Vec<L>,
        name: impl Fn(&L) -> &'static str,
    ) -> io::Result<Workers> {
        let mut workers = Workers::default();
        let mut first_flow = 0;
        for (n, link) in links.into_iter().enumerate() {
            let (flows, name) = (link.flows() as u32, name(&link));
            let published = Arc::<PublishedRun>::default();
            let active = DatagramClient::<P, _, _>::new(DatagramParts {
                client: self.client.clone(),
                cursor: self.cursor(n),
                options: WorkerOptions {
                    stamps: self.plan.stamps,
                    ping_pong: self.plan.ping_pong.map(|how| how.wait),
                    ..self.options(n, first_flow, self.plan.slots_a_flow())
                },
                link,
                clock: self.clock,
                warmup: self.warmup(n),
                pacer: self.pacer(n),
                timeout: self.plan.timeout_ns,
                published: Arc::clone(&published),
                log_writer: self.log_writer(),
            });
            first_flow += flows;
            published.note_backend(name, active.ring_bytes());
            let start = self.start(&published, flows as usize);
            workers.published.push(published);
            workers.threads.add(spawn(self.place(n), move || active.run(start.times()))?);
        }
        Ok(workers)
    }

    /// `named`: senders are told apart by what they send; else by the flows they come over.
    fn one_way<L: Datagrams + Send + 'static>(
        &self,
        links: Vec<L>,
        name: impl Fn(&L) -> &'static str,
        named: bool,
    ) -> io::Result<Workers> {
        let mut workers = Workers::default();
        let mut first_flow = 0;
        for (n, link) in links.into_iter().enumerate() {
            let (flows, name) = (link.flows(), name(&link));
            let published = Arc::<PublishedRun>::default();
            let sender_worker = OneWaySender::<P, _, _>::new(OneWayParts {
                client: self.client.clone(),
                cursor: self.cursor(n),
                link,
                clock: self.clock,
                pacer: self.ticking(n),
                senders: self.senders(n, flows, named)?,
                timeout: self.plan.timeout_ns,
                options: self.options(n, first_flow, 0),
                published: Arc::clone(&published),
                log_writer: self.log_writer(),
            });
            first_flow += flows as u32;
            published.note_backend(name, sender_worker.sender_bytes());
            let start = self.start(&published, flows);
            workers.published.push(published);
            workers.threads.add(spawn(self.place(n), move || sender_worker.run(start.times()))?);
        }
        Ok(workers)
    }

    /// The n-th worker's senders: those whose numbers its own number leaves over.
    fn senders(&self, n: usize, flows: usize, named: bool) -> io::Result<Senders> {
        let mine = share(self.plan.ticks.senders as usize, self.number(n), self.of());
        if mine == 0 {
            return Err(invalid("at least one sender for each thread"));
        }
        let count = if named { mine } else { mine.min(flows) };
        let per_s = self.plan.peak_per_s() / self.of() as f64;
        let untold = (UNTOLD_S * per_s / count as f64) as usize;
        let in_a_row =
            if self.plan.ticks.spread < 1.0 { 1 } else { untold.min(GROUP / count.div_ceil(flows).min(GROUP)) };
        Ok(Senders::new((self.number(n) as u32, self.of() as u32), count, flows, in_a_row))
    }

    fn ticking(&self, n: usize) -> Pacer {
        let pacer = self.pacer(n);
        match self.plan.arrivals {
            Arrivals::Poisson => pacer,
            Arrivals::Constant => pacer.at_ticks(self.plan.ticks),
        }
    }

    fn over_streams<W: StreamLayer + Clone + Send + 'static>(&self, layer: &W) -> io::Result<Workers> {
        let uring = uses_uring(self.plan.policy.io)?;
        let mut workers = Workers::default();
        for n in 0..self.plan.workers {
            let published = Arc::<PublishedRun>::default();
            let make = self.stream_client(n, layer.clone(), Arc::clone(&published));
            let (theirs, barrier, clock) = (Arc::clone(&published), Arc::clone(self.barrier), self.clock);
            workers.published.push(published);
            workers.threads.add(spawn(self.place(n), move || {
                // What carries streams belongs to the thread that made it.
                let run = if uring {
                    make.run(|slots| Uring::new(slots, None))
                } else {
                    make.run(|slots| Epoll::new(slots, None))
                };
                run.unwrap_or_else(|error| {
                    theirs.give_up(error.to_string());
                    barrier.arrive(clock.now(), 0);
                    theirs.finish();
                    Counts::default()
                })
            })?);
        }
        Ok(workers)
    }

    fn stream_client<W: StreamLayer>(&self, n: usize, layer: W, published: Arc<PublishedRun>) -> StreamSetup<P, W> {
        let plan = self.plan;
        let active = share(plan.flows, n, plan.workers);
        let hold = share(plan.policy.hold, n, plan.workers);
        let churned = if plan.policy.churn > 0 { active } else { 0 };
        // Flows are numbered by place; two workers' numbers must not meet.
        let slots = active + hold + churned;
        let widest = plan.flows.div_ceil(plan.workers) * 2 + plan.policy.hold.div_ceil(plan.workers);
        let connections = ConnectionPlan {
            active,
            hold,
            per_s: plan.policy.connect_per_s / plan.workers as f64,
            timeout: plan.policy.connect_timeout_ns,
            churn: plan.policy.churn,
            reconnect: plan.policy.reconnect,
        };
        StreamSetup {
            client: self.client.clone(),
            cursor: self.cursor(n),
            layer,
            clock: self.clock,
            warmup: self.warmup(n),
            pacer: self.pacer(n),
            barrier: Arc::clone(self.barrier),
            lengths: self.lengths(),
            options: self.options(n, (n * widest) as u32, plan.slots_a_connection()),
            connections,
            slots,
            target: self.target,
            sources: rotated(&plan.sources, n),
            seed: Random::new(plan.seed ^ (self.number(n) as u64) << 32).bits(),
            published,
            log_writer: self.log_writer(),
        }
    }

    fn options(&self, n: usize, first_flow: u32, slots: usize) -> WorkerOptions {
        // One worker reads them for all.
        let target_schedstats = if n == 0 { self.plan.target_schedstats.as_slice() } else { &[] };
        WorkerOptions {
            slots,
            first_flow,
            slow_after: self.plan.slow_after_ns,
            shares_cpus: self.plan.shares_cpus,
            brief_drain: self.plan.brief_drain,
            target_delay: RunDelay::open(target_schedstats),
            ..WorkerOptions::default()
        }
    }

    fn cursor(&self, n: usize) -> Cursor {
        Cursor::new(Arc::clone(&self.query_set), self.number(n), self.of())
    }

    /// The number of this host's n-th worker among all hosts' workers.
    fn number(&self, n: usize) -> usize {
        self.plan.node.index as usize * self.plan.workers + n
    }

    /// How many workers all hosts have.
    fn of(&self) -> usize {
        self.plan.node.of as usize * self.plan.workers
    }

    fn share(&self, n: usize) -> Share {
        Share { index: self.number(n) as u32, of: self.of() as u32 }
    }

    fn pacer(&self, n: usize) -> Pacer {
        if self.plan.ping_pong.is_some() {
            return Pacer::nothing();
        }
        self.taking(n, Pacer::new(&self.plan.profile, self.plan.arrivals, self.share(n), self.plan.seed))
    }

    fn warmup(&self, n: usize) -> Pacer {
        let first = self.plan.profile.first().map_or(0.0, |segment| segment.from_per_s);
        let seconds = self.plan.warmup_ns as f64 / 1e9;
        let warmup = [Segment { seconds, from_per_s: first, to_per_s: first }];
        let warmup = if seconds > 0.0 { &warmup[..] } else { &[] };
        self.taking(n, Pacer::new(warmup, self.plan.arrivals, self.share(n), self.plan.seed ^ 1))
    }

    /// The n-th worker's schedule, by weight where hosts take unequal shares.
    fn taking(&self, n: usize, pacer: Pacer) -> Pacer {
        match self.plan.portion {
            Some(portion) => pacer.taking(portion.part(n, self.plan.workers)),
            None => pacer,
        }
    }

    fn lengths(&self) -> Lengths {
        let (warmup, counted) = (self.plan.warmup_ns, self.plan.duration_ns());
        Lengths { warmup, counted, timeout: self.plan.timeout_ns }
    }

    fn start(&self, published: &Arc<PublishedRun>, flows: usize) -> Start {
        let (barrier, published) = (Arc::clone(self.barrier), Arc::clone(published));
        Start { barrier, published, clock: self.clock, lengths: self.lengths(), flows }
    }

    fn log_writer(&self) -> Option<LogWriter> {
        self.log.map(Log::log_writer)
    }

    fn place(&self, n: usize) -> Place {
        let cpus = &self.plan.cpus;
        Place { cpu: (!cpus.is_empty()).then(|| cpus[n % cpus.len()]), shared: self.plan.shares_cpus }
    }
}

/// How a worker over datagrams hears when it begins.
struct Start {
    barrier: Arc<StartBarrier>,
    published: Arc<PublishedRun>,
    clock: SystemClock,
    lengths: Lengths,
    flows: usize,
}

impl Start {
    /// Waits until they are known; `None`: the run ends before.
    fn times(&self) -> Option<Times> {
        let begin = self.barrier.wait(&self.clock, self.flows, || self.published.stopping())?;
        Some(self.lengths.from(begin))
    }
}

/// Where a worker's thread runs: on one CPU or the scheduler's choice, and whether the target may be there as well.
#[derive(Clone, Copy)]
struct Place {
    cpu: Option<usize>,
    shared: bool,
}

impl Place {
    /// Among the target's threads it ranks as they do.
    fn niceness(self) -> i32 {
        if self.shared { 0 } else { NICENESS }
    }
}

/// A worker over streams, all but its streams.
struct StreamSetup<P: Protocol, W> {
    client: P::Client,
    cursor: Cursor,
    layer: W,
    clock: SystemClock,
    warmup: Pacer,
    pacer: Pacer,
    barrier: Arc<StartBarrier>,
    lengths: Lengths,
    options: WorkerOptions,
    connections: ConnectionPlan,
    slots: usize,
    target: SocketAddr,
    sources: Vec<SocketAddr>,
    seed: u64,
    published: Arc<PublishedRun>,
    log_writer: Option<LogWriter>,
}

impl<P: Protocol, W: StreamLayer> StreamSetup<P, W> {
    fn run<S: Streams>(self, carry: impl FnOnce(usize) -> io::Result<S>) -> io::Result<Counts> {
        let streams = carry(self.slots)?;
        Ok(StreamClient::<P, S, SystemClock, W>::new(StreamParts {
            client: self.client,
            cursor: self.cursor,
            streams,
            layer: self.layer,
            clock: self.clock,
            warmup: self.warmup,
            pacer: self.pacer,
            barrier: self.barrier,
            lengths: self.lengths,
            options: self.options,
            connections: self.connections,
            target: self.target,
            sources: self.sources,
            seed: self.seed,
            published: self.published,
            log_writer: self.log_writer,
        })
        .run())
    }
}

fn spawn(place: Place, work: impl FnOnce() -> Counts + Send + 'static) -> io::Result<JoinHandle<Counts>> {
    std::thread::Builder::new().name("flatout-load".into()).spawn(move || {
        if let Some(cpu) = place.cpu {
            // A CPU that has gone since the plan was made: the scheduler's choice will do.
            let _ = flatout_net::pin(cpu);
        }
        flatout_net::raise_priority(place.niceness());
        work()
    })
}

/// The n-th worker's part of so many.
fn share(all: usize, n: usize, workers: usize) -> usize {
    (all + workers - 1 - n) / workers
}

/// The addresses, beginning with the n-th: workers that all began with the first would fill its ports first.
fn rotated<T: Copy>(addresses: &[T], n: usize) -> Vec<T> {
    addresses.iter().cycle().skip(n).take(addresses.len()).copied().collect()
}

fn open_links(plan: &LoadPlan) -> io::Result<Vec<Flows>> {
    let busy_poll_us = plan.ping_pong.map_or(0, |how| how.busy_poll_us);
    let ways = FlowOptions { stamps: plan.stamps, segmented: plan.segmented, busy_poll_us };
    links(plan, |first, sources, count| Flows::open(&rotated(&plan.targets, first), sources, count, ways))
}

/// The same where flows share sockets.
fn open_shared_links<P: Protocol>(plan: &LoadPlan) -> io::Result<Vec<SharedFlows>> {
    let [target] = plan.targets[..] else { return Err(invalid("one target, where flows share sockets")) };
    links(plan, |_, sources, count| {
        let sources: Vec<_> = sources.iter().map(SocketAddr::ip).collect();
        SharedFlows::open(target, &sources, count, P::DATAGRAM_MAX, plan.stamps)
    })
}

/// The one link of a plan's interface.
fn open_xdp_links(plan: &LoadPlan) -> io::Result<Vec<XdpFlows>> {
    let Some(xdp) = &plan.xdp else { return Err(invalid("an interface")) };
    if plan.workers != 1 || plan.ping_pong.is_some() || !plan.stamps {
        return Err(invalid("one thread on a schedule, with stamps, where the driver carries datagrams"));
    }
    if xdp.next_hop_macs.len() != plan.targets.len() || plan.flows > xdp.sources.len() * xdp.ports as usize {
        return Err(invalid("a next hop for each target, and an address and a port for each flow"));
    }
    let options = XdpFlowOptions {
        interface: xdp.interface,
        generic: xdp.mode == XdpMode::Generic,
        queues: xdp.queues,
        live: xdp.transmit == XdpTransmit::Live,
        mtu: xdp.mtu,
        source_mac: xdp.source_mac,
        targets: plan.targets.iter().copied().zip(xdp.next_hop_macs.iter().copied()).collect(),
        sources: xdp.sources.clone(),
        first_port: xdp.first_port,
        flows: plan.flows,
    };
    Ok(vec![XdpFlows::open(&options).map_err(io::Error::other)?])
}

/// The link of each worker, made of its first flow's number, its source addresses and how many flows it has.
fn links<L>(plan: &LoadPlan, open: impl Fn(usize, &[SocketAddr], usize) -> io::Result<L>) -> io::Result<Vec<L>> {
    let mut links = Vec::with_capacity(plan.workers);
    let mut first = 0;
    for n in 0..plan.workers {
        let count = share(plan.flows, n, plan.workers);
        let sources: Vec<_> =
            plan.sources.iter().cycle().skip(first).take(count.min(plan.sources.len())).copied().collect();
        links.push(open(first, &sources, count)?);
        first += count;
    }
    Ok(links)
}
