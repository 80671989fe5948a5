//! Queries a receiver's counters: one-way messages are counted where they arrive.
//!
//! Method: a socket of its own, one question with a number that cannot be guessed, asked again until an answer that
//! echoes it comes or the time is up. A receiver that is overrun loses questions as it loses messages.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use flatout_net::QuerySocket;
use flatout_wire::receiver_stats::{LENGTH, StatsReply, StatsRequest};

use crate::clock::{Clock, SystemClock, unique};

/// Asked again after so long, at the latest.
const AGAIN: Duration = Duration::from_millis(40);

/// What the receiver at `target` tells; nothing where no answer comes within `at_most`.
///
/// `reset_sequences`: it shall take sequence numbers that come from now on for new ones. Errors are the kernel's; ECONNREFUSED:
/// the port is closed.
pub fn ask(target: SocketAddr, reset_sequences: bool, at_most: Duration) -> io::Result<Option<StatsReply>> {
    let question = StatsRequest { reset_sequences, nonce: unique() };
    let line = QuerySocket::open(target)?;
    let clock = SystemClock::begin();
    let mut datagram = [0; LENGTH + 1];
    while let Some(left) = at_most.checked_sub(Duration::from_nanos(clock.now())).filter(|left| !left.is_zero()) {
        line.send(&question.write())?;
        let asked = clock.now();
        let patience = AGAIN.min(left);
        while let Some(wait) = patience.checked_sub(Duration::from_nanos(clock.now() - asked)) {
            let Some(length) = line.receive(&mut datagram, wait)? else { continue };
            if let Some(reported) = datagram.get(..length).and_then(|datagram| question.read_reply(datagram)) {
                return Ok(Some(reported));
            }
        }
    }
    Ok(None)
}
