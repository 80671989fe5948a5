//! When answers leave: their transmit stamps, and how far these are from the kernel's.
//!
//! Method: the answers of a batch leave one behind the other, some in one call. Each is stamped with the clock as read
//! before the call, plus its place times a lower bound of what the kernel needs for one. Now and then the kernel is asked
//! for its own stamp of one answer: the differences are a live histogram, and the bound comes from them. A stamp that
//! turns out to be late takes the bound away. Some protocols are also told when an answer left: interleaved NTP.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use flatout_net::{Batch, ServerSet, TxStampReader};
use flatout_wire::{AnswerStamps, Responder};

use super::Served;
use super::stamp_numbers::{RETRY_NS, StampNumbers};
use crate::clock::{unique, unix_now};
use crate::histogram::Durations;
use crate::pace::Random;

/// Answers sent by one call: the last of them is as early as all before it need.
const AT_ONCE: usize = 32;
/// Between two samples, ns.
const SAMPLE_NS: u64 = 1_000_000;
/// How often samples go to the shared histogram, ns.
const SHARE_NS: u64 = 500_000_000;
/// Further apart: the clock was set in between.
const STEP_NS: u64 = 1_000_000_000;

/// All workers' differences between the kernel's stamps and those in answers, ns.
pub(super) type SharedErrors = Arc<Mutex<Durations>>;

/// What a stamp of the kernel is for.
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
    /// Of each socket.
    numbers: Vec<StampNumbers<Purpose>>,
    /// The answers of one call whose stamps are asked for.
    asked: Vec<(usize, Purpose)>,
    sample_at_ns: u64,
    share_at_ns: u64,
    spacing: Spacing,
    random: Random,
    errors: Durations,
    shared: SharedErrors,
}

impl Transmit {
    /// For a worker's sockets; `shared`: which of them others read too, so that stamps could be these others'. A kernel
    /// that refuses to stamp leaves the stamps without a histogram.
    pub(super) fn new(sockets: &ServerSet, shared: &[bool], slots: usize, errors: SharedErrors) -> Self {
        let stamped = |n: usize| {
            let own = !shared.get(n).copied().unwrap_or(true);
            StampNumbers::new(own && sockets.nth(n).is_some_and(|server| server.enable_tx_stamps().is_ok()))
        };
        Self {
            reader: TxStampReader::new(),
            queued: Vec::with_capacity(slots),
            numbers: (0..sockets.count()).map(stamped).collect(),
            asked: Vec::with_capacity(AT_ONCE),
            sample_at_ns: 0,
            share_at_ns: 0,
            spacing: Spacing::default(),
            random: Random::new(unique()),
            errors: Durations::new(),
            shared: errors,
        }
    }

    /// Another worker has taken the sockets over: stamps that this one asked for would confuse it.
    pub(super) fn retire(&mut self) {
        self.numbers.iter_mut().for_each(StampNumbers::retire);
    }

    /// Notes what the answer that was queued last needs.
    pub(super) fn queue(&mut self, stamps: AnswerStamps, served: &mut Served) {
        if self.queued.len() < self.queued.capacity() {
            self.queued.push(stamps);
            served.interleaved += u64::from(!stamps.at_send);
        }
    }

    /// Stamps and sends all queued answers; returns how many were sent. Those behind one that fails are stamped again:
    /// they leave earlier than in one call.
    pub(super) fn send(&mut self, sockets: &ServerSet, batch: &mut Batch, responder: &impl Responder) -> usize {
        let queued = batch.answers();
        let (mut first, mut sent, mut chosen) = (0, 0, None);
        while first < queued {
            let (count, before_ns) = (AT_ONCE.min(queued - first), unix_now());
            if first == 0 {
                chosen = self.chosen(queued, before_ns);
            }
            let call = first..first + count;
            self.stamp(call, before_ns, (sockets.current(), chosen), batch, responder);
            let left = sockets.server().map_or(0, |server| server.send_some(batch, first, count));
            self.note(sockets.current(), first + left, before_ns, batch);
            sent += left;
            first += left + usize::from(left < count);
        }
        batch.clear_answers();
        self.queued.clear();
        sent
    }

    /// Stamps the answers of one call, and asks the kernel for its stamps of those that need them or are chosen.
    fn stamp(
        &mut self,
        call: Range<usize>,
        before_ns: u64,
        (socket, chosen): (usize, Option<usize>),
        batch: &mut Batch,
        responder: &impl Responder,
    ) {
        let (first, spacing_ns) = (call.start, self.spacing.bound_ns(before_ns));
        for n in call {
            let stamps = self.queued.get(n).copied().unwrap_or_default();
            let place = (n - first) as u64;
            let stamped_ns = before_ns + place * spacing_ns;
            if stamps.at_send {
                responder.stamp(stamped_ns, batch.queued(n));
            }
            let sampled = chosen == Some(n) && stamps.at_send;
            let sample = sampled.then_some(Purpose::Sample(Sample { place, before_ns, stamped_ns }));
            if let Some(purpose) = stamps.tell.map(Purpose::Tell).or(sample)
                && self.numbers.get(socket).is_some_and(|numbers| numbers.may_ask(before_ns, self.asked.len()))
            {
                batch.request_stamp(n);
                self.asked.push((n, purpose));
            }
        }
    }

