//! Calls one message at a time, waits by ppoll, and errors that are no silence.

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::{ANY_PORT, PATIENCE, numbered, server};
use crate::call::{self, CallError};
use crate::{Batch, Flow, Poller};

const MOST: usize = 8;

/// The first bytes of what `server` has received one message a call.
fn received_each(server: &crate::Server, batch: &mut Batch) -> Vec<u8> {
    batch.open();
    let fd = std::os::fd::AsRawFd::as_raw_fd(server.socket());
    // SAFETY: the headers and all they point to live in `batch`.
    let count = unsafe { call::receive_each(fd, &mut batch.headers, libc::MSG_WAITFORONE) }.unwrap();
    batch.note(count);
    (0..count).map(|slot| batch.packet(slot)[0]).collect()
}

#[test]
fn messages_go_and_come_one_a_call_as_they_do_in_batches() {
    let server = server(ANY_PORT);
    let flow = Flow::open(server.address().unwrap(), None, false).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(flow.socket());
    let mut out = numbered(MOST, 48);
    // SAFETY: the headers and all they point to live in `out`.
    assert_eq!(unsafe { call::send_each(fd, &mut out.headers[..5], 0) }, 5);
    let mut batch = Batch::new(MOST, 2048, true);
    assert_eq!(received_each(&server, &mut batch), [1, 2, 3, 4, 5]);
    assert_eq!((batch.length(4), batch.peer(4)), (48, Some(flow.source().unwrap())));
    assert!(batch.meta(4).stamp_unix_ns.is_some());
    // SAFETY: as above.
    assert_eq!(unsafe { call::send_each(fd, &mut out.headers, 0) }, MOST as isize);
    assert_eq!(received_each(&server, &mut batch), [1, 2, 3, 4, 5, 6, 7, 8], "as many as there is room for");
}

#[test]
fn a_wait_by_ppoll_reports_what_epoll_does() {
    let server = server(ANY_PORT);
    let mut flow = Flow::open(server.address().unwrap(), None, false).unwrap();
    let mut poller = Poller::new(1).unwrap();
    poller.register(&flow, 7).unwrap();
    assert_eq!(poller.poll_by_ppoll(Duration::from_micros(100)), Ok(0));
    flow.send(&mut numbered(1, 48), 1);
    let mut batch = Batch::new(1, 2048, true);
    assert_eq!(server.receive(&mut batch), Ok(1));
    batch.answer(0, 48);
    assert_eq!(server.send_answers(&mut batch), 1);
    assert_eq!((poller.poll_by_ppoll(PATIENCE), poller.ready(0)), (Ok(1), (7, false)));
    assert_eq!(poller.poll_by_ppoll(Duration::ZERO), Ok(0), "edge-triggered");
}

#[test]
fn an_error_of_the_call_is_no_silence() {
    let no_socket = OwnedFd::from(File::open("/dev/null").unwrap());
    let mut batch = Batch::new(2, 64, false);
    // SAFETY: the headers and all they point to live in `batch`.
    let got = unsafe { call::receive(&no_socket, &mut batch.headers, libc::MSG_DONTWAIT) };
    assert_eq!(got, Err(CallError { call: "recvmmsg", errno: libc::ENOTSOCK }));
    let fd = std::os::fd::AsRawFd::as_raw_fd(&no_socket);
    // SAFETY: as above.
    let got = unsafe { call::receive_each(fd, &mut batch.headers, libc::MSG_DONTWAIT) };
    assert_eq!(got, Err(CallError { call: "recvmsg", errno: libc::ENOTSOCK }));
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: there is room for one event.
    let waited = unsafe { call::wait(&no_socket, &raw mut event, 1, Duration::ZERO) };
    assert_eq!(waited, Err(CallError { call: "epoll_pwait2", errno: libc::EINVAL }));
    // SAFETY: as above.
    let waited = unsafe { call::wait_exactly(&no_socket, &raw mut event, 1, Duration::ZERO) };
    assert_eq!(waited.unwrap_err().to_string(), "epoll_wait: Invalid argument");
}

#[test]
fn nothing_there_and_a_refusal_are_silence() {
    let closed = UdpSocket::bind(ANY_PORT).unwrap().local_addr().unwrap();
    let mut flow = Flow::open(closed, None, false).unwrap();
    let mut batch = Batch::new(2, 64, false);
    assert_eq!(flow.receive(&mut batch), Ok(0));
    flow.send(&mut numbered(1, 48), 1);
    assert!(call::poll(flow.socket(), libc::POLLIN, PATIENCE).unwrap());
    assert_eq!(flow.receive(&mut batch), Ok(0));
    assert!(flow.refused(&mut []).unwrap().is_some());
}

#[test]
fn nothing_is_refused_outside_of_a_sandbox() {
    assert_eq!(*call::refusals(), call::Refusals::default());
    assert!(call::check_receiving().is_ok());
}

#[test]
fn a_named_error_keeps_its_kind_and_names_the_call() {
    let error = CallError::name("io_uring", std::io::Error::from_raw_os_error(libc::EPERM));
    assert_eq!((error.kind(), error.raw_os_error()), (std::io::ErrorKind::PermissionDenied, None));
    assert_eq!(error.to_string(), "io_uring: Operation not permitted");
    let without = CallError::name("io_uring", std::io::Error::other("no number"));
    assert_eq!(without.to_string(), "no number");
}
