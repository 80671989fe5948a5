//! Asks a receiver what has arrived: messages that nobody answers are counted where they come in.
//!
//! Method: a socket of its own, one question with a number that cannot be guessed, asked again until an answer that
//! echoes it comes or the time is up. A receiver that is overrun loses questions as it loses messages.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flatout_net::Line;
use flatout_wire::arrived::{Arrived, LENGTH, Question};

use crate::clock::{Clock, SystemClock, unix_now};
use crate::pace::Random;

/// Asked again after so long, at the latest.
const AGAIN: Duration = Duration::from_millis(40);

/// What the receiver at `target` has counted; nothing where no answer comes within `at_most`.
///
/// `anew`: it shall take sequence numbers that come from now on for new ones. Errors are the kernel's; ECONNREFUSED:
/// nobody listens there.
pub fn ask(target: SocketAddr, anew: bool, at_most: Duration) -> io::Result<Option<Arrived>> {
    let question = Question { anew, nonce: nonce() };
    let line = Line::open(target)?;
    let clock = SystemClock::begin();
    let mut datagram = [0; LENGTH + 1];
    while let Some(left) = at_most.checked_sub(Duration::from_nanos(clock.now())).filter(|left| !left.is_zero()) {
        line.send(&question.write())?;
        let asked = clock.now();
        let patience = AGAIN.min(left);
        while let Some(wait) = patience.checked_sub(Duration::from_nanos(clock.now() - asked)) {
            let Some(length) = line.receive(&mut datagram, wait)? else { continue };
            if let Some(arrived) = datagram.get(..length).and_then(|datagram| question.answered(datagram)) {
                return Ok(Some(arrived));
            }
        }
    }
    Ok(None)
}

/// Differs from question to question, in all processes.
fn nonce() -> u64 {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let nth = ASKED.fetch_add(1, Ordering::Relaxed);
    Random::new(unix_now() ^ u64::from(std::process::id()) << 32 ^ nth.rotate_right(16)).bits()
}
