//! One server of streams in the virtual world, and a protocol to ask it in: made for these tests, framed as DNS is.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use flatout_net::CloseMode;
use flatout_wire::{
    Client, DropReason, Frame, InvalidOption, Link, Protocol, ProtocolOption, Reply, RequestContext, Responder, Table,
};

use super::fake::{FakeClock, World};
use super::fake_streams::{Act, FakeStreams, PeerAction, Reported};
use super::rig::MS;
use crate::answer_table::AnswerTable;
use crate::published::Published;
use crate::server::{Answering, Served};

/// Two bytes of length, then a message: `e…` comes back as it is, `g` with a length and a byte grows, `?` is refused.
pub(super) struct Framed;

#[derive(Clone)]
pub(super) struct FramedEnd;

impl Protocol for Framed {
    const NAME: &'static str = "framed";
    const DATAGRAM_MAX: usize = 512;
    const TALLIES: &'static [&'static str] = &[];
    const LINKS: &'static [Link] = &[Link::Tcp];
    const PREFIX: usize = 2;
    const AMPLIFIES: bool = true;
    type Client = FramedEnd;
    type Responder = FramedEnd;
    type Decoder = flatout_wire::NoDecoder;

    fn client(_: &[ProtocolOption<'_>], _: u64) -> Result<FramedEnd, InvalidOption> {
        Ok(FramedEnd)
    }

    fn responder(_: &[ProtocolOption<'_>]) -> Result<FramedEnd, InvalidOption> {
        Ok(FramedEnd)
    }

    fn prefix(length: usize, out: &mut [u8]) {
        out.copy_from_slice(&(length as u16).to_be_bytes());
    }
}

impl Client for FramedEnd {
    fn longest(&self) -> usize {
        512
    }

    fn fill(&self, _: u32, _: u32, _: &[u8], _: &mut [u8]) -> usize {
        0
    }

    fn read(&self, _: u32, _: &[u8]) -> Reply {
        Reply::Unmatched
    }

    fn recognise(&self, _: u32, _: &[u8]) -> Option<u32> {
        None
    }
}

impl Responder for FramedEnd {
    fn answer(
        &self,
        _: Table<'_>,
        context: &RequestContext,
        packet: &mut [u8],
        length: usize,
    ) -> Result<usize, DropReason> {
        assert!(context.is_stream() && context.local_port == 4242 && context.received_unix_ns == context.now_unix_ns);
        assert!(context.received_unix_ns > 1_800_000_000_000_000_000, "Unix time, not the clock's");
        match packet[0] {
            b'g' => {
                let (grown, byte) = (self.room(Table::default(), &packet[..length]), packet[3]);
                packet[..grown].fill(byte);
                Ok(grown)
            }
            b'?' => Err(DropReason::NotARequest),
            _ => Ok(length),
        }
    }

    fn room(&self, _: Table<'_>, request: &[u8]) -> usize {
        match request {
            [b'g', high, low, _] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => request.len(),
        }
    }

    fn frame(&self, bytes: &[u8]) -> Frame {
        let Some(prefix) = bytes.first_chunk::<2>() else { return Frame::Short { need: 2 } };
        let end = 2 + usize::from(u16::from_be_bytes(*prefix));
        match end {
            2 => Frame::Broken,
            end if end > bytes.len() => Frame::Short { need: end },
            end => Frame::Whole { start: 2, end },
        }
    }
}

/// No frames at all: what comes goes back as it is, but `!` wants to grow where nothing may.
pub(super) struct Plain;

#[derive(Clone)]
pub(super) struct PlainEnd;

impl Protocol for Plain {
    const NAME: &'static str = "plain";
    const DATAGRAM_MAX: usize = 512;
    const TALLIES: &'static [&'static str] = &[];
    const LINKS: &'static [Link] = &[Link::Tcp];
    type Client = FramedEnd;
    type Responder = PlainEnd;
    type Decoder = flatout_wire::NoDecoder;

    fn client(_: &[ProtocolOption<'_>], _: u64) -> Result<FramedEnd, InvalidOption> {
        Ok(FramedEnd)
    }

    fn responder(_: &[ProtocolOption<'_>]) -> Result<PlainEnd, InvalidOption> {
        Ok(PlainEnd)
    }
}

impl Responder for PlainEnd {
    fn answer(&self, _: Table<'_>, _: &RequestContext, packet: &mut [u8], length: usize) -> Result<usize, DropReason> {
        assert_eq!(packet.len(), length, "no room to grow into");
        Ok(if packet[0] == b'!' { length + 1 } else { length })
    }

    fn frame(&self, bytes: &[u8]) -> Frame {
        Frame::Whole { start: 0, end: bytes.len() }
    }
}

/// A message with its length before it.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// Number `n` of many requests that are told apart.
pub(super) fn request(n: usize) -> Vec<u8> {
    framed(format!("e{n:05}").as_bytes())
}

/// A request for an answer of so many bytes.
pub(super) fn grow(length: u16, byte: u8) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    framed(&[b'g', high, low, byte])
}

/// What far ends will do to the server, and for how long.
pub(super) struct Scene {
    actions: Vec<(u64, usize, PeerAction)>,
    until: u64,
    capacity: usize,
    block: usize,
    fails_from: Option<u64>,
    idle_ms: Option<u32>,
    pending_most: Option<usize>,
}

/// What became of it.
pub(super) struct Heard {
    /// What each far end has read.
    pub(super) bytes: Vec<Vec<u8>>,
    /// Which connections the server ended, how and when.
    pub(super) closed: Vec<(usize, CloseMode, u64)>,
    pub(super) served: Served,
    pub(super) turns: u64,
    /// How its thread ended.
    pub(super) ended: Result<(), String>,
}

impl Heard {
    fn far(&self, far: usize) -> &[u8] {
        self.bytes.get(far).map_or(&[], Vec::as_slice)
    }

    /// Far end `far` has read this and nothing else.
    pub(super) fn expect(&self, far: usize, bytes: &[u8]) {
        let read = self.far(far);
        let differ = read.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(read.len().min(bytes.len()));
        assert!(read == bytes, "far end {far}: {} bytes of {}, alike up to {differ}", read.len(), bytes.len());
    }
}

impl Scene {
    pub(super) fn lasting(ms: u64) -> Self {
        Self {
            actions: Vec::new(),
            until: ms * MS,
            capacity: 100_000,
            block: 65_535 + 2,
            fails_from: None,
            idle_ms: None,
            pending_most: None,
        }
    }

    /// From then on, in ms, every turn fails.
    pub(super) fn failing_from(self, ms: u64) -> Self {
        Self { fails_from: Some(ms * MS), ..self }
    }

    /// Connections may be idle for so long.
    pub(super) fn with_idle_timeout(self, ms: u32) -> Self {
        Self { idle_ms: Some(ms), ..self }
    }

    /// The server keeps no more than that of cut messages.
    pub(super) fn with_pending(self, most: usize) -> Self {
        Self { pending_most: Some(most), ..self }
    }

    pub(super) fn with_block(self, block: usize) -> Self {
        Self { block, ..self }
    }

    pub(super) fn with_capacity(self, capacity: usize) -> Self {
        Self { capacity, ..self }
    }

    /// At that time, in ms, far end `far` does this.
    pub(super) fn at(mut self, ms: u64, far: usize, action: PeerAction) -> Self {
        self.actions.push((ms * MS, far, action));
        self
    }

    /// Far end 0 connects and sends these pieces, one each ms.
    pub(super) fn sending<'a>(self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let begun = self.at(1, 0, PeerAction::Connect);
        pieces
            .into_iter()
            .enumerate()
            .fold(begun, |scene, (n, piece)| scene.at(2 + n as u64, 0, PeerAction::Send(piece.to_vec())))
    }

    pub(super) fn play(self) -> Heard {
        self.play_as::<Framed>()
    }

    pub(super) fn play_as<P: Protocol>(self) -> Heard {
        let world = World::new(0, None);
        let ready = Rc::new(RefCell::new((Vec::<Vec<u8>>::new(), Vec::new())));
        let reported = Rc::clone(&ready);
        let script = move |Reported { at, far, act }: Reported<'_>| {
            let (bytes, closed) = &mut *reported.borrow_mut();
            match act {
                Act::Bytes(more) => {
                    bytes.resize_with(bytes.len().max(far + 1), Vec::new);
                    bytes[far].extend_from_slice(more);
                }
                Act::Close(how) => closed.push((far, how, at)),
                Act::Open(_) => panic!("a server opens no connections"),
            }
            Vec::new()
        };
        let mut streams = FakeStreams::new(Rc::clone(&world), self.capacity, script);
        (streams.block, streams.fails_from) = (self.block, self.fails_from);
        self.actions.into_iter().for_each(|(at, far, action)| streams.plan(at, far, action));
        let (stop, published) = (Arc::<AtomicBool>::default(), Published::<Served>::default());
        streams.stop_at(self.until, &stop);
        let (turns, answer_table) = (Rc::clone(&streams.turns), Arc::<AnswerTable>::default());
        let responder = P::responder(&[]).unwrap();
        let clock = FakeClock(world);
        let mut worker = Answering::<P, _, _>::new(streams, clock, responder, answer_table, 4242, self.idle_ms);
        if let Some(most) = self.pending_most {
            worker.bound_pending(most);
        }
        let ended = worker.run(&stop, &published);
        let (bytes, closed) = ready.take();
        Heard { bytes, closed, served: published.read(), turns: turns.get(), ended }
    }
}
