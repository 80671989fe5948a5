//! Sending one way in virtual time: how many, when, by whom, with which numbers, over which flow.

use flatout_net::SendResult;

use super::one_way_rig::{LinkAction, OneWayRig};
use super::rig::{MS, US};
use crate::generator::one_way::GROUP;
use crate::generator::senders::Senders;
use crate::pace::{Arrivals, Pacer, Segment, Share, Ticks};
use crate::tally::Unsent;

const WHOLE: Share = Share { index: 0, of: 1 };

#[test]
fn each_message_leaves_when_it_is_due() {
    let reported = OneWayRig::steady(1_000.0, 2.0).run();
    assert_eq!(reported.counts.sent, 2_000);
    assert!(reported.left.iter().zip(&reported.schedule).all(|(left, due)| left.at >= *due && left.at - due < 20 * US));
    assert!(reported.ended >= 2_000 * MS);
}

#[test]
fn a_run_of_whole_seconds_has_as_many() {
    let seconds = |seconds, held_up| OneWayRig { held_up, ..OneWayRig::steady(1_000.0, seconds) }.run().until;
    assert_eq!(seconds(2.0, None), [1_000 * MS, 2_000 * MS]);
    let remaining = seconds(1.25, None);
    assert_eq!((remaining.len(), remaining[0], remaining[1] / MS), (2, 1_000 * MS, 1_250));
    // Held up over the end: what was due in the second before is dealt with after it.
    let late = seconds(2.0, Some((1_990 * MS, 2_030 * MS)));
    assert_eq!((late.len(), late[1], late[2] / MS / 10), (3, 2_000 * MS, 203));
}

#[test]
fn what_is_due_shares_calls() {
    let rig = OneWayRig { call_cost: 20 * US, ..OneWayRig::steady(2_000_000.0, 0.05) };
    let reported = rig.run();
    assert_eq!(reported.counts.sent, 100_000);
    let calls = reported.left.last().unwrap().call + 1;
    assert!((calls as usize) < 100_000 / (GROUP / 2), "{calls} calls");
}

#[test]
fn a_message_that_cannot_leave_within_a_ms_is_not_sent() {
    let rig = OneWayRig { held_up: Some((300 * MS, 500 * MS)), ..OneWayRig::steady(10_000.0, 1.0) };
    let reported = rig.run();
    assert!((1_980..=2_000).contains(&reported.unsent(Unsent::Late)), "{}", reported.unsent(Unsent::Late));
    assert_eq!(reported.counts.planned, 10_000);
    assert!(reported.totals.lateness.max() > 190 * MS);
    assert!(reported.left.iter().all(|left| !(300 * MS + MS..500 * MS).contains(&left.at)));
}

#[test]
fn what_stays_here_uses_up_a_turn_but_no_number() {
    let rig = OneWayRig { ticks: Ticks { senders: 10, spread: 1.0 }, ..OneWayRig::steady(1_000.0, 1.0) };
    // Every seventh call meets a full queue of this machine's.
    let reported = rig.run_with(Box::new(|call, _| {
        if call % 7 == 0 { LinkAction::Else(SendResult::Dropped) } else { LinkAction::Accept(usize::MAX) }
    }));
    let unsent = reported.unsent(Unsent::Dropped);
    assert_eq!((reported.counts.sent + unsent, unsent > 100), (1_000, true));
    // Each message still has the sender whose turn it was: one whose place in the tick it is.
    for left in &reported.left {
        assert_eq!(left.at / MS % 10, left.sender, "at {}", left.at);
    }
}

#[test]
fn part_of_a_group_may_stay_for_a_moment() {
    let rig = OneWayRig { call_cost: 100 * US, ..OneWayRig::steady(100_000.0, 0.5) };
    let reported =
        rig.run_with(Box::new(
            |call, _| if call % 3 == 0 { LinkAction::Else(SendResult::Full) } else { LinkAction::Accept(16) },
        ));
    assert_eq!(reported.counts.sent, 50_000);
}

#[test]
fn refusals_are_counted_and_stop_nothing() {
    let reported = OneWayRig::steady(1_000.0, 1.0).run_with(Box::new(|call, _| {
        if call % 2 == 0 { LinkAction::Refuse(3) } else { LinkAction::Accept(usize::MAX) }
    }));
    assert_eq!(reported.counts.sent, 1_000);
    assert_eq!(reported.counts.refused, 3_000);
}

