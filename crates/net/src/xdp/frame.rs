//! UDP datagrams in Ethernet frames: parsed and checked, without copies and without `unsafe`.
//!
//! Checksums: packets that this host sent, over veth or to itself, may carry the sum of the pseudo-header only, which the
//! kernel completes when a packet leaves the host (partial checksums, CHECKSUM_PARTIAL). Both forms are accepted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub(super) const ETHERNET: usize = 14;
pub(super) const IPV4: usize = 20;
pub(super) const IPV6: usize = 40;
pub(super) const UDP: usize = 8;
pub(super) const PROTOCOL_UDP: u8 = 17;

/// Why a frame has no datagram to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameFault {
    /// Not an untagged frame with a UDP datagram in one piece, without IP options or extension headers.
    NotPlain,
    /// A length that reaches beyond the frame or does not cover the headers.
    Length,
    /// A wrong checksum, of the IPv4 header or the datagram; over IPv6 also none at all (RFC 8200, section 8.1).
    Checksum,
}

/// A UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpFrame<'a> {
    /// The sender's address and port.
    pub source: SocketAddr,
    /// The address and port it was sent to.
    pub destination: SocketAddr,
    /// What it carries.
    pub payload: &'a [u8],
}

impl<'a> UdpFrame<'a> {
    /// Reads a frame from its Ethernet header on; bytes behind the datagram are padding.
    ///
    /// # Errors
    /// [`FrameFault`]: an IPv4 (RFC 791), IPv6 (RFC 8200) or UDP (RFC 768) header that is not as it should be.
    #[inline]
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameFault> {
        let ip = frame.get(ETHERNET..).ok_or(FrameFault::NotPlain)?;
        match frame.get(12..14) {
            Some([0x08, 0x00]) => v4(ip),
            Some([0x86, 0xdd]) => v6(ip),
            _ => Err(FrameFault::NotPlain),
        }
    }
}

#[inline]
fn v4(packet: &[u8]) -> Result<UdpFrame<'_>, FrameFault> {
    let header = packet.first_chunk::<IPV4>().ok_or(FrameFault::Length)?;
    let [fragment, offset] = [header[6], header[7]];
    if header[0] != 0x45 || header[9] != PROTOCOL_UDP || fragment & 0x3f != 0 || offset != 0 {
        return Err(FrameFault::NotPlain);
    }
    if folded(add(0, header)) != 0xffff {
        return Err(FrameFault::Checksum);
    }
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let [a, b, c, d, e, f, g, h] = *header.last_chunk::<8>().unwrap_or(&[0; 8]);
    let ends = [IpAddr::V4(Ipv4Addr::new(a, b, c, d)), IpAddr::V4(Ipv4Addr::new(e, f, g, h))];
    let datagram = packet.get(IPV4..length).ok_or(FrameFault::Length)?;
    udp(datagram, ends, add(0, &[a, b, c, d, e, f, g, h]), true)
}

#[inline]
fn v6(packet: &[u8]) -> Result<UdpFrame<'_>, FrameFault> {
    let header = packet.first_chunk::<IPV6>().ok_or(FrameFault::Length)?;
    if header[0] >> 4 != 6 || header[6] != PROTOCOL_UDP {
        return Err(FrameFault::NotPlain);
    }
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let addresses = header.last_chunk::<32>().unwrap_or(&[0; 32]);
    let mut ends = addresses.as_chunks::<16>().0.iter().map(|octets| IpAddr::V6(Ipv6Addr::from(*octets)));
    let [Some(from), Some(to)] = [ends.next(), ends.next()] else { return Err(FrameFault::Length) };
    let datagram = packet.get(IPV6..IPV6 + length).ok_or(FrameFault::Length)?;
    udp(datagram, [from, to], add(0, addresses), false)
}

/// `addresses` is the sum of both addresses; `may_be_none`: a checksum of 0 says that there is none.
#[inline]
fn udp(datagram: &[u8], ends: [IpAddr; 2], addresses: u64, may_be_none: bool) -> Result<UdpFrame<'_>, FrameFault> {
    let header = datagram.first_chunk::<UDP>().ok_or(FrameFault::Length)?;
    let [source, destination, length, checksum] =
        [0, 2, 4, 6].map(|at| u16::from_be_bytes([header[at], header[at + 1]]));
    let whole = datagram.get(..usize::from(length)).filter(|whole| whole.len() >= UDP).ok_or(FrameFault::Length)?;
    let pseudo = addresses + u64::from(PROTOCOL_UDP) + u64::from(length);
    // The sum of a datagram whose checksum is 0 is of no meaning.
    let right = match checksum {
        0 => may_be_none,
        given => folded(add(pseudo, whole)) == 0xffff || folded(pseudo) == given,
    };
    if !right {
        return Err(FrameFault::Checksum);
    }
    let [from, to] = ends;
    Ok(UdpFrame {
        source: SocketAddr::new(from, source),
        destination: SocketAddr::new(to, destination),
        payload: whole.get(UDP..).unwrap_or_default(),
    })
}

/// Adds 16-bit words, an odd byte being the first half of one, to a ones' complement sum (RFC 1071).
#[inline]
pub(super) fn add(sum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    // 2^32 at most each: no datagram overflows the sum.
    let sum = words.iter().fold(sum, |sum, word| sum + u64::from(u32::from_be_bytes(*word)));
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    sum + u64::from(u32::from_be_bytes(last))
}

/// The sum in 16 bits.
#[inline]
pub(super) fn folded(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}
