"""Did a trial hold? Verdict, effective loss and words, from results made by hand."""

from __future__ import annotations

import math

import msgspec
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import example, given
from hypothesis import strategies as st
from limit_runs import run

from flatout.limit_search.numbers import ms, percent
from flatout.limit_search.trial_verdict import TrialEvaluation, evaluate_trial
from flatout.result.model import Distribution, Goal, Latency, LoadResult, ReceiverCounts, RunVerdict

LOSS_ONLY = Goal(loss=0.001)
P99 = Goal(loss=0.001, p99_ns=5_000_000)


def late(share: float):
    return lambda _distribution, _ns: share


def judged(result: LoadResult, goal: Goal = LOSS_ONLY, share: float = 0.0) -> TrialEvaluation:
    return evaluate_trial(result, goal, late(share))


def test_loss_up_to_the_goal_holds() -> None:
    evaluation = judged(run(100_000, answered=99_900))
    assert (evaluation.verdict, evaluation.loss) == ("held", 0.001)
    assert evaluation.why == "loss 0.1 % (at most 0.1 %)"


def test_loss_above_the_goal_fails() -> None:
    evaluation = judged(run(100_000, answered=99_600))
    assert (evaluation.verdict, evaluation.loss) == ("failed", pytest.approx(0.004))
    assert evaluation.why == "loss 0.4 % is above 0.1 %"


def test_a_goal_of_no_loss() -> None:
    none = Goal(loss=0.0)
    assert judged(run(100_000), none).verdict == "held"
    assert judged(run(100_000, answered=99_999), none).verdict == "failed"


def test_a_lost_target_fails_with_all_lost() -> None:
    evaluation = judged(run(100_000, answered=0, verdict="target-lost"))
    assert (evaluation.verdict, evaluation.loss) == ("failed", 1.0)
    assert judged(run(100_000, answered=0), P99).loss == 1.0


def test_a_target_that_only_refuses_has_failed_though_refusals_held_the_generator_up() -> None:
    refusing = run(100_000, answered=0, unsent=30_000, verdict="target-lost")
    evaluation = judged(refusing)
    assert (evaluation.verdict, evaluation.loss, evaluation.why) == ("failed", 1.0, "made by hand")
    assert judged(msgspec.structs.replace(refusing, own_drops=9)).why != "made by hand", "answers came"


def test_a_generator_that_fell_behind_is_invalid_whatever_was_lost() -> None:
    evaluation = judged(run(100_000, answered=50_000, unsent=3_000, lateness_p99_ns=1_400_000))
    assert evaluation.verdict == "invalid"
    assert evaluation.why == "the generator fell behind: 3 % of requests unsent, p99 of its lateness 1.4 ms"


def test_a_generator_that_sent_nothing_is_invalid() -> None:
    evaluation = judged(run(100_000, answered=0, unsent=100_000))
    assert evaluation.verdict == "invalid"
    assert "100 %" in evaluation.why


def test_an_interrupted_run_is_invalid() -> None:
    assert judged(run(100, answered=0, verdict="interrupted")).why == "interrupted"
    assert judged(run(100, answered=0, verdict="interrupted")).verdict == "invalid"
    assert judged(run(0, answered=0)).why == "nothing was sent"


def test_one_percent_of_answers_may_be_later_than_the_p99_goal() -> None:
    assert judged(run(100_000), P99, share=0.01).verdict == "held"
    evaluation = judged(run(100_000), P99, share=0.0101)
    assert evaluation.verdict == "failed"
    assert evaluation.why == "1.01 % of answers later than 5 ms (at most 1 %)"


def test_a_goal_on_latency_is_not_met_where_none_was_measured() -> None:
    blind = msgspec.structs.replace(run(100_000), latency_ns=Latency(from_due=None, from_sent=None))
    assert judged(blind, P99).verdict == "failed"
    assert judged(blind, LOSS_ONLY).verdict == "held"


def test_lateness_without_a_goal_on_it_does_not_matter() -> None:
    assert judged(run(100_000), LOSS_ONLY, share=1.0).verdict == "held"


def test_both_complaints_are_told() -> None:
    evaluation = judged(run(100_000, answered=99_000), P99, share=0.5)
    assert evaluation.why == "loss 1 % is above 0.1 %; 50 % of answers later than 5 ms (at most 1 %)"


def test_what_held_is_told_with_numbers() -> None:
    evaluation = judged(run(100_000, answered=99_980), P99, share=0.002)
    assert evaluation.why == "loss 0.02 % (at most 0.1 %); 0.2 % of answers later than 5 ms (at most 1 %)"


def test_lateness_counts_as_loss_scaled_to_the_goal() -> None:
    assert judged(run(100_000), P99, share=0.005).loss == pytest.approx(0.0005)
    assert judged(run(100_000), P99, share=0.02).loss == pytest.approx(0.002)
    assert judged(run(100_000, answered=99_000), P99, share=0.02).loss == pytest.approx(0.01)
    assert judged(run(100_000), Goal(loss=0.0, p99_ns=1), share=0.03).loss == pytest.approx(0.02)


@given(
    answered=st.integers(0, 10_000),
    goal_loss=st.sampled_from([0.0, 0.001, 0.01, 0.3]),
    share=st.floats(0.0, 1.0) | st.sampled_from([0.01, 0.010000001]),
)
@example(answered=10_000, goal_loss=0.3, share=math.nextafter(0.01, 1.0))
def test_effective_loss_is_above_the_goal_just_when_the_trial_failed(
    answered: int, goal_loss: float, share: float
) -> None:
    evaluation = judged(run(10_000, answered=answered), Goal(loss=goal_loss, p99_ns=1_000_000), share)
    assert (evaluation.loss > goal_loss) == (evaluation.verdict == "failed")
    assert evaluation.verdict == ("failed" if 1 - answered / 10_000 > goal_loss or share > 0.01 else "held")
    assert 0.0 <= evaluation.loss <= 1.0


