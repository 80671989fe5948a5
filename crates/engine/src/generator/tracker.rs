//! What a worker keeps of its requests, over whatever they travel: which left, how each ended, how long it took.
//!
//! Laws: every request that came due ends in exactly one outcome; what is counted falls into the second in which it
//! happened; only the totals close.

use std::fmt::Display;
use std::sync::Arc;

use super::subinterval::{Subintervals, TargetDelay};
use super::{GRACE_NS, SECOND_NS, TICK_NS, Times, WorkerOptions};
use crate::flow::{Head, Rings, Settled, Slot};
use crate::histogram::Recorder;
use crate::log::{LogWriter, Row};
use crate::published::{PublishedRun, Second};
use crate::tally::{Counts, Outcome, Unsent};

/// So many rings are looked through each tick, at least.
const RINGS_A_TICK: usize = 64;
/// Where the drain is brief, an answer that takes so many times as long as the slowest so far counts as lost.
const SLOWER_BY: u64 = 4;

/// One arrival or refusal, once it is known which request it concerns.
pub(super) struct Event {
    pub(super) flow: usize,
    pub(super) index: u32,
    pub(super) seen: u64,
    /// How long it then lay until it was read, where that is worth keeping.
    pub(super) reading: Option<u64>,
    pub(super) outcome: Outcome,
    pub(super) tally: Option<usize>,
}

/// The requests of one worker: sent, outstanding and settled.
pub(super) struct RequestTracker {
    pub(super) rings: Rings,
    pub(super) counts: Counts,
    pub(super) recorder: Recorder,
    pub(super) published: Arc<PublishedRun>,
    pub(super) times: Times,
    subintervals: Subintervals,
    target_delay: TargetDelay,
    slow_after: u64,
    first_flow: u32,
    log_writer: Option<LogWriter>,
    second: usize,
    before: Counts,
    pub(super) next_tick: u64,
    next_ring: usize,
    last_sent: u64,
    /// The longest that an answer took, ns.
    slowest: u64,
    brief_drain: bool,
    /// Requests that left and have not settled, warm-up's too.
    open: u64,
    /// Lost with connections that are over.
    lost_for_good: u64,
    pub(super) stop_at: Option<u64>,
    gave_up: bool,
}

impl RequestTracker {
    pub(super) fn new(
        rings: Rings,
        times: Times,
        options: WorkerOptions,
        published: Arc<PublishedRun>,
        log_writer: Option<LogWriter>,
    ) -> Self {
        published.give_back(Recorder::default());
        Self {
            rings,
            counts: Counts::default(),
            recorder: Recorder::default(),
            published,
            times,
            subintervals: Subintervals::new(times),
            target_delay: TargetDelay::new(options.target_delay),
            slow_after: options.slow_after.unwrap_or(u64::MAX),
            first_flow: options.first_flow,
            log_writer,
            second: 0,
            before: Counts::default(),
            next_tick: 0,
            next_ring: 0,
            last_sent: 0,
            slowest: 0,
            brief_drain: options.brief_drain,
            open: 0,
            lost_for_good: 0,
            stop_at: None,
            gave_up: false,
        }
    }

    /// The run's times are known only now.
    pub(super) fn begin(&mut self, times: Times) {
        self.times = times;
        self.subintervals = Subintervals::new(times);
    }

    pub(super) fn counted(&self, due: u64) -> bool {
        due >= self.times.counted_from
    }

    /// The index that the next request over `flow` will have, if there is a slot for it.
    pub(super) fn vacancy(&mut self, flow: usize, now: u64) -> Option<u32> {
        let vacancy = self.rings.of(flow).vacancy(0);
        if vacancy.is_some() {
            return vacancy;
        }
        // Of a million rings each has its turn to be looked through every few seconds only.
        self.expire(flow, now.saturating_sub(self.times.timeout));
        self.rings.of(flow).vacancy(0)
    }

    /// A request left over `flow`, by the index of that flow's vacancy.
    pub(super) fn sent(&mut self, flow: usize, due: u64, now: u64, query: u32) {
        self.queued(flow, due, now, query);
        if self.counted(due) {
            self.note_sent(due, now, 1);
        }
    }

