//! Transmit timestamps: when the kernel passed each datagram of a server socket to the network driver.
//!
//! Method: SO_TIMESTAMPING with TX_SOFTWARE, OPT_ID and OPT_TSONLY (Linux 4.0). The kernel puts one message without
//! payload on the socket's error queue for each datagram sent; its id counts the datagrams of the socket from 0.
//! Stamps of arrivals come by RX_SOFTWARE then: beside SO_TIMESTAMPNS each arrival would carry its stamp twice. Unread stamps share the receive buffer's memory: read them at least as often as answers are sent.

use std::io;
use std::os::fd::BorrowedFd;

use crate::array::Array;
use crate::call::{self, CallError};
use crate::option;
use crate::stamp;
use crate::udp::Server;

/// Room for all control messages of one stamp: two timestamps, the extended error and the packet info.
const WORDS: usize = 32;
/// Stamps read by one system call.
const AT_ONCE: usize = 64;

/// When one datagram was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxStamp {
    /// The datagram's number on its socket, modulo 2^32: the first one sent has 0. A send that fails may use a number, or
    /// not: that depends on why, and on the kernel.
    pub id: u32,
    /// The kernel's stamp (CLOCK_REALTIME, ns).
    pub unix_ns: u64,
}

/// Reads transmit stamps, and owns the memory that the kernel writes them to.
#[derive(Debug)]
pub struct TxStampReader {
    controls: Array<[u64; WORDS]>,
    headers: Array<libc::mmsghdr>,
    stamps: Vec<TxStamp>,
}

// SAFETY: the headers point to `controls`, heap memory that moves with the reader as a whole.
unsafe impl Send for TxStampReader {}

impl Default for TxStampReader {
    fn default() -> Self {
        let controls = Array::<[u64; WORDS]>::zeroed(AT_ONCE);
        let mut headers = Array::<libc::mmsghdr>::zeroed(AT_ONCE);
        for (n, header) in headers.iter_mut().enumerate() {
            header.msg_hdr.msg_control = controls.at(n).cast();
        }
        Self { controls, headers, stamps: Vec::with_capacity(AT_ONCE) }
    }
}

impl TxStampReader {
    /// A reader for one server socket at a time.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The stamps that have come since the last call, up to 64, in the order of sending; never waits.
    ///
    /// Empty: none are there, or the socket was bound without [`crate::ServerOptions::tx_stamps`]. Errors: the call
    /// itself failed.
    pub fn read(&mut self, server: &Server) -> Result<&[TxStamp], CallError> {
        self.stamps.clear();
        for header in self.headers.iter_mut() {
            header.msg_hdr.msg_controllen = size_of_val(&self.controls[0]) as _;
            header.msg_hdr.msg_flags = 0;
        }
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the headers and the control buffers they point to live in `self`, borrowed for the call.
        let got = unsafe { call::receive(server.socket(), &mut self.headers, flags) }?;
        for header in self.headers.iter().take(got) {
            let data = stamp::read(&header.msg_hdr);
            if let (Some(id), Some(unix_ns)) = (data.tx_id, data.software_unix_ns) {
                self.stamps.push(TxStamp { id, unix_ns });
            }
        }
        Ok(&self.stamps)
    }
}

/// Turns the stamps of a socket on, for all datagrams or only for those that ask for it; these alone are numbered.
pub(crate) fn enable(socket: BorrowedFd<'_>, all: bool) -> io::Result<()> {
    let always = if all { libc::SOF_TIMESTAMPING_TX_SOFTWARE } else { 0 };
    let sent = libc::SOF_TIMESTAMPING_OPT_ID | libc::SOF_TIMESTAMPING_OPT_TSONLY;
    let flags = libc::SOF_TIMESTAMPING_SOFTWARE | libc::SOF_TIMESTAMPING_RX_SOFTWARE | sent;
    option::timestamping(socket, always | flags)?;
    option::no_stamps(socket)
}
