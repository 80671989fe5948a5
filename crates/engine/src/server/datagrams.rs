//! A worker that answers datagrams: its own socket on each shared address, a batch at a time, in place.
//!
//! Laws: one answer that cannot leave never stops the others; an answer is no longer than its request unless the
//! protocol grows, and never longer than its slot.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use flatout_net::{Batch, Server, ServerSet};
use flatout_wire::{Link, Protocol, RequestContext, Responder};

use super::admission::{Admission, Refused, Verdict};
use super::live::LiveReader;
use super::supervisor::Post;
use super::transmit::{SharedErrors, Transmit};
use super::{NOT_UNICAST, PUBLISH_NS, REFUSED, Served, TOO_LONG, TOO_LONG_ANSWER, UNSENT, WAIT};
use crate::answer_table::AnswerTable;
use crate::backoff::Backoff;
use crate::clock::{steady_now, unix_now};
use crate::published::Published;

const BATCH: usize = 64;
/// The longest that a datagram waits in the socket's queue of a worker that is at work.
const QUEUED_MAX_NS: u64 = 2_000_000_000;

pub(super) struct Worker<P: Protocol> {
    sockets: ServerSet,
    responder: P::Responder,
    answer_table: Arc<AnswerTable>,
    live: LiveReader,
    /// `None` for protocols without stamps.
    transmit: Option<Transmit>,
    admission: Admission,
    /// Steady time when the batch was received, ns.
    steady: u64,
    /// Of each socket: the address it is bound to (`None` for a wildcard), and the port.
    bound: Vec<(Option<IpAddr>, u16)>,
    /// The kernel's drops of these sockets that others have counted.
    drops_before: u64,
    served: Served,
    batch: Batch,
}

impl<P: Protocol> Worker<P> {
    pub(super) fn new(
        sockets: Vec<Arc<Server>>,
        responder: P::Responder,
        answer_table: Arc<AnswerTable>,
        live: (LiveReader, SharedErrors),
        admission: Admission,
        drops_before: u64,
    ) -> Self {
        let bound = |socket: &Arc<Server>| {
            let at = socket.address().ok();
            (at.map(|at| at.ip()).filter(|ip| !ip.to_canonical().is_unspecified()), at.map_or(0, |at| at.port()))
        };
        let bound = sockets.iter().map(bound).collect();
        let sockets = ServerSet::new(sockets, WAIT);
        let (live, errors) = live;
        Self {
            transmit: <P::Responder as Responder>::LIVE.then(|| Transmit::new(&sockets, BATCH, errors)),
            bound,
            sockets,
            responder,
            answer_table,
            live,
            admission,
            steady: 0,
            drops_before,
            served: Served::default(),
            batch: Batch::new(BATCH, P::DATAGRAM_MAX, true),
        }
    }

    /// Works until it is stopped. Errors: the receiving call fails.
    pub(super) fn run(mut self, post: &Post, published: &Published<Served>) -> Result<(), String> {
        let (mut published_at, mut backoff) = (0, Backoff::default());
        while backoff.goes_on() && post.goes_on() {
            let count = backoff.tried(self.sockets.receive(&mut self.batch));
            let now = unix_now();
            self.refresh(now);
            self.admission.begin_batch(self.steady);
            for slot in 0..count {
                self.consider(slot, now);
            }
            self.send(count == 0);
            if count == 0 || now > published_at + PUBLISH_NS {
                published_at = now;
                self.measure(now, false);
                published.offer(&self.served);
            }
        }
        self.measure(unix_now(), true);
        published.publish(&self.served);
        backoff.end()
    }

    fn refresh(&mut self, now: u64) {
        self.steady = steady_now();
        if <P::Responder as Responder>::LIVE
            && let Some(state) = self.live.read(self.steady, now)
        {
            self.responder.refresh(&state, now);
        }
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
                    self.admission.spend(bytes);
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
    fn answer(&mut self, slot: usize, length: usize, context: &RequestContext) -> Result<usize, usize> {
        let verdict = self.admission.decide(context.client.map(|client| client.ip()), self.steady);
        let packet = self.batch.slot(slot);
        let most = if P::AMPLIFIES { packet.len() } else { length };
        let table = self.answer_table.table();
        let answered = match verdict {
            Verdict::Answer => self.responder.answer(table, context, packet, length),
            Verdict::Kiss if <P::Responder as Responder>::KISSES => {
                let kiss = self.responder.kiss(table, context, packet, length);
                self.served.kissed += u64::from(kiss.is_ok());
                kiss
            }
            Verdict::Kiss => return Err(REFUSED + Refused::RateLimited as usize),
            Verdict::Drop(refused) => return Err(REFUSED + refused as usize),
        };
        match answered {
            Ok(answer) if answer <= most => Ok(answer),
            Ok(_) => Err(TOO_LONG_ANSWER),
            Err(refusal) => Err(refusal as usize),
        }
    }

    /// When a request arrived. A stamp that is later than now, or older than any queue, is of a clock that was set since.
    fn received(&mut self, stamp_unix_ns: Option<u64>, now: u64) -> u64 {
        match stamp_unix_ns {
            Some(stamp) if stamp <= now && now - stamp <= QUEUED_MAX_NS => stamp,
            _ => {
                self.served.unstamped += 1;
                now
            }
        }
    }

    fn send(&mut self, idle: bool) {
        let queued = self.batch.answers() as u64;
        let sent = match &mut self.transmit {
            Some(transmit) => {
                let sent = transmit.send(&self.sockets, &mut self.batch, &self.responder);
                transmit.collect(&self.sockets, &self.responder, &mut self.served, idle);
                sent
            }
            None => self.sockets.send_answers(&mut self.batch),
        } as u64;
        self.served.answered += sent;
        self.served.dropped[UNSENT] += queued - sent;
    }

    fn measure(&mut self, now: u64, last: bool) {
        self.served.kernel_drops = self.sockets.drops().saturating_sub(self.drops_before);
        self.served.clients_forgotten = self.admission.forgotten();
        self.served.cpu_ns = flatout_net::thread_cpu_ns();
        if let Some(transmit) = &mut self.transmit {
            transmit.share(now, last);
        }
    }
}

/// Bytes of the IP and UDP headers of an answer to this client.
fn headers(client: Option<SocketAddr>) -> u64 {
    if client.is_none_or(|client| client.ip().to_canonical().is_ipv4()) { 28 } else { 48 }
}
