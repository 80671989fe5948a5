//! Sockets that take in what goes one way.

use std::io;
use std::mem::zeroed;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::address;
use crate::option::{self, SocketMemory};
use crate::recv_ring::ReceiveRing;
use crate::socket::{bind, local_address};
use crate::stamp::{self, Peer, WORDS};
use crate::udp::socket;

/// Receivers of a datagram that are handed to the kernel in one call.
const AT_ONCE: usize = 64;

/// What the engine needs of anything that datagrams come in by.
pub trait DatagramReceiver: Send + 'static {
    /// Receives what has arrived, waiting a while for the first datagram if `waits`. Zero: nothing came.
    fn receive(&mut self, into: &mut ReceiveRing, waits: bool) -> usize;
    /// Sends one datagram back, from the address that was asked; one that cannot leave is lost, as any datagram may be.
    fn answer(&mut self, bytes: &[u8], to: Peer);
}

/// How a socket takes in.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveOptions {
    /// How long a receive waits for the first datagram.
    pub wait: Duration,
    /// Room for what waits to be read, bytes.
    pub buffer: usize,
    /// Arrivals carry the kernel's stamps.
    pub stamps: bool,
    /// Several datagrams of one sender may come as one.
    pub coalesced: bool,
}

/// A socket that takes in; several may share one address, and several threads may read one.
#[derive(Debug)]
pub struct ReceiveSocket {
    socket: OwnedFd,
    coalesced: bool,
    noted: bool,
}

impl ReceiveSocket {
    /// Binds to `at`; a wildcard answers from whichever address was asked, `[::]` takes v4 too.
    ///
    /// Errors are the kernel's: in use, no permission, no such address. A kernel without coalescing goes without:
    /// [`ReceiveSocket::coalesced`] tells.
    pub fn bind(at: SocketAddr, options: ReceiveOptions) -> io::Result<Self> {
        let socket = socket(at.ip())?;
        option::reuse_port(socket.as_fd())?;
        option::receive_buffer(socket.as_fd(), libc::c_int::try_from(options.buffer).unwrap_or(libc::c_int::MAX))?;
        option::receive_timeout(socket.as_fd(), options.wait)?;
        if options.stamps {
            option::stamps(socket.as_fd())?;
        }
        let wildcard = at.ip().to_canonical().is_unspecified();
        if wildcard {
            option::packet_info(socket.as_fd(), at.is_ipv6())?;
        }
        if at.is_ipv6() && at.ip().is_unspecified() {
            option::dual_stack(socket.as_fd())?;
        }
        let coalesced = options.coalesced && option::coalesce(socket.as_fd()).is_ok();
        bind(&socket, at)?;
        Ok(Self { socket, coalesced, noted: options.stamps || wildcard })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        local_address(&self.socket)
    }

    /// Whether several datagrams may come as one.
    #[must_use]
    pub fn coalesced(&self) -> bool {
        self.coalesced
    }

    /// Whether arrivals carry control messages besides that.
    #[must_use]
    pub fn has_control_messages(&self) -> bool {
        self.noted
    }

    /// What this socket's queue holds and has dropped.
    #[must_use]
    pub fn memory(&self) -> SocketMemory {
        option::memory(self.socket.as_fd()).unwrap_or_default()
    }

    /// Sends `bytes` to each of `peers`, one datagram each, from the address that each asked; returns how many left.
    /// One that cannot never stops others.
    pub fn send(&self, bytes: &[u8], peers: &[Peer]) -> usize {
        peers.chunks(AT_ONCE).map(|some| self.send_some(bytes, some)).sum()
    }

    fn send_some(&self, bytes: &[u8], peers: &[Peer]) -> usize {
        let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut names: Vec<_> = peers.iter().map(|peer| address::to_kernel(peer.address)).collect();
        let noted = peers.iter().any(|peer| peer.asked.is_some());
        let mut controls = vec![[0; WORDS]; if noted { names.len() } else { 0 }];
        // SAFETY: mmsghdr is plain old data; all zeroes is a valid value.
        let mut headers: Vec<libc::mmsghdr> = vec![unsafe { zeroed() }; names.len()];
        for (header, (storage, length)) in headers.iter_mut().zip(&mut names) {
            header.msg_hdr.msg_name = (&raw mut *storage).cast();
            header.msg_hdr.msg_namelen = *length;
            header.msg_hdr.msg_iov = &raw mut vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        for ((header, peer), control) in headers.iter_mut().zip(peers).zip(&mut controls) {
            if let Some(asked) = &peer.asked {
                header.msg_hdr.msg_controllen = stamp::write_source(control, asked) as _;
                header.msg_hdr.msg_control = (&raw mut *control).cast();
            }
        }
        let (mut left, mut at) = (0, 0);
        while let Some(rest) = headers.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let (pointer, count) = (rest.as_mut_ptr(), rest.len() as libc::c_uint);
            // SAFETY: the headers point to `names`, `controls`, `vector` and `bytes`, which outlive the call and are only
            // read.
            let sent = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), pointer, count, 0) };
            let sent = usize::try_from(sent).unwrap_or(0);
            left += sent;
            at += sent;
            if sent == 0 {
                match rest.first_mut() {
                    // An address that is ours no longer, or a broadcast one that a v6 socket does not tell from ours:
                    // routing chooses another.
                    Some(first) if first.msg_hdr.msg_controllen > 0 => first.msg_hdr.msg_controllen = 0,
                    // It is passed over.
                    _ => at += 1,
                }
            }
        }
        left
    }
}

impl DatagramReceiver for Arc<ReceiveSocket> {
    fn receive(&mut self, into: &mut ReceiveRing, waits: bool) -> usize {
        let headers = into.headers();
        let (pointer, slots) = (headers.as_mut_ptr(), headers.len() as libc::c_uint);
        // The kernel tells the whole length of what it has to cut (MSG_TRUNC, 2.4 for datagrams).
        let flags = libc::MSG_TRUNC | if waits { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: `slots` headers and all they point to live in `into`, borrowed for the call.
        let got = unsafe { libc::recvmmsg(self.socket.as_raw_fd(), pointer, slots, flags as _, std::ptr::null_mut()) };
        let count = usize::try_from(got).unwrap_or(0);
        into.note(count);
        count
    }

    fn answer(&mut self, bytes: &[u8], to: Peer) {
        self.send(bytes, &[to]);
    }
}
