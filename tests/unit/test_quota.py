"""What a CPU quota took from this process's control group, from files made by hand as each version lays them out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from limit_runs import run

from flatout.host import quota
from flatout.result.machine import Contention
from flatout.view import facts


def made(folder_of_all: Path, membership: str, **stats: str) -> float | None:
    """The reading for /proc/self/cgroup and cpu.stat files by folder, with '__' for '/'."""
    (folder_of_all / "proc/self").mkdir(parents=True)
    (folder_of_all / "proc/self/cgroup").write_text(membership, encoding="ascii")
    for folder, text in stats.items():
        at = folder_of_all / "sys/fs/cgroup" / folder.replace("__", "/").removeprefix("root")
        at.mkdir(parents=True, exist_ok=True)
        (at / "cpu.stat").write_text(text, encoding="ascii")
    return quota.throttled_s(folder_of_all / "proc", folder_of_all / "sys")


def test_version_2_counts_at_the_group_and_above(tmp_path: Path) -> None:
    stat = "usage_usec 9\nnr_throttled 3\nthrottled_usec {}\n"
    found = made(tmp_path, "0::/pod/box\n", pod__box=stat.format(250_000), pod=stat.format(1_000_000))
    assert found == pytest.approx(1.25)


def test_version_1_has_the_controller_in_its_path_and_ns(tmp_path: Path) -> None:
    stat = "nr_periods 4\nnr_throttled 2\nthrottled_time 500000000\n"
    text = "9:name=systemd:/box\n2:cpuset:/box\n1:cpu,cpuacct:/box\n0::/\n"
    assert made(tmp_path, text, cpu__box=stat, cpuset__box=stat) == pytest.approx(0.5)


def test_in_a_container_only_the_root_is_there(tmp_path: Path) -> None:
    assert made(tmp_path, "0::/docker/abc\n", root="throttled_usec 20000\n") == pytest.approx(0.02)


def test_without_a_quota_nothing_is_said(tmp_path: Path) -> None:
    assert made(tmp_path, "0::/\n", root="usage_usec 9\n") is None
    assert quota.throttled_s(tmp_path / "none", tmp_path / "none") is None


def test_what_was_taken_is_said() -> None:
    taken = Contention(run_delay_s=0.0, involuntary_switches=0, threads=1, throttled_s=0.354)
    assert taken.throttled_text == "a CPU quota took 0.35 s of CPU time from this process's control group (cpu.max)"
    assert msgspec.structs.replace(taken, throttled_s=0.0).throttled_text == ""
    assert facts.placed(run(1_000)) == ""


def test_the_groups_of_another_process_without_those_of_this_one(tmp_path: Path) -> None:
    stat = "throttled_usec {}\n"
    groups = {"pod__box": stat.format(250_000), "pod__db": stat.format(700_000), "pod": stat.format(1_000_000)}
    assert made(tmp_path, "0::/pod/box\n", **groups) == pytest.approx(1.25)
    for pid, group in ((7, "/pod/db"), (8, "/pod/db"), (9, "/pod/box"), (10, "/../elsewhere")):
        (tmp_path / f"proc/{pid}").mkdir()
        (tmp_path / f"proc/{pid}/cgroup").write_text(f"0::{group}\n", encoding="ascii")

    def apart(*pids: int) -> float | None:
        return quota.throttled_apart_s(pids, tmp_path / "proc", tmp_path / "sys")

    assert apart(7, 8) == pytest.approx(0.7)
    assert (apart(9), apart(10), apart(11)) == (None, None, None)


def test_version_1_of_another_process(tmp_path: Path) -> None:
    stat = "throttled_time 500000000\n"
    made(tmp_path, "1:cpu,cpuacct:/box\n", cpu__box=stat, cpu__db=stat)
    (tmp_path / "proc/7").mkdir()
    (tmp_path / "proc/7/cgroup").write_text("1:cpu,cpuacct:/db\n", encoding="ascii")
    assert quota.throttled_apart_s([7], tmp_path / "proc", tmp_path / "sys") == pytest.approx(0.5)
