//! Asking over connections: whatever pieces answers come in, in whatever order, each request ends in one outcome.

use flatout_wire::Protocol;
use flatout_wire::dns::Dns;
use flatout_wire::echo::Echo;

use super::fake_streams::PeerAction;
use super::rig::{MS, QUICK, US};
use super::stream_rig::{Query, Streams, after};
use crate::pace::Arrivals;
use crate::tally::Outcome;

type PeerActions = Vec<(u64, PeerAction)>;

fn answer(query: &Query) -> Vec<u8> {
    query.answer::<Dns>()
}

fn sends(at: u64, bytes: impl Into<Vec<u8>>) -> (u64, PeerAction) {
    (at, PeerAction::Send(bytes.into()))
}

fn dns_tally(word: &str) -> usize {
    Dns::TALLIES.iter().position(|tally| *tally == word).unwrap()
}

#[test]
fn all_is_answered_over_one_connection_and_over_many() {
    for count in [1, 5, 1_000] {
        let reported = Streams::over(count).run::<Dns>(after::<Dns>(QUICK));
        assert_eq!((reported.counts.answered, reported.counts.planned), (1_000, 1_000), "over {count}");
        assert!(reported.is_whole());
        assert_eq!(reported.connections.established, count as u64);
        assert_eq!((reported.connections.live, reported.connections.peak), (count as u64, count as u64));
        assert!(reported.totals.from_sent.max() < QUICK + 10 * US, "{}", reported.totals.from_sent.max());
    }
}

#[test]
fn random_arrivals_over_many_connections_close_too() {
    let rig = Streams { per_s: 20_000.0, arrivals: Arrivals::Poisson, ..Streams::over(100) };
    let reported = rig.run::<Dns>(|query: &Query| match query.serial % 7 {
        0 => Vec::new(),
        1 => vec![sends(150 * MS, answer(query))],
        2 => vec![sends(QUICK, answer(query)), sends(2 * QUICK, answer(query))],
        _ => vec![sends(query.serial % 5 * QUICK, answer(query))],
    });
    let c = &reported.counts;
    let sevenths = |n: u64| (c.sent * n).abs_diff(7 * n);
    assert!(reported.is_whole() && c.sent == c.planned && sevenths(1) > 0, "{c:?}");
    assert_eq!(c.sent.div_ceil(7), c.lost, "all that nobody answered, and no other: {c:?}");
    assert_eq!((c.sent - 1).div_ceil(7), c.late);
}

#[test]
fn connections_are_chosen_uniformly_and_by_the_seed() {
    let shares = |seed| {
        let rig = Streams { per_s: 100_000.0, seed, ..Streams::over(50) };
        let reported = rig.run::<Dns>(after::<Dns>(QUICK));
        assert_eq!(reported.counts.answered, 100_000);
        (0..50).map(|far| reported.asked.get(&far).copied().unwrap_or(0)).collect::<Vec<_>>()
    };
    let first = shares(7);
    let mean = 2_000.0;
    let chi: f64 = first.iter().map(|&n| (n as f64 - mean).powi(2) / mean).sum();
    // 49 degrees of freedom: a fair choice lies between these bounds in all but one of a thousand seeds.
    assert!((24.0..86.0).contains(&chi), "chi-square {chi}");
    assert_eq!(first, shares(7), "the same seed");
    assert_ne!(first, shares(8), "another seed");
}

#[test]
fn single_bytes_make_whole_answers() {
    let reported = Streams::default().run::<Dns>(|query: &Query| {
        answer(query).into_iter().enumerate().map(|(n, byte)| sends(n as u64 * US, [byte])).collect::<PeerActions>()
    });
    assert_eq!((reported.counts.answered, reported.counts.unmatched), (1_000, 0));
}

#[test]
fn several_answers_come_in_one_piece() {
    let (mut kept, mut pieces) = (Vec::new(), 0);
    let reported = Streams::over(1).run::<Dns>(move |query: &Query| {
        kept.extend(answer(query));
        if query.serial % 10 < 9 {
            return Vec::new();
        }
        pieces += 1;
        let whole = std::mem::take(&mut kept);
        // Every other time cut where no message ends.
        let piece = if pieces % 2 == 0 { 101 } else { whole.len() };
        whole.chunks(piece).enumerate().map(|(n, bytes)| sends(QUICK + n as u64 * US, bytes)).collect()
    });
    assert_eq!((reported.counts.answered, reported.counts.reordered, reported.counts.duplicate), (1_000, 0, 0));
}

#[test]
fn answers_out_of_order_find_their_requests() {
    let reported = Streams::over(1)
        .run::<Dns>(|query: &Query| vec![sends(if query.nth % 10 == 5 { 2_500 * US } else { QUICK }, answer(query))]);
    assert_eq!((reported.counts.answered, reported.counts.reordered), (1_000, 100));
    assert_eq!(reported.totals.from_sent.count_above(2 * MS), 100, "each has its own time");
}

#[test]
fn a_second_answer_is_a_duplicate() {
    let reported = Streams::default()
        .run::<Dns>(|query: &Query| vec![sends(QUICK, answer(query)), sends(2 * QUICK, answer(query))]);
    assert_eq!((reported.counts.answered, reported.counts.duplicate, reported.counts.invalid), (1_000, 1_000, 0));
}

