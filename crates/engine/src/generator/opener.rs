//! Which connection may be opened when: at the rate asked for, some at once, the ended ones again where that is asked.
//!
//! Method: pure bookkeeping of counts and times in ns; it opens nothing itself. One that was of use and was closed in
//! order is wanted again at once; attempts that come to nothing are followed by pauses that double, up to a bound.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use flatout_net::Conn;

/// So many may be on their way at once: a listener's backlog is 4,096 on most hosts, and others come too.
const AT_ONCE: usize = 1_024;
/// The pause after a connection that came to nothing; it doubles with each further one in its place,
pub(super) const PAUSE_NS: u64 = 100_000_000;
/// up to this.
const LONGEST_PAUSE_NS: u64 = 1_000_000_000;
/// After being held up the rate asked for is made good over no more than this.
const CATCH_UP_NS: u64 = 10_000_000;

/// What a worker is to open.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionPlan {
    /// Connections that ask.
    pub active: usize,
    /// Connections that are only kept.
    pub hold: usize,
    /// How fast, per s.
    pub per_s: f64,
    /// How long one may take, ns.
    pub timeout: u64,
    /// Requests after which one is replaced; 0: never.
    pub churn: u32,
    /// Whether one that failed or ended is opened again.
    pub reconnect: bool,
}

/// Why one may be opened now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenReason {
    /// One of those asked for, which will ask.
    First,
    /// One of those asked for, which will only be kept.
    Held,
    /// In place of another.
    Again {
        /// It will only be kept.
        held: bool,
        /// So many before it came to nothing, one after another.
        failures: u8,
    },
}

/// One that is to be opened in place of another: not before `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Replacement {
    from: u64,
    held: bool,
    failures: u8,
}

/// See the module.
pub(super) struct Opener {
    asked: ConnectionPlan,
    remaining: ConnectionPlan,
    gap: f64,
    next: f64,
    again: BinaryHeap<Reverse<Replacement>>,
    connections: VecDeque<(Conn, u64)>,
    on_their_way: usize,
    /// All that were asked for have been tried once.
    tried: bool,
    stopped: bool,
}

impl Opener {
    pub(super) fn new(asked: ConnectionPlan, now: u64) -> Self {
        let gap = 1e9 / asked.per_s.max(1e-3);
        Self {
            asked,
            remaining: asked,
            gap,
            next: now as f64,
            again: BinaryHeap::new(),
            connections: VecDeque::new(),
            on_their_way: 0,
            tried: false,
            stopped: false,
        }
    }

    /// What may be opened now; each call is one opening.
    pub(super) fn ticket(&mut self, now: u64) -> Option<OpenReason> {
        if self.on_their_way >= AT_ONCE || self.next > now as f64 {
            return None;
        }
        let ticket = if self.remaining.active > 0 {
            self.remaining.active -= 1;
            OpenReason::First
        } else if self.remaining.hold > 0 {
            self.remaining.hold -= 1;
            OpenReason::Held
        } else if !self.done() {
            // Those that are opened again wait for the first of all: else a far end that takes none kept all waiting.
            return None;
        } else {
            self.tried = true;
            let Reverse(Replacement { from, held, failures }) = *self.again.peek()?;
            if from > now {
                return None;
            }
            self.again.pop();
            OpenReason::Again { held, failures }
        };
        self.next = (self.next + self.gap).max(now.saturating_sub(CATCH_UP_NS) as f64);
        Some(ticket)
    }

    /// What a ticket was for could not be begun yet.
    pub(super) fn put_back(&mut self, ticket: OpenReason) {
        match ticket {
            OpenReason::First => self.remaining.active += 1,
            OpenReason::Held => self.remaining.hold += 1,
            OpenReason::Again { held, failures } => self.want(0, held, failures),
        }
    }

    /// One is on its way.
    pub(super) fn begun(&mut self, conn: Conn, now: u64) {
        self.on_their_way += 1;
        self.connections.push_back((conn, now));
    }

    /// One is on its way no more: it stands, or has failed.
    pub(super) fn over(&mut self) {
        self.on_their_way -= 1;
    }

    /// One that failed or ended is wanted again, if that was asked for: at once, or after a pause where it and those
    /// before it came to nothing, `failures` of them.
    pub(super) fn lost(&mut self, now: u64, held: bool, failures: u8) {
        if self.asked.reconnect {
            let pause = match failures {
                0 => 0,
                more => (PAUSE_NS << u32::from(more - 1).min(8)).min(LONGEST_PAUSE_NS),
            };
            self.want(now + pause, held, failures);
        }
    }

    fn want(&mut self, from: u64, held: bool, failures: u8) {
        self.again.push(Reverse(Replacement { from, held, failures }));
    }

    /// One has done its part and another takes its place, before those that ended.
    pub(super) fn replace(&mut self) {
        self.want(0, false, 0);
    }

    /// The next one that has been on its way for too long. It may have got there meanwhile: look.
    pub(super) fn overdue(&mut self, now: u64) -> Option<Conn> {
        let (conn, since) = *self.connections.front()?;
        if since + self.asked.timeout > now {
            return None;
        }
        self.connections.pop_front();
        Some(conn)
    }

    /// Forgets those at the front that need no watching any more.
    pub(super) fn tidy(&mut self, still: impl Fn(Conn) -> bool) {
        while self.connections.front().is_some_and(|(conn, _)| !still(*conn)) {
            self.connections.pop_front();
        }
    }

    /// Nothing more will be asked: what is lost from now on is not wanted again.
    pub(super) fn stop(&mut self) {
        self.asked.reconnect = false;
        self.stopped = true;
        self.again.clear();
    }

    /// Whether all is asked.
    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Whether a connection may be there by then: one is on its way, or may be opened.
    pub(super) fn promises(&self, by: u64) -> bool {
        self.on_their_way > 0 || self.wake() <= by
    }

    /// Whether each of those that were asked for stands or has failed once.
    pub(super) fn done(&self) -> bool {
        self.tried || self.remaining.active == 0 && self.remaining.hold == 0 && self.on_their_way == 0
    }

    /// When something may be opened next.
    pub(super) fn wake(&self) -> u64 {
        if self.on_their_way >= AT_ONCE {
            return u64::MAX;
        }
        if self.remaining.active + self.remaining.hold > 0 {
            return self.next as u64;
        }
        self.again.peek().map_or(u64::MAX, |Reverse(next)| next.from.max(self.next as u64))
    }
}
