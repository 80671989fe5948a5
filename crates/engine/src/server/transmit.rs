//! When answers leave: their transmit stamps, and how far these are from the kernel's.
//!
//! Method: the answers of a batch leave one behind the other, some in one call. Each is stamped with the clock as read
//! before the call, plus its place times a lower bound of what the kernel needs for one. Now and then the kernel is asked
//! for its own stamp of one answer: the differences are a live histogram, and the bound comes from them. A stamp that
//! turns out to be late takes the bound away. Some protocols are also told when an answer left: interleaved NTP.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use flatout_net::{Batch, ServerSet, TxStampReader};
use flatout_wire::{AnswerStamps, Responder};

use super::Served;
use crate::clock::{unique, unix_now};
use crate::histogram::Durations;
use crate::pace::Random;

/// Answers sent by one call: the last of them is as early as all before it need.
const AT_ONCE: usize = 32;
/// Between two samples, ns.
const SAMPLE_NS: u64 = 1_000_000;
/// The same where the kernel gives no stamps.
const RETRY_NS: u64 = 10_000_000_000;
/// After so many turns of the loop a stamp will not come.
const PATIENCE: u32 = 64;
/// Stamps awaited at once, at most; the kernel keeps unread ones in the receive buffer's memory.
const AWAITED: usize = 256;
/// How often samples go to the shared histogram, ns.
const SHARE_NS: u64 = 500_000_000;
/// Further apart: the clock was set in between.
const STEP_NS: u64 = 1_000_000_000;

/// All workers' differences between the kernel's stamps and those in answers, ns.
pub(super) type SharedErrors = Arc<Mutex<Durations>>;

/// An answer of which the kernel's stamp is awaited.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    socket: usize,
    id: u32,
    purpose: Purpose,
}

#[derive(Clone, Copy, Debug)]
enum Purpose {
    Sample(Sample),
    /// The responder is told, under this key.
    Tell(u64),
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Its place in its call.
    place: u64,
    /// The clock before the call, and the stamp in the answer.
    before_ns: u64,
    stamped_ns: u64,
}

/// One worker's; see the module.
pub(super) struct Transmit {
    reader: TxStampReader,
    /// Of each queued answer.
    queued: Vec<AnswerStamps>,
    /// Of each socket: the number of the next stamp.
    ids: Vec<u32>,
    awaited: VecDeque<Awaited>,
    /// Turns of the loop without a stamp while some were awaited.
    turns: u32,
    sample_at_ns: u64,
    /// Until then the kernel is not asked for stamps: it gave none.
    silent_until_ns: u64,
    share_at_ns: u64,
    spacing: Spacing,
    random: Random,
    errors: Durations,
    shared: SharedErrors,
}

impl Transmit {
    /// For a worker's sockets. A kernel that refuses to stamp leaves the stamps without a histogram.
    pub(super) fn new(sockets: &ServerSet, slots: usize, shared: SharedErrors) -> Self {
        for server in (0..sockets.count()).filter_map(|n| sockets.nth(n)) {
            let _ = server.enable_tx_stamps();
        }
        Self {
            reader: TxStampReader::new(),
            queued: Vec::with_capacity(slots),
            ids: vec![0; sockets.count()],
            awaited: VecDeque::with_capacity(AWAITED),
            turns: 0,
            sample_at_ns: 0,
            silent_until_ns: 0,
            share_at_ns: 0,
            spacing: Spacing::default(),
            random: Random::new(unique()),
            errors: Durations::new(),
            shared,
        }
    }

    /// Notes what the answer that was queued last needs.
    pub(super) fn queue(&mut self, stamps: AnswerStamps, served: &mut Served) {
        if self.queued.len() < self.queued.capacity() {
            self.queued.push(stamps);
            served.interleaved += u64::from(!stamps.at_send);
        }
    }

    /// Stamps and sends all queued answers; returns how many were sent.
    pub(super) fn send(&mut self, sockets: &ServerSet, batch: &mut Batch, responder: &impl Responder) -> usize {
        let queued = batch.answers();
        let (mut sent, mut chosen) = (0, None);
        for first in (0..queued).step_by(AT_ONCE) {
            let (count, before_ns) = (AT_ONCE.min(queued - first), unix_now());
            if first == 0 {
                chosen = self.chosen(queued, before_ns);
            }
            let spacing_ns = self.spacing.bound_ns(before_ns);
            for n in first..first + count {
                let stamps = self.queued.get(n).copied().unwrap_or_default();
                let place = (n - first) as u64;
                let stamped_ns = before_ns + place * spacing_ns;
                if stamps.at_send {
                    responder.stamp(stamped_ns, batch.queued(n));
                }
                let sample = (chosen == Some(n) && stamps.at_send).then_some(Purpose::Sample(Sample {
                    place,
                    before_ns,
                    stamped_ns,
                }));
                if let Some(purpose) = stamps.tell.map(Purpose::Tell).or(sample)
                    && self.ask(sockets.current(), purpose, before_ns)
                {
                    batch.request_stamp(n);
                }
            }
            sent += sockets.server().map_or(0, |server| server.send_some(batch, first, count));
        }
        batch.clear_answers();
        self.queued.clear();
        sent
    }

