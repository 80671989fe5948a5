//! All sockets of a server: for each address one a worker, on one port for all links.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use flatout_net::{Listen, Listener, Server, ServerOptions};
use flatout_wire::Link;

use super::WAIT;
use super::admission::Spread;
use crate::plan::ServePlan;

/// How many free ports are tried where one must be free for two links.
const TRIES: usize = 32;
const OPTIONS: ServerOptions = ServerOptions { wait: WAIT, tx_stamps: false };

/// A socket of one worker.
#[derive(Clone)]
pub(super) struct WorkerSocket {
    pub(super) server: Arc<Server>,
    /// Other workers read it too.
    pub(super) shared: bool,
    /// This worker counts what the kernel drops there.
    pub(super) counts_drops: bool,
}

/// What the workers are given.
#[derive(Default)]
pub(super) struct Bound {
    pub(super) addresses: Vec<SocketAddr>,
    /// Of each worker, one an address; where sockets were handed over, as many as there are.
    pub(super) sockets: Vec<Vec<WorkerSocket>>,
    /// The same for streams.
    pub(super) listeners: Vec<Vec<(Listener, SocketAddr)>>,
    /// Of each address: the first socket, and how many there are.
    groups: Vec<(Arc<Server>, usize)>,
    pub(super) spread: Spread,
}

impl Bound {
    /// The sockets that receive only what comes by one interface.
    pub(super) fn restricted(&self, plan: &ServePlan) -> Vec<Arc<Server>> {
        let all = self.sockets.iter().flatten().map(|socket| Arc::clone(&socket.server));
        all.filter(|_| plan.interface.is_some()).collect()
    }

    /// Deals the sockets of one address, if there are any, out to the workers.
    fn deal(&mut self, group: &[Arc<Server>]) {
        let (Some(first), workers) = (group.first(), self.sockets.len()) else { return };
        for (worker, sockets) in self.sockets.iter_mut().enumerate() {
            sockets.extend(dealt(worker, workers, group.len()).map(|n| WorkerSocket {
                server: Arc::clone(&group[n]),
                shared: n + group.len() < workers,
                counts_drops: worker < group.len(),
            }));
        }
        self.groups.push((Arc::clone(first), group.len()));
    }
}

/// Binds for all workers, or not at all.
pub(super) fn all(plan: &ServePlan) -> io::Result<Bound> {
    let workers = plan.workers.max(1);
    let mut bound = Bound {
        sockets: vec![Vec::new(); workers],
        listeners: (0..workers).map(|_| Vec::new()).collect(),
        ..Bound::default()
    };
    if plan.inherited.is_empty() {
        let wanted: Vec<_> = (0..plan.listen.len()).map(|n| restricted(plan, n)).collect();
        for listen in &wanted {
            check_free(plan, listen)?;
        }
        for listen in wanted {
            one(plan, listen, &mut bound)?;
        }
    } else {
        inherit(plan, &mut bound)?;
    }
    if plan.by_client && workers > 1 {
        bound.spread = Spread::by_client(&bound.groups, &plan.admission)?;
    }
    Ok(bound)
}

fn restricted(plan: &ServePlan, n: usize) -> Listen {
    let address = plan.listen[n];
    let v4_too = |other: &SocketAddr| other.is_ipv4() && other.ip().is_unspecified() && other.port() == address.port();
    Listen {
        interface: plan.interface.clone(),
        free_bind: plan.free_bind,
        only_v6: plan.listen.iter().any(v4_too),
        ..Listen::at(address)
    }
}

fn check_free(plan: &ServePlan, listen: &Listen) -> io::Result<()> {
    if plan.links.contains(&Link::Udp) {
        listen.check_free()?;
    }
    if plan.links.contains(&Link::Tcp) {
        Listener::check_address_free(listen.address)?;
    }
    Ok(())
}

