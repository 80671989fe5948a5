"""Findings blame nothing that is not at fault, and say nothing of what did no harm. Ledgers made by hand."""

from __future__ import annotations

from typing import Any

import ledgers
import msgspec
import pytest
import results
from ledgers import HERE, LISTENER, SENT, SOCKET, closed, contention, over_streams, run, sampled, threads

from flatout.analysis import explained, findings
from flatout.host.drops import Dropped
from flatout.limit_search import drive
from flatout.limit_search.past import NextTrial
from flatout.limit_search.trial_verdict import TrialEvaluation, evaluate_trial
from flatout.result.finding import Finding
from flatout.result.machine import Placement
from flatout.result.model import Goal, LoadResult, Requirement, Search, Trial
from flatout.runner.counters import Sampled


def found(result: LoadResult, seen: Sampled | None = None) -> dict[str, Finding]:
    """The findings by name, in their order."""
    return {each.name: each for each in findings(closed(result, sampled() if seen is None else seen))}


def dropped(number: int, **changes: Any) -> Sampled:
    """The target's socket dropped so many."""
    return sampled(sockets=[msgspec.structs.replace(SOCKET, drops=number, **changes)])


# --- The generator ---


def test_what_the_host_refuses_to_send_is_no_late_generator() -> None:
    refused = found(run(unsent={"send_failed": 5_000}, warnings=["sendmsg: Message too long", "a log"]))
    assert list(refused) == ["send errors"]
    assert refused["send errors"].remedy.startswith("shorter messages")
    unknown = found(run(unsent={"send_failed": 5_000}))
    assert unknown["send errors"].sentence == "This host refused to send 5,000 requests."


def test_full_slots_come_after_what_the_server_did() -> None:
    names = found(run(900, unsent={"no_slot": 5_000}), dropped(900))
    assert list(names) == ["receive buffer", "full slots"]
    assert names["full slots"].sentence.endswith(
        "ntpd (process 812) left 900 requests without a right answer in time."
    ), names["full slots"].sentence
    assert names["full slots"].explains == 0


def test_a_program_that_cannot_be_told_from_the_target_is_no_other() -> None:
    busy = contention(busy_s={"0": 9.9, "1": 9.9}, target=None, others_s=None)
    hidden = msgspec.structs.replace(HERE, target=None, where="hidden")
    late = run(unsent={"late": 700}, contention=busy)
    assert list(found(late, sampled(placement=hidden, sockets=[]))) == ["generator"]


# --- Searches ---


STEP = NextTrial(1_000, 10.0, "search")
SEARCH = Search(goal=Goal(loss=0.001, p99_ns=1_000_000), min_per_s=1, max_per_s=9, within=0.02, budget_s=5)


def tried(result: LoadResult, **evaluation: Any) -> Trial:
    """As a search keeps it."""
    return explained(drive._trial(result, TrialEvaluation(**evaluation), STEP, SEARCH))


def test_a_trial_that_was_too_slow_is_explained_without_a_loss() -> None:
    result = closed(run(contention=contention(target=threads(busiest_share=0.99))), sampled())
    assert findings(result) == [], "alone it shows no trouble"
    failed = tried(result, verdict="failed", loss=0.02, why="p99 9 ms")
    assert [each.name for each in failed.findings] == ["single thread"]
    assert tried(result, verdict="held", loss=0.0, why="").findings == []


def test_a_search_explains_trials_once_they_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    result = closed(run(contention=contention(target=threads(busiest_share=0.99))), sampled())
    judged = TrialEvaluation(verdict="failed", loss=0.02, why="p99 9 ms")
    monkeypatch.setattr(drive, "evaluate_trial", lambda *_: judged)
    environment = drive.Environment(
        measure=lambda *_: result,
        recover=lambda: True,
        clock=lambda: 0.0,
        rest=lambda _: None,
        share_later_than=lambda *_: 0.0,
        explain=explained,
    )
    search = drive._SearchRun(SEARCH, environment, None, 0.0)
    search._run_trial(STEP)
    assert [each.name for each in search.trials[0].findings] == ["single thread"]


