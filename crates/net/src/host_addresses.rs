//! This network namespace's devices: their addresses, and the VLANs on top of them.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr::null_mut;

/// A device, by its index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its link-layer address; `None` for a device without Ethernet.
    pub ethernet: Option<[u8; 6]>,
    /// Its IP addresses.
    pub addresses: Vec<HostAddress>,
}

/// An IP address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    /// The address.
    pub address: IpAddr,
    /// Its network's broadcast address.
    pub broadcast: Option<Ipv4Addr>,
}

/// A VLAN on top of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// The VLAN device's name.
    pub name: String,
    /// The VLAN's number.
    pub id: u16,
    /// The name of the device below.
    pub parent: String,
}

/// All devices, by index. Errors: the kernel's, such as netlink sockets that are forbidden.
pub fn devices() -> io::Result<BTreeMap<u32, Device>> {
    let mut first = null_mut::<libc::ifaddrs>();
    // SAFETY: the list's head is written into `first`, and freed below.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (mut found, mut at) = (BTreeMap::new(), first);
    while !at.is_null() {
        // SAFETY: `at` is an entry of the list, which lives until it is freed.
        let entry = unsafe { &*at };
        note(entry, &mut found);
        at = entry.ifa_next;
    }
    // SAFETY: the head that getifaddrs gave; no entry is used any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

fn note(entry: &libc::ifaddrs, found: &mut BTreeMap<u32, Device>) {
    // SAFETY: the name is a C string of the list.
    let index = unsafe { libc::if_nametoindex(entry.ifa_name) };
    if index == 0 {
        return;
    }
    // SAFETY: as above.
    let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy();
    let device = found.entry(index).or_insert_with(|| Device { name: name.into_owned(), ..Device::default() });
    // A device without a link-layer address, such as a tunnel, has an entry without any.
    if entry.ifa_addr.is_null() {
        return;
    }
    // SAFETY: each address has a family, and the size that belongs to it.
    match i32::from(unsafe { (*entry.ifa_addr).sa_family }) {
        libc::AF_PACKET => {
            // SAFETY: as above.
            let link = unsafe { &*entry.ifa_addr.cast::<libc::sockaddr_ll>() };
            let [a, b, c, d, e, f, ..] = link.sll_addr;
            let is_ethernet = link.sll_hatype == libc::ARPHRD_ETHER && link.sll_halen == 6;
            device.ethernet = is_ethernet.then_some([a, b, c, d, e, f]);
        }
        libc::AF_INET => {
            let sent_to_all = entry.ifa_flags & libc::IFF_BROADCAST as u32 != 0 && !entry.ifa_ifu.is_null();
            // SAFETY: a device with this flag has a broadcast address there, of the same family.
            let broadcast =
                sent_to_all.then(|| v4(unsafe { entry.ifa_ifu.cast::<libc::sockaddr_in>().read_unaligned() }));
            // SAFETY: as above.
            let address = IpAddr::V4(v4(unsafe { entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() }));
            device.addresses.push(HostAddress { address, broadcast });
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let octets = unsafe { (*entry.ifa_addr.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr };
            device.addresses.push(HostAddress { address: IpAddr::V6(Ipv6Addr::from(octets)), broadcast: None });
        }
        _ => {}
    }
}

/// The address in a socket address of IPv4.
fn v4(at: libc::sockaddr_in) -> Ipv4Addr {
    Ipv4Addr::from(at.sin_addr.s_addr.to_ne_bytes())
}

/// The VLAN devices. Errors: the kernel does not tell, as there is no /proc here.
pub fn vlans() -> io::Result<Vec<Vlan>> {
    match fs::read_to_string("/proc/thread-self/net/vlan/config") {
        Ok(text) => Ok(parsed(&text)),
        // The module is not loaded.
        Err(_) if fs::exists("/proc/thread-self/net/dev").unwrap_or(false) => Ok(Vec::new()),
        Err(error) => Err(io::Error::new(error.kind(), "XDP: /proc does not tell the VLANs")),
    }
}

/// From lines such as "eth0.10        | 10  | eth0".
fn parsed(text: &str) -> Vec<Vlan> {
    let vlan = |line: &str| {
        let mut fields = line.split('|').map(str::trim);
        let (name, id, parent) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?);
        Some(Vlan { name: name.to_owned(), id, parent: parent.to_owned() })
    };
    text.lines().filter_map(vlan).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_has_its_address() {
        let found = devices().expect("devices");
        let loopback = found.values().find(|device| device.name == "lo").expect("loopback");
        assert_eq!(loopback.ethernet, None);
        let addresses: Vec<_> = loopback.addresses.iter().map(|one| one.address).collect();
        assert!(addresses.contains(&Ipv4Addr::LOCALHOST.into()), "{addresses:?}");
    }

    #[test]
    fn vlans_are_read_from_the_kernel_s_table() {
        let text = "VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                    eth0.10        | 10  | eth0\nguests         | 4094  | bond0\n";
        let vlan = |name: &str, id, parent: &str| Vlan { name: name.into(), id, parent: parent.into() };
        assert_eq!(parsed(text), [vlan("eth0.10", 10, "eth0"), vlan("guests", 4094, "bond0")]);
    }
}
