"""Which part of a trial counts, and whose fault a loss is: from results made by hand."""

from __future__ import annotations

import msgspec
import pytest
from limit_runs import run

from flatout.limit_search.trial_verdict import TrialEvaluation, evaluate_trial
from flatout.limit_search.undisturbed import undisturbed
from flatout.result.machine import Contention, Placement, PlacementTarget, Subintervals, TargetContention
from flatout.result.model import Goal, LoadResult, ReceiverCounts

GOAL = Goal(loss=0.001)
LATE_NS = 1_500_000


def parts(*rows: tuple[int, int, int, int]) -> LoadResult:
    """A run of subintervals: (sent, unsent, answered, largest lateness in ns)."""
    sent, unsent, answered, lateness = (list(column) for column in zip(*rows, strict=True))
    base = run(sum(sent) + sum(unsent), unsent=sum(unsent), answered=sum(answered))
    each = Subintervals(
        length_s=0.004, sent=sent, unsent=unsent, answered=answered, slow=[0] * len(sent), lateness_max_ns=lateness
    )
    return msgspec.structs.replace(base, subintervals=each)


def judged(result: LoadResult, goal: Goal = GOAL) -> TrialEvaluation:
    return evaluate_trial(result, goal, lambda *_: 0.0)


GOOD = (1_000, 0, 1_000, 50_000)
LOSSY = (1_000, 0, 900, 50_000)
STALLED = (900, 100, 500, LATE_NS)


def test_a_stall_of_the_generator_and_what_follows_it_are_left_out() -> None:
    found = undisturbed(parts(*[GOOD] * 6, STALLED, LOSSY, *[GOOD] * 2))
    assert (found.share, found.sent, found.lost, found.behind) == (0.8, 8_000, 0, False)
    evaluation = judged(parts(*[GOOD] * 6, STALLED, LOSSY, *[GOOD] * 2))
    assert (evaluation.verdict, evaluation.weight, evaluation.sent, evaluation.lost) == ("held", 0.8, 8_000, 0)


def test_loss_is_never_a_reason_to_leave_something_out() -> None:
    evaluation = judged(parts(*[GOOD] * 6, STALLED, GOOD, LOSSY, GOOD))
    assert (evaluation.verdict, evaluation.lost) == ("failed", 100)


def test_a_trial_that_was_disturbed_for_most_of_its_time_is_invalid_but_not_undriven() -> None:
    evaluation = judged(parts(GOOD, STALLED, GOOD, STALLED, GOOD, STALLED, GOOD, GOOD, GOOD))
    assert (evaluation.verdict, evaluation.undriven) == ("invalid", False)
    assert evaluation.why.startswith("the machine held the generator up: ")


def test_a_generator_that_is_behind_all_the_time_is_at_its_end() -> None:
    evaluation = judged(parts(*[STALLED] * 8, GOOD))
    assert (evaluation.verdict, evaluation.undriven) == ("invalid", True)
    assert evaluation.why.startswith("the generator fell behind: ")


def test_answers_that_this_host_dropped_itself_are_no_loss_of_the_servers() -> None:
    """Finding 8: 50 of 100,000 answers dropped by the generator failed a goal of 0.01 %."""
    lossy = parts(*[(10_000, 0, 9_995, 50_000)] * 10)
    strict = Goal(loss=0.0001)
    assert judged(lossy, strict).verdict == "failed"
    assert judged(msgspec.structs.replace(lossy, own_drops=50), strict).verdict == "held"


def contended(result: LoadResult, share: float, others_s: float = 0.0) -> LoadResult:
    target = TargetContention(cpu_s=0.5, run_delay_s=share, run_delay_share=share, busiest_share=0.5, busy_threads=1)
    about = PlacementTarget(pids=[500], command="knotd", threads=2, sockets=2, cpus=[0, 1])
    return msgspec.structs.replace(
        result,
        placement=Placement(target=about, shared_cpus=[0, 1], why=""),
        contention=Contention(
            run_delay_s=0.0, involuntary_switches=0, threads=1, others_s=others_s, elapsed_s=1.0, target=target
        ),
    )


def test_loss_while_the_target_waited_for_a_cpu_is_not_the_servers() -> None:
    evaluation = judged(contended(parts(*[LOSSY] * 10), 0.3))
    assert (evaluation.verdict, evaluation.undriven) == ("invalid", True)
    assert evaluation.why == (
        "a thread of knotd waited 30.0% of the time for a CPU shared with this generator, and loss 10 % is above 0.1 %"
    )


def test_loss_in_this_hosts_receive_backlog_is_not_the_servers() -> None:
    """/proc/net/softnet_stat: packets that never reached a socket; on loopback requests as well as answers."""
    lossy = contended(parts(*[LOSSY] * 10), 0.0)
    assert lossy.contention is not None

    def dropped(packets: int) -> TrialEvaluation:
        contention = msgspec.structs.replace(lossy.contention, backlog_drops=packets)  # type: ignore[type-var]
        return judged(msgspec.structs.replace(lossy, contention=contention))

    assert dropped(999).verdict == "failed", "1,000 were lost"
    evaluation = dropped(1_000)
    assert (evaluation.verdict, evaluation.undriven) == ("invalid", True)
    assert evaluation.why.startswith("this host dropped 1,000 packets before they reached a socket (backlog), and loss")


def test_a_trial_in_which_the_targets_process_ended_says_so() -> None:
    lost = contended(parts(*[LOSSY] * 10), 0.0)
    assert lost.placement is not None
    about = msgspec.structs.replace(lost.placement.target, ended=[500])  # type: ignore[type-var]
    gone = msgspec.structs.replace(lost, placement=Placement(target=about))
    assert judged(gone).why == "loss 10 % is above 0.1 %; knotd (process 500) ended"
    held = msgspec.structs.replace(parts(*[GOOD] * 10), placement=Placement(target=about))
    assert "ended" not in judged(held).why


