//! Byte streams in the virtual world: this machine's end is [`Streams`], the far ends are a script.
//!
//! Method: whatever this end does is told to the script, which says what that far end does and how much later; deeds
//! land in virtual time, and time passes only in [`Streams::turn`]. A far end that does not read lets its window fill,
//! then the connection's block, and then there is no room. Places are taken again at once, with a new generation.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flatout_net::{
    CallError, CloseMode, CloseReason, Conn, Event, RecvBuf, StreamStats, Streams, WriteError, WriteGuard,
};

use super::fake::World;

/// What this end has done on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act<'a> {
    /// It wants to connect: `Accept` or `Fail` answers, no deed lets it wait.
    Open(SocketAddr),
    /// It has sent these bytes, and the far end has read them.
    Bytes(&'a [u8]),
    /// It has ended the connection.
    Close(CloseMode),
}

/// What the script is told. Far ends are numbered in the order in which their connections were wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported<'a> {
    pub(super) at: u64,
    pub(super) far: usize,
    pub(super) act: Act<'a>,
}

/// What a far end does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PeerAction {
    /// It connects to us.
    Connect,
    /// It lets the connection stand that we open.
    Accept,
    /// The connection ends, or never stands.
    Fail(CloseReason),
    /// It sends bytes, which arrive in one piece.
    Send(Vec<u8>),
    /// It reads what we send, or from now on does not.
    Read(bool),
    /// It does not read, but for so many bytes more.
    Window(usize),
    /// Its connection cannot be accepted.
    Lost,
}

#[derive(Debug)]
struct Far {
    conn: Option<Conn>,
    reads: bool,
    window: usize,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    far: usize,
    live: bool,
    standing: bool,
    paused: bool,
    /// Somebody was told that there is no room.
    refused: bool,
    block: Vec<u8>,
    length: u32,
    /// What came while it was paused.
    held: VecDeque<Vec<u8>>,
}

/// The streams; see the module.
pub(super) struct FakeStreams<F> {
    world: Rc<World>,
    script: F,
    actions: BinaryHeap<Reverse<(u64, u64, usize)>>,
    what: Vec<PeerAction>,
    fars: Vec<Far>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    dirty: Vec<u32>,
    events: VecDeque<Event>,
    carried: StreamStats,
    /// How many turns there were, for whoever asks later.
    pub(super) turns: Rc<Cell<u64>>,
    stop: Option<(u64, Arc<AtomicBool>)>,
    meanwhile: Vec<(u64, Box<dyn FnOnce()>)>,
    capacity: usize,
    /// What each turn costs.
    pub(super) turn_cost: u64,
    /// How much may wait to leave on a connection before there is no room.
    pub(super) block: usize,
    /// How much a far end takes in that does not read.
    pub(super) window: usize,
    /// From then on every turn fails.
    pub(super) fails_from: Option<u64>,
}

