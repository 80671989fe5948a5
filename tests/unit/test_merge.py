"""Adding up the results of several hosts: exact, or a word on why not."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import results
from fake_engine import histogram
from hypothesis import given
from hypothesis import strategies as st

from flatout import merge
from flatout.cli import execute
from flatout.errors import FlatoutError, UsageError
from flatout.result.files import from_json, to_json
from flatout.result.histogram import distribution
from flatout.result.model import Connections, Interval, Latency, LoadResult, Outcomes, Rates

NODES = 3


def second(t_s: float, answered: int, p99: int | None = None) -> Interval:
    counts = dict.fromkeys(("late", "lost", "refused", "invalid", "duplicate", "unsent"), 0)
    return Interval(t_s=t_s, planned=answered, sent=answered, answered=answered, p50=p99, p99=p99, **counts)


def of_samples(samples_ns: list[int], node: tuple[int, int] | None, **changes: Any) -> LoadResult:
    """One host's result: a request for each sample, two more lost, one unsent."""
    answered = len(samples_ns)
    measured = distribution(histogram(*samples_ns))
    base = results.load(1000, 1)
    result = msgspec.structs.replace(
        base,
        scenario=msgspec.structs.replace(base.scenario, node=node, require=("p99<5ms",)),
        duration_s=1.0,
        outcomes=Outcomes(
            planned=answered + 3,
            sent=answered + 2,
            unsent=1,
            answered=answered,
            late=0,
            lost=2,
            refused=0,
            invalid=0,
            duplicate=0,
        ),
        unsent_because={"late": 1},
        rate_per_s=Rates(planned=answered + 3.0, sent=answered + 2.0, answered=float(answered)),
        latency_ns=Latency(from_due=measured, from_sent=measured),
        lateness_ns=measured,
        connect_ns=measured,
        tallies={"right": answered},
        connections=Connections(opened=4, established=4, peak=4, live=4),
        intervals=[second(1.0, answered, 5)],
        cpu_s={"workers": 1.0},
        requirements=[],
        started_at="2026-03-14T15:09:26.000Z",
    )
    return msgspec.structs.replace(result, **changes)


@given(st.lists(st.tuples(st.integers(1, 10**10), st.integers(1, NODES)), max_size=200))
def test_the_parts_of_any_split_are_the_whole(samples: list[tuple[int, int]]) -> None:
    parts = [of_samples([ns for ns, to in samples if to == n], (n, NODES)) for n in range(1, NODES + 1)]
    merged, whole = merge(parts), of_samples([ns for ns, _ in samples], None)
    assert merged.outcomes.answered == whole.outcomes.answered == merged.tallies["right"]
    assert merged.outcomes.planned == merged.outcomes.sent + merged.outcomes.unsent
    assert (merged.outcomes.lost, merged.outcomes.unsent, merged.unsent_because) == (6, 3, {"late": 3})
    assert merged.latency_ns == whole.latency_ns
    assert (merged.lateness_ns, merged.connect_ns) == (whole.lateness_ns, whole.connect_ns)
    assert merged.rate_per_s.answered == whole.rate_per_s.answered
    assert merged.connections == Connections(opened=12, established=12, peak=12, live=12)
    assert [i.answered for i in merged.intervals] == [i.answered for i in whole.intervals]


def nodes(*numbers: int, of: int = NODES, **changes: Any) -> list[LoadResult]:
    return [of_samples([1000] * 10, (number, of), **changes) for number in numbers]


def test_the_sum_says_who_took_part_and_is_a_result() -> None:
    merged = merge(nodes(3, 1, 2))
    assert [node.node for node in merged.nodes] == [1, 2, 3]
    assert merged.scenario.node is None
    assert (merged.verdict, merged.warnings, merged.notes) == ("ok", [], [])
    assert merged.cpu_s == {"workers": 3.0}
    assert [(r.expression, r.met) for r in merged.requirements] == [("p99<5ms", True)]
    assert to_json(from_json(to_json(merged))) == to_json(merged)


