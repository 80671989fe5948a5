//! Which connection may be opened when: at the rate asked for, some at once, the failed ones again where that is asked.
//!
//! Method: pure bookkeeping of counts and times in ns; it opens nothing itself.

use std::collections::VecDeque;

use flatout_net::Conn;

/// So many may be on their way at once: a listener's backlog is 4,096 on most hosts, and others come too.
const AT_ONCE: usize = 1_024;
/// A far end that has just refused or ended a connection is left in peace so long.
const AGAIN_NS: u64 = 100_000_000;
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
    },
}

/// See the module.
pub(super) struct Opener {
    asked: ConnectionPlan,
    remaining: ConnectionPlan,
    gap: f64,
    next: f64,
    again: VecDeque<(u64, bool)>,
    connections: VecDeque<(Conn, u64)>,
    on_their_way: usize,
    /// All that were asked for have been tried once.
    tried: bool,
}

impl Opener {
    pub(super) fn new(asked: ConnectionPlan, now: u64) -> Self {
        let gap = 1e9 / asked.per_s.max(1e-3);
        let (again, connections) = (VecDeque::new(), VecDeque::new());
        Self { asked, remaining: asked, gap, next: now as f64, again, connections, on_their_way: 0, tried: false }
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
            let (from, held) = *self.again.front()?;
            if from > now {
                return None;
            }
            self.again.pop_front();
            OpenReason::Again { held }
        };
        self.next = (self.next + self.gap).max(now.saturating_sub(CATCH_UP_NS) as f64);
        Some(ticket)
    }

    /// What a ticket was for could not be begun yet.
    pub(super) fn put_back(&mut self, ticket: OpenReason) {
        match ticket {
            OpenReason::First => self.remaining.active += 1,
            OpenReason::Held => self.remaining.hold += 1,
            OpenReason::Again { held } => self.again.push_front((0, held)),
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

    /// One that failed or ended is wanted again, if that was asked for.
    pub(super) fn lost(&mut self, now: u64, held: bool) {
        if self.asked.reconnect {
            self.again.push_back((now + AGAIN_NS, held));
        }
    }

    /// One has done its part and another takes its place.
    pub(super) fn replace(&mut self, now: u64) {
        self.again.push_front((now, false));
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
        self.again.clear();
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
        self.again.front().map_or(u64::MAX, |(from, _)| (*from).max(self.next as u64))
    }
}
