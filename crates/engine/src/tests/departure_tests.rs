//! Requests that a link queues: they count as sent when they are queued, and their times are those of their departure.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use flatout_net::{Batch, CallError, Datagrams, Departure, Refused, SendResult};

use super::fake::{Asked, FakeLink, SendOutcome, World};
use super::rig::{MS, QUICK, Rig, US};

/// Leaves so long after it was queued.
const WAITS: u64 = 30 * US;

/// A fake whose requests leave later; what their answers take counts from then.
pub(super) struct QueuedLink<F> {
    link: FakeLink<F>,
    world: Rc<World>,
    waiting: VecDeque<u64>,
}

impl<F> QueuedLink<F> {
    pub(super) fn new(link: FakeLink<F>, world: Rc<World>) -> Self {
        Self { link, world, waiting: VecDeque::new() }
    }
}

impl<F: FnMut(Asked) -> SendOutcome> Datagrams for QueuedLink<F> {
    const QUEUED: bool = true;

    fn departed(&mut self) -> Option<Departure> {
        let left = *self.waiting.front()? + WAITS;
        (left <= self.world.now()).then(|| {
            self.waiting.pop_front();
            Departure::At(left)
        })
    }

    fn flows(&self) -> usize {
        self.link.flows()
    }

    fn send(&mut self, flow: usize, batch: &mut Batch, count: usize, length: usize) -> SendResult {
        let now = self.world.now();
        let sent = self.link.send(flow, batch, count, length);
        if let SendResult::Sent(count) = sent {
            self.waiting.extend((0..count).map(|_| now));
        }
        sent
    }

    fn poll(&mut self, wait: Duration) -> Result<usize, CallError> {
        self.link.poll(wait)
    }

    fn ready(&self, n: usize) -> (usize, bool) {
        self.link.ready(n)
    }

    fn receive(&mut self, flow: usize, batch: &mut Batch) -> Result<usize, CallError> {
        self.link.receive(flow, batch)
    }

    fn refused(&mut self, flow: usize, quote: &mut [u8]) -> Result<Option<Refused>, CallError> {
        self.link.refused(flow, quote)
    }

    fn drops(&self) -> u64 {
        self.link.drops()
    }
}

#[test]
fn times_count_from_the_departure() {
    let told = Rig { queued: true, ..Rig::steady(10_000.0, 0.5) }.run(|_| SendOutcome::Answer(QUICK));
    assert_eq!((told.counts.sent, told.counts.answered, told.counts.lost), (5_000, 5_000, 0));
    assert_eq!(told.totals.lateness.count(), 5_000, "each once");
    let least = told.totals.lateness.min();
    assert!((WAITS..WAITS + 5 * US).contains(&least), "{least}");
    let (least, most) = (told.totals.from_sent.min(), told.totals.from_sent.max());
    assert!(least >= QUICK - WAITS - US && most <= QUICK - WAITS + 5 * US, "{least} {most}");
    for row in &told.rows {
        assert!(row.sent.is_some_and(|sent| sent >= row.due + WAITS), "{row:?}");
    }
}

#[test]
fn what_is_never_answered_is_lost() {
    let told =
        Rig { queued: true, timeout: 20 * MS, ..Rig::steady(1_000.0, 0.2) }.run(|asked| match asked.serial % 2 {
            0 => SendOutcome::Answer(QUICK),
            _ => SendOutcome::Drop,
        });
    assert_eq!((told.counts.answered, told.counts.lost), (100, 100));
    assert_eq!(told.totals.lateness.count(), 200);
}
