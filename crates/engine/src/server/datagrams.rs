//! A worker that answers datagrams: its own socket on each shared address, a batch at a time, in place.
//!
//! Laws: one answer that cannot leave never stops the others; an answer is no longer than its request unless the
//! protocol grows, and never longer than its slot.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use flatout_net::{Batch, ServerSet};
use flatout_wire::{DropReason, Link, Protocol, RequestContext, Responder};

use super::admission::{Admission, Refused, Verdict};
use super::bind::WorkerSocket;
use super::live::{LiveReader, read_clocks};
use super::supervisor::Post;
use super::transmit::{SharedErrors, Transmit};
use super::{NOT_UNICAST, PUBLISH_NS, REFUSED, Served, TOO_LONG, TOO_LONG_ANSWER, UNSENT, WAIT};
use crate::answer_table::AnswerTable;
use crate::backoff::Backoff;
use crate::clock::unix_now;
use crate::published::Published;

const BATCH: usize = 64;
/// The longest that a datagram waits in a socket's queue: until a worker that does not move any more is replaced.
const QUEUED_MAX_NS: u64 = 60_000_000_000;
/// A reading of both clocks that took longer is tried again.
const CLOCKS_NS: u64 = 50_000_000;
/// By how much the system clock may gain on the steady one between two batches, unless it was set: so much, and per time
/// between them the fastest slew.
const GAINED_NS: u64 = 10_000_000;
const SLEW_PER_TIME: u64 = 10;
/// Bytes of answers that are spent at once: all workers write the same word.
const SPEND: u64 = 1 << 10;

pub(super) struct Worker<P: Protocol> {
    sockets: ServerSet,
    responder: P::Responder,
    answer_table: Arc<AnswerTable>,
    live: LiveReader,
    /// `None` for protocols without stamps.
    transmit: Option<Transmit>,
    admission: Admission,
    /// Steady time when the batch was received, ns, and Unix time minus it.
    steady: u64,
    offset: u64,
    /// The system clock was set forward since the batch before: stamps of arrivals may be of the time before.
    set_forward: bool,
    /// Of each socket: the address it is bound to (`None` for a wildcard), and the port.
    bound: Vec<(Option<IpAddr>, u16)>,
    /// The sockets whose drops this worker counts, and what of them others have counted.
    counts_drops: Vec<usize>,
    drops_before: u64,
    served: Served,
    /// Bytes of answers that are not yet spent.
    unspent: u64,
    /// The request, while its answer takes its place; empty where there are no kiss-o'-death packets.
    request: Box<[u8]>,
    batch: Batch,
}

impl<P: Protocol> Worker<P> {
    pub(super) fn new(
        sockets: Vec<WorkerSocket>,
        responder: P::Responder,
        answer_table: Arc<AnswerTable>,
        live: (LiveReader, SharedErrors),
        admission: Admission,
        drops_before: u64,
    ) -> Self {
        let bound = |socket: &WorkerSocket| {
            let at = socket.server.address().ok();
            (at.map(|at| at.ip()).filter(|ip| !ip.to_canonical().is_unspecified()), at.map_or(0, |at| at.port()))
        };
        let bound = sockets.iter().map(bound).collect();
        let shared: Vec<_> = sockets.iter().map(|socket| socket.shared).collect();
        let counts_drops = (0..sockets.len()).filter(|n| sockets[*n].counts_drops).collect();
        let sockets = ServerSet::new(sockets.into_iter().map(|socket| socket.server).collect(), WAIT);
        let (live, errors) = live;
        Self {
            transmit: <P::Responder as Responder>::LIVE.then(|| Transmit::new(&sockets, &shared, BATCH, errors)),
            bound,
            counts_drops,
            sockets,
            responder,
            answer_table,
            live,
            admission,
            steady: 0,
            offset: 0,
            set_forward: false,
            drops_before,
            served: Served::default(),
            unspent: 0,
            request: vec![0; if <P::Responder as Responder>::KISSES { P::DATAGRAM_MAX } else { 0 }].into(),
            batch: Batch::new(BATCH, P::DATAGRAM_MAX, true),
        }
    }

    /// Works until it is stopped. Errors: the receiving call fails.
    pub(super) fn run(mut self, post: &Post, published: &Published<Served>) -> Result<(), String> {
        let (mut published_at, mut backoff) = (0, Backoff::default());
        while backoff.goes_on() && post.goes_on() {
            let count = backoff.tried(self.sockets.receive(&mut self.batch));
            let now = self.refresh();
            self.admission.begin_batch(self.steady);
            for slot in 0..count {
                self.consider(slot, now);
            }
            self.spend(0);
            self.send(count == 0, post);
            if count == 0 || self.steady > published_at + PUBLISH_NS {
                published_at = self.steady;
                self.measure(now, post, false);
                published.offer(&self.served);
            }
        }
        self.measure(unix_now(), post, true);
        published.publish(&self.served);
        backoff.end()
    }

    /// Reads the clocks and what the server says of them; returns Unix time, ns.
    fn refresh(&mut self) -> u64 {
        let (steady, now) = read_clocks(CLOCKS_NS, 3);
        let offset = now.wrapping_sub(steady);
        let gained_ns = offset.wrapping_sub(self.offset) as i64;
        let most_ns = GAINED_NS + steady.saturating_sub(self.steady) / SLEW_PER_TIME;
        self.set_forward = self.steady > 0 && gained_ns > most_ns as i64;
        (self.steady, self.offset) = (steady, offset);
        if <P::Responder as Responder>::LIVE
            && let Some(state) = self.live.read(steady, now)
        {
            self.responder.refresh(&state, now);
        }
        now
    }