def test_a_late_generator_is_named_in_a_trial_too() -> None:
    late = results.distribution(3_000_000, 0.1, SENT)
    result = closed(run(lateness_ns=late, verdict="generator-limited"), sampled())
    assert [each.name for each in tried(result, verdict="invalid", loss=0.0, why="").findings] == ["generator"]


# --- Counters of a whole namespace ---

QUIET: dict[str, tuple[LoadResult, Sampled]] = {
    "one cookie": (over_streams(), sampled({"TcpExt.SyncookiesSent": 1}, sockets=[LISTENER])),
    "memory under pressure": (over_streams(), sampled({"TcpExt.TCPMemoryPressures": 1}, sockets=[LISTENER])),
    "the generator's own memory": (
        over_streams(9),
        sampled({"TcpExt.TCPAbortOnMemory": 5}, {}, sockets=[LISTENER]),
    ),
    "this host's memory, with a target on another": (
        over_streams(9),
        sampled({"TcpExt.TCPMemoryPressures": 5}, placement=ledgers.ELSEWHERE, sockets=[]),
    ),
}


@pytest.mark.parametrize("name", QUIET)
def test_counters_that_moved_without_harm_are_no_finding(name: str) -> None:
    assert found(*QUIET[name]) == {}


@pytest.mark.parametrize(
    ("counted", "sentence", "confidence"),
    [
        ({"TcpExt.TCPMemoryPressures": 2}, "came under pressure 2 times (net.ipv4.tcp_mem).", "medium"),
        ({"TcpExt.TCPAbortOnMemory": 5}, "too many connections had no process any more", "medium"),
        ({"TcpExt.TCPAbortOnMemory": 5, "TcpExt.TCPMemoryPressures": 2}, "The kernel ended 5 connections:", "high"),
    ],
)
def test_memory_of_connections_in_a_run_with_trouble(counted: dict[str, int], sentence: str, confidence: str) -> None:
    (memory,) = found(over_streams(90), sampled({}, counted, sockets=[LISTENER])).values()
    assert (memory.name, memory.confidence) == ("socket memory", confidence)
    assert sentence in memory.sentence


LIMITS = {"conntrack_count": 50, "conntrack_max": 1_000, "tcp_syncookies": 2}


def test_a_table_is_full_where_few_entries_are_left_or_some_were_dropped_early() -> None:
    def named(own: dict[str, int] | None, target: dict[str, int] | None = None, **limits: int) -> str:
        seen = sampled(own, target, limits=LIMITS | limits)
        return next(iter(found(run(40), seen)))

    drop = {"conntrack.drop": 40}
    assert named(drop) == "conntrack"
    assert named(drop, conntrack_count=900) == "conntrack full"
    assert named(drop | {"conntrack.early_drop": 1}) == "conntrack full"
    assert named({"conntrack.early_drop": 9}, drop, conntrack_count=1_000) == "conntrack", "that of another namespace"
    assert named({}, drop, target_conntrack_count=1_000) == "conntrack full"


def test_cookies_that_are_always_sent_say_nothing_of_a_queue_but_another_namespace_has_its_own_setting() -> None:
    failed, sent = over_streams(connections={"failed": 9, "timed_out": 9}), {"TcpExt.SyncookiesSent": 9}
    assert found(failed, sampled(sent, sockets=[LISTENER], limits=LIMITS)) == {}
    assert list(found(failed, sampled({}, sent, sockets=[LISTENER], limits=LIMITS))) == ["SYN queue"]


# --- Refusals, ports, descriptors ---

NOBODY: dict[str, Any] = {"placement": msgspec.structs.replace(HERE, where="nobody", target=None), "sockets": []}
AWAY: dict[str, Any] = {"placement": ledgers.ELSEWHERE, "sockets": []}


