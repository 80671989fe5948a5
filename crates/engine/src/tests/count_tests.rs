//! The counters: they add, they subtract, and none is left out.

use crate::tally::{Counts, Outcome, TALLIES, Unsent};

/// Every field has a value of its own. A field that is added to `Counts` must be added here, or this does not compile.
fn numbered(times: u64) -> Counts {
    let n = |number: u64| number * times;
    Counts {
        planned: n(1),
        sent: n(2),
        unsent: [n(3), n(4), n(5), n(6), n(41), n(42)],
        answered: n(7),
        late: n(8),
        lost: n(9),
        refused: n(10),
        invalid: n(11),
        duplicate: n(12),
        reordered: n(13),
        unmatched: n(40),
        unstamped: n(14),
        own_drops: n(15),
        cpu_ns: n(16),
        tallies: std::array::from_fn(|slot| n(17 + slot as u64)),
    }
}

#[test]
fn adding_covers_every_field() {
    let mut sum = numbered(1);
    sum += &numbered(2);
    assert_eq!(sum, numbered(3));
}

#[test]
fn an_interval_covers_every_field_and_adds_back() {
    let interval = numbered(5) - numbered(2);
    assert_eq!(interval, numbered(3));
    let mut sum = numbered(2);
    sum += &interval;
    assert_eq!(sum, numbered(5));
}

#[test]
fn what_shrank_is_no_negative_interval() {
    let interval = Counts { lost: 3, sent: 9, ..Counts::default() } - Counts { lost: 5, sent: 2, ..Counts::default() };
    assert_eq!(interval, Counts { lost: 0, sent: 7, ..Counts::default() });
}

#[test]
fn all_unsent_is_the_sum_over_reasons() {
    assert_eq!(numbered(1).all_unsent(), 3 + 4 + 5 + 6 + 41 + 42);
    assert_eq!(Unsent::WORDS.len(), numbered(1).unsent.len());
    use Unsent::{Blocked, Dropped, Failed, Late, NoConnection, NoSlot};
    let words = [Late, Dropped, NoSlot, Failed, NoConnection, Blocked].map(|why| Unsent::WORDS[why as usize]);
    assert_eq!(words, ["late", "dropped_here", "no_slot", "send_failed", "no_connection", "blocked"]);
}

#[test]
fn outcomes_use_the_contract_s_words() {
    use Outcome::{Answered, Invalid, Late, Lost, Refused, Unsent};
    let words = [Answered, Late, Lost, Refused, Invalid, Unsent].map(Outcome::word);
    assert_eq!(words, ["answered", "late", "lost", "refused", "invalid", "unsent"]);
}

#[test]
fn every_protocol_s_tallies_fit() {
    macro_rules! longest {
        ($($protocol:ty,)*) => { [$(<$protocol as flatout_wire::Protocol>::TALLIES.len(),)*] };
    }
    assert!(flatout_wire::protocols!(longest).iter().all(|&tallies| tallies <= TALLIES));
}
