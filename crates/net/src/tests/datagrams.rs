//! The rules of `Datagrams`, for a socket per flow and for one socket that all flows share.

use std::collections::VecDeque;
use std::time::Instant;

use super::*;
use crate::{CallError, Refused};

/// Flows that share one unconnected socket: each has a far end of its own, and arrivals are sorted by their source.
struct OneSocket {
    socket: UdpSocket,
    targets: Vec<SocketAddr>,
    arrived: Vec<VecDeque<Vec<u8>>>,
    ready: Vec<usize>,
}

impl OneSocket {
    fn open(targets: &[SocketAddr]) -> Self {
        let socket = UdpSocket::bind(ANY_PORT).unwrap();
        let arrived = targets.iter().map(|_| VecDeque::new()).collect();
        Self { socket, targets: targets.to_vec(), arrived, ready: Vec::new() }
    }
}

impl Datagrams for OneSocket {
    fn flows(&self) -> usize {
        self.targets.len()
    }

    fn send(&mut self, flow: usize, batch: &mut Batch, count: usize, length: usize) -> SendResult {
        for slot in 0..count {
            self.socket.send_to(&batch.slot(slot)[..length], self.targets[flow]).unwrap();
        }
        SendResult::Sent(count)
    }

    fn poll(&mut self, wait: Duration) -> Result<usize, CallError> {
        let (mut buffer, begun) = ([0; 2048], Instant::now());
        self.ready.clear();
        while self.ready.is_empty() {
            let Some(left) = wait.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) else { break };
            self.socket.set_nonblocking(false).unwrap();
            self.socket.set_read_timeout(Some(left)).unwrap();
            while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
                self.socket.set_nonblocking(true).unwrap();
                let Some(flow) = self.targets.iter().position(|target| *target == from) else { continue };
                self.arrived[flow].push_back(buffer[..length].to_vec());
                if !self.ready.contains(&flow) {
                    self.ready.push(flow);
                }
            }
        }
        Ok(self.ready.len())
    }

    fn ready(&self, n: usize) -> (usize, bool) {
        (self.ready[n], false)
    }

    fn receive(&mut self, flow: usize, batch: &mut Batch) -> Result<usize, CallError> {
        let count = self.arrived[flow].len().min(batch.slots());
        for (slot, packet) in self.arrived[flow].drain(..count).enumerate() {
            batch.deliver(slot, &packet, Meta::default());
        }
        Ok(count)
    }

    fn refused(&mut self, _: usize, _: &mut [u8]) -> Result<Option<Refused>, CallError> {
        Ok(None)
    }

    fn drops(&self) -> u64 {
        0
    }
}

/// Sends `each` datagrams over every flow, echoes them, and receives them as the engine does: by what `poll` reports.
fn echoed(link: &mut impl Datagrams, far_ends: &[UdpSocket], each: usize) {
    let mut buffer = [0; 64];
    for (flow, far_end) in far_ends.iter().enumerate() {
        let mut batch = Batch::new(each, 64, false);
        for slot in 0..each {
            batch.slot(slot)[..2].copy_from_slice(&[flow as u8, slot as u8]);
            batch.set_length(slot, 2);
        }
        assert_eq!(link.send(flow, &mut batch, each, 2), SendResult::Sent(each));
        for _ in 0..each {
            let (length, from) = far_end.recv_from(&mut buffer).unwrap();
            far_end.send_to(&buffer[..length], from).unwrap();
        }
    }
    let mut came = vec![Vec::new(); link.flows()];
    let mut batch = Batch::new(3, 64, false);
    while came.iter().any(|of_flow| of_flow.len() < each) {
        let ready = link.poll(PATIENCE).unwrap();
        assert!(ready > 0, "only {came:?} came");
        for n in 0..ready {
            let (flow, refusals) = link.ready(n);
            assert!(!refusals);
            loop {
                let count = link.receive(flow, &mut batch).unwrap();
                came[flow].extend((0..count).map(|slot| batch.packet(slot).to_vec()));
                if count < batch.slots() {
                    break;
                }
            }
        }
    }
    for (flow, came) in came.iter().enumerate() {
        assert_eq!(*came, (0..each).map(|slot| vec![flow as u8, slot as u8]).collect::<Vec<_>>());
    }
    assert_eq!((link.poll(Duration::from_millis(1)).unwrap(), link.drops()), (0, 0));
}

fn far_ends(count: usize) -> (Vec<UdpSocket>, Vec<SocketAddr>) {
    let sockets: Vec<_> = (0..count).map(|_| UdpSocket::bind(ANY_PORT).unwrap()).collect();
    sockets.iter().for_each(|socket| socket.set_read_timeout(Some(PATIENCE)).unwrap());
    let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    (sockets, addresses)
}

#[test]
fn flows_with_a_socket_each() {
    let (sockets, targets) = far_ends(5);
    let options = FlowOptions { stamps: false, segmented: false, busy_poll_us: 0 };
    echoed(&mut Flows::open(&targets, &[], 5, options).unwrap(), &sockets, 7);
}

#[test]
fn flows_that_share_one_socket() {
    let (sockets, targets) = far_ends(5);
    echoed(&mut OneSocket::open(&targets), &sockets, 7);
}
