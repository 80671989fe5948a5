//! Which socket of a group (SO_REUSEPORT) receives a datagram: chosen by the client's address or prefix alone.
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
const AND: u16 = 0x54;
const XOR: u16 = 0xa4;
const XOR_X: u16 = 0xac;
const A_TO_X: u16 = 0x07;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const RETURN_A: u16 = 0x16;

const fn step(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

/// How many bits of an address make a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientBits {
    /// Of a v4 address: 1 to 32.
    pub v4: u8,
    /// Of a v6 address: 1 to 64.
    pub v6: u8,
}

impl ClientBits {
    /// The bits of a v4 address that count.
    #[must_use]
    pub fn v4_mask(self) -> u32 {
        u32::MAX << (32 - self.v4.clamp(1, 32))
    }

    /// Those of the first half of a v6 address.
    #[must_use]
    pub fn v6_mask(self) -> u64 {
        u64::MAX << (64 - self.v6.clamp(1, 64))
    }
}

/// The n-th of `sockets` for a hash of the source's first bits.
///
/// The hash is the end of MurmurHash3 (public domain), which spreads neighbouring addresses evenly; `seed` makes it
/// unpredictable for clients.
fn program(sockets: u32, seed: u32, bits: ClientBits) -> [libc::sock_filter; 25] {
    let (v4, v6) = (bits.v4_mask(), bits.v6_mask());
    [
        step(LOAD_BYTE, NETWORK),
        step(SHIFT_RIGHT, 4),
        libc::sock_filter { code: JUMP_EQUAL, jt: 3, jf: 0, k: 6 },
        step(LOAD_WORD, V4_SOURCE),
        step(AND, v4),
        step(JUMP, 7),
        step(LOAD_WORD, V6_SOURCE),
        step(AND, (v6 >> 32) as u32),
        step(MULTIPLY, 0x9e37_79b1),
        step(A_TO_X, 0),
        step(LOAD_WORD, V6_SOURCE + 4),
        step(AND, v6 as u32),
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

/// Gives all datagrams of one client (an address or prefix of so many bits) to one socket of the group that `server` is
/// in; it may be called again for other bits.
///
/// `sockets` is the size of the group; they are numbered in the order in which they were bound. Errors: the kernel's,
/// such as EINVAL for a socket that shares no address.
pub fn balance_by_client(server: &Server, sockets: u32, seed: u32, bits: ClientBits) -> io::Result<()> {
    option::choose_socket(server.descriptor(), &program(sockets.max(1), seed, bits))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    /// What the program chooses for a packet that begins with its network header; `None`: a step that it does not have.
    fn choice(steps: &[libc::sock_filter], packet: &[u8]) -> Option<u32> {
        let (mut a, mut x, mut at) = (0_u32, 0_u32, 0);
        loop {
            let step = steps.get(at)?;
            at += 1;
            let from = step.k.wrapping_sub(NETWORK) as usize;
            match step.code {
                LOAD_WORD => a = u32::from_be_bytes(*packet.get(from..)?.first_chunk()?),
                LOAD_BYTE => a = u32::from(*packet.get(from)?),
                SHIFT_RIGHT => a >>= step.k,
                MULTIPLY => a = a.wrapping_mul(step.k),
                MODULO => a %= step.k,
                AND => a &= step.k,
                XOR => a ^= step.k,
                XOR_X => a ^= x,
                A_TO_X => x = a,
                JUMP => at += step.k as usize,
                JUMP_EQUAL => at += usize::from(if a == step.k { step.jt } else { step.jf }),
                RETURN_A => return Some(a),
                _ => return None,
            }
        }
    }

    /// To how many of 1021 sockets the clients `base` + n << `shift` are given.
    fn reached(bits: ClientBits, base: &str, shift: u32) -> usize {
        let steps = program(1021, 7, bits);
        let mut seen = std::collections::HashSet::new();
        for n in 0..64_u128 {
            let mut packet = [0_u8; 40];
            packet[0] = 0x60;
            let base: Ipv6Addr = base.parse().expect("an address");
            packet[8..24].copy_from_slice(&(u128::from(base) | n << shift).to_be_bytes());
            seen.insert(choice(&steps, &packet).expect("a program that ends"));
        }
        seen.len()
    }

    #[test]
    fn a_v6_client_is_a_prefix_of_any_length() {
        let bits = |v6| ClientBits { v4: 32, v6 };
        for v6 in [64, 56, 48, 40, 32, 24] {
            let behind = 128 - u32::from(v6);
            assert_eq!(reached(bits(v6), "2001::", behind - 6), 1, "/{v6}: what lies behind it does not matter");
            assert!(reached(bits(v6), "2001::", behind) > 50, "/{v6}: its own last bits do");
        }
    }
}
