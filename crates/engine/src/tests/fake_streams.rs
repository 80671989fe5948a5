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

use flatout_net::{CloseMode, CloseReason, Conn, Event, RecvBuf, StreamStats, Streams, WriteError, WriteGuard};

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
pub(super) struct Told<'a> {
    pub(super) at: u64,
    pub(super) far: usize,
    pub(super) act: Act<'a>,
}

/// What a far end does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
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
    Take(usize),
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
struct Place {
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
    deeds: BinaryHeap<Reverse<(u64, u64, usize)>>,
    what: Vec<Deed>,
    fars: Vec<Far>,
    places: Vec<Place>,
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
}

impl<F: FnMut(Told<'_>) -> Vec<(u64, Deed)>> FakeStreams<F> {
    pub(super) fn new(world: Rc<World>, capacity: usize, script: F) -> Self {
        Self {
            world,
            script,
            deeds: BinaryHeap::new(),
            what: Vec::new(),
            fars: Vec::new(),
            places: Vec::new(),
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
        }
    }

    /// Far end `far` will do this at that time, whatever it is told.
    pub(super) fn plan(&mut self, at: u64, far: usize, deed: Deed) {
        while self.fars.len() <= far {
            self.fars.push(Far { conn: None, reads: true, window: self.window });
        }
        self.what.push(deed);
        self.deeds.push(Reverse((at, self.what.len() as u64 - 1, far)));
    }

    /// Raises `flag` once that time has come.
    pub(super) fn stop_at(&mut self, at: u64, flag: &Arc<AtomicBool>) {
        self.stop = Some((at, Arc::clone(flag)));
    }

    /// Does this once that time has come: for what others do meanwhile.
    pub(super) fn meanwhile(&mut self, at: u64, what: Box<dyn FnOnce()>) {
        self.meanwhile.push((at, what));
    }

    fn place(&mut self, conn: Conn) -> Option<&mut Place> {
        self.places.get_mut(conn.index as usize).filter(|place| place.live && place.generation == conn.generation)
    }

    fn tell(&mut self, far: usize, act: Act<'_>) {
        let at = self.world.now();
        for (delay, deed) in (self.script)(Told { at, far, act }) {
            self.plan(at + delay, far, deed);
        }
    }

    fn take_place(&mut self, far: usize, standing: bool) -> Option<Conn> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.places.len() < self.capacity => {
                self.places.push(Place::default());
                self.places.len() as u32 - 1
            }
            None => return None,
        };
        let generation = self.places[place as usize].generation + 1;
        self.places[place as usize] = Place { generation, far, live: true, standing, ..Place::default() };
        let conn = Conn { index: place, generation };
        self.fars[far].conn = Some(conn);
        Some(conn)
    }

    fn free_place(&mut self, conn: Conn) {
        if let Some(place) = self.place(conn) {
            place.live = false;
            let far = place.far;
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
        let place = &mut self.places[at as usize];
        if !place.live {
            return;
        }
        let conn = Conn { index: at, generation: place.generation };
        if !place.paused {
            while let Some(bytes) = place.held.pop_front() {
                self.carried.bytes_in += bytes.len() as u64;
                self.events.push_back(Event::Received(conn, RecvBuf::owned(bytes)));
            }
        }
        let far = &mut self.fars[place.far];
        let length = place.length as usize;
        let count = if far.reads { length } else { length.min(far.window) };
        if !far.reads {
            far.window -= count;
        }
        let bytes: Vec<u8> = place.block.drain(..count).collect();
        place.length -= count as u32;
        if place.refused && place.length == 0 {
            place.refused = false;
            self.events.push_back(Event::Writable(conn));
        }
        let far = place.far;
        if !bytes.is_empty() {
            self.carried.bytes_out += bytes.len() as u64;
            self.tell(far, Act::Bytes(&bytes));
        }
    }

    /// Lets happen what is due.
    fn land(&mut self) {
        let now = self.world.now();
        while self.deeds.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, serial, far))) = self.deeds.pop() else { return };
            let deed = std::mem::replace(&mut self.what[serial as usize], Deed::Lost);
            self.carry_out(far, deed);
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

    fn carry_out(&mut self, far: usize, deed: Deed) {
        match (deed, self.fars[far].conn) {
            (Deed::Connect, _) => match self.take_place(far, true) {
                Some(conn) => self.events.push_back(Event::Accepted(conn)),
                None => self.carried.accept_errors += 1,
            },
            (Deed::Lost, _) => self.carried.accept_errors += 1,
            (Deed::Read(reads), conn) => {
                self.fars[far].reads = reads;
                self.fars[far].window = self.window;
                self.dirty.extend(conn.map(|conn| conn.index));
            }
            (Deed::Take(count), conn) => {
                self.fars[far].reads = false;
                self.fars[far].window += count;
                self.dirty.extend(conn.map(|conn| conn.index));
            }
            (Deed::Accept, Some(conn)) => {
                if let Some(place) = self.place(conn) {
                    place.standing = true;
                    self.events.push_back(Event::Opened(conn));
                }
            }
            (Deed::Fail(reason), Some(conn)) => {
                // Bytes that came before it are told first; until then the name lives.
                self.flush_place(conn.index);
                self.fars[far].conn = None;
                self.events.push_back(Event::Closed(conn, reason));
            }
            (Deed::Send(bytes), Some(conn)) => {
                if let Some(place) = self.place(conn) {
                    place.held.push_back(bytes);
                    self.dirty.push(conn.index);
                }
            }
            // The connection is over: what was still to come is lost, as on a real one.
            (Deed::Accept | Deed::Fail(_) | Deed::Send(_), None) => {}
        }
    }
}

impl<F: FnMut(Told<'_>) -> Vec<(u64, Deed)>> Streams for FakeStreams<F> {
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
            let next = self.deeds.peek().map_or(until, |Reverse((at, ..))| (*at).min(until));
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
            if self.place(conn).is_some() {
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
        let Some(place) = self.place(conn).filter(|place| place.standing) else { return Err(WriteError::Closed) };
        let length = place.length as usize;
        if length > 0 && length + need > limit {
            place.refused = true;
            return Err(WriteError::Full);
        }
        self.dirty.push(conn.index);
        let place = &mut self.places[conn.index as usize];
        // What an uncommitted slip has left behind is overwritten, as in a real block.
        place.block.resize(length + need, 0xa5);
        Ok(WriteGuard::new(&mut place.block[length..], &mut place.length))
    }

    fn pause(&mut self, conn: Conn) {
        if let Some(place) = self.place(conn) {
            place.paused = true;
        }
    }

    fn resume(&mut self, conn: Conn) {
        if let Some(place) = self.place(conn) {
            place.paused = false;
            self.dirty.push(conn.index);
        }
    }

    fn close(&mut self, conn: Conn, how: CloseMode) {
        let Some(place) = self.place(conn) else { return };
        let far = place.far;
        let mut rest = std::mem::take(&mut place.block);
        rest.truncate(place.length as usize);
        self.free_place(conn);
        if how == CloseMode::Flush && !rest.is_empty() {
            self.carried.bytes_out += rest.len() as u64;
            self.tell(far, Act::Bytes(&rest));
        }
        self.tell(far, Act::Close(how));
    }

    fn stats(&self) -> StreamStats {
        self.carried
    }

    fn bytes(&self) -> usize {
        self.places.iter().map(|place| place.block.capacity()).sum()
    }

    fn name(&self) -> &'static str {
        "fake"
    }
}
