//! When answers leave: their transmit stamps, and how far these are from the kernel's.
//!
//! Method: the answers of a batch leave one behind the other, some in one call. Each is stamped with the clock as read
//! before the call, plus its place times a lower bound of what the kernel needs for one. Now and then the kernel is asked
//! for its own stamp of one answer: the differences are a live histogram, and the bound comes from them. A stamp that
//! turns out to be late takes the bound away.

use std::sync::{Arc, Mutex};

use flatout_net::{Batch, ServerSet, TxStampReader};
use flatout_wire::Responder;

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
/// How often samples go to the shared histogram, ns.
const SHARE_NS: u64 = 500_000_000;
/// Further apart: the clock was set in between.
const STEP_NS: u64 = 1_000_000_000;

/// All workers' differences between the kernel's stamps and those in answers, ns.
pub(super) type SharedErrors = Arc<Mutex<Durations>>;

/// The answer of which the kernel's stamp is awaited.
#[derive(Clone, Copy, Debug)]
struct Pending {
    socket: usize,
    id: u32,
    /// Its place in its call.
    place: u64,
    /// The clock before the call, and the stamp in the answer.
    before_ns: u64,
    stamped_ns: u64,
    turns: u32,
}

/// One worker's; see the module.
pub(super) struct Transmit {
    reader: TxStampReader,
    /// Of each socket: the number of the next stamp.
    ids: Vec<u32>,
    pending: Option<Pending>,
    sample_at_ns: u64,
    share_at_ns: u64,
    spacing: Spacing,
    random: Random,
    errors: Durations,
    shared: SharedErrors,
}

impl Transmit {
    /// For a worker's sockets. A kernel that refuses to stamp leaves the stamps without a histogram.
    pub(super) fn new(sockets: &ServerSet, shared: SharedErrors) -> Self {
        for server in (0..sockets.count()).filter_map(|n| sockets.nth(n)) {
            let _ = server.enable_tx_stamps();
        }
        Self {
            reader: TxStampReader::new(),
            ids: vec![0; sockets.count()],
            pending: None,
            sample_at_ns: 0,
            share_at_ns: 0,
            spacing: Spacing::default(),
            random: Random::new(unique()),
            errors: Durations::new(),
            shared,
        }
    }

    /// Stamps and sends all queued answers; returns how many were sent.
    pub(super) fn send(&mut self, sockets: &ServerSet, batch: &mut Batch, responder: &impl Responder) -> usize {
        let queued = batch.answers();
        let (mut sent, mut sample) = (0, None);
        for first in (0..queued).step_by(AT_ONCE) {
            let (count, before_ns) = (AT_ONCE.min(queued - first), unix_now());
            if first == 0 {
                sample = self.chosen(queued, before_ns);
            }
            let spacing_ns = self.spacing.bound_ns(before_ns);
            for place in 0..count {
                responder.stamp(before_ns + place as u64 * spacing_ns, batch.queued(first + place));
            }
            if let Some(chosen) = sample.filter(|chosen| (first..first + count).contains(chosen)) {
                let place = (chosen - first) as u64;
                self.ask(sockets.current(), place, before_ns, before_ns + place * spacing_ns);
                batch.request_stamp(chosen);
            }
            sent += sockets.server().map_or(0, |server| server.send_some(batch, first, count));
        }
        batch.clear_answers();
        sent
    }

    /// Which answer of a batch is to be sampled, if one is.
    fn chosen(&mut self, queued: usize, now_ns: u64) -> Option<usize> {
        // A clock that was set back must not stop the samples.
        let due = now_ns >= self.sample_at_ns || self.sample_at_ns - now_ns > RETRY_NS;
        if queued == 0 || !due || self.pending.is_some() {
            return None;
        }
        self.sample_at_ns = now_ns + SAMPLE_NS;
        Some((self.random.bits() % queued as u64) as usize)
    }

    fn ask(&mut self, socket: usize, place: u64, before_ns: u64, stamped_ns: u64) {
        let Some(next) = self.ids.get_mut(socket) else { return };
        let id = *next;
        *next = next.wrapping_add(1);
        self.pending = Some(Pending { socket, id, place, before_ns, stamped_ns, turns: 0 });
    }

    /// Reads the stamp that is awaited, once it is there. `idle`: nothing came, so stamps that nobody awaits any more,
    /// which would wake the worker again and again, are read too.
    pub(super) fn collect(&mut self, sockets: &ServerSet, served: &mut Served, idle: bool) {
        if let Some(mut pending) = self.pending.take() {
            if !self.read(sockets, pending.socket, Some(&pending), served) {
                pending.turns += 1;
                if pending.turns < PATIENCE {
                    self.pending = Some(pending);
                } else {
                    self.sample_at_ns = unix_now() + RETRY_NS;
                }
            }
        } else if idle {
            for socket in 0..sockets.count() {
                self.read(sockets, socket, None, served);
            }
        }
    }

    /// Reads what one socket has; returns whether the awaited one is settled.
    fn read(&mut self, sockets: &ServerSet, socket: usize, awaited: Option<&Pending>, served: &mut Served) -> bool {
        let Some(server) = sockets.nth(socket) else { return true };
        let Ok(stamps) = self.reader.read(server) else { return true };
        let mut settled = false;
        for stamp in stamps {
            match awaited {
                Some(pending) if pending.id == stamp.id => {
                    self.spacing.note(pending, stamp.unix_ns);
                    match stamp.unix_ns.checked_sub(pending.stamped_ns) {
                        Some(early_ns) if early_ns < STEP_NS => {
                            self.errors.record(early_ns);
                            served.tx_sampled += 1;
                        }
                        None if pending.stamped_ns - stamp.unix_ns < STEP_NS => {
                            self.spacing = Spacing::default();
                            served.tx_sampled += 1;
                            served.tx_late += 1;
                        }
                        _ => {}
                    }
                    settled = true;
                }
                // One given up, or asked for by the worker before: the numbers go on from there.
                _ => {
                    settled |= awaited.is_some_and(|pending| (stamp.id.wrapping_sub(pending.id) as i32) > 0);
                    if let Some(next) = self.ids.get_mut(socket) {
                        *next = stamp.id.wrapping_add(1);
                    }
                }
            }
        }
        settled
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

    fn note(&mut self, pending: &Pending, stamp_ns: u64) {
        let Some(took_ns) = stamp_ns.checked_sub(pending.before_ns) else { return };
        if pending.place < Self::LEAST_PLACE || took_ns > STEP_NS {
            return;
        }
        let each_ns = took_ns / pending.place;
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
        let pending = Pending { socket: 0, id: 0, place, before_ns: BEFORE, stamped_ns: BEFORE, turns: 0 };
        spacing.note(&pending, BEFORE + place * each_ns);
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
}