@pytest.mark.parametrize(
    ("counted", "around", "name", "sentence"),
    [
        (1, {}, "refused", "although a program is bound to 192.0.2.10:123: a packet filter says no."),
        (SENT, {}, "port closed", "No program is bound to 192.0.2.10:123: 10,000 requests were refused."),
        (0, NOBODY, "port closed", "No program is bound to 192.0.2.10:123: 10,000 requests were refused."),
        (0, AWAY, "refused", "192.0.2.10:123 refused 10,000 requests: no program is bound there, or a packet filter"),
    ],
)
def test_who_refuses_requests(counted: int, around: dict[str, Any], name: str, sentence: str) -> None:
    (refused,) = found(run(refused=SENT), sampled({"Udp.NoPorts": counted}, **around)).values()
    assert refused.name == name
    assert sentence in refused.sentence


@pytest.mark.parametrize(
    ("around", "name", "sentence"),
    [
        ({"sockets": [LISTENER]}, "refused", "100 connections were refused although a program listens on"),
        (NOBODY, "port closed", "No program is bound to 192.0.2.10:123: 100 connections were refused."),
        (AWAY, "refused", "192.0.2.10:123 refused 100 connections: no program is bound there"),
    ],
)
def test_who_refuses_connections(around: dict[str, Any], name: str, sentence: str) -> None:
    result = over_streams(connections={"established": 0, "failed": 100, "refused": 100, "peak": 0, "live": 0})
    (refused,) = found(result, sampled({}, **around)).values()
    assert refused.name == name
    assert refused.sentence.startswith(sentence)


def test_only_the_kernels_error_says_that_ports_are_gone() -> None:
    """Many connections fail in a small range of ports, for another reason."""
    failed = {"local": 95, "failed": 95, "peak": 5}
    limits = {"ports": 100, "files": 1_000}
    assert found(over_streams(connections=failed), sampled(limits=limits)) == {}
    assert list(found(over_streams(connections=failed | {"no_port": 95}), sampled(limits=limits))) == [
        "ephemeral ports"
    ]


def test_connections_without_a_port_are_not_without_a_descriptor() -> None:
    failed = {"local": 95, "failed": 95, "peak": 99, "no_port": 95}
    names = found(over_streams(connections=failed), sampled(limits={"files": 100}))
    assert list(names) == ["ephemeral ports"]


# --- CPUs ---


def test_a_thread_is_not_busy_for_what_it_did_after_the_load() -> None:
    """0.5 s of requests, and 1 s of waiting for the last answers."""
    for elapsed_s, share, names in ((1.5, 0.34, []), (0.55, 0.9, ["single thread"]), (1.5, 0.99, ["single thread"])):
        about = contention(elapsed_s=elapsed_s, target=threads(busiest_share=share))
        found_names = [name for name in found(run(900, duration_s=0.5, contention=about)) if name == "single thread"]
        assert found_names == names, elapsed_s


@pytest.mark.parametrize(
    ("placement", "sentence", "remedy"),
    [
        (ledgers.ELSEWHERE, "this generator's own host receives packets", "off the CPUs of the load threads"),
        (HERE, "on one host the kernel's receiving runs on the sender's CPU", "run the generator on another host"),
    ],
)
def test_whose_soft_interrupts(placement: Placement, sentence: str, remedy: str) -> None:
    about = contention(softirq_s={"0": 9.5})
    names = found(run(900, contention=about), sampled(placement=placement, sockets=[]))
    assert sentence in names["soft interrupts"].sentence
    assert remedy in names["soft interrupts"].remedy


def test_the_targets_own_quota_is_told_apart() -> None:
    about = contention(throttled_s=0.0, target_throttled_s=2.5)
    (quota,) = found(run(900, contention=about)).values()
    assert quota.sentence == "A CPU quota took 2.5 s of CPU time from ntpd (process 812)'s control group."
    both = msgspec.structs.replace(about, throttled_s=1.0)
    assert "from this process's control group and 2.5 s" in found(run(900, contention=both))["CPU quota"].sentence


def test_a_counter_far_above_the_loss_is_less_sure() -> None:
    for counted, confidence in ((80, "high"), (800, "medium")):
        read = {"Udp.InDatagrams": SENT, "Udp.OutDatagrams": SENT - counted}
        about = found(run(80), sampled({}, {"Udp.SndbufErrors": counted, **read}))
        assert about["answers' queue"].confidence == confidence


