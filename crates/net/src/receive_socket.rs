//! Sockets that receive one-way messages.

use std::io;
use std::mem::zeroed;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::address;
use crate::call::{self, CallError};
use crate::option::{self, SocketMemory};
use crate::recv_ring::ReceiveRing;
use crate::socket::{bind, local_address};
use crate::stamp::{self, Peer, WORDS};
use crate::udp::socket;

/// Destinations passed to the kernel in one call.
const AT_ONCE: usize = 64;

/// What the engine needs of a source of datagrams; sockets here, fakes in tests.
pub trait DatagramReceiver: Send + 'static {
    /// Receives what has arrived, waiting a while for the first datagram if `waits`. Zero: nothing came. Errors: the
    /// call itself failed, which is no silence.
    fn receive(&mut self, into: &mut ReceiveRing, waits: bool) -> Result<usize, CallError>;
    /// Sends one datagram back, from the address that the peer sent to; a failed send is a lost datagram.
    fn answer(&mut self, bytes: &[u8], to: Peer);
}

/// Options of a receive socket.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveOptions {
    /// How long a receive waits for the first datagram.
    pub wait: Duration,
    /// Size of the receive buffer, bytes.
    pub buffer: usize,
    /// Arrivals carry the kernel's stamps.
    pub stamps: bool,
    /// Several datagrams of one sender may be coalesced (UDP_GRO).
    pub coalesced: bool,
}

/// A receive socket; several may share one address, and several threads may read one.
#[derive(Debug)]
pub struct ReceiveSocket {
    socket: OwnedFd,
    coalesced: bool,
    noted: bool,
}

impl ReceiveSocket {
    /// Binds to `at`. On a wildcard address answers leave from the address that the peer sent to; `[::]` includes v4.
    ///
    /// Errors are the kernel's: in use, no permission, no such address. [`ReceiveSocket::coalesced`] says whether the
    /// kernel has UDP_GRO.
    pub fn bind(at: SocketAddr, options: ReceiveOptions) -> io::Result<Self> {
        call::check_receiving()?;
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

    /// Its local address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        local_address(&self.socket)
    }

    /// Whether several datagrams may be coalesced.
    #[must_use]
    pub fn coalesced(&self) -> bool {
        self.coalesced
    }

    /// Whether arrivals carry other control messages.
    #[must_use]
    pub fn has_control_messages(&self) -> bool {
        self.noted
    }

    /// Fill level and drops of this socket's receive queue.
    #[must_use]
    pub fn memory(&self) -> SocketMemory {
        option::memory(self.socket.as_fd()).unwrap_or_default()
    }

    /// Sends `bytes` to each of `peers`, one datagram each, from the address that each sent to; returns how many were
    /// sent. One that fails does not stop the others.
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
        let (mut total, mut at) = (0, 0);
        while let Some(rest) = headers.get_mut(at..).filter(|rest| !rest.is_empty()) {
            // SAFETY: the headers point to `names`, `controls`, `vector` and `bytes`, which outlive the call and are
            // only read.
            let sent = unsafe { call::send(&self.socket, rest, 0) };
            let sent = usize::try_from(sent).unwrap_or(0);
            total += sent;
            at += sent;
            if sent == 0 {
                match rest.first_mut() {
                    // No longer a local address, or a broadcast address on a v6 socket: let routing choose.
                    Some(first) if first.msg_hdr.msg_controllen > 0 => first.msg_hdr.msg_controllen = 0,
                    // Skip it.
                    _ => at += 1,
                }
            }
        }
        total
    }
}

impl AsFd for ReceiveSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl DatagramReceiver for Arc<ReceiveSocket> {
    fn receive(&mut self, into: &mut ReceiveRing, waits: bool) -> Result<usize, CallError> {
        // The kernel reports the whole length of truncated datagrams (MSG_TRUNC, 2.4).
        let flags = libc::MSG_TRUNC | if waits { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: the headers and all they point to live in `into`, borrowed for the call.
        let got = unsafe { call::receive(&self.socket, into.headers(), flags) };
        into.note(*got.as_ref().unwrap_or(&0));
        got
    }

    fn answer(&mut self, bytes: &[u8], to: Peer) {
        self.send(bytes, &[to]);
    }
}
