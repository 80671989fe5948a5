//! Control messages: stamps and local addresses, read from arrivals and written to answers.

use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Room for two timestamps (a socket may report arrivals in both forms) and both packet-info messages (a v4 datagram on
/// a v6 socket has both), aligned as the kernel wants it.
pub(crate) const WORDS: usize = 24;
/// One packet's control messages.
pub(crate) type Control = [u64; WORDS];

/// The content of one arrival's control messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ControlData {
    pub stamp_unix_ns: Option<u64>,
    pub local: Option<Local>,
    /// Of an error-queue read; 0 elsewhere.
    pub errno: i32,
    /// SO_TIMESTAMPING's: when it arrived; read from the error queue: when it was sent, and which datagram of its socket.
    pub software_unix_ns: Option<u64>,
    pub tx_id: Option<u32>,
    /// The length of each coalesced datagram; 0: a single datagram.
    pub segment: usize,
}

/// The local end of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The destination address of the arrival.
    pub asked: IpAddr,
    /// It is a unicast address, from which answers can leave.
    pub own: bool,
    /// The index of the interface it came in by.
    pub interface: u32,
}

/// A peer, and the local address that it sends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The peer's address.
    pub address: SocketAddr,
    /// The local address, known where the socket is bound to a wildcard: answers leave from there.
    pub asked: Option<Local>,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self { address, asked: None }
    }
}

/// Reads the control messages that the kernel attached to `header`.
pub(crate) fn read(header: &libc::msghdr) -> ControlData {
    let mut data = ControlData::default();
    // SAFETY: `header` was filled by the kernel, which set msg_control and msg_controllen to describe our buffer.
    let mut at = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: a non-null result of CMSG_FIRSTHDR or CMSG_NXTHDR points to a whole cmsghdr inside the buffer.
    while let Some(message) = unsafe { at.as_ref() } {
        note(message, &mut data);
        // SAFETY: `at` came from the same header's walk.
        at = unsafe { libc::CMSG_NXTHDR(header, at) };
    }
    data
}

fn note(message: &libc::cmsghdr, data: &mut ControlData) {
    match (message.cmsg_level, message.cmsg_type) {
        (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
            data.stamp_unix_ns = Some(unix_ns(payload(message)));
        }
        (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => {
            // The second is obsolete, the third the network card's.
            let [software, ..]: [libc::timespec; 3] = payload(message);
            data.software_unix_ns = Some(unix_ns(software)).filter(|ns| *ns > 0);
        }
        (libc::SOL_IP, libc::IP_PKTINFO) => {
            let info: libc::in_pktinfo = payload(message);
            let asked = IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)));
            // A directed broadcast is delivered with a different address of our own as its specific destination.
            let own = info.ipi_addr.s_addr == info.ipi_spec_dst.s_addr;
            match &mut data.local {
                // On a v6 socket: its answers need the v6 form, which came before.
                Some(local) => local.own = own,
                None => data.local = Some(Local { asked, own, interface: info.ipi_ifindex as u32 }),
            }
        }
        (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
            let info: libc::in6_pktinfo = payload(message);
            let asked = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            data.local =
                Some(Local { asked: IpAddr::V6(asked), own: !asked.is_multicast(), interface: info.ipi6_ifindex });
        }
        (libc::SOL_UDP, libc::UDP_GRO) => {
            data.segment = usize::try_from(payload::<libc::c_int>(message)).unwrap_or_default();
        }
        (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) => {
            let error: libc::sock_extended_err = payload(message);
            data.errno = error.ee_errno as i32;
            data.tx_id = (error.ee_origin == libc::SO_EE_ORIGIN_TIMESTAMPING).then_some(error.ee_data);
        }
        _ => {}
    }
}

fn unix_ns(time: libc::timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn payload<T: Copy>(message: &libc::cmsghdr) -> T {
    // SAFETY: the level and type say that the kernel stored a T behind this header; it may be unaligned.
    unsafe { libc::CMSG_DATA(message).cast::<T>().read_unaligned() }
}

/// Writes the message that makes a packet leave from `local`'s address; returns the length used.
///
/// The interface is given for link-local v6 only: everywhere else routing chooses it, as in chrony.
pub(crate) fn write_source(control: &mut Control, local: &Local) -> usize {
    match local.asked {
        IpAddr::V4(asked) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from(asked).to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            write(control, libc::SOL_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(asked) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: asked.octets() },
                ipi6_ifindex: if asked.is_unicast_link_local() { local.interface } else { 0 },
            };
            write(control, libc::SOL_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

/// Writes, behind `used` bytes of other messages, the one that asks for a transmit stamp of this packet (4.6).
///
/// Returns the length used in all.
pub(crate) fn write_stamp_request(control: &mut Control, used: usize) -> usize {
    let rest = control.get_mut(used.div_ceil(8)..).unwrap_or_default();
    used + write_at(rest, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, libc::SOF_TIMESTAMPING_TX_SOFTWARE)
}

/// Writes the message that segments a send into datagrams of `bytes` (UDP_SEGMENT, 4.18); returns the length used.
pub(crate) fn write_segment(control: &mut Control, bytes: u16) -> usize {
    write(control, libc::SOL_UDP, libc::UDP_SEGMENT, bytes)
}

fn write<T: Copy>(control: &mut Control, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    const { assert!(size_of::<T>() + 2 * size_of::<libc::cmsghdr>() <= WORDS * 8) };
    write_at(control, level, kind, value)
}

/// Writes a message at the beginning of `words`, which have room for it; returns its length with padding.
fn write_at<T: Copy>(words: &mut [u64], level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    // SAFETY: CMSG_SPACE computes a length only.
    let space = unsafe { libc::CMSG_SPACE(size_of::<T>() as u32) } as usize;
    if size_of_val(words) < space {
        return 0;
    }
    // SAFETY: `words` is aligned for cmsghdr and has room for a header and a T, as checked above.
    unsafe {
        let message = words.as_mut_ptr().cast::<libc::cmsghdr>();
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
        libc::CMSG_DATA(message).cast::<T>().write_unaligned(value);
    }
    space
}
