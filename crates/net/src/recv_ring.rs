//! The receive slots of a receiver: what recvmmsg writes, and how coalesced datagrams are split.
//!
//! Method: as in [`crate::Batch`] every array is allocated once and never moves. Slots are staggered: with a power of
//! two between them they would share cache sets. Memory that no datagram reaches is never touched, so slots for the
//! longest datagrams cost address space only.

use std::mem::size_of;

use crate::address;
use crate::array::Array;
use crate::stamp::{self, Control, Local, Peer};

/// The longest datagram, coalesced or not, in whole cache lines.
const LONGEST: usize = 64 << 10;
/// A page and three cache lines more.
const STAGGER: usize = 4096 + 192;
const COALESCED_SLOTS: usize = 32;
const SLOTS: usize = 64;

/// What came with an arrival.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    segment: usize,
    stamp_unix_ns: Option<u64>,
    asked: Option<Local>,
    length: usize,
}

/// Slots for arrivals, and the kernel's view of them.
pub struct ReceiveRing {
    stride: usize,
    room: usize,
    bytes: Array<u8>,
    vectors: Array<libc::iovec>,
    peers: Array<libc::sockaddr_storage>,
    /// Empty where no control messages are requested.
    controls: Array<Control>,
    headers: Array<libc::mmsghdr>,
    notes: Box<[Note]>,
}

// SAFETY: all pointers in it point into its own heap memory, which moves with it as a whole.
unsafe impl Send for ReceiveRing {}

impl ReceiveRing {
    /// For datagrams of up to `longest` bytes, and for coalesced ones of any length if `coalesced`. `noted`: arrivals
    /// carry control messages (stamps, local addresses). Longer datagrams are truncated; their whole length is
    /// reported.
    #[must_use]
    pub fn new(longest: usize, coalesced: bool, noted: bool) -> Self {
        let (slots, room) = if coalesced { (COALESCED_SLOTS, LONGEST) } else { (SLOTS, longest.clamp(1, LONGEST)) };
        let stride = if coalesced { LONGEST + STAGGER } else { room.next_multiple_of(64) };
        let controls = if coalesced || noted { slots } else { 0 };
        let mut arrivals = Self {
            stride,
            room,
            bytes: Array::zeroed(slots * stride),
            vectors: Array::zeroed(slots),
            peers: Array::zeroed(slots),
            controls: Array::zeroed(controls),
            headers: Array::zeroed(slots),
            notes: vec![Note::default(); slots].into_boxed_slice(),
        };
        arrivals.link_headers();
        arrivals
    }

    fn link_headers(&mut self) {
        for (slot, header) in self.headers.iter_mut().enumerate() {
            if let Some(vector) = self.vectors.get_mut(slot) {
                vector.iov_base = self.bytes.at(slot * self.stride).cast();
                vector.iov_len = self.room;
            }
            header.msg_hdr.msg_iov = self.vectors.at(slot);
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = self.peers.at(slot).cast();
            if slot < self.controls.len() {
                header.msg_hdr.msg_control = self.controls.at(slot).cast();
            }
        }
        self.open(self.slots());
    }

    /// How many datagrams fit, coalesced ones each counted once.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.headers.len()
    }

    /// The bytes that arrived in a slot.
    #[must_use]
    #[inline]
    pub fn bytes(&self, slot: usize) -> &[u8] {
        let from = slot * self.stride;
        let length = self.length(slot).min(self.room);
        self.bytes.get(from..from + length).unwrap_or_default()
    }

    /// The length of what arrived in a slot, truncated or not.
    #[must_use]
    #[inline]
    pub fn length(&self, slot: usize) -> usize {
        self.notes.get(slot).map_or(0, |note| note.length)
    }

    /// The length of each datagram coalesced in this slot, the last one perhaps shorter; 0: a single datagram.
    #[must_use]
    #[inline]
    pub fn segment(&self, slot: usize) -> usize {
        self.notes.get(slot).map_or(0, |note| note.segment)
    }

    /// The kernel's stamp of the arrival (CLOCK_REALTIME, ns), where there is one.
    #[must_use]
    #[inline]
    pub fn stamp_unix_ns(&self, slot: usize) -> Option<u64> {
        self.notes.get(slot).and_then(|note| note.stamp_unix_ns)
    }

    /// The source of what arrived in a slot, and the local address where the socket is bound to a wildcard.
    #[must_use]
    #[inline]
    pub fn peer(&self, slot: usize) -> Option<Peer> {
        let address = self.peers.get(slot).and_then(address::from_kernel)?;
        Some(Peer { address, asked: self.notes.get(slot).and_then(|note| note.asked) })
    }

    /// Stores an arrival in a slot, as the kernel would: for fakes.
    pub fn deliver(&mut self, slot: usize, bytes: &[u8], segment: usize, peer: impl Into<Peer>, stamp: Option<u64>) {
        let (from, kept) = (slot * self.stride, bytes.len().min(self.room));
        let target = self.bytes.get_mut(from..from + kept);
        if let (Some(target), Some(bytes)) = (target, bytes.get(..kept)) {
            target.copy_from_slice(bytes);
        }
        let Peer { address, asked } = peer.into();
        if let Some(storage) = self.peers.get_mut(slot) {
            *storage = address::to_kernel(address).0;
        }
        if let Some(note) = self.notes.get_mut(slot) {
            *note = Note { segment, stamp_unix_ns: stamp, asked, length: bytes.len() };
        }
    }

    /// The headers for recvmmsg.
    pub(crate) fn headers(&mut self) -> &mut [libc::mmsghdr] {
        &mut self.headers
    }

    /// Parses what the kernel wrote to the first `count` slots, and resets them for the next call.
    pub(crate) fn note(&mut self, count: usize) {
        let noted = !self.controls.is_empty();
        for (header, note) in self.headers.iter().zip(&mut self.notes).take(count) {
            *note = Note { length: header.msg_len as usize, ..Note::default() };
            if noted && header.msg_hdr.msg_controllen > 0 {
                let data = stamp::read(&header.msg_hdr);
                (note.segment, note.stamp_unix_ns) = (data.segment, data.stamp_unix_ns);
                // A broadcast or multicast address cannot be a source.
                note.asked = data.local.filter(|local| local.own);
            }
        }
        self.open(count);
    }

    fn open(&mut self, count: usize) {
        let control = if self.controls.is_empty() { 0 } else { size_of::<Control>() };
        for header in self.headers.iter_mut().take(count) {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = control as _;
            header.msg_hdr.msg_flags = 0;
        }
    }
}
