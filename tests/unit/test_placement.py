"""Where load threads run, decided from the target's threads; and how threads compete, from counters made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flatout.host import contention
from flatout.host.contention import between, sample
from flatout.host.placement import decide, shared_after
from flatout.host.target import Target, Thread
from flatout.result.machine import Placement


def of(*cpus: tuple[int, ...], sockets: int = 1, last: int = 0) -> Target:
    threads = tuple(Thread(500, 500 + n, allowed, last) for n, allowed in enumerate(cpus))
    return Target("here", (500,), "knotd", threads, sockets)


def test_a_target_with_one_free_thread_gets_the_other_cpu() -> None:
    placed = decide(of((0, 1), last=0), allowed=[0, 1], threads=1)
    assert (placed.cpus, placed.shared_cpus) == ([1], [])
    assert placed.why == "apart from knotd (process 500)"
    assert decide(of((0, 1), last=1), allowed=[0, 1], threads=1).cpus == [0]


def test_a_pinned_target_is_left_alone() -> None:
    placed = decide(of((0,), (0,)), allowed=[0, 1], threads=1)
    assert (placed.cpus, placed.shared_cpus) == ([1], [])
    placed = decide(of((2,), (3,), sockets=2), allowed=[0, 1, 2, 3], threads=2)
    assert (placed.cpus, placed.shared_cpus) == ([0, 1], [])


@pytest.mark.parametrize(
    ("target", "allowed", "threads"),
    [
        (of((0,), (1,), sockets=2), [0, 1], 1),
        (of((0, 1), (0, 1), sockets=2), [0, 1], 1),
        (of((0,)), [0], 1),
        (of((0, 1)), [0, 1], 2),
    ],
    ids=["pinned to every CPU", "as many workers as CPUs", "one CPU", "as many load threads as CPUs"],
)
def test_where_no_cpu_is_free_of_the_target_they_are_shared(target: Target, allowed: list[int], threads: int) -> None:
    placed = decide(target, allowed=allowed, threads=threads)
    assert placed.shared_cpus == allowed
    assert placed.cpus == []
    assert placed.why.startswith("shared with knotd (process 500), so threads yield instead of spinning: ")


def test_an_affinity_mask_without_cpu_0_is_kept_to() -> None:
    placed = decide(of((0, 1, 2, 3)), allowed=[2, 3], threads=1)
    assert set(placed.cpus) <= {2, 3}
    assert placed.shared_cpus == []


def test_cpus_that_the_user_chose_are_kept() -> None:
    apart = decide(of((1,)), allowed=[0, 1], threads=1, chosen=[0])
    assert (apart.cpus, apart.shared_cpus) == ([0], [])
    onto = decide(of((1,)), allowed=[0, 1], threads=1, chosen=[1])
    assert (onto.cpus, onto.shared_cpus) == ([1], [1])
    assert onto.why.endswith("choose other CPUs with --cpus")


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("elsewhere", "the target is not on this host, as far as this process can see"),
        ("hidden", "the process that holds the target's socket cannot be seen from here (another user's, or "),
        ("nobody", "no socket of this host is bound there (a port that is forwarded, as into a container, "),
    ],
)
def test_what_is_not_known_is_said(where: str, why: str) -> None:
    placed = decide(Target(where), allowed=[0, 1], threads=1)  # type: ignore[arg-type]
    assert (placed.target, placed.cpus, placed.shared_cpus, placed.where) == (None, [], [], where)
    assert placed.why.startswith(why)


def test_a_target_of_this_host_that_cannot_be_seen_may_need_the_only_cpu() -> None:
    placed = decide(Target("hidden"), allowed=[1], threads=1)
    assert placed.shared_cpus == [1]
    assert placed.why.startswith("perhaps shared with the target, so threads yield instead of spinning: ")
    assert decide(Target("hidden"), allowed=[0, 1], threads=1, chosen=[1]).shared_cpus == [], "the user knows better"
    assert decide(Target("elsewhere"), allowed=[1], threads=1, careful=True).shared_cpus == []


@pytest.mark.parametrize("where", ["hidden", "nobody"])
def test_a_search_does_not_spin_beside_a_target_of_this_host_that_cannot_be_seen(where: Any) -> None:
    assert decide(Target(where), allowed=[0, 1], threads=1).shared_cpus == []
    assert decide(Target(where), allowed=[0, 1], threads=1, careful=True).shared_cpus == [0, 1]
    assert decide(Target(where), allowed=[0, 1], threads=1, careful=True, chosen=[0]).shared_cpus == []


def test_a_target_that_was_seen_to_wait_makes_threads_yield_where_they_are() -> None:
    before = decide(of((0, 1)), allowed=[0, 1], threads=1)
    after = shared_after(before, 0.36, 0.1)
    assert (after.cpus, after.shared_cpus) == (before.cpus, before.cpus), "where no load thread runs nothing is shared"
    assert "which in the warm-up waited for a CPU for 36% of 0.1 s" in after.why
    assert after.why.endswith(" (to keep it apart: taskset -acp 0 500)")
    assert decide(of((0, 1)), allowed=[0, 1], threads=1, share=True).shared_cpus == [1]
    assert shared_after(Placement(), 0.36, 0.1) == Placement()


def test_a_target_apart_from_all_load_threads_waited_for_others() -> None:
    before = decide(of((0,)), allowed=[0, 1], threads=1)
    assert shared_after(before, 0.36, 0.1) == before
    assert decide(of((0,)), allowed=[0, 1], threads=1, share=True) == before


# --- contention ---

STAT = "cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 {user} 0 0 500 0 0 {softirq} {steal} 0 0\ncpu1 10 0 0 500 0 0 0 0 0 0\nintr 5\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    write(tmp_path, run_ns=0, wait_ns=0)
    return tmp_path


def write(root: Path, *, run_ns: int, wait_ns: int, user: int = 0, softirq: int = 0, steal: int = 0) -> None:
    folder = root / "500/task/500"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "schedstat").write_text(f"{run_ns} {wait_ns} 7\n", encoding="ascii")
    (root / "stat").write_text(STAT.format(user=user, softirq=softirq, steal=steal), encoding="ascii")


THREADS = of((0, 1)).threads
UNKNOWN: dict[str, Any] = {"run_delay_ns": None, "involuntary_switches": 0, "threads": 1}


def test_what_the_target_waited_is_a_share_of_the_time(proc: Path) -> None:
    before = sample(THREADS, proc)
    write(proc, run_ns=500_000_000, wait_ns=400_000_000, user=150, softirq=20, steal=30)
    after = sample(THREADS, proc)._replace(own_s=before.own_s + 0.5)
    found = between(before, after, 2.0, run_delay_ns=5_000_000, involuntary_switches=3, threads=1)
    assert found.target is not None
    assert (found.target.run_delay_share, found.target.busiest_share, found.target.busy_threads) == (0.2, 0.25, 1)
    assert (found.run_delay_s, found.involuntary_switches) == (0.005, 3)
    assert (found.steal_s, found.softirq_s) == (0.3, {"0": 0.2, "1": 0.0})
    # 1.5 s of programs in all, of which this process did 0.5 s and the target 0.5 s; the rest are interrupts and steal.
    assert found.others_s == pytest.approx(0.5)
    hidden = between(before, after._replace(threads={}), 2.0, **UNKNOWN, hidden=True)
    assert hidden.others_s is None


def test_a_kernel_without_schedstat_and_a_target_that_is_gone_say_nothing(proc: Path, tmp_path: Path) -> None:
    before = sample(THREADS, proc)
    (proc / "500/task/500/schedstat").unlink()
    gone = between(before, sample(THREADS, proc), 1.0, run_delay_ns=None, involuntary_switches=0, threads=1)
    assert gone.target is not None
    assert (gone.target.ended_threads, gone.target.run_delay_share) == (1, 0.0)
    nothing = sample(THREADS, tmp_path / "none")
    unknown = between(nothing, nothing, 1.0, run_delay_ns=None, involuntary_switches=0, threads=1)
    assert (unknown.target, unknown.run_delay_s, unknown.steal_s, unknown.others_s) == (None, None, None, None)


def test_a_kernel_that_has_the_file_and_does_not_count_is_unknown_too(proc: Path) -> None:
    (proc / "500/task/500/schedstat").write_text("0 0 0\n", encoding="ascii")
    assert sample(THREADS, proc).threads == {}


def test_what_the_receive_backlog_dropped_meanwhile_is_counted(proc: Path) -> None:
    (proc / "net").mkdir()
    samples = []
    for dropped in ("0000000a", "0000000f"):
        (proc / "net/softnet_stat").write_text(f"001 {dropped} 0\n002 00000001 0\n", encoding="ascii")
        samples.append(sample(THREADS, proc))
    assert between(*samples, 1.0, **UNKNOWN).backlog_drops == 5
    assert between(samples[0], samples[1]._replace(backlog_drops=None), 1.0, **UNKNOWN).backlog_drops is None


def test_this_machine_can_be_sampled() -> None:
    assert contention.sample(()).cpus
    assert contention.sample(()).backlog_drops is not None
