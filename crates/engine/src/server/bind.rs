//! All sockets of a server: for each address one a worker, on one port for all links.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use flatout_net::{Listen, Listener, Server, ServerOptions, balance_by_client};
use flatout_wire::Link;

use super::WAIT;
use crate::plan::ServePlan;

/// How many free ports are tried where one must be free for two links.
const TRIES: usize = 32;
const OPTIONS: ServerOptions = ServerOptions { wait: WAIT, tx_stamps: false };

/// What the workers are given.
#[derive(Default)]
pub(super) struct Bound {
    pub(super) addresses: Vec<SocketAddr>,
    /// Of each worker, one an address.
    pub(super) sockets: Vec<Vec<Arc<Server>>>,
    /// The same for streams.
    pub(super) listeners: Vec<Vec<(Listener, SocketAddr)>>,
}

/// Binds for all workers, or not at all.
pub(super) fn all(plan: &ServePlan) -> io::Result<Bound> {
    let workers = plan.workers.max(1);
    let empty = || (0..workers).map(|_| Vec::new()).collect();
    let mut bound =
        Bound { addresses: Vec::new(), sockets: empty(), listeners: (0..workers).map(|_| Vec::new()).collect() };
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
        spread(&bound)?;
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
    for worker in 1..bound.sockets.len() {
        if first.is_some() {
            bound.sockets[worker].push(Arc::new(Server::listen(&listen, OPTIONS)?));
        }
        if listener.is_some() {
            bound.listeners[worker].push((Listener::bind(address)?, address));
        }
    }
    bound.sockets[0].extend(first.map(Arc::new));
    bound.listeners[0].extend(listener.map(|listener| (listener, address)));
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

/// Takes over the sockets that this process was started with: of each address the n-th is the n-th worker's.
///
/// Where there are fewer than workers, several workers read one.
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
        for (worker, sockets) in bound.sockets.iter_mut().enumerate() {
            sockets.push(Arc::clone(&group[worker % group.len()]));
        }
        bound.addresses.push(address);
    }
    Ok(())
}

/// Gives all that one client sends to one worker.
fn spread(bound: &Bound) -> io::Result<()> {
    let seed = RandomState::new().hash_one(0_u8) as u32;
    for (n, first) in bound.sockets.first().into_iter().flatten().enumerate() {
        // Inherited sockets may be fewer than workers; those that follow repeat them.
        let repeats = |of: &Vec<Arc<Server>>| of.get(n).is_some_and(|socket| Arc::ptr_eq(socket, first));
        let group = bound.sockets.iter().skip(1).position(repeats).map_or(bound.sockets.len(), |at| at + 1);
        if group > 1 {
            balance_by_client(first, group as u32, seed)?;
        }
    }
    Ok(())
}