    fn consider(&mut self, slot: usize, now: u64) {
        self.served.received += 1;
        let (meta, length) = (self.batch.meta(slot), self.batch.length(slot));
        if meta.truncated {
            self.served.dropped[TOO_LONG] += 1;
        } else if !meta.unicast {
            self.served.dropped[NOT_UNICAST] += 1;
        } else {
            let (local, local_port) = self.bound.get(self.sockets.current()).copied().unwrap_or_default();
            let context = RequestContext {
                received_unix_ns: self.received(meta.stamp_unix_ns, now),
                now_unix_ns: now,
                client: self.batch.peer(slot),
                local: self.batch.local(slot).or(local),
                local_port,
                link: Link::Udp,
            };
            match self.answer(slot, length, &context) {
                Ok(answer) => {
                    let bytes = answer as u64 + headers(context.client);
                    self.served.sent_bytes += bytes;
                    self.unspent += bytes;
                    self.spend(SPEND);
                    self.batch.answer(slot, answer);
                    if let Some(transmit) = &mut self.transmit {
                        transmit.queue(self.responder.stamps(), &mut self.served);
                    }
                }
                Err(reason) => self.served.dropped[reason] += 1,
            }
        }
    }

    /// Answers in place what may be answered. Errors: the number of the reason why not.
    ///
    /// The answer comes before the decision: what is no request takes nothing of what its alleged client may ask.
    fn answer(&mut self, slot: usize, length: usize, context: &RequestContext) -> Result<usize, usize> {
        let (packet, table) = (self.batch.slot(slot), self.answer_table.table());
        let most = if P::AMPLIFIES { packet.len() } else { length };
        let checked = |answered: Result<usize, DropReason>| match answered {
            Ok(answer) if answer <= most => Ok(answer),
            Ok(_) => Err(TOO_LONG_ANSWER),
            Err(refusal) => Err(refusal as usize),
        };
        if let (Some(kept), Some(request)) = (self.request.get_mut(..length), packet.get(..length)) {
            kept.copy_from_slice(request);
        }
        let answer = checked(self.responder.answer(table, context, packet, length))?;
        match self.admission.decide(context.client.map(|client| client.ip()), self.steady) {
            Verdict::Answer => Ok(answer),
            Verdict::Kiss if <P::Responder as Responder>::KISSES => {
                if let (Some(kept), Some(request)) = (self.request.get(..length), packet.get_mut(..length)) {
                    request.copy_from_slice(kept);
                }
                let kiss = checked(self.responder.kiss(table, context, packet, length))?;
                self.served.kissed += 1;
                Ok(kiss)
            }
            Verdict::Kiss => Err(REFUSED + Refused::RateLimited as usize),
            Verdict::Drop(refused) => Err(REFUSED + refused as usize),
        }
    }

    /// Takes the answers' bytes from the bandwidth, once they are so many.
    fn spend(&mut self, least: u64) {
        if self.unspent > least {
            self.admission.spend(std::mem::take(&mut self.unspent));
        }
    }

    /// When a request arrived.
    fn received(&mut self, stamp_unix_ns: Option<u64>, now: u64) -> u64 {
        let credible = stamp_unix_ns.filter(|stamp| !self.set_forward && is_credible(*stamp, now));
        self.served.unstamped += u64::from(credible.is_none());
        credible.unwrap_or(now)
    }

    fn send(&mut self, idle: bool, post: &Post) {
        let queued = self.batch.answers() as u64;
        let sent = match &mut self.transmit {
            Some(transmit) => {
                if post.is_replaced() {
                    transmit.retire();
                }
                let sent = transmit.send(&self.sockets, &mut self.batch, &self.responder);
                transmit.collect(&self.sockets, &self.responder, &mut self.served, idle);
                sent
            }
            None => self.sockets.send_answers(&mut self.batch),
        } as u64;
        self.served.answered += sent;
        self.served.dropped[UNSENT] += queued - sent;
    }

    fn measure(&mut self, now: u64, post: &Post, last: bool) {
        // The worker that has taken the sockets over counts their drops.
        if !post.is_replaced() {
            let drops = |n: &usize| self.sockets.nth(*n).map_or(0, |server| u64::from(server.memory().drops));
            let drops: u64 = self.counts_drops.iter().map(drops).sum();
            self.served.kernel_drops = drops.saturating_sub(self.drops_before);
        }
        self.served.clients_forgotten = self.admission.forgotten();
        self.served.cpu_ns = flatout_net::thread_cpu_ns();
        if let Some(transmit) = &mut self.transmit {
            transmit.share(now, last);
        }
    }
}

/// Whether a datagram can have arrived at `stamp`. Later than now, or earlier than any queue reaches: the system clock
/// was set since.
fn is_credible(stamp: u64, now: u64) -> bool {
    now.checked_sub(stamp).is_some_and(|waited| waited <= QUEUED_MAX_NS)
}

/// Bytes of the IP and UDP headers of an answer to this client.
fn headers(client: Option<SocketAddr>) -> u64 {
    if client.is_none_or(|client| client.ip().to_canonical().is_ipv4()) { 28 } else { 48 }
}

#[cfg(test)]
#[path = "datagrams_tests.rs"]
mod tests;