#[test]
fn what_the_kernel_will_not_send_is_told() {
    let rig = OneWayRig::steady(1_000.0, 0.1);
    let reported = rig.run_with(Box::new(|_, _| LinkAction::Else(SendResult::Failed(1))));
    assert_eq!((reported.counts.sent, reported.unsent(Unsent::Failed)), (0, 100));
    assert!(rig.published.failure().is_some());
}

#[test]
fn a_wish_to_stop_ends_it_soon() {
    let rig = OneWayRig::steady(1_000.0, 10.0);
    let published = std::sync::Arc::clone(&rig.published);
    let reported = rig.run_with(Box::new(move |_, at| {
        if at > 200 * MS {
            published.ask_to_stop();
        }
        LinkAction::Accept(usize::MAX)
    }));
    assert!(reported.ended < 210 * MS, "{}", reported.ended);
    assert!((200..=203).contains(&reported.counts.planned));
}

#[test]
fn senders_take_turns_and_share_flows_with_their_neighbours() {
    let rig = OneWayRig { ticks: Ticks { senders: 100, spread: 1.0 }, flows: 4, ..OneWayRig::steady(10_000.0, 1.0) };
    let reported = rig.run();
    assert_eq!(reported.by_sender(100), vec![100; 100]);
    assert!(reported.left.iter().all(|left| left.flow == left.sender as usize / 25));
    assert!(reported.left.iter().enumerate().all(|(n, left)| left.sender == n as u64 % 100));
}

#[test]
fn every_flow_has_its_senders() {
    for (count, flows) in [(4, 3), (65, 64), (100, 64), (7, 7), (3, 8), (10_000, 64), (1, 1)] {
        let mut senders = Senders::new((0, 1), count, flows, 1);
        let over: Vec<_> = std::iter::repeat_with(|| (senders.flow(), senders.number())).take(count).collect();
        let by_flow: Vec<_> = over.chunk_by(|one, next| one.0 == next.0).collect();
        assert_eq!(by_flow.len(), flows.min(count), "{count} senders, {flows} flows");
        assert!(by_flow.iter().enumerate().all(|(n, of_one)| of_one[0].0 == n), "neighbours share a flow");
        let sizes = by_flow.iter().map(|of_one| of_one.len());
        assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
        let again = std::iter::repeat_with(|| (senders.flow(), senders.number().0)).take(count);
        assert!(again.eq(over.iter().map(|(flow, (name, _))| (*flow, *name))), "a sender has one flow");
    }
}

#[test]
fn a_group_never_crosses_flows() {
    let rig = OneWayRig {
        ticks: Ticks { senders: 30, spread: 1.0 },
        flows: 3,
        call_cost: 9 * US,
        ..OneWayRig::steady(1_000_000.0, 0.1)
    };
    let reported = rig.run();
    assert_eq!(reported.counts.sent, 100_000);
    let longest = reported.left.chunk_by(|one, next| one.call == next.call).map(<[_]>::len).max();
    assert_eq!(longest, Some(10), "a third of the senders, once");
}

#[test]
fn short_ticks_let_a_sender_send_a_few_in_a_row() {
    let rig = OneWayRig {
        ticks: Ticks { senders: 8, spread: 1.0 },
        flows: 8,
        in_a_row: 16,
        call_cost: 15 * US,
        ..OneWayRig::steady(1_000_000.0, 0.128)
    };
    let reported = rig.run();
    assert_eq!(reported.by_sender(8), vec![16_000; 8]);
    let longest = reported.left.chunk_by(|one, next| one.call == next.call).map(<[_]>::len).max();
    assert_eq!(longest, Some(16));
}

#[test]
fn random_arrivals_keep_the_senders_turns() {
    let rig = OneWayRig {
        arrivals: Arrivals::Poisson,
        ticks: Ticks { senders: 5, spread: 1.0 },
        ..OneWayRig::steady(5_000.0, 1.0)
    };
    let reported = rig.run();
    assert_eq!(reported.schedule.len() as u64, reported.counts.sent);
    assert!(reported.left.iter().enumerate().all(|(n, left)| left.sender == n as u64 % 5));
}

#[test]
fn workers_have_senders_of_their_own() {
    let mut all = vec![0; 7];
    for index in 0..3 {
        let rig = OneWayRig {
            ticks: Ticks { senders: 7, spread: 0.5 },
            share: Share { index, of: 3 },
            flows: 2,
            ..OneWayRig::steady(7_000.0, 1.0)
        };
        let reported = rig.run();
        assert!(reported.left.iter().all(|left| left.sender % 3 == u64::from(index)));
        all.iter_mut().zip(reported.by_sender(7)).for_each(|(sum, count)| *sum += count);
    }
    assert_eq!(all, vec![1_000; 7]);
}

