//! A virtual world: a clock that moves when it is read or waited on, and a link whose far end is the real responder.
//!
//! Method: every request that leaves is numbered and handed to a script, which decides its fate; what comes back lands
//! in virtual time. Where the kernel has manners of its own (a flow is named once, a refusal spoils the next send or
//! receive and names the flow again while more are queued), the link has the same.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use flatout_net::{Batch, CallError, Datagrams, Meta, Refused, SendResult};
use flatout_wire::ntp::{Ntp, NtpResponder};
use flatout_wire::{Protocol, ProtocolOption, RequestContext, Responder, Table};

use crate::clock::Clock;

/// Unix time of the virtual clock's zero.
const UNIX_OFFSET: u64 = 1_800_000_000_000_000_000;
const ECONNREFUSED: i32 = 111;
const EPERM: i32 = 1;

/// Virtual time, in ns.
#[derive(Debug)]
pub(super) struct World {
    now: Cell<u64>,
    /// What each reading of the clock costs, so that spinning comes to an end.
    step: u64,
    /// The generator loses its CPU at the first time and has it back at the second.
    held_up: Option<(u64, u64)>,
}

impl World {
    pub(super) fn new(step: u64, held_up: Option<(u64, u64)>) -> Rc<Self> {
        Rc::new(Self { now: Cell::new(0), step, held_up })
    }

    pub(super) fn now(&self) -> u64 {
        self.now.get()
    }

    pub(super) fn reach(&self, to: u64) {
        let to = match self.held_up {
            Some((from, until)) if self.now.get() < from && from <= to => to.max(until),
            _ => to,
        };
        self.now.set(self.now.get().max(to));
    }

    pub(super) fn pass(&self, ns: u64) {
        self.reach(self.now.get() + ns);
    }
}

/// The generator's clock.
pub(super) struct FakeClock(pub(super) Rc<World>);

impl Clock for FakeClock {
    fn now(&self) -> u64 {
        self.0.pass(self.0.step);
        self.0.now()
    }

    fn unix_offset(&self) -> u64 {
        UNIX_OFFSET
    }

    fn give_way(&self, time: Duration) {
        self.0.pass(time.as_nanos() as u64);
    }
}

/// What the script is told of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// How many left, or were refused by this machine, before it.
    pub(super) serial: u64,
    /// When it leaves.
    pub(super) at: u64,
    /// Over which flow.
    pub(super) flow: usize,
}

/// What becomes of a request. All delays in ns from when it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendOutcome {
    /// Answered.
    Answer(u64),
    /// Answered, and the kernel does not stamp the answer.
    Unstamped(u64),
    /// Answered at both times.
    Twice(u64, u64),
    /// Never answered.
    Drop,
    /// Answered, but the answer is dropped at this end.
    DropAnswer,
    /// Answered with the byte at the second number turned over.
    Corrupt(u64, usize),
    /// Answered, together with a datagram that answers nothing.
    WithJunk(u64),
    /// A refusal comes back that quotes it.
    Refuse(u64),
    /// Answered at the first time, and at the second a refusal comes back as well.
    AnswerThenRefuse(u64, u64),
    /// This machine's own queue drops it.
    DropHere,
    /// The send buffer is full; the script is asked again.
    Full,
    /// The kernel will not send it.
    Fail(i32),
}