    /// Which answer of a batch is to be sampled, if one is.
    fn chosen(&mut self, queued: usize, now_ns: u64) -> Option<usize> {
        // A clock that was set back must not stop the samples.
        let due = now_ns >= self.sample_at_ns || self.sample_at_ns - now_ns > RETRY_NS;
        if queued == 0 || !due {
            return None;
        }
        self.sample_at_ns = now_ns + SAMPLE_NS;
        Some((self.random.bits() % queued as u64) as usize)
    }

    /// Whether the kernel is to be asked for a stamp.
    fn ask(&mut self, socket: usize, purpose: Purpose, now_ns: u64) -> bool {
        let silent = now_ns < self.silent_until_ns && self.silent_until_ns - now_ns <= RETRY_NS;
        let Some(next) = self.ids.get_mut(socket) else { return false };
        if silent || self.awaited.len() >= AWAITED {
            return false;
        }
        self.awaited.push_back(Awaited { socket, id: *next, purpose });
        *next = next.wrapping_add(1);
        true
    }

    /// Reads the stamps that are awaited, once they are there. `idle`: nothing came, so stamps that nobody awaits any
    /// more, which would wake the worker again and again, are read too.
    pub(super) fn collect(&mut self, sockets: &ServerSet, responder: &impl Responder, served: &mut Served, idle: bool) {
        while let Some(socket) = self.awaited.front().map(|first| first.socket) {
            if !self.read(sockets, socket, responder, served) {
                break;
            }
            self.turns = 0;
        }
        if self.awaited.is_empty() {
            self.turns = 0;
            if idle {
                (0..sockets.count()).for_each(|socket| {
                    self.read(sockets, socket, responder, served);
                });
            }
            return;
        }
        self.turns += 1;
        if self.turns >= PATIENCE {
            self.turns = 0;
            self.awaited.clear();
            self.silent_until_ns = unix_now() + RETRY_NS;
        }
    }

    /// Reads what one socket has; returns whether that was anything.
    fn read(&mut self, sockets: &ServerSet, socket: usize, responder: &impl Responder, served: &mut Served) -> bool {
        let Some(server) = sockets.nth(socket) else { return false };
        let Ok(stamps) = self.reader.read(server) else { return false };
        for stamp in stamps {
            let found = take(&mut self.awaited, socket, stamp.id);
            let Some(purpose) = found else {
                // Asked for by the worker before, given up, or not sent: the numbers go on from here.
                self.awaited.retain(|awaited| awaited.socket != socket);
                if let Some(next) = self.ids.get_mut(socket) {
                    *next = stamp.id.wrapping_add(1);
                }
                continue;
            };
            match purpose {
                Purpose::Tell(key) => responder.left(key, stamp.unix_ns),
                Purpose::Sample(sample) => {
                    self.spacing.note(&sample, stamp.unix_ns);
                    compare(&sample, stamp.unix_ns, &mut self.errors, &mut self.spacing, served);
                }
            }
        }
        !stamps.is_empty()
    }

    /// Adds the samples to those of all workers, now and then; `last`: in any case.
    pub(super) fn share(&mut self, now_ns: u64, last: bool) {
        let due = now_ns >= self.share_at_ns || self.share_at_ns - now_ns > SHARE_NS;
        if (due || last) && self.errors.count() > 0 {
            if let Ok(mut all) = self.shared.try_lock() {
                all.add(&self.errors);
                self.errors.clear();
            }
            self.share_at_ns = now_ns + SHARE_NS;
        }
    }
}

/// What the stamp with this number is for. Those before it on its socket will not come any more.
fn take(awaited: &mut VecDeque<Awaited>, socket: usize, id: u32) -> Option<Purpose> {
    let found = awaited.iter().position(|awaited| (awaited.socket, awaited.id) == (socket, id))?;
    let purpose = awaited.get(found).map(|awaited| awaited.purpose);
    let mut n = 0;
    awaited.retain(|awaited| {
        n += 1;
        n > found + 1 || awaited.socket != socket
    });
    purpose
}

/// How far the stamp in an answer is from the kernel's.
fn compare(sample: &Sample, sent_ns: u64, errors: &mut Durations, spacing: &mut Spacing, served: &mut Served) {
    match sent_ns.checked_sub(sample.stamped_ns) {
        Some(early_ns) if early_ns < STEP_NS => {
            errors.record(early_ns);
            served.tx_sampled += 1;
        }
        None if sample.stamped_ns - sent_ns < STEP_NS => {
            *spacing = Spacing::default();
            served.tx_sampled += 1;
            served.tx_late += 1;
        }
        _ => {}
    }
}

/// A lower bound of the time between two answers of one call, from samples.
///
/// Three quarters of the least of the last one to two windows. Without samples for a while there is none.
#[derive(Clone, Copy, Debug, Default)]
struct Spacing {
    /// The least of the window before and of this one, ns; `None`: there was no sample.
    before_ns: Option<u64>,
    least_ns: Option<u64>,
    samples: u32,
    noted_at_ns: u64,
}

