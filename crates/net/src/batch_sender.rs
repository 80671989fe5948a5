//! Sends a slice of messages of equal size, each as one datagram, from the caller's memory.
//!
//! Method: nothing is copied; sendmmsg reads up to 64 messages a call. With segmentation (UDP_SEGMENT) these are one
//! buffer, and a call over a single flow has several of them. The headers are prepared once.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::array::Array;
use crate::call::{self, CallError};
use crate::datagrams::SendResult;
use crate::stamp::{self, Control};
use crate::udp::{Flow, SEGMENTS, outcome};

/// The longest payload of a UDP datagram over IPv4, also the limit of one segmented call.
pub const LONGEST: usize = 65_507;
/// Segmented buffers of one call over a single flow.
const BUFFERS: usize = 8;
/// How long a call waits for a full socket before it returns to its caller.
const PATIENCE: Duration = Duration::from_millis(100);
/// Refused datagrams in a row after which a call returns to its caller.
const REFUSED_IN_A_ROW: usize = 256;

/// Flows to one far end, and their counters.
pub struct BatchSender {
    flows: Vec<Flow>,
    turn: usize,
    size: usize,
    segmented: bool,
    single: Headers,
    whole: Headers,
    sent: u64,
    refused: u64,
    dropped: u64,
}

/// Headers for sendmmsg, and what they point to.
struct Headers {
    vectors: Array<libc::iovec>,
    headers: Array<libc::mmsghdr>,
    /// What all of them say of segmentation.
    _control: Array<Control>,
}

// SAFETY: the headers point into `vectors` and the control message, heap memory that moves with it as a whole; where the
// vectors point is set before each call and not read after it.
unsafe impl Send for Headers {}

impl Headers {
    /// `count` headers, for buffers that are segmented into datagrams of so many bytes if given.
    fn new(count: usize, segment: Option<u16>) -> Self {
        let vectors = Array::<libc::iovec>::zeroed(count);
        let mut headers = Array::<libc::mmsghdr>::zeroed(count);
        let mut control = Array::<Control>::zeroed(1);
        let length = segment.zip(control.first_mut()).map_or(0, |(bytes, first)| stamp::write_segment(first, bytes));
        for (n, header) in headers.iter_mut().enumerate() {
            (header.msg_hdr.msg_iov, header.msg_hdr.msg_iovlen) = (vectors.at(n), 1);
            if length > 0 {
                (header.msg_hdr.msg_control, header.msg_hdr.msg_controllen) = (control.at(0).cast(), length as _);
            }
        }
        Self { vectors, headers, _control: control }
    }

    /// Sends up to `count` parts of `bytes` in one call, each of `length` bytes and `messages` messages.
    fn send(&mut self, flow: &Flow, bytes: &[u8], count: usize, length: usize, messages: usize) -> SendResult {
        let mut ready = 0;
        for (vector, part) in self.vectors.iter_mut().zip(bytes.chunks_exact(length)).take(count) {
            (vector.iov_base, vector.iov_len) = (part.as_ptr().cast_mut().cast(), length);
            ready += 1;
        }
        let headers = self.headers.get_mut(..ready).unwrap_or_default();
        // SAFETY: `ready` headers point to as many vectors, which point to `bytes`, and to the control message, all
        // borrowed for the call; the kernel writes lengths into the headers and only reads the rest.
        let sent = unsafe { call::send(flow.socket(), headers, libc::MSG_DONTWAIT) };
        outcome(sent, usize::try_from(sent).unwrap_or(0) * messages)
    }
}

/// The result of [`BatchSender::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendSummary {
    /// Messages processed, from the first on; the rest are still the caller's.
    pub processed: usize,
    /// Of these: sent.
    pub sent: usize,
}

