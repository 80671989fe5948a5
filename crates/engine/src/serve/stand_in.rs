//! TEMPORARY until crates/net has the real ones.
#![allow(missing_docs)]
use flatout_net::*;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
pub struct Listener;
impl Listener {
    pub fn bind(_: SocketAddr) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub fn address(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
pub struct Uring;
pub type Epoll = Uring;
impl Uring {
    pub fn new(_: usize, _: Option<Listener>) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
pub fn vacant_tcp(_: SocketAddr) -> io::Result<()> {
    Ok(())
}
impl Streams for Uring {
    fn capacity(&self) -> usize {
        0
    }
    fn open(&mut self, _: Option<SocketAddr>, _: SocketAddr) -> io::Result<Conn> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn turn(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }
    fn event(&mut self) -> Option<Event> {
        None
    }
    fn lend(&mut self, _: Conn, _: usize) -> Result<Slip<'_>, Refuse> {
        Err(Refuse::Gone)
    }
    fn pause(&mut self, _: Conn) {}
    fn resume(&mut self, _: Conn) {}
    fn close(&mut self, _: Conn, _: How) {}
    fn carried(&self) -> Carried {
        Carried::default()
    }
    fn bytes(&self) -> usize {
        0
    }
    fn name(&self) -> &'static str {
        ""
    }
}