impl<F: FnMut(Reported<'_>) -> Vec<(u64, PeerAction)>> FakeStreams<F> {
    pub(super) fn new(world: Rc<World>, capacity: usize, script: F) -> Self {
        Self {
            world,
            script,
            actions: BinaryHeap::new(),
            what: Vec::new(),
            fars: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            events: VecDeque::new(),
            carried: StreamStats::default(),
            turns: Rc::default(),
            stop: None,
            meanwhile: Vec::new(),
            capacity,
            turn_cost: 1_000,
            block: 65_535 + 2,
            window: 4_096,
            fails_from: None,
        }
    }

    /// Far end `far` will do this at that time, whatever it is told.
    pub(super) fn plan(&mut self, at: u64, far: usize, action: PeerAction) {
        while self.fars.len() <= far {
            self.fars.push(Far { conn: None, reads: true, window: self.window });
        }
        self.what.push(action);
        self.actions.push(Reverse((at, self.what.len() as u64 - 1, far)));
    }

    /// Raises `flag` once that time has come.
    pub(super) fn stop_at(&mut self, at: u64, flag: &Arc<AtomicBool>) {
        self.stop = Some((at, Arc::clone(flag)));
    }

    /// Does this once that time has come: for what others do meanwhile.
    pub(super) fn meanwhile(&mut self, at: u64, what: Box<dyn FnOnce()>) {
        self.meanwhile.push((at, what));
    }

    fn slot(&mut self, conn: Conn) -> Option<&mut Slot> {
        self.slots.get_mut(conn.index as usize).filter(|slot| slot.live && slot.generation == conn.generation)
    }

    fn tell(&mut self, far: usize, act: Act<'_>) {
        let at = self.world.now();
        for (delay, action) in (self.script)(Reported { at, far, act }) {
            self.plan(at + delay, far, action);
        }
    }

    fn take_place(&mut self, far: usize, standing: bool) -> Option<Conn> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < self.capacity => {
                self.slots.push(Slot::default());
                self.slots.len() as u32 - 1
            }
            None => return None,
        };
        let generation = self.slots[slot as usize].generation + 1;
        self.slots[slot as usize] = Slot { generation, far, live: true, standing, ..Slot::default() };
        let conn = Conn { index: slot, generation };
        self.fars[far].conn = Some(conn);
        Some(conn)
    }

    fn free_place(&mut self, conn: Conn) {
        if let Some(slot) = self.slot(conn) {
            slot.live = false;
            let far = slot.far;
            self.fars[far].conn = None;
            self.free.push(conn.index);
        }
    }

    /// Hands over what waits to leave, as far as it is read.
    fn flush(&mut self) {
        for at in std::mem::take(&mut self.dirty) {
            self.flush_place(at);
        }
    }

    fn flush_place(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        if !slot.live {
            return;
        }
        let conn = Conn { index: at, generation: slot.generation };
        if !slot.paused {
            while let Some(bytes) = slot.held.pop_front() {
                self.carried.bytes_in += bytes.len() as u64;
                self.events.push_back(Event::Received(conn, RecvBuf::owned(bytes)));
            }
        }
        let far = &mut self.fars[slot.far];
        let length = slot.length as usize;
        let count = if far.reads { length } else { length.min(far.window) };
        if !far.reads {
            far.window -= count;
        }
        let bytes: Vec<u8> = slot.block.drain(..count).collect();
        slot.length -= count as u32;
        if slot.refused && slot.length == 0 {
            slot.refused = false;
            self.events.push_back(Event::Writable(conn));
        }
        let far = slot.far;
        if !bytes.is_empty() {
            self.carried.bytes_out += bytes.len() as u64;
            self.tell(far, Act::Bytes(&bytes));
        }
    }

    /// Lets happen what is due.
    fn land(&mut self) {
        let now = self.world.now();
        while self.actions.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, serial, far))) = self.actions.pop() else { return };
            let action = std::mem::replace(&mut self.what[serial as usize], PeerAction::Lost);
            self.carry_out(far, action);
        }
        if let Some((at, flag)) = &self.stop
            && *at <= now
        {
            flag.store(true, Ordering::Relaxed);
        }
        for (_, what) in self.meanwhile.extract_if(.., |(at, _)| *at <= now) {
            what();
        }
    }

    fn carry_out(&mut self, far: usize, action: PeerAction) {
        match (action, self.fars[far].conn) {
            (PeerAction::Connect, _) => match self.take_place(far, true) {
                Some(conn) => self.events.push_back(Event::Accepted(conn)),
                None => self.carried.accept_errors += 1,
            },
            (PeerAction::Lost, _) => self.carried.accept_errors += 1,
            (PeerAction::Read(reads), conn) => {
                self.fars[far].reads = reads;
                self.fars[far].window = self.window;
                self.dirty.extend(conn.map(|conn| conn.index));
            }
            (PeerAction::Window(count), conn) => {
                self.fars[far].reads = false;
                self.fars[far].window += count;
                self.dirty.extend(conn.map(|conn| conn.index));
            }
            (PeerAction::Accept, Some(conn)) => {
                if let Some(slot) = self.slot(conn) {
                    slot.standing = true;
                    self.events.push_back(Event::Opened(conn));
                }
            }
            (PeerAction::Fail(reason), Some(conn)) => {
                // Bytes that came before it are told first; until then the name lives.
                self.flush_place(conn.index);
                self.fars[far].conn = None;
                self.events.push_back(Event::Closed(conn, reason));
            }
            (PeerAction::Send(bytes), Some(conn)) => {
                if let Some(slot) = self.slot(conn) {
                    slot.held.push_back(bytes);
                    self.dirty.push(conn.index);
                }
            }
            // The connection is over: what was still to come is lost, as on a real one.
            (PeerAction::Accept | PeerAction::Fail(_) | PeerAction::Send(_), None) => {}
        }
    }
}

