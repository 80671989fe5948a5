//! Where the program answers, and what it is told; the program itself is tested in `tests/driver_tests.rs`.

use flatout_net::HostAddress;
use flatout_wire::{DropReason, RequestContext, Table};

use super::*;

const NOW: u64 = 1_800_000_000_000_000_000;
const STEADY: u64 = 5_000_000_000;
const CLOCKS: ClockOffsets =
    ClockOffsets { steady_ns: STEADY, unix_ns: (NOW - STEADY) as i64, tai_ns: 7, took_ns: 100 };

fn device(name: &str, addresses: &[&str]) -> Device {
    let addresses = addresses.iter().map(|text| {
        let (address, broadcast) = text.split_once(' ').unwrap_or((text, ""));
        HostAddress { address: address.parse().expect("an address"), broadcast: broadcast.parse().ok() }
    });
    Device { name: name.into(), ethernet: Some([2, 0, 0, 0, 0, 1]), addresses: addresses.collect() }
}

fn host() -> (BTreeMap<u32, Device>, Vec<Vlan>) {
    let devices = [
        (1, device("lo", &["127.0.0.1", "::1", "203.0.113.9"])),
        (2, device("eth0", &["192.0.2.1 192.0.2.255", "2001:db8::1", "fe80::1"])),
        (3, device("eth0.10", &["198.51.100.1"])),
        (4, device("eth1", &["203.0.113.1", "fe80::2"])),
        (5, device("eth1.10", &["203.0.113.2"])),
    ];
    let vlan = |name: &str, parent: &str| Vlan { name: name.into(), id: 10, parent: parent.into() };
    (devices.into(), vec![vlan("eth0.10", "eth0"), vlan("eth1.10", "eth1")])
}

fn one_socket() -> Vec<Arc<Server>> {
    let address = "127.0.0.1:0".parse().expect("an address");
    vec![Arc::new(Server::bind(address, Duration::from_millis(1)).expect("a socket"))]
}

/// Addresses with VLAN, of those that are answered.
fn served(listened: &[&str], restricted: &[Arc<Server>], dual_stack: bool) -> Vec<String> {
    let addresses = listened.iter().map(|text| text.parse().expect("an address")).collect();
    let (devices, vlans) = host();
    let found = places(&Sockets { addresses, restricted: restricted.to_vec(), dual_stack }, &devices, &vlans, 2);
    let mut texts: Vec<_> = found
        .iter()
        .filter(|(_, served)| **served)
        .map(|(place, _)| format!("{} {} {}", place.address, place.port, place.vlan))
        .collect();
    texts.sort();
    texts
}

#[test]
fn all_addresses_of_the_host_are_served_where_its_sockets_receive_them() {
    let v4 = ["192.0.2.1 123 0", "198.51.100.1 123 10", "203.0.113.1 123 0", "203.0.113.9 123 0"];
    let v6 = ["2001:db8::1 123 0", "fe80::1 123 0"];
    assert_eq!(served(&["0.0.0.0:123"], &[], true), v4);
    assert_eq!(served(&["[::]:123"], &[], false), v6);
    let mut both: Vec<_> = [&v4[..], &v6[..]].concat();
    both.sort_unstable();
    assert_eq!(served(&["[::]:123"], &[], true), both);
    assert_eq!(served(&["192.0.2.1:123", "192.0.2.1:1123"], &[], true), ["192.0.2.1 1123 0", "192.0.2.1 123 0"]);
    assert_eq!(served(&["192.0.2.77:123", "127.0.0.1:123"], &[], true), [""; 0]);
    assert_eq!(served(&["[::ffff:192.0.2.1]:123"], &[], true), ["192.0.2.1 123 0"]);
}

#[test]
fn a_vlan_s_own_device_has_frames_without_the_tag() {
    let (devices, vlans) = host();
    let sockets =
        Sockets { addresses: vec!["0.0.0.0:123".parse().expect("one")], restricted: one_socket(), dual_stack: true };
    let found = places(&sockets, &devices, &vlans, 3);
    let place = Place { address: "198.51.100.1".parse().expect("one"), port: 123, vlan: 0 };
    assert_eq!(found.get(&place), Some(&true));
}

#[test]
fn vlans_are_left_out_where_the_sockets_do_not_receive_them() {
    let untagged = ["192.0.2.1 123 0", "203.0.113.1 123 0", "203.0.113.9 123 0"];
    assert_eq!(served(&["0.0.0.0:123"], &one_socket(), true), untagged);
}

#[test]
fn a_link_local_address_is_served_on_its_own_link() {
    let at = |scope| {
        let mut address: SocketAddr = "[fe80::1]:123".parse().expect("an address");
        if let SocketAddr::V6(v6) = &mut address {
            v6.set_scope_id(scope);
        }
        let sockets = Sockets { addresses: vec![address], restricted: Vec::new(), dual_stack: true };
        places(&sockets, &host().0, &host().1, 2).values().filter(|served| **served).count()
    };
    assert_eq!((at(2), at(4)), (1, 0));
}

#[test]
fn broadcast_addresses_are_nobody_s() {
    let sockets =
        Sockets { addresses: vec!["0.0.0.0:123".parse().expect("one")], restricted: Vec::new(), dual_stack: true };
    let found = places(&sockets, &host().0, &host().1, 2);
    let broadcast = Place { address: "192.0.2.255".parse().expect("one"), port: 123, vlan: 0 };
    assert_eq!(found.get(&broadcast), Some(&false));
}

/// Says whatever it was told: word 0 is the offset, word 1 the end of the time in which it has one.
#[derive(Clone, Default)]
struct Echo {
    state: Option<DriverState>,
}

