//! Attaches a program to an interface (XDP), by a link of the kernel's: it ends with this process, however that ends.

use std::fs::File;
use std::io::{self, Read, Write};

use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};

use super::driver::permission;
use super::obstacle::{chain, errno};
use super::{BpfError, Obstacle};
use crate::socket::own;

const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const NESTED: u16 = 1 << 15;
/// XDP_FLAGS_SKB_MODE and XDP_FLAGS_DRV_MODE.
const MODES: [u32; 2] = [1 << 1, 1 << 2];

/// Attaches it to the interface with this index. A program of others there is left alone, or (`replace`) detached first
/// unless a link holds it.
pub(super) fn attach(program: &mut Xdp, interface: u32, generic: bool, replace: bool) -> Result<FdLink, BpfError> {
    let mode = if generic { XdpMode::Skb } else { XdpMode::Driver };
    let mut attached = program.attach_to_if_index(interface, mode);
    if replace && attached.as_ref().is_err_and(is_taken) {
        // What a link holds stays, and the second attempt tells that.
        let _ = detach_unlinked(interface);
        attached = program.attach_to_if_index(interface, mode);
    }
    let link = attached.and_then(|id| program.take_link(id));
    let link = link.map_err(|error| unattached(&error, generic, replace))?;
    // The other kind of attachment would stay behind a process that is killed.
    FdLink::try_from(link)
        .map_err(|_| BpfError::new(Obstacle::Unsupported, "the kernel has no links for XDP programs (Linux 5.9)"))
}

fn is_taken(error: &ProgramError) -> bool {
    matches!(errno(error), Some(libc::EBUSY | libc::EEXIST))
}

/// Why it cannot be attached.
fn unattached(error: &ProgramError, generic: bool, replace: bool) -> BpfError {
    let mode = if generic { "generic" } else { "native" };
    let (obstacle, why) = match errno(error) {
        Some(libc::EBUSY | libc::EEXIST) if replace => {
            (Obstacle::Failed, "another XDP program is held by a link: only the process that holds it can end that")
        }
        Some(libc::EBUSY | libc::EEXIST) => {
            (Obstacle::Failed, "another XDP program is attached, and is left alone (see `ip link`, `bpftool net`)")
        }
        Some(libc::EOPNOTSUPP) => {
            (Obstacle::Unsupported, "the interface's driver has no XDP, or not with these settings (LRO, bonding mode)")
        }
        Some(libc::ENODEV) => (Obstacle::Failed, "the interface is gone"),
        Some(libc::ENOMEM | libc::ENOSPC) => {
            (Obstacle::Failed, "the driver lacks queues or memory for it (ethtool -l and -L)")
        }
        Some(libc::ERANGE) => (Obstacle::Failed, "the interface's MTU is too large for it"),
        Some(libc::EINVAL) => {
            let said = said_by_kernel(&chain(error));
            let text = format!("{mode}: the driver refuses it{said}: its MTU may be too large, its queues too few");
            return BpfError::new(Obstacle::Failed, text);
        }
        _ => {
            let refused = permission(BpfError::of(error));
            return BpfError::new(refused.obstacle, format!("{mode}: {refused}"));
        }
    };
    BpfError::new(obstacle, format!("{mode}: {why}"))
}

/// The driver's own words, which the loader has in brackets: `netlink error: ["MTU too large"]`.
fn said_by_kernel(text: &str) -> String {
    let words = text.split_once("[\"").and_then(|(_, rest)| rest.split_once("\"]"));
    words.map_or_else(String::new, |(words, _)| format!(" ({words})"))
}

/// Detaches programs that no link holds, in both modes. Errors: the kernel's, such as EBUSY for one that a link holds.
fn detach_unlinked(interface: u32) -> io::Result<()> {
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes no pointers.
    let mut kernel = File::from(own(unsafe { libc::socket(libc::AF_NETLINK, flags, libc::NETLINK_ROUTE) })?);
    for mode in MODES {
        kernel.write_all(&detaching(interface, mode))?;
        let mut answer = [0; 4096];
        let length = kernel.read(&mut answer)?;
        // struct nlmsgerr behind the header: 0, or an errno below it.
        let error = answer.get(16..length.min(20)).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
        match error {
            Some(0) => {}
            Some(number) => return Err(io::Error::from_raw_os_error(-number)),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    Ok(())
}

/// RTM_SETLINK with no program for this mode (rtnetlink(7)).
fn detaching(interface: u32, mode: u32) -> Vec<u8> {
    let attribute = |kind: u16, value: &[u8]| -> Vec<u8> {
        let length = (4 + value.len()) as u16;
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
    };
    let (fd, flags) = (attribute(IFLA_XDP_FD, &(-1_i32).to_ne_bytes()), attribute(IFLA_XDP_FLAGS, &mode.to_ne_bytes()));
    let xdp = attribute(IFLA_XDP | NESTED, &[fd, flags].concat());
    // struct ifinfomsg: family and kind, index, flags and which of them change.
    let device = [&[0; 4][..], &interface.to_ne_bytes(), &[0; 8]].concat();
    let length = (16 + device.len() + xdp.len()) as u32;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let header = [&length.to_ne_bytes()[..], &libc::RTM_SETLINK.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
    [header, device, xdp].concat()
}

#[cfg(test)]
mod tests {
    use aya::sys::SyscallError;

    use super::*;

    fn said(number: i32, replace: bool) -> BpfError {
        let io_error = io::Error::from_raw_os_error(number);
        let error = ProgramError::SyscallError(SyscallError { call: "bpf_link_create", io_error });
        unattached(&error, false, replace)
    }

    #[test]
    fn each_refusal_has_its_words() {
        let cases = [
            (libc::EBUSY, "left alone"),
            (libc::EEXIST, "bpftool"),
            (libc::EOPNOTSUPP, "no XDP"),
            (libc::ENODEV, "the interface is gone"),
            (libc::ENOSPC, "queues"),
            (libc::ERANGE, "MTU is too large"),
            (libc::EINVAL, "the driver refuses it: its MTU"),
        ];
        for (number, words) in cases {
            let text = said(number, false).text;
            assert!(text.starts_with("native: ") && text.contains(words), "{number}: {text}");
        }
        assert!(said(libc::EBUSY, true).text.contains("held by a link"));
    }

    #[test]
    fn the_driver_s_own_words_are_told() {
        let text = "loading failed: netlink error: [\"veth: MTU too large\"]: Invalid argument (os error 22)";
        assert_eq!(said_by_kernel(text), " (veth: MTU too large)");
        assert_eq!(said_by_kernel("bpf_link_create failed"), "");
    }

    #[test]
    fn the_message_that_detaches_has_the_lengths_that_it_says() {
        let message = detaching(7, MODES[0]);
        assert_eq!(message.len(), 16 + 16 + 20);
        assert_eq!(message[..4], 52_u32.to_ne_bytes());
        assert_eq!(message[20..24], 7_u32.to_ne_bytes());
        assert_eq!(message[32..34], 20_u16.to_ne_bytes());
        assert_eq!(message[40..44], [0xff; 4], "no program");
    }
}
