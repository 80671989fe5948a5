//! All sockets of a server, on one port for all links.

use std::io;
use std::net::SocketAddr;

use flatout_net::{Listener, Server};
use flatout_wire::Link;

use super::WAIT;
use crate::plan::ServePlan;

/// How many free ports are tried where one must be free for two links.
const TRIES: usize = 32;

/// One socket a worker and link.
pub(super) struct Bound {
    pub(super) address: SocketAddr,
    pub(super) sockets: Vec<Server>,
    pub(super) listeners: Vec<Listener>,
}

/// Binds for all workers, or not at all.
pub(super) fn all(plan: &ServePlan) -> io::Result<Bound> {
    for _ in 1..TRIES {
        match on_one_port(plan) {
            // The kernel's choice was free for one link only: it chooses again.
            Err(error) if plan.listen.port() == 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            done => return done,
        }
    }
    on_one_port(plan)
}

fn on_one_port(plan: &ServePlan) -> io::Result<Bound> {
    let mut bound = Bound { address: plan.listen, sockets: Vec::new(), listeners: Vec::new() };
    if plan.links.contains(&Link::Udp) {
        flatout_net::check_address_free(bound.address)?;
        let first = Server::bind(bound.address, WAIT)?;
        bound.address = first.address()?;
        bound.sockets.push(first);
    }
    if plan.links.contains(&Link::Tcp) {
        Listener::check_address_free(bound.address)?;
        let first = Listener::bind(bound.address)?;
        bound.address = first.address()?;
        bound.listeners.push(first);
    }
    // The others after both first ones: until then the port may still be given up.
    for _ in 1..plan.workers {
        if !bound.sockets.is_empty() {
            bound.sockets.push(Server::bind(bound.address, WAIT)?);
        }
        if !bound.listeners.is_empty() {
            bound.listeners.push(Listener::bind(bound.address)?);
        }
    }
    Ok(bound)
}