impl BatchSender {
    /// Opens `count` flows to the addresses of the far end in turn, for messages of `size` bytes (1 to [`LONGEST`]).
    ///
    /// `segmented`: use UDP_SEGMENT; turned off by itself where the route does not support it.
    pub fn open(
        targets: &[SocketAddr],
        sources: &[SocketAddr],
        count: usize,
        size: usize,
        segmented: bool,
    ) -> io::Result<Self> {
        if !(1..=LONGEST).contains(&size) || targets.is_empty() || count == 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let source = |n: usize| sources.get(n.checked_rem(sources.len())?).copied();
        let flow = |(n, target): (usize, &SocketAddr)| Flow::open(*target, source(n), false);
        let flows = targets.iter().cycle().take(count).enumerate().map(flow).collect::<io::Result<_>>()?;
        let (single, whole) = (Headers::new(SEGMENTS, None), Headers::new(BUFFERS, Some(size as u16)));
        Ok(Self { flows, turn: 0, size, segmented, single, whole, sent: 0, refused: 0, dropped: 0 })
    }

    /// Bytes of each message.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Messages sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Refusals received so far (no listener). A segmented call may have only one. Errors: they cannot be read.
    pub fn refused(&mut self) -> io::Result<u64> {
        for flow in &self.flows {
            self.refused += refusals(flow)?;
        }
        Ok(self.refused)
    }

    /// Messages that this machine's own queue dropped; they were not sent.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Sends whole messages, groups of up to 64 over the flows in turn; waits up to 100 ms for a full socket.
    ///
    /// Errors are the kernel's, and only where nothing was processed: refusals and local drops are counted.
    pub fn send(&mut self, messages: &[u8]) -> io::Result<SendSummary> {
        let group = (LONGEST / self.size).min(SEGMENTS);
        let mut summary = SendSummary { processed: 0, sent: 0 };
        let mut refused_in_a_row = 0;
        loop {
            let rest = messages.get(summary.processed * self.size..).unwrap_or_default();
            let mut count = (rest.len() / self.size).min(group);
            let Some(flow) = self.flows.get(self.turn).filter(|_| count > 0) else { return Ok(summary) };
            let sent = if self.segmented && count > 1 {
                let alone = self.flows.len() == 1;
                let buffers = if alone { (rest.len() / self.size / count).min(BUFFERS) } else { 1 };
                let result = self.whole.send(flow, rest, buffers, count * self.size, count);
                count *= buffers;
                result
            } else {
                self.single.send(flow, rest, count, self.size, 1)
            };
            match sent {
                SendResult::Sent(sent) => {
                    if sent < count {
                        // A call that sent some does not return the error of the rest: a refusal is in the error queue
                        // only. Where that cannot be read, `refused` says so.
                        self.refused += refusals(flow).unwrap_or(0);
                    }
                    (summary.processed, summary.sent, refused_in_a_row) =
                        (summary.processed + sent, summary.sent + sent, 0);
                    self.sent += sent as u64;
                    self.turn = (self.turn + 1) % self.flows.len();
                }
                SendResult::Full => match call::poll(flow.socket(), libc::POLLOUT, PATIENCE) {
                    Ok(true) => {}
                    Err(error) if summary.processed == 0 => return Err(error.into()),
                    Ok(false) | Err(_) => return Ok(summary),
                },
                SendResult::Dropped => {
                    // Nothing of a segmented call was sent; all but the first are tried again.
                    (summary.processed, self.dropped) = (summary.processed + 1, self.dropped + 1);
                }
                SendResult::Refused => {
                    match refusals(flow) {
                        Ok(count) => self.refused += count,
                        Err(error) if summary.processed == 0 => return Err(error.into()),
                        Err(_) => return Ok(summary),
                    }
                    refused_in_a_row += 1;
                    if refused_in_a_row == REFUSED_IN_A_ROW {
                        return Ok(summary);
                    }
                }
                // Larger than the path's MTU, or a device without checksum offload.
                SendResult::Failed(libc::EINVAL | libc::EMSGSIZE | libc::EIO) if self.segmented => {
                    self.segmented = false
                }
                SendResult::Failed(_) if summary.processed > 0 => return Ok(summary),
                SendResult::Failed(errno) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }
}

/// Reads the error queue; returns how many datagrams were refused.
fn refusals(flow: &Flow) -> Result<u64, CallError> {
    let mut count = 0;
    while count < REFUSED_IN_A_ROW as u64 && flow.refused(&mut [])?.is_some() {
        count += 1;
    }
    Ok(count)
}