/// One address, for all workers and links.
fn one(plan: &ServePlan, listen: Listen, bound: &mut Bound) -> io::Result<()> {
    let (address, first, listener) = on_one_port(plan, listen.clone())?;
    let listen = Listen { address, ..listen };
    let mut group: Vec<_> = first.map(Arc::new).into_iter().collect();
    for worker in 1..bound.sockets.len() {
        if !group.is_empty() {
            group.push(Arc::new(Server::listen(&listen, OPTIONS)?));
        }
        if listener.is_some() {
            bound.listeners[worker].push((Listener::bind(address)?, address));
        }
    }
    bound.listeners[0].extend(listener.map(|listener| (listener, address)));
    bound.deal(&group);
    bound.addresses.push(address);
    Ok(())
}

/// The first socket of each link.
fn on_one_port(plan: &ServePlan, listen: Listen) -> io::Result<(SocketAddr, Option<Server>, Option<Listener>)> {
    let any_port = listen.address.port() == 0;
    for _ in 1..TRIES {
        match firsts(plan, listen.clone()) {
            // The kernel's choice was free for one link only: it chooses again.
            Err(error) if any_port && error.kind() == io::ErrorKind::AddrInUse => {}
            done => return done,
        }
    }
    firsts(plan, listen)
}

fn firsts(plan: &ServePlan, mut listen: Listen) -> io::Result<(SocketAddr, Option<Server>, Option<Listener>)> {
    let (mut socket, mut listener) = (None, None);
    if plan.links.contains(&Link::Udp) {
        let first = Server::listen(&listen, OPTIONS)?;
        listen.address = first.address()?;
        socket = Some(first);
    }
    if plan.links.contains(&Link::Tcp) {
        Listener::check_address_free(listen.address)?;
        let first = Listener::bind(listen.address)?;
        listen.address = first.address()?;
        listener = Some(first);
    }
    Ok((listen.address, socket, listener))
}

/// Takes over the sockets that this process was started with.
fn inherit(plan: &ServePlan, bound: &mut Bound) -> io::Result<()> {
    let mut groups: Vec<(SocketAddr, Vec<Arc<Server>>)> = Vec::new();
    for descriptor in &plan.inherited {
        let socket = Arc::new(Server::inherit(*descriptor, OPTIONS)?);
        let address = socket.address()?;
        match groups.iter_mut().find(|(of, _)| *of == address) {
            Some((_, group)) => group.push(socket),
            None => groups.push((address, vec![socket])),
        }
    }
    for (address, group) in groups {
        bound.addresses.push(address);
        bound.deal(&group);
    }
    Ok(())
}

/// Which of the sockets of one address (at least one) a worker reads: where they are more than the workers several,
/// where they are fewer one that others read too.
fn dealt(worker: usize, workers: usize, sockets: usize) -> impl Iterator<Item = usize> {
    (worker % sockets..sockets).step_by(workers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

    use super::*;

    #[test]
    fn every_socket_has_a_worker_and_every_worker_a_socket() {
        let all = |workers, sockets| (0..workers).map(|worker| dealt(worker, workers, sockets).collect()).collect();
        let dealt: [Vec<Vec<usize>>; 4] = [all(2, 5), all(3, 3), all(3, 2), all(1, 1)];
        assert_eq!(dealt[0], [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(dealt[1], [[0], [1], [2]]);
        assert_eq!(dealt[2], [[0], [1], [0]]);
        assert_eq!(dealt[3], [[0]]);
    }

    #[test]
    fn what_several_workers_read_is_marked_and_counted_by_the_first() {
        let marks = |workers, sockets| {
            let listen = || Arc::new(Server::bind("127.0.0.1:0".parse().unwrap(), WAIT).unwrap());
            let mut bound = Bound { sockets: vec![Vec::new(); workers], ..Bound::default() };
            bound.deal(&(0..sockets).map(|_| listen()).collect::<Vec<_>>());
            let marks = |socket: &WorkerSocket| (socket.shared, socket.counts_drops);
            bound.sockets.iter().map(|of| of.iter().map(marks).collect()).collect()
        };
        let marks: [Vec<Vec<(bool, bool)>>; 2] = [marks(3, 2), marks(2, 3)];
        assert_eq!(marks[0], [[(true, true)], [(false, true)], [(true, false)]]);
        assert_eq!(marks[1], [vec![(false, true); 2], vec![(false, true)]]);
    }
}
