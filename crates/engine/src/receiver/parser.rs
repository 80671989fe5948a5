//! Splits what has arrived into messages: valid ones by slot, malformed ones by reason, statistics requests apart.
//!
//! Method: right messages that lie side by side are one run, so that they can be copied at once; as a rule that is all
//! of an arrival. Of each arrival the first right message tells how long it was under way.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::Range;

use flatout_net::{Peer, ReceiveRing};
use flatout_wire::Decode;
use flatout_wire::receiver_stats::{LENGTH, StatsRequest};

use super::sequence::SequenceTracker;
use super::sources::{AtHand, UNKNOWN};
use super::stats::{Counted, ReceiverStats};
use crate::histogram::LONGEST_NS;
use crate::queue::Run;

/// Questions answered of one batch.
const QUESTIONS: usize = 16;
/// Delays kept until the histogram is free.
const DELAYS: usize = 4096;
/// Where a datagram came from that has no address.
const NOWHERE: Peer = Peer { address: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)), asked: None };

/// Right messages of one arrival, side by side.
struct Right {
    slot: usize,
    bytes: Range<usize>,
    arrived: u64,
    source: u32,
}

/// One worker's judgement and what it has counted.
pub(super) struct Parser<T> {
    number: usize,
    decoder: T,
    size: usize,
    /// Whether messages have numbers, and whether they name their senders.
    tracked: bool,
    named: bool,
    /// Whether questions are answered.
    tells: bool,
    pub(super) counted: Counted,
    at_hand: AtHand,
    right: Vec<Right>,
    /// Messages in `right`.
    count: usize,
    pub(super) asked: Vec<(StatsRequest, Peer)>,
    pub(super) delays: Vec<u64>,
}

/// Where an arrival came from and when.
#[derive(Clone, Copy)]
struct Origin {
    peer: Peer,
    /// The peer's number, from its first right message on: who only asks or sends what is wrong takes none.
    source: Option<u32>,
    arrived: u64,
}

impl Origin {
    /// The number of its sender.
    #[inline]
    fn number(&mut self, at_hand: &mut AtHand, stats: &ReceiverStats, counted: &mut Counted) -> u32 {
        if let Some(source) = self.source {
            return source;
        }
        let (source, new) = at_hand.number(&stats.sources, self.peer);
        counted.sources += u64::from(new);
        self.source = Some(source);
        source
    }
}

impl<T: Decode> Parser<T> {
    pub(super) fn new(number: usize, decoder: T, tells: bool, slots: usize) -> Self {
        Self {
            number,
            size: decoder.size().max(1),
            tracked: decoder.sequence_bits() > 0,
            named: decoder.carries_sender_id(),
            decoder,
            tells,
            counted: Counted::default(),
            at_hand: AtHand::new(),
            right: Vec::with_capacity(4 * slots),
            count: 0,
            asked: Vec::with_capacity(QUESTIONS),
            delays: Vec::with_capacity(DELAYS),
        }
    }

    /// Whether there may be no room for the delays of another batch.
    pub(super) fn is_full_of_delays(&self, slots: usize) -> bool {
        self.delays.len() + slots > DELAYS
    }

    /// Judges what arrived in a slot and was read at `now`.
    pub(super) fn consider(
        &mut self,
        slot: usize,
        now: u64,
        arrivals: &ReceiveRing,
        stats: &ReceiverStats,
        tracker: &mut SequenceTracker,
    ) {
        let peer = arrivals.peer(slot).unwrap_or(NOWHERE);
        let mut from = Origin { peer, source: None, arrived: arrivals.stamp_unix_ns(slot).unwrap_or(now) };
        let bytes = arrivals.bytes(slot);
        self.counted.arrivals += 1;
        self.counted.bytes += arrivals.length(slot) as u64;
        // An empty datagram is a message too.
        let segment = if arrivals.segment(slot) == 0 { bytes.len().max(1) } else { arrivals.segment(slot) };
        let (mut begin, mut at, mut timed) = (0, 0, false);
        loop {
            let end = (at + segment).min(bytes.len());
            // Only the last piece may have another length than the others.
            let until = if segment == self.size { bytes.len() } else { end };
            let right = self.take_all(bytes.get(at..until).unwrap_or_default(), segment, &mut from, stats, tracker);
            if right == 0 {
                self.keep(slot, begin..at, from, arrivals, stats);
                self.look_at(bytes.get(at..end).unwrap_or_default(), peer);
                (begin, at) = (end, end);
            } else if !timed {
                timed = true;
                self.time(bytes.get(at..at + self.size).unwrap_or_default(), from.arrived);
            }
            at += right * self.size;
            if at >= bytes.len() {
                break;
            }
        }
        self.keep(slot, begin..at, from, arrivals, stats);
    }