#[test]
fn messages_that_name_nobody_stand_for_those_that_got_nothing() {
    // An id that has not been given yet on this connection; whether a request waits for it, nobody knows.
    let unmatched = |query: &Query| {
        let mut bytes = answer(query);
        bytes[2] ^= 0x40;
        bytes
    };
    let instead = Streams::default().run::<Dns>(|query: &Query| match query.serial % 4 {
        0 => vec![sends(QUICK, unmatched(query))],
        1 => Vec::new(),
        _ => vec![sends(QUICK, answer(query))],
    });
    let c = &instead.counts;
    assert_eq!((c.answered, c.invalid, c.lost, c.unmatched), (500, 250, 250, 250));
    let beside = Streams::default()
        .run::<Dns>(|query: &Query| vec![sends(QUICK, unmatched(query)), sends(2 * QUICK, answer(query))]);
    assert_eq!((beside.counts.answered, beside.counts.invalid, beside.counts.duplicate), (1_000, 0, 0));
}

#[test]
fn an_answer_to_another_question_is_invalid() {
    let lines = ["a.example A", "b.example A", "c.example AAAA"].map(String::from).to_vec();
    let rig = Streams { lines, ..Streams::default() };
    let reported = rig.run::<Dns>(|query: &Query| {
        let mut bytes = answer(query);
        // The first letter of the first label.
        bytes[2 + 12 + 1] ^= u8::from(query.serial % 3 == 1);
        vec![sends(QUICK, bytes)]
    });
    assert_eq!((reported.counts.answered, reported.counts.invalid), (667, 333));
    assert_eq!(reported.counts.tallies[dns_tally("wrong_question")], 333);
    assert_eq!(reported.numbers(Outcome::Invalid), (1..1_000).step_by(3).collect::<Vec<_>>());
}

#[test]
fn an_answer_that_is_none_is_invalid_by_reason() {
    let reported = Streams::default().run::<Dns>(|query: &Query| {
        let mut bytes = answer(query);
        match query.serial % 4 {
            0 => bytes[4] &= 0x7f,
            1 => bytes[5] |= 2,
            2 => bytes[5] |= 3,
            _ => {}
        }
        vec![sends(QUICK, bytes)]
    });
    let tallies =
        ["not_a_response", "servfail", "nxdomain", "noerror"].map(|word| reported.counts.tallies[dns_tally(word)]);
    assert_eq!(tallies, [250; 4]);
    assert_eq!((reported.counts.answered, reported.counts.invalid), (500, 500));
}

/// Behind the answer, one record with as many bytes as a message has room for.
fn longest(query: &Query) -> Vec<u8> {
    let mut message = answer(query).split_off(2);
    message[7] = 1;
    let remaining = 65_535 - message.len() - 12;
    message.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 0]);
    message.extend((remaining as u16).to_be_bytes());
    message.resize(65_535, 7);
    [&65_535_u16.to_be_bytes(), &message[..]].concat()
}

#[test]
fn answers_of_64_kib_are_put_together_from_any_pieces() {
    for piece in [1_000, 16_384, 65_537] {
        let rig = Streams { per_s: 100.0, ..Streams::over(3) };
        let reported = rig.run::<Dns>(|query: &Query| {
            let bytes = longest(query);
            bytes.chunks(piece).enumerate().map(|(n, bytes)| sends(n as u64 * US, bytes)).collect::<PeerActions>()
        });
        assert_eq!((reported.counts.answered, reported.connections.broken), (100, 0), "pieces of {piece}");
    }
}

#[test]
fn echoes_of_any_size_come_back() {
    for size in [1, 2, 3, 4, 31, 65_507] {
        let rig = Streams { per_s: 200.0, options: vec![("size", size)], ..Streams::over(2) };
        let reported = rig.run::<Echo>(|query: &Query| {
            let (head, tail) = query.bytes.split_at(query.bytes.len() / 2);
            [sends(QUICK, head), sends(2 * QUICK, tail)].to_vec()
        });
        assert_eq!(reported.counts.answered, 200, "size {size}");
    }
}

#[test]
fn altered_echoes_are_invalid() {
    let reported = Streams::default().run::<Echo>(|query: &Query| {
        let mut bytes = query.bytes.clone();
        bytes[30] ^= u8::from(query.serial.is_multiple_of(5));
        vec![sends(QUICK, bytes)]
    });
    assert_eq!((reported.counts.answered, reported.counts.invalid), (800, 200));
}

#[test]
fn few_bits_of_an_index_are_enough_for_ever() {
    // 256 numbers, 20,000 requests; then 65,536 ids, 200,000 requests.
    let rig = Streams { per_s: 20_000.0, options: vec![("size", 1)], slots: 4_096, ..Streams::over(1) };
    let reported = rig.run::<Echo>(after::<Echo>(5 * MS));
    assert_eq!((reported.counts.answered, reported.counts.duplicate), (20_000, 0));
    let rig = Streams { per_s: 100_000.0, seconds: 2.0, slots: 1 << 17, ..Streams::over(1) };
    let reported = rig.run::<Dns>(after::<Dns>(5 * MS));
    assert_eq!((reported.counts.answered, reported.counts.duplicate), (200_000, 0));
}

#[test]
fn no_more_requests_wait_than_an_index_can_name() {
    let rig = Streams { per_s: 20_000.0, options: vec![("size", 1)], slots: 4_096, ..Streams::over(1) };
    // 20 ms of 20,000/s are 400 requests, for which there are 256 names.
    let reported = rig.run::<Echo>(after::<Echo>(20 * MS));
    assert_eq!((reported.counts.answered, reported.counts.sent), (reported.counts.sent, reported.counts.sent));
    assert!((12_000..13_200).contains(&reported.counts.answered), "{}", reported.counts.answered);
    assert_eq!(reported.counts.unsent[crate::tally::Unsent::NoSlot as usize], 20_000 - reported.counts.sent);
}