# --- How much is enough to stop a run ---


def of_many(lost: int, *, sent: int = 60_000_000, **changes: Any) -> LoadResult:
    """A long run at a high rate."""
    result = run(lost, **changes)
    outcomes = msgspec.structs.replace(result.outcomes, planned=sent, sent=sent, answered=sent - lost)
    return msgspec.structs.replace(result, outcomes=outcomes, loss=lost / sent)


def test_three_of_sixty_million_stop_nothing() -> None:
    assert found(of_many(3), dropped(3)) == {}
    assert list(found(of_many(90_000), dropped(90_000))) == ["receive buffer"]


@pytest.mark.parametrize(("expression", "lost"), [("loss<0.000001%", True), ("p99<1ms", False)])
def test_a_few_stop_a_run_that_was_asked_for_no_loss(expression: str, lost: bool) -> None:
    unmet = [Requirement(expression=expression, value=1.0, met=False)]
    busy = contention(target=threads(busiest_share=0.99))
    names = found(of_many(3, requirements=unmet, contention=busy), dropped(3))
    assert "single thread" in names
    assert ("receive buffer" in names) == lost


def test_a_trial_that_lost_too_much_for_its_goal_is_explained_by_the_loss() -> None:
    result = closed(of_many(6_000), dropped(6_000))
    goal = Goal(loss=0.000_01)
    evaluation = evaluate_trial(msgspec.structs.replace(result, verdict="ok"), goal, lambda *_: 0.0)
    assert evaluation.verdict == "failed"
    failed = explained(drive._trial(result, evaluation, STEP, SEARCH))
    assert [each.name for each in failed.findings] == ["receive buffer"]
    slow = explained(drive._trial(result, TrialEvaluation(verdict="failed", loss=0.02, why="p99 9 ms"), STEP, SEARCH))
    assert "receive buffer" not in [each.name for each in slow.findings]


# --- Remedies ---


@pytest.mark.parametrize(
    ("size", "limits", "remedy"),
    [
        (212_992, {"rmem_default": 212_992, "rmem_max": 212_992}, "net.core.rmem_default (now 212,992)"),
        (425_984, {"rmem_default": 212_992, "rmem_max": 212_992}, "net.core.rmem_max (now 212,992), which caps"),
        (65_536, {"rmem_default": 212_992, "rmem_max": 4_000_000}, "SO_RCVBUF in the program"),
        (65_536, {}, "SO_RCVBUF in the program"),
    ],
)
def test_what_enlarges_this_buffer(size: int, limits: dict[str, int], remedy: str) -> None:
    seen = dropped(900, buffer_bytes=size)
    around = msgspec.structs.replace(seen.surroundings, limits=limits)
    full = found(run(900), seen._replace(surroundings=around))["receive buffer"]
    assert remedy in full.remedy
    assert full.remedy.endswith("then restart the program")


def test_the_stopped_process_is_the_one_to_let_go_on() -> None:
    seen = dropped(900)
    around = msgspec.structs.replace(seen.surroundings, target_stopped=True, stopped_pids=[814])
    full = found(run(900), seen._replace(surroundings=around))["receive buffer"]
    assert full.remedy == "let it go on: kill -CONT 814"


@pytest.mark.parametrize("reason", ["CPU_BACKLOG", "NETFILTER_DROP", "FULL_RING", "TC_INGRESS"])
def test_packets_of_connections_that_are_sent_again_explain_no_request(reason: str) -> None:
    drops = [Dropped("own", 0, reason, True, "eth0", 500)]
    seen = sampled({"TcpExt.ListenOverflows": 10}, sockets=[msgspec.structs.replace(LISTENER, drops=10)])
    names = found(over_streams(90), seen._replace(drops=drops))
    assert [each.explains for each in names.values()] == [0, 0]
    # Both are known of this run; what is only probable comes behind.
    assert next(each.confidence for each in names.values()) == "high"
