//! Flows that share sockets: the far end tells them apart, answers and refusals come back to the right one.

use std::collections::HashSet;

use super::*;
use crate::SharedFlows;

const FLOWS: usize = 10;

fn sources(count: u8) -> Vec<IpAddr> {
    (1..=count).map(|n| IpAddr::from([127, 0, 9, n])).collect()
}

fn open(target: SocketAddr, sources: &[IpAddr]) -> SharedFlows {
    SharedFlows::open(target, sources, FLOWS, 2048, true).unwrap()
}

/// Sends one datagram over each flow: its number.
fn send_all(flows: &mut SharedFlows) {
    for flow in 0..FLOWS {
        let mut batch = numbered(1, 4);
        batch.slot(0)[..4].fill(flow as u8);
        assert_eq!(flows.send(flow, &mut batch, 1, 4), SendResult::Sent(1));
    }
}

/// What arrives until `count` datagrams have: the flow, and the number in the datagram.
fn arrived(flows: &mut SharedFlows, count: usize) -> Vec<(usize, u8)> {
    let mut batch = Batch::new(4, 2048, false);
    let mut all = Vec::new();
    while all.len() < count {
        let ready = flows.poll(PATIENCE).unwrap();
        assert!(ready > 0, "only {all:?} came");
        for n in 0..ready {
            let (flow, _) = flows.ready(n);
            loop {
                let came = flows.receive(flow, &mut batch).unwrap();
                assert!((0..came).all(|slot| batch.meta(slot).stamp_unix_ns.is_some()));
                all.extend((0..came).map(|slot| (flow, batch.packet(slot)[0])));
                if came < batch.slots() {
                    break;
                }
            }
        }
    }
    all
}

#[test]
fn each_flow_has_an_address_and_hears_its_own_answers() {
    for sources in [sources(10), sources(3)] {
        let far = UdpSocket::bind(ANY_PORT).unwrap();
        far.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut flows = open(far.local_addr().unwrap(), &sources);
        assert_eq!(flows.flows(), FLOWS);
        send_all(&mut flows);
        let mut seen = HashSet::new();
        let mut bytes = [0; 16];
        for _ in 0..FLOWS {
            let (_, from) = far.recv_from(&mut bytes).unwrap();
            assert_eq!(from.ip(), sources[usize::from(bytes[0]) % sources.len()], "flow {}", bytes[0]);
            seen.insert(from);
            // Twice: a flow may have more than one arrival.
            far.send_to(&bytes[..4], from).unwrap();
            far.send_to(&bytes[..4], from).unwrap();
        }
        assert_eq!(seen.len(), FLOWS, "address and port tell all flows apart");
        let mut all = arrived(&mut flows, 2 * FLOWS);
        all.sort_unstable();
        let expected: Vec<_> = (0..2 * FLOWS).map(|n| (n / 2, (n / 2) as u8)).collect();
        assert_eq!(all, expected);
    }
}

#[test]
fn datagrams_from_elsewhere_are_passed_over() {
    let (far, stranger) = (UdpSocket::bind(ANY_PORT).unwrap(), UdpSocket::bind(ANY_PORT).unwrap());
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut flows = open(far.local_addr().unwrap(), &sources(10));
    send_all(&mut flows);
    let mut bytes = [0; 16];
    let (_, from) = far.recv_from(&mut bytes).unwrap();
    stranger.send_to(&[99; 4], from).unwrap();
    far.send_to(&bytes[..4], from).unwrap();
    assert_eq!(arrived(&mut flows, 1), [(usize::from(bytes[0]), bytes[0])]);
}

#[test]
fn refusals_come_back_to_the_flow_that_was_refused() {
    let closed = UdpSocket::bind(ANY_PORT).unwrap().local_addr().unwrap();
    let mut flows = open(closed, &sources(10));
    let mut batch = numbered(1, 32);
    batch.slot(0)[..32].fill(7);
    assert_eq!(flows.send(7, &mut batch, 1, 32), SendResult::Sent(1));
    let ready = flows.poll(PATIENCE).unwrap();
    let refused: Vec<_> = (0..ready).map(|n| flows.ready(n)).filter(|(_, refused)| *refused).collect();
    assert_eq!(refused, [(7, true)]);
    let mut quote = [0; 64];
    let told = flows.refused(7, &mut quote).unwrap().unwrap();
    assert_eq!((told.errno, told.quoted, quote[0]), (111, 32, 7));
    assert!(flows.refused(7, &mut quote).unwrap().is_none());
}

#[test]
fn without_sources_there_is_nothing_to_share_by() {
    assert!(SharedFlows::open(ANY_PORT.parse().unwrap(), &[], 1, 2048, false).is_err());
}
