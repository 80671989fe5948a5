//! A batch of datagrams: the packets and all the memory that sendmmsg and recvmmsg read or write.
//!
//! Method: every array is allocated once and never moves; the kernel's structures point into it. A slot is one
//! packet. An arrival becomes an answer in target: same slot, same peer, from the address that the request was sent to.

use std::mem::{size_of, zeroed};
use std::net::{IpAddr, SocketAddr};

use crate::address;
use crate::array::Array;
use crate::stamp::{self, Control, Local};

/// What came with an arrival.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meta {
    /// The kernel's stamp (CLOCK_REALTIME, ns), where stamps are on and this packet has one.
    pub stamp_unix_ns: Option<u64>,
    /// The same of a program in the driver (CLOCK_MONOTONIC, ns).
    pub stamp_steady_ns: Option<u64>,
    /// The packet was longer than a slot, or its control messages did not fit.
    pub truncated: bool,
    /// It was sent to this socket's address, not to a broadcast or multicast one.
    pub unicast: bool,
}

/// Slots for datagrams, and the kernel's view of them.
pub struct Batch {
    stride: usize,
    bytes: Array<u8>,
    /// One for each slot, and behind them one for many slots that lie end to end.
    vectors: Array<libc::iovec>,
    peers: Array<libc::sockaddr_storage>,
    controls: Array<Control>,
    locals: Box<[Option<Local>]>,
    metas: Box<[Meta]>,
    used: usize,
    pub(crate) headers: Array<libc::mmsghdr>,
    pub(crate) answers: Vec<libc::mmsghdr>,
    /// Of each queued answer: its slot, and the length of its control messages without a request for a stamp.
    answer_slots: Vec<(usize, usize)>,
    named: bool,
}

// SAFETY: all pointers in a batch point into its own heap memory, which moves with it as a whole.
unsafe impl Send for Batch {}

impl Batch {
    /// `slots` packets of up to `stride` bytes. `named`: the socket is not connected, so peer addresses are kept.
    #[must_use]
    pub fn new(slots: usize, stride: usize, named: bool) -> Self {
        let mut batch = Self {
            stride,
            bytes: Array::zeroed(slots * stride),
            vectors: Array::zeroed(slots + 1),
            peers: Array::zeroed(slots),
            controls: Array::zeroed(slots),
            locals: vec![None; slots].into_boxed_slice(),
            metas: vec![Meta::default(); slots].into_boxed_slice(),
            used: slots,
            headers: Array::zeroed(slots),
            answers: Vec::with_capacity(slots),
            answer_slots: Vec::with_capacity(slots),
            named,
        };
        batch.link_headers();
        batch
    }

    fn link_headers(&mut self) {
        for (slot, vector) in self.vectors.iter_mut().enumerate() {
            vector.iov_base = self.bytes.at(slot * self.stride).cast();
            vector.iov_len = self.stride;
        }
        for (slot, header) in self.headers.iter_mut().enumerate() {
            header.msg_hdr.msg_iov = self.vectors.at(slot);
            header.msg_hdr.msg_iovlen = 1;
        }
    }

