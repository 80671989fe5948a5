//! A worker that answers datagrams: its own socket on each shared address, a batch at a time, in place.
//!
//! Laws: one answer that cannot leave never stops the others; an answer is no longer than its request unless the
//! protocol grows, and never longer than its slot.

use std::net::IpAddr;
use std::sync::Arc;

use flatout_net::{Batch, Server, ServerSet};
use flatout_wire::{DropReason, Link, Protocol, RequestContext, Responder};

use super::live::LiveReader;
use super::supervisor::Post;
use super::{NOT_UNICAST, PUBLISH_NS, Served, TOO_LONG, UNSENT, WAIT};
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
        live: LiveReader,
        drops_before: u64,
    ) -> Self {
        let bound = |socket: &Arc<Server>| {
            let at = socket.address().ok();
            (at.map(|at| at.ip()).filter(|ip| !ip.to_canonical().is_unspecified()), at.map_or(0, |at| at.port()))
        };
        Self {
            bound: sockets.iter().map(bound).collect(),
            sockets: ServerSet::new(sockets, WAIT),
            responder,
            answer_table,
            live,
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
            for slot in 0..count {
                self.consider(slot, now);
            }
            self.send();
            if count == 0 || now > published_at + PUBLISH_NS {
                published_at = now;
                self.measure();
                published.offer(&self.served);
            }
        }
        self.measure();
        published.publish(&self.served);
        backoff.end()
    }

    fn refresh(&mut self, now: u64) {
        if <P::Responder as Responder>::LIVE
            && let Some(state) = self.live.read(steady_now(), now)
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
            let packet = self.batch.slot(slot);
            let most = if P::AMPLIFIES { packet.len() } else { length };
            match self.responder.answer(self.answer_table.table(), &context, packet, length) {
                Ok(answer) if answer <= most => self.batch.answer(slot, answer),
                Ok(_) => self.served.dropped[DropReason::Malformed as usize] += 1,
                Err(refusal) => self.served.dropped[refusal as usize] += 1,
            }
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

    fn send(&mut self) {
        let queued = self.batch.answers() as u64;
        let sent = self.sockets.send_answers(&mut self.batch) as u64;
        self.served.answered += sent;
        self.served.dropped[UNSENT] += queued - sent;
    }

    fn measure(&mut self) {
        self.served.kernel_drops = self.sockets.drops().saturating_sub(self.drops_before);
        self.served.cpu_ns = flatout_net::thread_cpu_ns();
    }
}