impl<F: FnMut(Reported<'_>) -> Vec<(u64, PeerAction)>> Streams for FakeStreams<F> {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn open(&mut self, _: Option<SocketAddr>, to: SocketAddr) -> io::Result<Conn> {
        let far = self.fars.len();
        self.fars.push(Far { conn: None, reads: true, window: self.window });
        let conn = self
            .take_place(far, false)
            .ok_or_else(|| io::Error::new(io::ErrorKind::StorageFull, "all places taken"))?;
        self.tell(far, Act::Open(to));
        Ok(conn)
    }

    fn turn(&mut self, wait: Duration) -> io::Result<()> {
        if self.fails_from.is_some_and(|from| self.world.now() >= from) {
            return Err(CallError { call: "epoll_wait", errno: 1 }.into());
        }
        self.carried.calls += 1;
        self.turns.set(self.carried.calls);
        self.world.pass(self.turn_cost);
        let until = self.world.now() + wait.as_nanos() as u64;
        loop {
            self.flush();
            self.land();
            // What has landed may be bytes or a reader that woke up.
            self.flush();
            let now = self.world.now();
            if !self.events.is_empty() || now >= until {
                return Ok(());
            }
            let next = self.actions.peek().map_or(until, |Reverse((at, ..))| (*at).min(until));
            self.world.reach(next.max(now));
        }
    }

    fn event(&mut self) -> Option<Event> {
        loop {
            let event = self.events.pop_front()?;
            let (Event::Opened(conn)
            | Event::Accepted(conn)
            | Event::Received(conn, _)
            | Event::Writable(conn)
            | Event::Closed(conn, _)) = event;
            // After a close nothing follows.
            if self.slot(conn).is_some() {
                if let Event::Closed(..) = event {
                    self.free_place(conn);
                }
                return Some(event);
            }
        }
    }

    fn reserve(&mut self, conn: Conn, need: usize) -> Result<WriteGuard<'_>, WriteError> {
        assert!(need <= (64 << 10) + 2, "a message and its prefix");
        let limit = self.block;
        let Some(slot) = self.slot(conn).filter(|slot| slot.standing) else { return Err(WriteError::Closed) };
        let length = slot.length as usize;
        if length > 0 && length + need > limit {
            slot.refused = true;
            return Err(WriteError::Full);
        }
        self.dirty.push(conn.index);
        let slot = &mut self.slots[conn.index as usize];
        // What an uncommitted slip has left behind is overwritten, as in a real block.
        slot.block.resize(length + need, 0xa5);
        Ok(WriteGuard::new(&mut slot.block[length..], &mut slot.length))
    }

    fn pause(&mut self, conn: Conn) {
        if let Some(slot) = self.slot(conn) {
            slot.paused = true;
        }
    }

    fn resume(&mut self, conn: Conn) {
        if let Some(slot) = self.slot(conn) {
            slot.paused = false;
            self.dirty.push(conn.index);
        }
    }

    fn is_sending(&self, conn: Conn) -> bool {
        let slot = self.slots.get(conn.index as usize);
        slot.is_some_and(|slot| slot.live && slot.generation == conn.generation && slot.length > 0)
    }

    fn close(&mut self, conn: Conn, how: CloseMode) {
        let Some(slot) = self.slot(conn) else { return };
        let far = slot.far;
        let mut remaining = std::mem::take(&mut slot.block);
        remaining.truncate(slot.length as usize);
        self.free_place(conn);
        if how == CloseMode::Flush && !remaining.is_empty() {
            self.carried.bytes_out += remaining.len() as u64;
            self.tell(far, Act::Bytes(&remaining));
        }
        self.tell(far, Act::Close(how));
    }

    fn stats(&self) -> StreamStats {
        self.carried
    }

    fn bytes(&self) -> usize {
        self.slots.iter().map(|slot| slot.block.capacity()).sum()
    }

    fn name(&self) -> &'static str {
        "fake"
    }
}