impl Spacing {
    const WINDOW: u32 = 128;
    /// The first answers of a call tell more of the call than of what each needs.
    const LEAST_PLACE: u64 = 8;
    const STALE_NS: u64 = 10_000_000_000;

    fn note(&mut self, sample: &Sample, stamp_ns: u64) {
        let Some(took_ns) = stamp_ns.checked_sub(sample.before_ns) else { return };
        if sample.place < Self::LEAST_PLACE || took_ns > STEP_NS {
            return;
        }
        let each_ns = took_ns / sample.place;
        self.least_ns = Some(self.least_ns.map_or(each_ns, |least| least.min(each_ns)));
        (self.samples, self.noted_at_ns) = (self.samples + 1, stamp_ns);
        if self.samples == Self::WINDOW {
            (self.before_ns, self.least_ns, self.samples) = (self.least_ns, None, 0);
        }
    }

    fn bound_ns(&self, now_ns: u64) -> u64 {
        match self.before_ns {
            Some(before) if now_ns.abs_diff(self.noted_at_ns) < Self::STALE_NS => {
                before.min(self.least_ns.unwrap_or(before)) / 4 * 3
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: u64 = 1_800_000_000_000_000_000;

    fn sample(spacing: &mut Spacing, place: u64, each_ns: u64) {
        spacing.note(&Sample { place, before_ns: BEFORE, stamped_ns: BEFORE }, BEFORE + place * each_ns);
    }

    #[test]
    fn the_bound_is_below_the_least_of_a_whole_window() {
        let mut spacing = Spacing::default();
        for n in 0..Spacing::WINDOW {
            assert_eq!(spacing.bound_ns(BEFORE), 0, "not before there is a window");
            sample(&mut spacing, 16, if n == 50 { 400 } else { 900 });
        }
        assert_eq!(spacing.bound_ns(BEFORE), 300);
        sample(&mut spacing, 16, 200);
        assert_eq!(spacing.bound_ns(BEFORE), 150, "a faster one counts at once");
        for _ in 0..2 * Spacing::WINDOW {
            sample(&mut spacing, 16, 800);
        }
        assert_eq!(spacing.bound_ns(BEFORE), 600, "and is forgotten after two windows");
    }

    #[test]
    fn the_bound_needs_samples_that_are_fresh_and_far_back_in_a_call() {
        let mut spacing = Spacing::default();
        (0..Spacing::WINDOW).for_each(|_| sample(&mut spacing, 7, 900));
        assert_eq!(spacing.bound_ns(BEFORE), 0);
        (0..Spacing::WINDOW).for_each(|_| sample(&mut spacing, 8, 900));
        assert_eq!(spacing.bound_ns(BEFORE), 675);
        assert_eq!(spacing.bound_ns(BEFORE + 11_000_000_000), 0, "stale");
        assert_eq!(spacing.bound_ns(BEFORE - 11_000_000_000), 0, "the clock was set back");
    }

    #[test]
    fn a_late_stamp_takes_the_bound_away() {
        let (mut spacing, mut errors, mut served) = (Spacing::default(), Durations::new(), Served::default());
        (0..Spacing::WINDOW).for_each(|_| sample(&mut spacing, 16, 900));
        let sent = Sample { place: 16, before_ns: BEFORE, stamped_ns: BEFORE + 10_000 };
        compare(&sent, BEFORE + 12_000, &mut errors, &mut spacing, &mut served);
        assert_eq!((errors.count(), errors.max(), served.tx_late), (1, 2000, 0));
        assert_eq!(spacing.bound_ns(BEFORE), 675);
        compare(&sent, BEFORE + 9_999, &mut errors, &mut spacing, &mut served);
        assert_eq!((errors.count(), served.tx_sampled, served.tx_late), (1, 2, 1));
        assert_eq!(spacing.bound_ns(BEFORE), 0);
        compare(&sent, BEFORE + 3_600_000_000_000, &mut errors, &mut spacing, &mut served);
        compare(&sent, BEFORE - 3_600_000_000_000, &mut errors, &mut spacing, &mut served);
        assert_eq!(served.tx_sampled, 2, "a clock that was set is no error of the stamps");
    }

    #[test]
    fn stamps_are_matched_by_socket_and_number() {
        let tell = |socket, id| Awaited { socket, id, purpose: Purpose::Tell(u64::from(id)) };
        let mut awaited = VecDeque::from([tell(0, 7), tell(1, 7), tell(0, 8), tell(0, 9)]);
        assert!(take(&mut awaited, 0, 6).is_none());
        assert!(matches!(take(&mut awaited, 0, 8), Some(Purpose::Tell(8))));
        let left: Vec<_> = awaited.iter().map(|awaited| (awaited.socket, awaited.id)).collect();
        assert_eq!(left, [(1, 7), (0, 9)], "the one before it on its socket is given up");
    }
}
