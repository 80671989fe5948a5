//! Which socket of a group (SO_REUSEPORT) receives a datagram: chosen by the client's address alone.
//!
//! Method: a program in classic BPF (SO_ATTACH_REUSEPORT_CBPF, 4.5), which needs no privilege. The kernel's own choice
//! hashes the ports too, so that one client with changing ports reaches all sockets in turn.

use std::io;

use crate::option;
use crate::udp::Server;

/// Loads at this offset and above read the network header (linux/filter.h).
const NETWORK: u32 = 0xfff0_0000;
const V4_SOURCE: u32 = NETWORK + 12;
const V6_SOURCE: u32 = NETWORK + 8;

// Instructions of classic BPF: A is the accumulator, X the index register.
const LOAD_WORD: u16 = 0x20;
const LOAD_BYTE: u16 = 0x30;
const SHIFT_RIGHT: u16 = 0x74;
const MULTIPLY: u16 = 0x24;
const MODULO: u16 = 0x94;
const XOR: u16 = 0xa4;
const XOR_X: u16 = 0xac;
const A_TO_X: u16 = 0x07;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const RETURN_A: u16 = 0x16;

const fn step(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

/// The n-th of `sockets` for a hash of the source: a v4 address, or the first 64 bits of a v6 one.
///
/// The hash is the end of MurmurHash3 (public domain), which spreads neighbouring addresses evenly; `seed` makes it
/// unpredictable for clients.
fn program(sockets: u32, seed: u32) -> [libc::sock_filter; 22] {
    [
        step(LOAD_BYTE, NETWORK),
        step(SHIFT_RIGHT, 4),
        libc::sock_filter { code: JUMP_EQUAL, jt: 2, jf: 0, k: 6 },
        step(LOAD_WORD, V4_SOURCE),
        step(JUMP, 5),
        step(LOAD_WORD, V6_SOURCE),
        step(MULTIPLY, 0x9e37_79b1),
        step(A_TO_X, 0),
        step(LOAD_WORD, V6_SOURCE + 4),
        step(XOR_X, 0),
        step(XOR, seed),
        step(MULTIPLY, 0x85eb_ca6b),
        step(A_TO_X, 0),
        step(SHIFT_RIGHT, 13),
        step(XOR_X, 0),
        step(MULTIPLY, 0xc2b2_ae35),
        step(A_TO_X, 0),
        step(SHIFT_RIGHT, 16),
        step(XOR_X, 0),
        step(SHIFT_RIGHT, 1),
        step(MODULO, sockets),
        step(RETURN_A, 0),
    ]
}

/// Gives all datagrams of one client (a v4 address, a v6 /64) to one socket of the group that `server` is in.
///
/// `sockets` is the size of the group; they are numbered in the order in which they were bound. Errors: the kernel's,
/// such as EINVAL for a socket that shares no address.
pub fn balance_by_client(server: &Server, sockets: u32, seed: u32) -> io::Result<()> {
    let mut steps = program(sockets.max(1), seed);
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    option::choose_socket(server.descriptor(), &program)
}