    /// How many packets fit.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.headers.len()
    }

    /// All bytes of a slot, to fill or to answer in. Slots beyond the last are empty.
    pub fn slot(&mut self, slot: usize) -> &mut [u8] {
        self.bytes.get_mut(slot * self.stride..(slot + 1) * self.stride).unwrap_or_default()
    }

    /// The bytes that arrived in a slot.
    #[must_use]
    pub fn packet(&self, slot: usize) -> &[u8] {
        let from = slot * self.stride;
        self.bytes.get(from..from + self.length(slot)).unwrap_or_default()
    }

    /// How many bytes arrived in a slot.
    #[must_use]
    pub fn length(&self, slot: usize) -> usize {
        self.headers.get(slot).map_or(0, |h| (h.msg_len as usize).min(self.stride))
    }

    /// Sets how many bytes of a slot are to be sent.
    pub fn set_length(&mut self, slot: usize, length: usize) {
        if let Some(vector) = self.vectors.get_mut(slot) {
            vector.iov_len = length.min(self.stride);
        }
    }

    /// The bytes of a slot that are to be sent.
    pub(crate) fn outgoing(&self, slot: usize) -> &[u8] {
        let length = self.vectors.get(slot).map_or(0, |vector| vector.iov_len);
        let from = slot * self.stride;
        self.bytes.get(from..from + length).unwrap_or_default()
    }

    /// Whether the first `count` slots are to be sent with `length` bytes each.
    pub(crate) fn is_even(&self, count: usize, length: usize) -> bool {
        self.vectors.iter().take(count.min(self.slots())).all(|vector| vector.iov_len == length)
    }

    /// The source of the packet in a slot, for a batch with addresses.
    #[must_use]
    pub fn peer(&self, slot: usize) -> Option<SocketAddr> {
        self.peers.get(slot).and_then(address::from_kernel)
    }

    /// The address that the packet in a slot was sent to; `None` where the socket is not bound to a wildcard.
    #[must_use]
    pub fn local(&self, slot: usize) -> Option<IpAddr> {
        self.locals.get(slot).copied().flatten().map(|local| local.asked)
    }

    /// How many answers are queued.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.answers.len()
    }

    /// What came with the packet in a slot.
    #[must_use]
    pub fn meta(&self, slot: usize) -> Meta {
        self.metas.get(slot).copied().unwrap_or_default()
    }

    /// Stores an arrival in a slot, as the kernel would: for fakes.
    pub fn deliver(&mut self, slot: usize, packet: &[u8], meta: Meta) {
        let length = packet.len().min(self.stride);
        if slot >= self.slots() {
            return;
        }
        self.slot(slot)[..length].copy_from_slice(&packet[..length]);
        self.headers[slot].msg_len = length as u32;
        self.metas[slot] = Meta { truncated: packet.len() > length, ..meta };
    }

    /// Reads what the kernel attached to the first `count` slots.
    pub(crate) fn note(&mut self, count: usize) {
        self.used = count;
        for slot in 0..count.min(self.headers.len()) {
            let header = &self.headers[slot].msg_hdr;
            let data = stamp::read(header);
            self.locals[slot] = data.local;
            self.metas[slot] = Meta {
                stamp_unix_ns: data.stamp_unix_ns.or(data.software_unix_ns),
                truncated: header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
                unicast: data.local.is_none_or(|local| local.own),
                stamp_steady_ns: None,
            };
        }
    }

    /// Makes the slots that the last receive used ready for the next.
    pub(crate) fn open(&mut self) {
        let name_length = if self.named { size_of::<libc::sockaddr_storage>() as libc::socklen_t } else { 0 };
        for slot in 0..self.used.min(self.headers.len()) {
            self.vectors[slot].iov_len = self.stride;
            let header = &mut self.headers[slot].msg_hdr;
            header.msg_name = if self.named { self.peers.at(slot).cast() } else { std::ptr::null_mut() };
            header.msg_namelen = name_length;
            header.msg_control = self.controls.at(slot).cast();
            header.msg_controllen = size_of::<Control>() as _;
            header.msg_flags = 0;
        }
    }

    /// Queues the first `length` bytes of a slot as the answer to what arrived in it.
    pub fn answer(&mut self, slot: usize, length: usize) {
        if slot >= self.headers.len() || self.answers.len() == self.answers.capacity() {
            return;
        }
        self.set_length(slot, length);
        let mut header = self.headers[slot];
        header.msg_hdr.msg_control = std::ptr::null_mut();
        header.msg_hdr.msg_controllen = 0;
        header.msg_hdr.msg_flags = 0;
        if let Some(local) = &self.locals[slot] {
            header.msg_hdr.msg_controllen = stamp::write_source(&mut self.controls[slot], local) as _;
            header.msg_hdr.msg_control = self.controls.at(slot).cast();
        }
        self.answers.push(header);
        self.answer_slots.push((slot, header.msg_hdr.msg_controllen as _));
    }

    /// The bytes of the n-th queued answer, to be changed before it is sent.
    pub fn queued(&mut self, n: usize) -> &mut [u8] {
        let Some(&(slot, _)) = self.answer_slots.get(n) else { return &mut [] };
        let length = self.vectors.get(slot).map_or(0, |vector| vector.iov_len);
        self.slot(slot).get_mut(..length).unwrap_or_default()
    }

    /// Asks the kernel for a transmit stamp of the n-th queued answer; for [`crate::Server::enable_tx_stamps`].
    pub fn request_stamp(&mut self, n: usize) {
        let (Some(&(slot, used)), Some(header)) = (self.answer_slots.get(n), self.answers.get_mut(n)) else { return };
        header.msg_hdr.msg_controllen = stamp::write_stamp_request(&mut self.controls[slot], used) as _;
        header.msg_hdr.msg_control = self.controls.at(slot).cast();
    }

    /// Takes such a request back.
    pub fn withdraw_stamp(&mut self, n: usize) {
        if let (Some(&(_, used)), Some(header)) = (self.answer_slots.get(n), self.answers.get_mut(n)) {
            header.msg_hdr.msg_controllen = used as _;
        }
    }

    /// Discards all queued answers.
    pub fn clear_answers(&mut self) {
        self.answers.clear();
        self.answer_slots.clear();
    }

    /// One message that gathers the first `count` slots, each `length` bytes: for segmentation by the kernel.
    pub(crate) fn gathered(&mut self, count: usize, length: usize) -> libc::msghdr {
        // SAFETY: msghdr is plain old data; all zeroes is a valid value.
        let mut header: libc::msghdr = unsafe { zeroed() };
        let (slots, count) = (self.slots(), count.min(self.slots()));
        (header.msg_iov, header.msg_iovlen) = (self.vectors.at(0), count as _);
        if let Some(whole) = self.vectors.get_mut(slots).filter(|_| length == self.stride) {
            // Full slots lie end to end: one piece, which the kernel copies at once.
            whole.iov_base = self.bytes.at(0).cast();
            whole.iov_len = count * length;
            (header.msg_iov, header.msg_iovlen) = (self.vectors.at(slots), 1);
        }
        header
    }
}