def share_by_histogram(distribution: Distribution, ns: int) -> float:
    histogram = HdrHistogram.decode(distribution.hdr)
    above = [item for item in histogram.get_recorded_iterator() if item.value_iterated_to > ns]
    return sum(item.count_added_in_this_iter_step for item in above) / histogram.get_total_count()


@pytest.mark.parametrize(("tail_ns", "verdict"), [(4_000_000, "held"), (9_000_000, "failed")])
def test_with_a_real_histogram(tail_ns: int, verdict: str) -> None:
    histogram = HdrHistogram(1, 60_000_000_000, 3)
    histogram.record_value(200_000, 980)
    histogram.record_value(tail_ns, 20)
    result = run(1_000, hdr=histogram.encode().decode())
    evaluation = evaluate_trial(result, P99, share_by_histogram)
    assert evaluation.verdict == verdict
    assert evaluation.loss == pytest.approx(0.002 if verdict == "failed" else 0.0)


def test_numbers_in_words() -> None:
    assert [percent(share) for share in (0.0, 0.001, 0.0004567, 0.99996, 1.0)] == [
        "0 %", "0.1 %", "0.0457 %", "99.996 %", "100 %",
    ]  # fmt: skip
    assert [ms(ns) for ns in (250_000, 5_000_000, 1_234_567_890)] == ["0.25 ms", "5 ms", "1,230 ms"]
    assert [ms(ns) for ns in (99_940, 43_512, 1_000, 999, 90, 0)] == [
        "99.9 µs", "43.5 µs", "1 µs", "999 ns", "90 ns", "0 ns",
    ]  # fmt: skip
    assert percent(1e-9) == "1e-07 %"


@pytest.mark.parametrize(("p50_ns", "undriven"), [(99_999, False), (100_000, True)])
def test_a_generator_that_was_held_up_is_told_from_one_at_its_end(p50_ns: int, undriven: bool) -> None:
    behind = run(100_000, unsent=3_000)
    assert behind.lateness_ns is not None
    lateness = msgspec.structs.replace(behind.lateness_ns, p50=p50_ns)
    found = judged(msgspec.structs.replace(behind, lateness_ns=lateness))
    assert (found.verdict, found.undriven) == ("invalid", undriven)


def one_way(sent: int, received: int | None, dropped: int = 0, verdict: RunVerdict = "ok") -> LoadResult:
    """Messages that nobody answers, and what their receiver told: nothing where `received` is None."""
    base = run(sent, answered=0)
    outcomes = msgspec.structs.replace(base.outcomes, lost=sent - (received or 0), received=received)
    names = (name for name in ReceiverCounts.__struct_fields__ if name != "dropped")
    counts = None if received is None else ReceiverCounts(**dict.fromkeys(names, 0), dropped=dropped)
    loss = None if received is None else (sent - received) / sent
    return msgspec.structs.replace(base, outcomes=outcomes, loss=loss, one_way=True, receiver=counts, verdict=verdict)


def test_loss_of_what_goes_one_way_is_the_receivers() -> None:
    assert judged(one_way(100_000, 99_900)).verdict == "held"
    evaluation = judged(one_way(100_000, 99_600))
    assert (evaluation.verdict, evaluation.loss) == ("failed", pytest.approx(0.004))


def test_what_the_receivers_queue_drops_is_not_held() -> None:
    assert judged(one_way(100_000, 100_000, dropped=100)).verdict == "held"
    evaluation = judged(one_way(100_000, 99_950, dropped=2_000))
    assert (evaluation.verdict, evaluation.loss) == ("failed", pytest.approx(0.02))
    assert evaluation.why == "the receiver's queue dropped 2 % (at most 0.1 %)"


def test_a_receiver_that_falls_silent_has_failed() -> None:
    evaluation = judged(one_way(100_000, None, verdict="target-lost"))
    assert (evaluation.verdict, evaluation.loss, evaluation.why) == ("failed", 1.0, "made by hand")


def test_a_run_that_nobody_counted_says_nothing() -> None:
    evaluation = judged(one_way(100_000, None))
    assert (evaluation.verdict, evaluation.why) == ("invalid", "no receiver reported what arrived")


@pytest.mark.parametrize(
    ("transport", "p90_ms", "verdict"),
    [("tcp", 437, "failed"), ("tcp", 149, "held"), ("udp", 437, "held")],
)
def test_over_connections_answers_must_keep_up(transport: str, p90_ms: int, verdict: str) -> None:
    """Recorded of Knot DNS at 482,584/s over 16 connections: nothing was lost, and all of it waited in buffers."""
    plain = run(77_214)
    due = Distribution(count=77_214, min=1, mean=3e8, p50=1, p90=p90_ms * 10**6, p99=1, p999=1, max=1, hdr="")
    scenario = msgspec.structs.replace(
        plain.scenario,
        protocol="dns",
        transport=transport,
        connections=16 if transport == "tcp" else None,
        warmup_s=0.2,
    )
    lagging = msgspec.structs.replace(
        plain, scenario=scenario, duration_s=0.16, latency_ns=Latency(from_due=due, from_sent=due)
    )
    evaluation = judged(lagging)
    assert evaluation.verdict == verdict, evaluation.why
    assert ("did not keep up" in evaluation.why) == (verdict == "failed")