    /// The same where it leaves later: [`RequestTracker::left`] tells when.
    pub(super) fn queued(&mut self, flow: usize, due: u64, now: u64, query: u32) {
        self.last_sent = now;
        self.open += 1;
        if let Some((index, before)) = self.rings.of(flow).sent(due, now, query) {
            // Of those that count, the flow's own number still knows.
            self.open -= u64::from(!self.counted(before.due));
            self.note_unanswered(flow, index, &before, Outcome::Lost);
        }
        if self.counted(due) {
            self.rings.of(flow).head.open += 1;
            self.counts.planned += 1;
            self.counts.sent += 1;
        }
    }

    /// A request that was queued left at `at`.
    pub(super) fn left(&mut self, flow: usize, index: u32, due: u64, at: u64) {
        self.rings.of(flow).left(index, at);
        if self.counted(due) {
            self.note_sent(due, at, 1);
        }
    }

    /// Counts one-way messages that wait to leave over one flow.
    pub(super) fn queued_one_way(&mut self, count: usize) {
        self.counts.planned += count as u64;
        self.counts.sent += count as u64;
    }

    /// Notes that one of them left.
    pub(super) fn left_one_way(&mut self, due: u64, at: u64) {
        self.note_sent(due, at, 1);
    }

    /// Counts one-way messages that left over one flow; all of them count as late as the first.
    pub(super) fn sent_one_way(&mut self, count: usize, due: u64, now: u64) {
        self.counts.planned += count as u64;
        self.counts.sent += count as u64;
        self.note_sent(due, now, count as u64);
    }

    #[inline]
    fn note_sent(&mut self, due: u64, now: u64, count: u64) {
        self.recorder.lateness.record_many(now.saturating_sub(due), count);
        if let Some(subinterval) = self.subintervals.at(due - self.times.counted_from) {
            subinterval.sent += count;
            subinterval.lateness_max = subinterval.lateness_max.max(now.saturating_sub(due));
        }
    }

    /// Notes one of them.
    pub(super) fn note_one_way(&mut self, flow: usize, due: u64, now: u64, sequence: u64) {
        let (flow, index) = (flow as u32, sequence as u32);
        self.note(Row { due, sent: Some(now), answered: None, outcome: Outcome::Sent, flow, index });
    }

    /// A request that came due will not leave.
    pub(super) fn unsent(&mut self, flow: usize, due: u64, now: u64, why: Unsent) {
        if why == Unsent::Late && self.counted(due) {
            // Left out, the generator's own stall would make the latency look better than any user saw it.
            self.recorder.from_due.record(now - due);
        }
        self.not_sent(flow, due, now, why);
    }

    /// The same where there is no latency to be had.
    pub(super) fn not_sent(&mut self, flow: usize, due: u64, now: u64, why: Unsent) {
        if !self.counted(due) {
            return;
        }
        self.counts.planned += 1;
        self.counts.unsent[why as usize] += 1;
        self.recorder.lateness.record(now - due);
        if let Some(subinterval) = self.subintervals.at(due - self.times.counted_from) {
            subinterval.unsent += 1;
            subinterval.lateness_max = subinterval.lateness_max.max(now - due);
        }
        self.note(Row { due, sent: None, answered: None, outcome: Outcome::Unsent, flow: flow as u32, index: 0 });
    }

    /// A call that all replies depend on fails: nothing more is sent or awaited, for what comes cannot be read.
    pub(super) fn give_up(&mut self, error: &impl Display) {
        if !std::mem::replace(&mut self.gave_up, true) {
            self.published.give_up(error.to_string());
            self.next_tick = 0;
        }
    }

    /// A request of `flow` has been answered or refused; returns how it ended and what it was, unless it had before.
    pub(super) fn settle(&mut self, event: &Event) -> Option<(Outcome, Slot)> {
        let settled = self.rings.of(event.flow).settle(event.index, event.seen, self.times.timeout, event.outcome);
        let (outcome, slot) = match settled {
            Settled::Forgotten => {
                self.rings.of(event.flow).head.forgotten += 1;
                return None;
            }
            Settled::Duplicate(slot) => {
                self.counts.duplicate += u64::from(self.counted(slot.due) && event.outcome != Outcome::Refused);
                return None;
            }
            Settled::As(outcome, slot) => (outcome, slot),
        };
        self.open -= 1;
        if !self.counted(slot.due) {
            return Some((outcome, slot));
        }
        self.count(event, outcome);
        if outcome == Outcome::Answered {
            let from_due = event.seen.saturating_sub(slot.due);
            self.recorder.from_due.record(from_due);
            if let Some(subinterval) = self.subintervals.at(slot.due - self.times.counted_from) {
                subinterval.answered += 1;
                subinterval.slow += u64::from(from_due > self.slow_after);
            }
            let from_sent = event.seen.saturating_sub(slot.sent);
            self.slowest = self.slowest.max(from_sent);
            self.recorder.from_sent.record(from_sent);
            if let Some(reading) = event.reading {
                self.recorder.reading.record(reading);
            }
        }
        let (due, sent, answered) = (slot.due, Some(slot.sent), Some(event.seen));
        self.note(Row { due, sent, answered, outcome, flow: event.flow as u32, index: event.index });
        Some((outcome, slot))
    }