impl SendOutcome {
    /// An answer after `delay` by a server that does nothing between `from` and `until`.
    pub(super) fn stalled(asked: Asked, from: u64, until: u64, delay: u64) -> Self {
        let stalls = (from..until).contains(&asked.at);
        Self::Answer(delay + if stalls { until - asked.at } else { 0 })
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    at: u64,
    order: u64,
    flow: usize,
    refusal: bool,
    stamped: bool,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inbox {
    arrivals: VecDeque<Arrival>,
    refusals: VecDeque<Vec<u8>>,
    /// Something new came since the flow was last named.
    fresh: bool,
    /// The next call on the socket fails with the refusal.
    error: bool,
}

/// The link; see the module.
pub(super) struct FakeLink<F> {
    world: Rc<World>,
    script: F,
    responder: NtpResponder,
    flying: BinaryHeap<Reverse<Arrival>>,
    inboxes: Vec<Inbox>,
    ready: Vec<usize>,
    serial: u64,
    order: u64,
    /// What each datagram costs to send.
    pub(super) send_cost: u64,
    /// One call sends at most so many.
    pub(super) most_a_call: usize,
    /// From so late on this call fails.
    pub(super) failing: Option<(u64, &'static str)>,
    /// Answers that were dropped at this end.
    dropped: u64,
}

impl<F: FnMut(Asked) -> SendOutcome> FakeLink<F> {
    pub(super) fn new(world: Rc<World>, flows: usize, script: F) -> Self {
        Self {
            world,
            script,
            responder: Ntp::responder(&[ProtocolOption { name: "interleaved", value: 1 }]).unwrap(),
            flying: BinaryHeap::new(),
            inboxes: (0..flows).map(|_| Inbox::default()).collect(),
            ready: Vec::new(),
            serial: 0,
            order: 0,
            send_cost: 0,
            most_a_call: usize::MAX,
            failing: None,
            dropped: 0,
        }
    }

    /// Whether `call` fails now.
    fn fails(&self, call: &'static str) -> Result<(), CallError> {
        match self.failing {
            Some((from, failing)) if failing == call && self.world.now() >= from => {
                Err(CallError { call, errno: EPERM })
            }
            _ => Ok(()),
        }
    }

    /// Lets arrive what is due to arrive.
    fn land(&mut self) {
        let now = self.world.now();
        while self.flying.peek().is_some_and(|Reverse(next)| next.at <= now) {
            let Some(Reverse(arrival)) = self.flying.pop() else { return };
            let inbox = &mut self.inboxes[arrival.flow];
            inbox.fresh = true;
            if arrival.refusal {
                inbox.error = true;
                inbox.refusals.push_back(arrival.bytes);
            } else {
                inbox.arrivals.push_back(arrival);
            }
        }
    }

    fn launch(&mut self, at: u64, flow: usize, bytes: &[u8]) -> &mut Self {
        self.deliver(Arrival { at, order: 0, flow, refusal: false, stamped: true, bytes: bytes.to_vec() })
    }

    fn refuse(&mut self, at: u64, flow: usize, request: &[u8]) -> &mut Self {
        self.deliver(Arrival { at, order: 0, flow, refusal: true, stamped: false, bytes: request.to_vec() })
    }

    fn deliver(&mut self, arrival: Arrival) -> &mut Self {
        self.order += 1;
        self.flying.push(Reverse(Arrival { order: self.order, ..arrival }));
        self
    }

    fn answer(&self, request: &[u8], at: u64) -> Vec<u8> {
        let mut packet = request.to_vec();
        let unix_ns = UNIX_OFFSET + at;
        let context = RequestContext {
            received_unix_ns: unix_ns,
            now_unix_ns: unix_ns,
            client: Some(([192, 0, 2, 1], 40_000).into()),
            ..RequestContext::default()
        };
        let length = self.responder.answer(Table::default(), &context, &mut packet, request.len()).unwrap();
        if let Some(answer) = self.responder.stamps().tell {
            self.responder.left(answer, unix_ns + 1);
        }
        packet.truncate(length);
        packet
    }

    /// Sends one datagram; tells if it stays here instead.
    fn carry_out(&mut self, asked: Asked, request: &[u8]) -> Option<SendResult> {
        let (at, flow) = (asked.at, asked.flow);
        let outcome = (self.script)(asked);
        match outcome {
            SendOutcome::DropHere => return Some(SendResult::Dropped),
            SendOutcome::Full => return Some(SendResult::Full),
            SendOutcome::Fail(errno) => return Some(SendResult::Failed(errno)),
            _ => {}
        }
        // What has not left is not answered.
        let answer = self.answer(request, at);
        match outcome {
            SendOutcome::Answer(delay) => self.launch(at + delay, flow, &answer),
            SendOutcome::Unstamped(delay) => {
                let (at, bytes) = (at + delay, answer);
                self.deliver(Arrival { at, order: 0, flow, refusal: false, stamped: false, bytes })
            }
            SendOutcome::Twice(one, other) => self.launch(at + one, flow, &answer).launch(at + other, flow, &answer),
            SendOutcome::DropAnswer => {
                self.dropped += 1;
                self
            }
            SendOutcome::Drop | SendOutcome::DropHere | SendOutcome::Full | SendOutcome::Fail(_) => self,
            SendOutcome::Corrupt(delay, byte) => {
                let mut answer = answer;
                answer[byte] = !answer[byte];
                self.launch(at + delay, flow, &answer)
            }
            SendOutcome::WithJunk(delay) => {
                self.launch(at + delay, flow, &answer).launch(at + delay, flow, &[0x5a; 48])
            }
            SendOutcome::Refuse(delay) => self.refuse(at + delay, flow, request),
            SendOutcome::AnswerThenRefuse(one, other) => {
                self.launch(at + one, flow, &answer).refuse(at + other, flow, request)
            }
        };
        None
    }
}

impl<F: FnMut(Asked) -> SendOutcome> Datagrams for FakeLink<F> {
    fn flows(&self) -> usize {
        self.inboxes.len()
    }

    fn send(&mut self, flow: usize, batch: &mut Batch, count: usize, length: usize) -> SendResult {
        self.land();
        if std::mem::take(&mut self.inboxes[flow].error) {
            return SendResult::Refused;
        }
        let count = count.min(self.most_a_call);
        for slot in 0..count {
            let asked = Asked { serial: self.serial, at: self.world.now(), flow };
            let request = batch.slot(slot)[..length].to_vec();
            let stays = self.carry_out(asked, &request);
            match stays {
                // As with sendmmsg: what left is told first, the error comes up again with the next call.
                Some(_) if slot > 0 => return SendResult::Sent(slot),
                Some(SendResult::Full) => return SendResult::Full,
                _ => self.serial += 1,
            }
            if let Some(stays) = stays {
                return stays;
            }
            self.world.pass(self.send_cost);
        }
        SendResult::Sent(count)
    }

    fn poll(&mut self, wait: Duration) -> Result<usize, CallError> {
        self.fails("epoll_wait")?;
        self.land();
        if !wait.is_zero() && self.inboxes.iter().all(|inbox| !inbox.fresh) {
            let until = self.world.now() + wait.as_nanos() as u64;
            let next = self.flying.peek().map_or(until, |Reverse(next)| next.at.min(until));
            self.world.reach(next);
            self.land();
        }
        self.ready = (0..self.inboxes.len()).filter(|&flow| self.inboxes[flow].fresh).collect();
        self.inboxes.iter_mut().for_each(|inbox| inbox.fresh = false);
        Ok(self.ready.len())
    }

    fn ready(&self, n: usize) -> (usize, bool) {
        let flow = self.ready[n];
        (flow, !self.inboxes[flow].refusals.is_empty())
    }

    fn receive(&mut self, flow: usize, batch: &mut Batch) -> Result<usize, CallError> {
        self.fails("recvmmsg")?;
        self.land();
        let inbox = &mut self.inboxes[flow];
        if std::mem::take(&mut inbox.error) {
            return Ok(0);
        }
        let count = inbox.arrivals.len().min(batch.slots());
        for (slot, arrival) in inbox.arrivals.drain(..count).enumerate() {
            let stamp_unix_ns = arrival.stamped.then_some(UNIX_OFFSET + arrival.at);
            batch.deliver(slot, &arrival.bytes, Meta { stamp_unix_ns, unicast: true, ..Meta::default() });
        }
        Ok(count)
    }

    fn refused(&mut self, flow: usize, quote: &mut [u8]) -> Result<Option<Refused>, CallError> {
        self.fails("recvmsg")?;
        let inbox = &mut self.inboxes[flow];
        let Some(bytes) = inbox.refusals.pop_front() else { return Ok(None) };
        inbox.error = !inbox.refusals.is_empty();
        inbox.fresh |= inbox.error;
        quote[..bytes.len()].copy_from_slice(&bytes);
        Ok(Some(Refused { quoted: bytes.len(), errno: ECONNREFUSED }))
    }

    fn drops(&self) -> u64 {
        self.dropped
    }
}
