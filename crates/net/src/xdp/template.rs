//! Ethernet frames with UDP datagrams: the headers of a flow are made once, lengths and checksums for each frame.

use std::net::{IpAddr, SocketAddr};

use super::frame::{ETHERNET, IPV4, IPV6, PROTOCOL_UDP, UDP, add, folded};

/// The longest headers: those of IPv6.
pub(super) const HEADERS: usize = ETHERNET + IPV6 + UDP;
/// The shortest frame of Ethernet, without its checksum.
const SHORTEST: usize = 60;
const HOPS: u8 = 64;

/// Where frames go from and to. Both addresses are of one family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) source_mac: [u8; 6],
    pub(super) next_hop_mac: [u8; 6],
    pub(super) source: SocketAddr,
    pub(super) target: SocketAddr,
}

/// The headers of one flow's frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameTemplate {
    headers: [u8; HEADERS],
    length: usize,
    /// Sums of what does not change: of the IPv4 header, and of what the UDP checksum covers.
    ip_sum: u64,
    udp_sum: u64,
}

impl FrameTemplate {
    pub(super) fn new(ends: &Ends) -> Self {
        let mut made = Self { headers: [0; HEADERS], length: 0, ip_sum: 0, udp_sum: u64::from(PROTOCOL_UDP) };
        made.put(&ends.next_hop_mac);
        made.put(&ends.source_mac);
        match (ends.source.ip(), ends.target.ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                // Version and header length, no service class; not to be cut apart.
                made.put(&[0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0x40, 0, HOPS, PROTOCOL_UDP, 0, 0]);
                made.put(&source.octets());
                made.put(&target.octets());
                made.ip_sum = add(0, made.headers.get(ETHERNET..made.length).unwrap_or_default());
                made.udp_sum += add(add(0, &source.octets()), &target.octets());
            }
            (source, target) => {
                made.put(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, PROTOCOL_UDP, HOPS]);
                for address in [source, target] {
                    let octets = match address {
                        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                        IpAddr::V6(v6) => v6.octets(),
                    };
                    made.put(&octets);
                    made.udp_sum += add(0, &octets);
                }
            }
        }
        let ports = [ends.source.port().to_be_bytes(), ends.target.port().to_be_bytes()];
        made.udp_sum += add(0, ports.as_flattened());
        made.put(ports.as_flattened());
        made.put(&[0; 4]);
        made
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(to) = self.headers.get_mut(self.length..self.length + bytes.len()) {
            to.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }

    /// How long a frame with so many bytes of payload is.
    #[inline]
    pub(super) fn frame_length(&self, payload: usize) -> usize {
        (self.length + payload).max(SHORTEST)
    }

    /// Writes a frame into `to`, which has its length, [`FrameTemplate::frame_length`]; nothing where it has not.
    #[inline]
    pub(super) fn write(&self, payload: &[u8], to: &mut [u8]) {
        let (ip, udp) = (self.length - UDP, (UDP + payload.len()) as u16);
        let Some((headers, rest)) = to.split_at_mut_checked(self.length) else { return };
        let Some((body, padding)) = rest.split_at_mut_checked(payload.len()) else { return };
        headers.copy_from_slice(self.headers.get(..self.length).unwrap_or_default());
        body.copy_from_slice(payload);
        padding.fill(0);
        let mut set = |at: usize, value: u16| {
            if let Some(to) = headers.get_mut(at..at + 2) {
                to.copy_from_slice(&value.to_be_bytes());
            }
        };
        if ip == ETHERNET + IPV4 {
            let whole = IPV4 as u16 + udp;
            set(ETHERNET + 2, whole);
            set(ETHERNET + 10, !folded(self.ip_sum + u64::from(whole)));
        } else {
            set(ETHERNET + 4, udp);
        }
        set(ip + 4, udp);
        // The length is in the pseudo-header and in the header. A sum of zero is written as ones (RFC 768).
        let sum = !folded(add(self.udp_sum + 2 * u64::from(udp), payload));
        set(ip + 6, if sum == 0 { 0xffff } else { sum });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

    use super::super::UdpFrame;
    use super::*;

    fn ends(source: &str, target: &str) -> Ends {
        Ends {
            source_mac: [2, 0, 0, 0, 0, 1],
            next_hop_mac: [2, 0, 0, 0, 0, 2],
            source: source.parse().unwrap(),
            target: target.parse().unwrap(),
        }
    }

    fn frame(ends: &Ends, payload: &[u8]) -> Vec<u8> {
        let template = FrameTemplate::new(ends);
        let mut frame = vec![0xff; template.frame_length(payload.len())];
        template.write(payload, &mut frame);
        frame
    }

    #[test]
    fn a_frame_over_v4_is_these_bytes() {
        // The checksums were computed by another implementation.
        let payload: Vec<u8> = (0..20).collect();
        let wanted = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 48, 0, 0, 0x40, 0, 64, 17, 0xb6, 0xb9, 192, 0, 2, 1,
            192, 0, 2, 2, 0x9c, 0x40, 0, 123, 0, 28, 0x84, 0x92,
        ];
        assert_eq!(frame(&ends("192.0.2.1:40000", "192.0.2.2:123"), &payload), [&wanted[..], &payload].concat());
    }

    #[test]
    fn what_is_written_is_read_again_whatever_its_length() {
        for (source, target) in [("192.0.2.1:40000", "192.0.2.2:123"), ("[2001:db8::1]:40000", "[2001:db8::2]:53")] {
            let ends = ends(source, target);
            for length in 0..=600_usize {
                let payload: Vec<u8> = (0..length).map(|n| (n * 7 + length) as u8).collect();
                let frame = frame(&ends, &payload);
                assert!(frame.len() >= SHORTEST);
                let read = UdpFrame::parse(&frame).unwrap();
                assert_eq!((read.source, read.destination, read.payload), (ends.source, ends.target, &payload[..]));
            }
        }
    }

    #[test]
    fn a_sum_of_zero_is_written_as_ones() {
        let ends = ends("192.0.2.1:40000", "192.0.2.2:123");
        let sum = |payload: [u8; 2]| frame(&ends, &payload)[40..42].to_vec();
        let all: Vec<_> = (0..=u16::MAX).map(|word| sum(word.to_be_bytes())).collect();
        assert!(all.iter().all(|sum| sum != &[0, 0]));
        assert_eq!(all.iter().filter(|sum| *sum == &[0xff, 0xff]).count(), 1);
    }
}