fn draws(profile: &[Segment], share: Share, ticks: Ticks) -> Vec<u64> {
    let mut pacer = Pacer::new(profile, Arrivals::Constant, share, 1).at_ticks(ticks);
    std::iter::from_fn(|| pacer.draw()).collect()
}

fn steady(per_s: f64, seconds: f64) -> [Segment; 1] {
    [Segment { seconds, from_per_s: per_s, to_per_s: per_s }]
}

#[test]
fn full_spread_is_the_even_schedule() {
    let profile = [
        Segment { seconds: 2.0, from_per_s: 100.0, to_per_s: 3_000.0 },
        Segment { seconds: 1.0, ..steady(7.0, 1.0)[0] },
    ];
    let mut plain = Pacer::new(&profile, Arrivals::Constant, WHOLE, 1);
    let plain: Vec<_> = std::iter::from_fn(|| plain.draw()).collect();
    assert_eq!(draws(&profile, WHOLE, Ticks { senders: 13, spread: 1.0 }), plain);
}

#[test]
fn without_spread_all_send_at_the_tick() {
    let due = draws(&steady(10_000.0, 1.0), WHOLE, Ticks { senders: 500, spread: 0.0 });
    assert_eq!(due.len(), 10_000);
    // 500 senders at 10,000/s: 20 ticks a second.
    assert!(due.iter().enumerate().all(|(n, due)| due.abs_diff(n as u64 / 500 * 50 * MS) <= 1));
}

#[test]
fn a_spread_is_a_share_of_the_tick() {
    let due = draws(&steady(1_000.0, 2.0), WHOLE, Ticks { senders: 100, spread: 0.25 });
    assert_eq!(due.len(), 2_000);
    for (n, due) in due.iter().enumerate() {
        let (tick, sender) = (n as u64 / 100, n as u64 % 100);
        assert!(due.abs_diff(tick * 100 * MS + sender * MS / 4) <= 1, "{n}: {due}");
    }
}

#[test]
fn a_spread_moves_requests_but_brings_no_more() {
    for spread in [0.0, 0.3, 1.0] {
        let due = draws(&steady(1_000.0, 1.05), WHOLE, Ticks { senders: 300, spread });
        assert_eq!(due.len(), 1_050, "the last tick is cut off at half");
        assert!(due.is_sorted());
    }
}

#[test]
fn ticks_of_a_ramp_follow_its_integral() {
    let profile = [Segment { seconds: 10.0, from_per_s: 0.0, to_per_s: 200.0 }];
    let due = draws(&profile, WHOLE, Ticks { senders: 250, spread: 0.0 });
    assert_eq!(due.len(), 1_000);
    // The integral 10 t² passes 0, 250, 500 and 750.
    for (tick, expected) in [0.0_f64, 25.0, 50.0, 75.0].into_iter().enumerate() {
        let expected = (expected.sqrt() * 1e9) as u64;
        assert!(due[tick * 250..(tick + 1) * 250].iter().all(|due| due.abs_diff(expected) <= 2));
    }
}

#[test]
fn shares_of_ticks_are_the_whole() {
    let (profile, ticks) = (steady(1_003.0, 1.7), Ticks { senders: 10, spread: 0.6 });
    let mut together: Vec<_> = (0..4).flat_map(|index| draws(&profile, Share { index, of: 4 }, ticks)).collect();
    together.sort_unstable();
    assert_eq!(together, draws(&profile, WHOLE, ticks));
    assert!(draws(&profile, Share { index: 10, of: 11 }, ticks).is_empty(), "a worker without a sender");
}

#[test]
fn numbers_taken_back_are_given_again() {
    let mut senders = Senders::new((1, 2), 3, 2, 2);
    let given: Vec<_> = (0..7).map(|_| senders.number()).collect();
    assert_eq!(given, [(1, 0), (1, 1), (3, 0), (3, 1), (5, 0), (5, 1), (1, 2)]);
    senders.take_back(4);
    assert_eq!(senders.number(), (3, 1));
    assert_eq!(senders.flow(), 1);
    senders.pass();
    assert_eq!(senders.number(), (5, 0), "the turn that was passed took no number");
    assert_eq!(senders.number(), (1, 2));
    senders.take_back(2);
    assert_eq!((senders.number(), senders.number()), ((5, 0), (1, 2)));
}
