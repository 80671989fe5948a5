//! The laws of `Streams`, tested for both backends over loopback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::stream::{CloseMode, CloseReason, Conn, Event, RecvBuf, Streams, WriteError, epoll, uring};
use crate::{Epoll, Listener, Uring};

mod ending;
mod flowing;
mod many;

/// How long a test waits for what should be there at once.
const PATIENCE: Duration = Duration::from_secs(30);
const ANY_PORT: &str = "127.0.0.1:0";

/// How much of everything a test wants.
#[derive(Clone, Copy)]
struct Small {
    per_ring: usize,
    buffers: usize,
    buffer: usize,
}

const USUAL: Small = Small { per_ring: 4096, buffers: 64, buffer: 2048 };

trait Carrier: Streams + Sized {
    fn make(capacity: usize, listener: Option<Listener>, small: Small) -> io::Result<Self>;
}

impl Carrier for Uring {
    fn make(capacity: usize, listener: Option<Listener>, small: Small) -> io::Result<Self> {
        let Small { per_ring, buffers, buffer } = small;
        Self::sized(
            capacity,
            listener,
            uring::Sizes { per_ring, buffers_first: buffers, buffers_more: buffers, buffer },
        )
    }
}

impl Carrier for Epoll {
    fn make(capacity: usize, listener: Option<Listener>, small: Small) -> io::Result<Self> {
        Self::sized(capacity, listener, epoll::Sizes { buffers: small.buffers, buffer: small.buffer })
    }
}

/// One end: its streams, and all that has happened on them.
struct End<S> {
    streams: S,
    opened: Vec<Conn>,
    accepted: Vec<Conn>,
    writable: Vec<Conn>,
    closed: Vec<(Conn, CloseReason)>,
    bytes: HashMap<(u32, u32), Vec<u8>>,
    /// Echoes.
    echoes: bool,
    /// Keeps received buffers.
    hoards: bool,
    hoard: Vec<RecvBuf>,
}

fn key(conn: Conn) -> (u32, u32) {
    (conn.index, conn.generation)
}

impl<S: Carrier> End<S> {
    fn new(streams: S) -> Self {
        let (opened, accepted, writable, closed) = Default::default();
        let (bytes, hoard) = Default::default();
        Self { streams, opened, accepted, writable, closed, bytes, echoes: false, hoards: false, hoard }
    }

    fn turn(&mut self) {
        self.streams.turn(Duration::from_millis(1)).unwrap();
        self.process_events();
    }

    fn process_events(&mut self) {
        while let Some(event) = self.streams.event() {
            match event {
                Event::Opened(conn) => self.opened.push(conn),
                Event::Accepted(conn) => self.accepted.push(conn),
                Event::Writable(conn) => self.writable.push(conn),
                Event::Closed(conn, reason) => self.closed.push((conn, reason)),
                Event::Received(conn, buf) => {
                    self.bytes.entry(key(conn)).or_default().extend_from_slice(&buf);
                    if self.echoes {
                        assert_eq!(self.append(conn, &buf), Ok(()));
                    }
                    if self.hoards {
                        self.hoard.push(buf);
                    }
                }
            }
        }
    }

    fn append(&mut self, conn: Conn, bytes: &[u8]) -> Result<(), WriteError> {
        let mut guard = self.streams.reserve(conn, bytes.len())?;
        guard.room()[..bytes.len()].copy_from_slice(bytes);
        guard.commit(bytes.len());
        Ok(())
    }

    fn got(&self, conn: Conn) -> &[u8] {
        self.bytes.get(&key(conn)).map_or(&[], Vec::as_slice)
    }

    fn reason(&self, conn: Conn) -> Option<CloseReason> {
        self.closed.iter().find(|(closed, _)| *closed == conn).map(|&(_, reason)| reason)
    }
}

/// A server and a client on one thread.
struct Pair<S> {
    server: End<S>,
    client: End<S>,
    at: SocketAddr,
}

impl<S: Carrier> Pair<S> {
    fn new(capacity: usize, small: Small) -> Self {
        Self::at(ANY_PORT, capacity, capacity, small, small)
    }

    fn at(at: &str, server: usize, client: usize, servers: Small, clients: Small) -> Self {
        let listener = Listener::bind(at.parse().unwrap()).unwrap();
        let at = listener.address().unwrap();
        let server = End::new(S::make(server, Some(listener), servers).unwrap());
        let client = End::new(S::make(client, None, clients).unwrap());
        Self { server, client, at }
    }

    fn open(&mut self) -> Conn {
        self.client.streams.open(None, self.at).unwrap()
    }

    /// Turns both ends until `done`.
    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < end, "waited for: {what}");
            self.client.turn();
            self.server.turn();
        }
    }

    /// Opens one connection; its ids at the client and the server.
    fn connect(&mut self) -> (Conn, Conn) {
        let (mine, accepted) = (self.open(), self.server.accepted.len());
        self.until("a connection", |pair| pair.client.opened.contains(&mine) && pair.server.accepted.len() > accepted);
        (mine, *self.server.accepted.last().unwrap())
    }
}

/// Turns one end until `done`.
fn until<S: Carrier>(end: &mut End<S>, what: &str, done: impl Fn(&End<S>) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done(end) {
        assert!(Instant::now() < until, "waited for: {what}");
        end.turn();
    }
}

/// Each named test, once for each backend.
macro_rules! both {
    ($($name:ident),* $(,)?) => {
        mod by_uring {
            $(#[test] fn $name() { super::$name::<crate::Uring>(); })*
        }
        mod by_epoll {
            $(#[test] fn $name() { super::$name::<crate::Epoll>(); })*
        }
    };
}
pub(crate) use both;