    fn count(&mut self, event: &Event, outcome: Outcome) {
        let mut ring = self.rings.of(event.flow);
        let overtaken = event.outcome != Outcome::Refused && ring.overtaken(event.index);
        ring.head.open -= 1;
        self.counts.reordered += u64::from(overtaken);
        if let Some(tally) = event.tally {
            self.counts.tallies[tally] += 1;
        }
        match outcome {
            Outcome::Answered => self.counts.answered += 1,
            Outcome::Late => self.counts.late += 1,
            Outcome::Refused => self.counts.refused += 1,
            _ => self.counts.invalid += 1,
        }
    }

    /// An arrival on `flow` that names no request.
    pub(super) fn unmatched(&mut self, flow: usize, now: u64) {
        // Before counting begins there is no request that it could stand for.
        if now >= self.times.counted_from {
            self.rings.of(flow).head.unmatched += 1;
            self.counts.unmatched += 1;
        }
    }

    fn note(&mut self, row: Row) {
        let from = self.times.counted_from;
        if let Some(log_writer) = &mut self.log_writer {
            let since = |time: u64| time.saturating_sub(from);
            log_writer.write(Row {
                due: since(row.due),
                sent: row.sent.map(since),
                answered: row.answered.map(since),
                flow: self.first_flow + row.flow,
                ..row
            });
        }
    }

    fn note_unanswered(&mut self, flow: usize, index: u32, slot: &Slot, outcome: Outcome) {
        if self.counted(slot.due) {
            let row = Row { due: slot.due, sent: Some(slot.sent), answered: None, outcome, flow: flow as u32, index };
            self.note(row);
        }
    }

    /// The work of each ms; a wish to stop is noted in `stop_at`.
    pub(super) fn tick(&mut self, now: u64) {
        if self.stop_at.is_none() && self.published.stopping() {
            self.stop_at = Some(now);
        }
        self.expire_some(now);
        self.published.offer(&self.counts);
        let from = self.times.counted_from;
        self.target_delay.tick(now.checked_sub(from), &mut self.subintervals);
        while now >= from + self.second_end() {
            self.end_second(self.second_end());
        }
        self.next_tick = (now + TICK_NS).min(from + self.second_end());
    }

    /// When the present second ends, ns since the counted beginning.
    fn second_end(&self) -> u64 {
        (self.second as u64 + 1) * SECOND_NS
    }

    fn expire_some(&mut self, now: u64) {
        let before = now.saturating_sub(self.times.timeout);
        let flows = self.rings.flows();
        for _ in 0..flows.min(RINGS_A_TICK.max(flows / 4096)) {
            self.expire(self.next_ring, before);
            self.next_ring = (self.next_ring + 1) % flows;
        }
    }

    fn expire(&mut self, flow: usize, before: u64) {
        let (counts, from) = (&mut self.counts, self.times.counted_from);
        self.rings.of(flow).expire(before, |slot| counts.lost += u64::from(slot.due >= from));
    }

    /// Whether, with nothing more due, nothing more is to be awaited.
    pub(super) fn settled(&self, now: u64) -> bool {
        let timeout = if self.brief_drain && self.slowest > 0 {
            self.times.timeout.min((self.slowest * SLOWER_BY).max(GRACE_NS))
        } else {
            self.times.timeout
        };
        // Where answers have come late, those to the last requests are given as long again.
        let patience = if self.counts.late > 0 { timeout * 2 } else { timeout };
        let patience = if self.stop_at.is_some() { patience.min(GRACE_NS * 2) } else { patience };
        let beginning = self.stop_at.unwrap_or(self.last_sent).max(self.last_sent);
        let until = beginning + if self.open > 0 { patience } else { patience.min(GRACE_NS) };
        self.gave_up || now >= until && (self.stop_at.is_some() || now >= self.times.end)
    }