impl Responder for Echo {
    fn answer(&self, _: Table<'_>, _: &RequestContext, _: &mut [u8], length: usize) -> Result<usize, DropReason> {
        Ok(length)
    }

    fn refresh(&mut self, live: &LiveState, now: u64) {
        let change = live.age_ns as i64 / 1_000_000 * live.words[0] as i64;
        let words = [live.age_ns, 0, 0, 0];
        self.state = (now < live.words[1]).then_some(DriverState { words, offset_ns: change });
    }

    fn driver_state(&self, _: Table<'_>) -> Option<DriverState> {
        self.state
    }
}

fn told(per_ms: i64, until: u64, clocks: &ClockOffsets) -> Option<DriverAnswer> {
    let mut words = [0; flatout_wire::STATE_WORDS];
    (words[0], words[1]) = (per_ms as u64, until);
    let live = LiveState { words, age_ns: 1_000_000, stepped_ns: 0 };
    answer((&mut Echo::default(), Table::default()), Some(live), clocks, [1; 6])
}

#[test]
fn the_program_is_told_the_offset_and_its_change_for_one_lease() {
    let answer = told(50, u64::MAX, &CLOCKS).expect("an answer");
    assert_eq!((answer.told, answer.valid_until), (STEADY, STEADY + LEASE_NS));
    assert_eq!((answer.unix_offset, answer.tai_offset), (CLOCKS.unix_ns + 50, 7));
    assert_eq!(answer.words[0], 1_000_000 + LEASE_NS, "what the end of the lease says");
    let at_end = (answer.change * LEASE_NS as i64) >> 32;
    assert!((at_end - 50 * 200).abs() <= 1, "{at_end} ns more at the end");
    let slower = told(-50, u64::MAX, &CLOCKS).expect("an answer");
    assert!((((slower.change * LEASE_NS as i64) >> 32) + 50 * 200).abs() <= 1);
}

#[test]
fn nothing_is_told_without_a_state_for_the_whole_lease() {
    assert!(told(0, NOW + LEASE_NS + 1, &CLOCKS).is_some());
    assert!(told(0, NOW + LEASE_NS, &CLOCKS).is_none(), "it ends within the lease");
    assert!(told(0, NOW, &CLOCKS).is_none());
    assert!(answer((&mut Echo::default(), Table::default()), None, &CLOCKS, [1; 6]).is_none(), "none was told yet");
    assert!(told(200_000, u64::MAX, &CLOCKS).is_none(), "a jump is no correction");
}

#[test]
fn nothing_is_told_of_clocks_that_were_read_apart() {
    let read_in = |took_ns| told(0, u64::MAX, &ClockOffsets { took_ns, ..CLOCKS }).is_some();
    assert_eq!((read_in(TOOK_NS), read_in(TOOK_NS + 1)), (true, false));
}

#[test]
fn the_engine_s_steady_clock_is_the_kernel_s() {
    let base = steady_base_ns();
    let before = steady_now();
    let kernel = clock_offsets().steady_ns - base;
    assert!((before.saturating_sub(1_000_000)..=steady_now() + 1_000_000).contains(&kernel), "{before} {kernel}");
}

/// What the program is told of a state with such a leap, at a Unix time in ms, after a step of the clock.
fn of_state(leap: u8, unix_ms: u64, stepped_ns: i64, age_ns: u64) -> Option<DriverAnswer> {
    let stated = flatout_wire::ProtocolOption { name: "stated", value: 1 };
    let mut responder = flatout_wire::ntp::Ntp::responder(&[stated]).expect("a responder");
    let unix = unix_ms * 1_000_000;
    let mut words = [0; flatout_wire::STATE_WORDS];
    words[0] = u64::from_le_bytes([1, leap, 2, -20_i8 as u8, 192, 0, 2, 7]);
    words[1] = flatout_wire::ntp::from_unix(unix - 30_000_000_000);
    // It holds for 60 s.
    words[7] = 60_000_000_000;
    let clocks = ClockOffsets { unix_ns: (unix - STEADY) as i64, ..CLOCKS };
    answer((&mut responder, Table::default()), Some(LiveState { words, age_ns, stepped_ns }), &clocks, [1; 6])
}

#[test]
fn a_lease_ends_before_the_seconds_around_a_leap_second() {
    // 2016-12-31T23:59:59Z, after which a second was inserted.
    let last_ms = 1_483_228_799_000_i64;
    for (before_ms, told) in [(-1_200, true), (-201, true), (-199, false), (0, false), (1_999, false), (2_000, true)] {
        let at_ms = last_ms + before_ms;
        assert_eq!(of_state(1, at_ms as u64, 0, 0).is_some(), told, "{before_ms} ms");
        // Of one that was not announced the kernel may know: no lease reaches over it.
        let unannounced = of_state(0, at_ms as u64, 0, 0);
        let wanted = match before_ms {
            0 => None,
            -199 => Some(199),
            _ => Some(LEASE_NS / 1_000_000),
        };
        assert_eq!(unannounced.map(|told| (told.valid_until - told.told) / 1_000_000), wanted, "{before_ms} ms");
    }
}

#[test]
fn nothing_is_told_of_a_state_that_is_old_or_of_another_clock() {
    let now_ms = 1_483_000_000_000;
    let told = |leap, stepped_ns, age_ns| of_state(leap, now_ms, stepped_ns, age_ns).is_some();
    assert!(told(0, 0, 0) && told(2, 0, 59_000_000_000));
    assert!(!told(3, 0, 0), "not synchronised");
    assert!(!told(0, 0, 59_900_000_000), "it grows stale within the lease");
    for step in [1_000_000_000, -1_000_000_000, 3_600_000_000_000, -3_600_000_000_000] {
        assert!(!told(0, step, 0), "{step} ns");
    }
}