    /// Takes right messages that lie end to end and begin at `bytes`, cut apart at `segment`; returns how many.
    #[inline]
    fn take_all(
        &mut self,
        bytes: &[u8],
        segment: usize,
        from: &mut Origin,
        stats: &ReceiverStats,
        tracker: &mut SequenceTracker,
    ) -> usize {
        let fits = segment == self.size || bytes.len() == self.size;
        // Only messages as long as a question could be one: they are looked at one by one.
        let alike = self.tells && self.size == LENGTH;
        let bytes = if alike { bytes.get(..LENGTH).unwrap_or_default() } else { bytes };
        if !fits || (alike && StatsRequest::read(bytes).is_some()) {
            return 0;
        }
        let Self { decoder, at_hand, counted, tracked, named, .. } = self;
        let right = decoder.decode_all(bytes, |taken| match (*tracked, *named) {
            (false, _) => {}
            (true, true) => tracker.follow(taken.sender, taken.sequence),
            (true, false) => match from.number(at_hand, stats, counted) {
                UNKNOWN => tracker.pass_over(),
                source => tracker.follow(source.into(), taken.sequence),
            },
        });
        if right > 0 {
            from.number(at_hand, stats, counted);
        }
        right
    }

    /// Counts what is no right message: a question, which is kept for later where any is answered, or something
    /// malformed.
    fn look_at(&mut self, message: &[u8], peer: Peer) {
        if let Some(question) = StatsRequest::read(message).filter(|_| self.tells) {
            // What is told per message must not depend on who asks.
            self.counted.bytes = self.counted.bytes.saturating_sub(LENGTH as u64);
            if self.asked.len() < QUESTIONS {
                self.asked.push((question, peer));
            }
            return;
        }
        if let Err(why) = self.decoder.decode(message)
            && let Some(count) = self.counted.malformed.get_mut(why as usize)
        {
            *count += 1;
        }
    }

    #[inline]
    fn time(&mut self, message: &[u8], arrived: u64) {
        match self.decoder.delay_ns(message, arrived).map(u64::try_from) {
            // Longer ones would all count as the longest: they tell of two clocks and of no way.
            Some(Ok(delay)) if delay <= LONGEST_NS && self.delays.len() < DELAYS => self.delays.push(delay),
            Some(Err(_)) => self.counted.ahead += 1,
            _ => {}
        }
    }

    /// Keeps a run of right messages, if it has any, until the batch is handed over.
    fn keep(&mut self, slot: usize, bytes: Range<usize>, from: Origin, arrivals: &ReceiveRing, stats: &ReceiverStats) {
        if bytes.is_empty() {
            return;
        }
        if self.right.len() == self.right.capacity() {
            self.hand_over(arrivals, stats);
        }
        self.count += bytes.len() / self.size;
        self.right.push(Right { slot, bytes, arrived: from.arrived, source: from.source.unwrap_or(UNKNOWN) });
    }

    /// Hands over what was right.
    pub(super) fn hand_over(&mut self, arrivals: &ReceiveRing, stats: &ReceiverStats) {
        if self.count > 0 {
            let runs = self.right.iter().map(|right| Run {
                bytes: arrivals.bytes(right.slot).get(right.bytes.clone()).unwrap_or_default(),
                arrived: right.arrived,
                source: right.source,
            });
            stats.queue.offer(self.number, runs, self.count);
        }
        self.right.clear();
        self.count = 0;
    }
}
