//! Python's words and addresses, for plans that come from there.

use std::net::{IpAddr, SocketAddr};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::pace::Arrivals;
use crate::plan::{Io, Link, Wait, WhenFull};

/// A setting that is one of a few words.
pub trait Word: Copy + 'static {
    /// Each word, and what it stands for.
    const WORDS: &'static [(&'static str, Self)];

    /// What a word stands for.
    ///
    /// # Errors
    /// Where it is none of them.
    fn of(word: &str) -> PyResult<Self> {
        let found = Self::WORDS.iter().find(|(name, _)| *name == word).map(|(_, meaning)| *meaning);
        found.ok_or_else(|| {
            let known: Vec<_> = Self::WORDS.iter().map(|(name, _)| *name).collect();
            PyValueError::new_err(format!("'{word}' is not one of {}", known.join(", ")))
        })
    }
}

impl Word for Link {
    const WORDS: &'static [(&'static str, Self)] = &[("udp", Self::Udp), ("tcp", Self::Tcp), ("tls", Self::Tls)];
}

impl Word for Io {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("io_uring", Self::Uring), ("epoll", Self::Epoll)];
}

impl Word for Wait {
    const WORDS: &'static [(&'static str, Self)] = &[("sleep", Self::Sleep), ("spin", Self::Spin)];
}

impl Word for Arrivals {
    const WORDS: &'static [(&'static str, Self)] = &[("constant", Self::Constant), ("poisson", Self::Poisson)];
}

impl Word for WhenFull {
    const WORDS: &'static [(&'static str, Self)] =
        &[("drop-oldest", Self::DropOldest), ("drop-newest", Self::DropNewest), ("wait", Self::Wait)];
}

/// What a Python string stands for.
pub(crate) fn word<T: Word>(value: &Bound<'_, PyAny>) -> PyResult<T> {
    T::of(&value.extract::<String>()?)
}

/// Sockets' addresses from their parts.
pub(crate) fn addresses(value: &Bound<'_, PyAny>) -> PyResult<Vec<SocketAddr>> {
    Ok(value.extract::<Vec<(IpAddr, u16, u32)>>()?.into_iter().map(address).collect())
}

/// A socket's address from its parts: IP address, port, and for link-local IPv6 the interface's number.
#[must_use]
pub fn address((ip, port, scope): (IpAddr, u16, u32)) -> SocketAddr {
    let mut address = SocketAddr::new(ip, port);
    if let SocketAddr::V6(v6) = &mut address {
        v6.set_scope_id(scope);
    }
    address
}
