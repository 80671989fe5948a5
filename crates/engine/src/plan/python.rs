//! Reads the values of a plan's fields from Python objects: addresses, and words for enums.

use std::net::{IpAddr, SocketAddr};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::{Io, Link, Wait, XdpMode, XdpTransmit};
use crate::pace::Arrivals;
use crate::server::Class;

/// The words for what carries requests.
pub const LINKS: [(&str, Link); 3] = [("udp", Link::Udp), ("tcp", Link::Tcp), ("tls", Link::Tls)];
/// The words for what carries streams.
pub const IOS: [(&str, Io); 3] = [("auto", Io::Auto), ("io_uring", Io::Uring), ("epoll", Io::Epoll)];
/// The words for what prefixes say of addresses.
const CLASSES: [(&str, Class); 3] = [("allow", Class::Allowed), ("deny", Class::Denied), ("first", Class::First)];
/// The words for the arrival process.
const ARRIVALS: [(&str, Arrivals); 2] = [("constant", Arrivals::Constant), ("poisson", Arrivals::Poisson)];
/// The words for how a ping-pong reply is awaited.
const WAITS: [(&str, Wait); 2] = [("sleep", Wait::Sleep), ("spin", Wait::Spin)];
/// The words for who runs XDP programs.
const XDP_MODES: [(&str, XdpMode); 2] = [("native", XdpMode::Native), ("generic", XdpMode::Generic)];
/// The words for what sends frames.
const XDP_TRANSMITS: [(&str, XdpTransmit); 2] = [("live", XdpTransmit::Live), ("af_xdp", XdpTransmit::Socket)];
/// What a word stands for. Errors: ValueError that lists the known words.
pub fn one_of<T: Copy>(word: &str, words: &[(&str, T)]) -> PyResult<T> {
    let found = words.iter().find(|(name, _)| *name == word).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(name, _)| *name).collect();
        PyValueError::new_err(format!("'{word}' is not one of {}", known.join(", ")))
    })
}

/// An address as Python has it: IP address, port, and for link-local IPv6 the interface's index.
#[derive(FromPyObject)]
struct Endpoint {
    address: IpAddr,
    port: u16,
    scope: u32,
}

/// A socket address from its parts.
#[must_use]
pub fn address((ip, port, scope): (IpAddr, u16, u32)) -> SocketAddr {
    let mut address = SocketAddr::new(ip, port);
    if let SocketAddr::V6(v6) = &mut address {
        v6.set_scope_id(scope);
    }
    address
}

/// The parts of a socket address, as [`address`] takes them.
#[must_use]
pub fn parts(address: SocketAddr) -> (IpAddr, u16, u32) {
    let scope = if let SocketAddr::V6(v6) = address { v6.scope_id() } else { 0 };
    (address.ip(), address.port(), scope)
}

pub(super) fn addresses(value: &Bound<'_, PyAny>) -> PyResult<Vec<SocketAddr>> {
    let endpoints: Vec<Endpoint> = value.extract()?;
    Ok(endpoints.into_iter().map(|at| address((at.address, at.port, at.scope))).collect())
}

pub(super) fn prefixes(value: &Bound<'_, PyAny>) -> PyResult<Vec<(IpAddr, u8, Class)>> {
    let given: Vec<(IpAddr, u8, String)> = value.extract()?;
    given.into_iter().map(|(address, bits, word)| Ok((address, bits, one_of(&word, &CLASSES)?))).collect()
}

pub(super) fn link(value: &Bound<'_, PyAny>) -> PyResult<Link> {
    one_of(&value.extract::<String>()?, &LINKS)
}

pub(super) fn io(value: &Bound<'_, PyAny>) -> PyResult<Io> {
    one_of(&value.extract::<String>()?, &IOS)
}

pub(super) fn arrivals(value: &Bound<'_, PyAny>) -> PyResult<Arrivals> {
    one_of(&value.extract::<String>()?, &ARRIVALS)
}

pub(super) fn xdp_mode(value: &Bound<'_, PyAny>) -> PyResult<XdpMode> {
    one_of(&value.extract::<String>()?, &XDP_MODES)
}

pub(super) fn xdp_transmit(value: &Bound<'_, PyAny>) -> PyResult<XdpTransmit> {
    one_of(&value.extract::<String>()?, &XDP_TRANSMITS)
}

pub(super) fn wait(value: &Bound<'_, PyAny>) -> PyResult<Wait> {
    one_of(&value.extract::<String>()?, &WAITS)
}