    fn end_second(&mut self, until: u64) {
        let spare = self.published.spare();
        let recorder = std::mem::replace(&mut self.recorder, spare);
        let counts = self.counts - self.before;
        self.published.hand_over(Second { index: self.second, until, counts, recorder });
        (self.second, self.before) = (self.second + 1, self.counts);
    }

    /// Whether the present second ends as it has begun: no request waits after the last message of a whole second.
    fn is_nothing(&self, until: u64) -> bool {
        let begun = self.second as u64 * SECOND_NS;
        // CPU time passes whatever happens.
        let events = Counts { cpu_ns: 0, ..self.counts - self.before };
        self.second > 0 && until < begun + TICK_NS && events == Counts::default() && self.recorder.is_empty()
    }

    /// The connection under `flow` is over: nothing that waits on it can be answered any more.
    pub(super) fn abandon(&mut self, flow: usize, outcome: Outcome) {
        let mut over = Vec::new();
        let mut ring = self.rings.of(flow);
        let Head { mut open, mut unmatched, forgotten, .. } = *ring.head;
        (ring.head.open, ring.head.unmatched, ring.head.forgotten) = (0, 0, 0);
        ring.abandon(|index, slot, waiting| over.push((index, *slot, waiting)));
        for (index, slot, waiting) in over {
            self.open -= 1;
            if self.counted(slot.due) {
                open -= 1;
                let outcome = if unmatched > 0 { Outcome::Invalid } else { outcome };
                unmatched = unmatched.saturating_sub(1);
                self.write_off(outcome, waiting);
                self.note_unanswered(flow, index, &slot, outcome);
            }
        }
        // The ring no longer held these, and their time-outs had passed.
        let (invalid, late, lost) = split(open, unmatched, forgotten);
        self.open -= u64::from(open);
        self.counts.invalid += invalid;
        self.counts.late += late;
        self.counts.lost -= invalid + late;
        self.lost_for_good += lost;
    }

    fn write_off(&mut self, outcome: Outcome, waiting: bool) {
        // One that did not wait any more was counted as lost when its time-out passed.
        self.counts.lost -= u64::from(!waiting);
        match outcome {
            Outcome::Refused => self.counts.refused += 1,
            Outcome::Invalid => self.counts.invalid += 1,
            _ => {
                self.counts.lost += 1;
                self.lost_for_good += 1;
            }
        }
    }

    /// Settles what can no longer be awaited and leaves the last word.
    pub(super) fn close(mut self, now: u64, own_drops: u64) -> Counts {
        for flow in 0..self.rings.flows() {
            self.expire(flow, u64::MAX);
            let mut remaining = Vec::new();
            let mut ring = self.rings.of(flow);
            let mut unmatched = ring.head.unmatched;
            ring.abandon(|index, slot, _| remaining.push((index, *slot)));
            for (index, slot) in remaining {
                let outcome = if unmatched > 0 { Outcome::Invalid } else { Outcome::Lost };
                self.note_unanswered(flow, index, &slot, outcome);
                unmatched = unmatched.saturating_sub(1);
            }
        }
        self.counts.lost = self.lost_for_good;
        for head in self.rings.heads() {
            let (invalid, late, lost) = split(head.open, head.unmatched, head.forgotten);
            self.counts.invalid += invalid;
            self.counts.late += late;
            self.counts.lost += lost;
        }
        self.counts.own_drops = own_drops;
        self.counts.cpu_ns = flatout_net::thread_cpu_ns();
        let until = now.saturating_sub(self.times.counted_from);
        if !self.is_nothing(until) {
            self.end_second(until);
        }
        if let Some(log_writer) = self.log_writer.take() {
            let dropped = log_writer.close();
            if dropped > 0 {
                self.published.fail(format!("the log could not follow: {dropped} rows left out"));
            }
        }
        self.published.close(flatout_net::thread_contention(), self.subintervals);
        self.published.publish(&self.counts);
        self.published.finish();
        self.counts
    }
}

/// What so many requests that nothing settled have become: invalid, late, lost. An answer that names no request stands
/// for one of its flow that got no other.
fn split(open: u32, unmatched: u32, forgotten: u32) -> (u64, u64, u64) {
    let invalid = unmatched.min(open);
    let late = forgotten.min(open - invalid);
    (invalid.into(), late.into(), (open - invalid - late).into())
}