    /// Notes that all answers of a call before the one at `end` left. That one, if there is one, failed; those behind it
    /// were not tried.
    fn note(&mut self, socket: usize, end: usize, before_ns: u64, batch: &mut Batch) {
        let Some(numbers) = self.numbers.get_mut(socket) else { return };
        for (n, purpose) in self.asked.drain(..) {
            match n.cmp(&end) {
                Ordering::Less => numbers.left(purpose, before_ns),
                Ordering::Equal => numbers.lose(before_ns),
                Ordering::Greater => batch.withdraw_stamp(n),
            }
        }
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

    /// Reads the stamps that are awaited, once they are there. `idle`: nothing came, so what else the sockets have, which
    /// would wake the worker again and again, is read too.
    pub(super) fn collect(&mut self, sockets: &ServerSet, responder: &impl Responder, served: &mut Served, idle: bool) {
        for socket in 0..self.numbers.len() {
            let wanted = |numbers: &StampNumbers<Purpose>| idle || numbers.waits();
            while self.numbers.get(socket).is_some_and(wanted) && self.read(sockets, socket, responder, served) {}
            if let Some(numbers) = self.numbers.get_mut(socket)
                && numbers.turn()
            {
                numbers.give_up(unix_now());
            }
        }
    }

    /// Reads what one socket has; returns whether that was anything.
    fn read(&mut self, sockets: &ServerSet, socket: usize, responder: &impl Responder, served: &mut Served) -> bool {
        let (Some(server), Some(numbers)) = (sockets.nth(socket), self.numbers.get_mut(socket)) else { return false };
        let Ok(stamps) = self.reader.read(server) else { return false };
        for stamp in stamps {
            match numbers.take(stamp) {
                Some(Purpose::Tell(key)) => responder.left(key, stamp.unix_ns),
                Some(Purpose::Sample(sample)) => {
                    self.spacing.note(&sample, stamp.unix_ns);
                    compare(&sample, stamp.unix_ns, &mut self.errors, &mut self.spacing, served);
                }
                None => {}
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
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    use flatout_net::{Meta, Server};
    use flatout_wire::{RequestContext, Table};

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

    /// Keeps what it is told of departures.
    #[derive(Clone)]
    struct Told(Arc<Mutex<Vec<(u64, u64)>>>);

    impl Responder for Told {
        fn answer(
            &self,
            _: Table<'_>,
            _: &RequestContext,
            _: &mut [u8],
            length: usize,
        ) -> Result<usize, flatout_wire::DropReason> {
            Ok(length)
        }

        fn left(&self, key: u64, unix_ns: u64) {
            self.0.lock().unwrap().push((key, unix_ns));
        }
    }

    struct Rig {
        sockets: ServerSet,
        batch: Batch,
        transmit: Transmit,
        told: Told,
        client: UdpSocket,
        /// Of each answer that was to be told: the clock before and after.
        left: Vec<(u64, u64)>,
    }

    impl Rig {
        fn new(shared: bool) -> Self {
            let server = Server::bind("127.0.0.1:0".parse().unwrap(), Duration::from_secs(5)).unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(server.address().unwrap()).unwrap();
            let sockets = ServerSet::new(vec![Arc::new(server)], Duration::from_secs(5));
            let transmit = Transmit::new(&sockets, &[shared], 8, Arc::default());
            let (batch, told) = (Batch::new(8, 64, true), Told(Arc::default()));
            Self { sockets, batch, transmit, told, client, left: Vec::new() }
        }

        /// Sends an answer that is to be told, behind one to nowhere where there is `failing`: whether that was to be told
        /// too; and reads stamps where `reads`.
        fn answer(&mut self, failing: Option<bool>, reads: bool) {
            self.client.send(b"request").unwrap();
            assert_eq!(self.sockets.receive(&mut self.batch).unwrap(), 1);
            self.batch.deliver(1, b"from nowhere", Meta::default());
            let mut served = Served::default();
            let nowhere = failing.map(|told| (1, told.then_some(u64::MAX)));
            for (slot, tell) in nowhere.into_iter().chain([(0, Some(self.left.len() as u64))]) {
                self.batch.answer(slot, 7);
                self.transmit.queue(AnswerStamps { at_send: true, tell }, &mut served);
            }
            let before = unix_now();
            assert_eq!(self.transmit.send(&self.sockets, &mut self.batch, &self.told), 1);
            self.left.push((before, unix_now()));
            if reads {
                self.transmit.collect(&self.sockets, &self.told, &mut served, false);
            }
        }

        /// How many were told, each with its own time.
        fn told(&self) -> usize {
            let told = self.told.0.lock().unwrap();
            for (key, at) in told.iter() {
                let (before, after) = self.left[*key as usize];
                assert!((before..=after).contains(at), "number {key} of {}: {at}", self.left.len());
            }
            told.len()
        }
    }

    #[test]
    fn an_answer_that_fails_takes_no_other_s_stamp() {
        let mut rig = Rig::new(false);
        let begun = Instant::now();
        while rig.told() < 10 {
            assert!(begun.elapsed() < Duration::from_secs(5));
            rig.answer(None, true);
        }
        for told in 11..20 {
            rig.answer(Some(false), true);
            assert_eq!(rig.told(), told, "one that failed and was not to be told takes no number");
        }
        for reads in [true, false] {
            let before = rig.told();
            rig.answer(Some(true), reads);
            rig.answer(None, reads);
            while rig.told() < before + 10 {
                assert!(begun.elapsed() < Duration::from_secs(5));
                rig.answer(None, true);
            }
        }
    }

    #[test]
    fn nothing_is_asked_on_a_socket_that_others_read() {
        let mut rig = Rig::new(true);
        (0..20).for_each(|_| rig.answer(None, true));
        assert_eq!(rig.told(), 0);
        assert!(rig.transmit.reader.read(rig.sockets.nth(0).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn one_that_was_replaced_asks_for_nothing() {
        let mut rig = Rig::new(false);
        rig.answer(None, true);
        rig.transmit.retire();
        (0..20).for_each(|_| rig.answer(None, true));
        assert_eq!(rig.told(), 0);
    }
}