@pytest.mark.parametrize("share", [0.0, 0.004, 0.05])
def test_more_loss_than_the_wait_explains_is_the_servers(share: float) -> None:
    assert judged(contended(parts(*[LOSSY] * 10), share)).verdict == "failed"


def test_what_a_receivers_queue_dropped_is_not_explained_by_a_wait() -> None:
    counts = dict.fromkeys(ReceiverCounts.__struct_fields__, 0) | {"dropped": 1_000}
    sent = contended(parts(*[GOOD] * 10), 0.3)
    one_way = msgspec.structs.replace(sent, one_way=True, receiver=ReceiverCounts(**counts))
    assert judged(one_way).verdict == "failed"


def test_a_load_that_was_held_is_held_though_the_target_waited() -> None:
    assert judged(contended(parts(*[GOOD] * 10), 0.3)).verdict == "held"


def test_where_other_processes_took_the_cpu_the_trial_is_little_evidence() -> None:
    for result in (parts(*[LOSSY] * 10), parts(*[STALLED] * 9)):
        evaluation = judged(contended(result, 0.3, others_s=0.4))
        assert (evaluation.verdict, evaluation.undriven, evaluation.weight) == ("invalid", True, 0.25)
    assert evaluation.why.endswith("; other processes took 40% of a CPU")


def test_slow_answers_are_counted_in_the_undisturbed_part_alone() -> None:
    goal = Goal(loss=0.001, p99_ns=1_000_000)
    result = parts(*[GOOD] * 6, STALLED, GOOD, GOOD)
    assert result.subintervals is not None
    slow = msgspec.structs.replace(result.subintervals, slow=[0] * 6 + [500, 300, 0])
    assert judged(msgspec.structs.replace(result, subintervals=slow), goal).verdict == "held"
    slow = msgspec.structs.replace(result.subintervals, slow=[20] * 6 + [0, 0, 20])
    assert judged(msgspec.structs.replace(result, subintervals=slow), goal).verdict == "failed"


MS = 1_000_000


def waited(result: LoadResult, *waits_ms: float, shared: bool = True, busy: int = 1) -> LoadResult:
    """The same while a thread of the target waited for a CPU in each of its parts."""
    assert result.subintervals is not None
    waits = [round(wait * MS) for wait in waits_ms]
    parts = msgspec.structs.replace(result.subintervals, target_waited_ns=waits)
    share = sum(waits) / (len(waits) * 4 * MS)
    known = contended(msgspec.structs.replace(result, subintervals=parts), share)
    assert known.placement is not None
    assert known.contention is not None
    assert known.contention.target is not None
    target = msgspec.structs.replace(known.contention.target, busy_threads=busy)
    return msgspec.structs.replace(
        known,
        placement=msgspec.structs.replace(known.placement, shared_cpus=[0, 1] if shared else [], cpus=[1]),
        contention=msgspec.structs.replace(known.contention, target=target),
    )


def test_parts_in_which_the_target_waited_for_a_cpu_are_left_out_with_those_around() -> None:
    """A wait counts in the part that it ends in: 5 ms began up to two parts before."""
    result = waited(parts(*[GOOD] * 3, LOSSY, LOSSY, LOSSY, LOSSY, *[GOOD] * 5), *[0] * 5, 5.0, *[0] * 6)
    found = undisturbed(result)
    assert (found.share, found.lost) == (8 / 12, 0)
    assert judged(result).verdict == "held"


def test_a_short_wait_explains_no_loss_and_leaves_nothing_out() -> None:
    """250,000/s: 138 requests in 0.55 ms, so the bound is 0.5 ms."""
    result = waited(parts(*[GOOD] * 8, LOSSY, GOOD), *[0.4] * 10)
    assert undisturbed(result).share == 1.0
    assert judged(result).verdict == "failed"


def test_the_faster_the_load_the_shorter_the_wait_that_matters() -> None:
    fast = (4_000, 0, 4_000, 50_000)
    waits = [0.0] * 4 + [0.2] + [0.0] * 5
    assert undisturbed(waited(parts(*[GOOD] * 10), *waits)).share == 1.0
    assert undisturbed(waited(parts(*[fast] * 10), *waits)).share == 0.7


def test_loss_apart_from_the_waits_is_the_servers() -> None:
    result = waited(parts(*[GOOD] * 8, LOSSY, GOOD), 3.0, *[0] * 9)
    assert (judged(result).verdict, judged(result).lost) == ("failed", 100)


def test_a_target_that_waits_all_the_time_is_judged_by_the_whole() -> None:
    lossy, good = parts(*[LOSSY] * 10), parts(*[GOOD] * 10)
    assert judged(waited(good, *[1.0] * 10)).verdict == "held"
    evaluation = judged(waited(lossy, *[1.0] * 10))
    assert (evaluation.verdict, evaluation.undriven) == ("invalid", True)
    assert "waited 25.0% of the time" in evaluation.why


def test_threads_that_wait_for_each_other_are_the_targets_own() -> None:
    """Four busy threads on the one CPU that is theirs; one could not wait for another."""
    lossy = parts(*[GOOD] * 5, LOSSY, *[GOOD] * 4)
    waits = [0.0] * 5 + [2.0] + [0.0] * 4
    assert judged(waited(lossy, *waits, shared=False, busy=4)).verdict == "failed"
    assert judged(waited(lossy, *waits, shared=False, busy=1)).verdict == "held"
    assert judged(waited(lossy, *waits, shared=True, busy=4)).verdict == "held"
