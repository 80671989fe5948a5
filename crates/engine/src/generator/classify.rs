//! What an arrival makes of which request.

use flatout_wire::{Client, Protocol, Reply};

use crate::flow::Ring;
use crate::query_set::Cursor;
use crate::tally::Outcome;

/// Which request of the flow `reply` answers, how that ends it, and the protocol's own counter; nothing for a stranger.
pub(super) fn classify_reply<P: Protocol>(
    client: &P::Client,
    cursor: &Cursor,
    ring: &Ring<'_>,
    flow: u32,
    reply: &[u8],
) -> Option<(u32, Outcome, usize)> {
    let bits = client.index_bits();
    let (low, right, tally) = match client.read(flow, reply) {
        Reply::Valid { index, tally } => (index, true, tally),
        Reply::Invalid { index, tally } => (index, false, tally),
        Reply::Unmatched => return None,
    };
    let index = ring.widen(low, bits);
    if bits < 32 && ring.never_asked(index) {
        return None;
    }
    let about = |query| cursor.query(query);
    if right && !ring.query(index).is_none_or(|query| client.matches_query(about(query), reply)) {
        return Some((index, Outcome::Invalid, P::MISMATCH));
    }
    Some((index, if right { Outcome::Answered } else { Outcome::Invalid }, tally))
}