def test_the_worst_verdict_is_that_of_all() -> None:
    one, two, three = nodes(1, 2, 3)
    late = msgspec.structs.replace(two, verdict="generator-limited", why="too late")
    lost = msgspec.structs.replace(three, verdict="target-lost", why="gone")
    assert merge([one, late]).verdict == "generator-limited"
    merged = merge([one, late, lost])
    assert (merged.verdict, merged.why) == ("target-lost", "node 3 (bench-1): gone")


def test_a_missing_node_is_named() -> None:
    merged = merge(nodes(1, 3))
    assert merged.warnings == ["node 2 of 3 is missing"]


def test_a_node_is_not_counted_twice() -> None:
    with pytest.raises(FlatoutError, match="node 2 of 3 is there 2 times") as raised:
        merge(nodes(1, 2, 2))
    assert raised.value.exit_code == 1


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([], "no result"),
        ([of_samples([1], None)], "not that of a node"),
        ([*nodes(1), *nodes(2, of=4)], "of 3 nodes and another of 4"),
        ([results.limit()], "search"),
        ([results.limit().trials[0]], "search"),
    ],
    ids=("none", "no node", "another number", "a search", "a trial"),
)
def test_what_is_no_load_together_is_bad_use(parts: list[Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        merge(parts)


def test_different_scenarios_are_refused_by_name_and_own_settings_are_not() -> None:
    one, two, three = nodes(1, 2, 3)
    other = msgspec.structs.replace(two.scenario, seed=7, sources=("10.0.0.2",), log="/tmp/x")
    fine = merge([one, msgspec.structs.replace(two, scenario=other), three])
    assert (fine.scenario.sources, fine.scenario.log) == (("10.0.0.2",), None)
    elsewhere = msgspec.structs.replace(two.scenario, target="elsewhere")
    with pytest.raises(UsageError, match=r"'target' is '192.0.2.10:123' in one, 'elsewhere' in another"):
        merge([one, msgspec.structs.replace(two, scenario=elsewhere), three])


def at(result: LoadResult, after_s: float, lasting_s: float = 10.0, per_s: int = 100) -> LoadResult:
    """The same, begun so long after the first and lasting so long, with as many answers each second."""
    started = datetime.datetime(2026, 3, 14, 15, 9, 26, tzinfo=datetime.UTC) + datetime.timedelta(seconds=after_s)
    total = round(per_s * lasting_s)
    counts = msgspec.structs.replace(result.outcomes, planned=total, sent=total, unsent=0, answered=total, lost=0)
    return msgspec.structs.replace(
        result,
        started_at=started.isoformat(timespec="milliseconds"),
        duration_s=lasting_s,
        outcomes=counts,
        rate_per_s=Rates(planned=float(per_s), sent=float(per_s), answered=float(per_s)),
        intervals=[second(float(n), per_s) for n in range(1, int(lasting_s) + 1)],
    )


def test_nodes_that_began_apart_are_noted() -> None:
    one, two = (at(node, 0) for node in nodes(1, 2, of=2))
    assert merge([one, at(two, 0.05)]).notes == []
    apart = merge([one, at(two, 0.18)])
    assert apart.notes == ["the nodes began 180 ms apart: give them one --start-at, and synchronise their clocks"]
    assert (apart.started_at, apart.warnings) == (one.started_at, [])
    assert apart.duration_s == pytest.approx(10.18)


def test_nodes_that_did_not_run_together_are_no_load() -> None:
    one, two, three = nodes(1, 2, 3)
    with pytest.raises(
        UsageError, match=r"node 3 \(bench-1\) began 5\.4 s after node 1 \(bench-1\) had ended"
    ) as raised:
        merge([at(three, 15.4), at(two, 3, 20), at(one, 0)])
    assert raised.value.exit_code == 2
    with pytest.raises(UsageError, match="'b' began 0 ms after 'c' had ended"):
        merge([at(two, 10), at(one, 0)], ["b", "c"])
    idle = at(one, 60, 0.001, per_s=0)
    assert merge([idle, at(two, 0), at(three, 0)]).warnings == [], "a node that planned nothing was in nobody's way"
    assert merge([idle, at(two, 0, 0.001, per_s=0)]).outcomes.planned == 0


def test_nodes_that_ran_together_in_part_are_warned_of_and_weighed() -> None:
    one, two = nodes(1, 2, of=2)
    merged = merge([at(one, 0), at(two, 3)])
    [warning] = merged.warnings
    assert warning.startswith("the nodes ran together for only 7.0 s of 13.0 s: the rates are those over all that time")
    assert (merged.duration_s, merged.outcomes.answered) == (13.0, 2000)
    assert merged.rate_per_s.answered == merged.rate_per_s.planned == pytest.approx(2000 / 13)
    assert merge([at(one, 0), at(two, 0.5)]).warnings == []
    assert len(merge([at(one, 0), at(two, 0.6)]).warnings) == 1


def test_a_node_that_was_cut_short_does_not_add_its_full_rate() -> None:
    one, two = nodes(1, 2, of=2)
    merged = merge([at(one, 0), at(two, 0, 1.0)])
    assert merged.rate_per_s.sent == merged.outcomes.sent / merged.duration_s == 110
    assert "for only 1.0 s of 10.0 s" in merged.warnings[0]


@pytest.mark.parametrize(("after_s", "late"), [(0.0, 0), (0.18, 0), (0.6, 1), (3.0, 3), (3.4, 3)])
def test_seconds_are_added_by_the_calendar(after_s: float, late: int) -> None:
    one, two = nodes(1, 2, of=2)
    merged = merge([at(two, after_s, per_s=7), at(one, 0)])
    together = range(1 + late, 11)
    expected = {n: 100 * (n <= 10) + 7 * (n > late) for n in range(1, 11 + late)}
    assert {i.t_s: i.answered for i in merged.intervals} == expected
    assert all(expected[n] == 107 for n in together)
    assert sum(i.answered for i in merged.intervals) == merged.outcomes.answered


def test_seconds_are_added_and_percentiles_only_kept_where_one_host_has_them() -> None:
    one, two = nodes(1, 2, of=2)
    one = msgspec.structs.replace(one, intervals=[second(1.0, 10, 5), second(2.0, 10, 7), second(2.4, 1)])
    two = msgspec.structs.replace(two, intervals=[second(1.0, 20, 6), second(2.0, 0)])
    merged = merge([one, two])
    assert [(i.t_s, i.answered, i.p99) for i in merged.intervals] == [(1.0, 30, None), (2.0, 10, 7), (2.4, 1, None)]


def test_the_command_names_a_missing_node_and_still_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for part in nodes(1, 3):
        paths.append(str(tmp_path / f"{len(paths)}.json"))
        part.save(paths[-1])
    out = tmp_path / "all.json"
    assert execute(["merge", *paths, "--json", str(out)]) == 1
    reported = capsys.readouterr()
    assert "node 2 of 3 is missing" in reported.err
    assert "node 3" in reported.out
    kept = from_json(out.read_bytes())
    assert isinstance(kept, LoadResult)
    assert kept.outcomes.answered == 20


def test_the_command_refuses_runs_apart_by_their_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(tmp_path / name) for name in ("one.json", "two.json")]
    for path, part, after_s in zip(paths, nodes(1, 2, of=2), (0, 12), strict=True):
        at(part, after_s).save(path)
    assert execute(["merge", *paths, "--json", str(tmp_path / "all.json")]) == 2
    assert f"'{paths[1]}' began 2.0 s after '{paths[0]}' had ended" in capsys.readouterr().err
    assert not (tmp_path / "all.json").exists()


def test_the_command_warns_of_runs_that_overlap_in_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(tmp_path / name) for name in ("one.json", "two.json")]
    for path, part, after_s in zip(paths, nodes(1, 2, of=2), (0, 2), strict=True):
        at(part, after_s).save(path)
    assert execute(["merge", *paths, "--json", str(tmp_path / "all.json")]) == 1
    assert "warning: the nodes ran together for only 8.0 s of 12.0 s" in capsys.readouterr().err
    assert (tmp_path / "all.json").exists()


def test_the_command_refuses_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "limit.json"
    results.limit().save(path)
    assert execute(["merge", str(path)]) == 2
    assert "search" in capsys.readouterr().err
