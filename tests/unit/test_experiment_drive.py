"""Experiments with a server and an engine of fakes: order, resumption, failures, the store, the table."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import results
from rich.console import Console

from conftest import Cli
from flatout import schema
from flatout.errors import GeneratorError, Interrupted, UsageError
from flatout.experiments import folder as folders
from flatout.experiments.drive import Environment, Nobody, Started, conduct, summed_up
from flatout.experiments.folder import Folder
from flatout.experiments.points import Plan, Point, plan
from flatout.experiments.read import read
from flatout.experiments.server_process import ServerFailed, end_left
from flatout.result.experiment import ExperimentResult
from flatout.result.model import LimitResult, LoadResult
from flatout.store.open import open_store
from flatout.view.terminal.experiment import line, show

TEXT = """\
protocol = "dns"
repetitions = 2
cooling = "3s"
[server]
program = "unbound"
[load]
rate = "1k"
[grid]
transport = ["udp", "tcp"]
connections = [10, 20]
"""


# No two runs begin at once.
_SECONDS = itertools.count()


class Fake:
    """A world in which each point answers so many a second; what is asked of it is noted."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.rests: list[float] = []
        self.trouble: dict[int, BaseException] = {}
        self.ended: dict[int, int] = {}
        self.environment = Environment(self.start, self.measure, self.rests.append)

    @contextlib.contextmanager
    def start(self, point: Point, at: Path, _: Folder) -> Iterator[Started]:
        number = len(self.asked) + 1
        (at / "server.log").write_text(f"log of {point.label}\n", encoding="ascii")
        if isinstance(self.trouble.get(number), ServerFailed):
            self.asked.append(point.label)
            raise self.trouble[number]
        yield Started("127.0.0.1:9", "fake 1.0", ["fake"], lambda: self.ended.get(number))

    def measure(self, point: Point, target: str, _: Callable[[Any], None]) -> LoadResult:
        assert target == "127.0.0.1:9"
        self.asked.append(point.label)
        if trouble := self.trouble.get(len(self.asked)):
            raise trouble
        per_s = (10_000 if point.settings["transport"] == "udp" else 4000) + 10 * len(self.asked)
        return results.load(per_s, started_at=f"2026-03-14T15:09:{next(_SECONDS) % 60:02}Z")


@pytest.fixture
def planned(tmp_path: Path) -> Plan:
    return write(tmp_path, TEXT)


def write(folder: Path, text: str) -> Plan:
    (folder / "some.toml").write_text(text, encoding="utf-8")
    return plan(*read(folder / "some.toml"))


def go(planned: Plan, fake: Fake, tmp_path: Path, **how: Any) -> ExperimentResult:
    how = {"keep": False, "watching": Nobody(), "environment": how.pop("world", fake.environment), **how}
    return conduct(planned, tmp_path / "runs", **how)


ALL = [f"transport={link},connections={many}" for link in ("udp", "tcp") for many in (10, 20)]


def test_all_points_once_and_then_again(planned: Plan, tmp_path: Path) -> None:
    fake = Fake()
    result = go(planned, fake, tmp_path)
    assert fake.asked == [*ALL, *ALL]
    assert fake.rests == [3.0] * 7
    assert result.complete
    first = result.points[0]
    assert (first.done, first.failed, first.valid) == (2, 0, 2)
    assert first.value is not None
    assert first.value.least < first.value.median < first.value.greatest
    assert [(one.point, one.to_point) for one in result.ratios] == [(3, 1), (4, 2)]
    assert 0.3 < result.ratios[0].ratio.median < 0.5
    for run in result.runs:
        at = tmp_path / "runs" / run.folder
        assert json.loads((at / "result.json").read_bytes())["kind"] == "load"
        assert json.loads((at / "conditions.json").read_bytes())["experiment"] == result.id
        assert "open_files" in (at / "host.csv").read_text(encoding="ascii")


@pytest.mark.parametrize("at", [1, 3, 8])
def test_it_goes_on_where_it_was_interrupted(planned: Plan, tmp_path: Path, at: int) -> None:
    fake = Fake()
    fake.trouble = {at: Interrupted(results.load(1000))}
    with pytest.raises(Interrupted) as interrupted:
        go(planned, fake, tmp_path)
    assert not interrupted.value.result.complete
    assert len(interrupted.value.result.runs) == at - 1
    again = Fake()
    result = go(planned, again, tmp_path)
    assert again.asked == [*ALL, *ALL][at - 1 :]
    assert result.complete
    assert result.id == interrupted.value.result.id


def test_half_a_run_of_a_crash_is_made_again(planned: Plan, tmp_path: Path) -> None:
    go(planned, Fake(), tmp_path)
    # run.json comes last: a crash between it and the result leaves this.
    (tmp_path / "runs" / "point002-run1" / "run.json").unlink()
    fake = Fake()
    assert go(planned, fake, tmp_path).complete
    assert fake.asked == [ALL[1]]


def test_what_fails_is_recorded_and_the_rest_goes_on(planned: Plan, tmp_path: Path) -> None:
    fake = Fake()
    fake.trouble = {2: ServerFailed("the server ended with code 1"), 5: GeneratorError("no descriptors")}
    fake.ended = {7: -9}
    result = go(planned, fake, tmp_path)
    failed = [run for run in result.runs if run.status == "failed"]
    assert [(run.point, run.repetition, run.exit_code) for run in failed] == [(2, 1, 3), (1, 2, 4), (3, 2, 3)]
    assert failed[0].log_tail == [f"log of {ALL[1]}"]
    assert failed[2].why.startswith("the server ended by itself, with code -9")
    assert failed[2].value is not None
    assert not failed[2].valid
    assert result.complete
    assert result.points[1].value is not None
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    show(result, console)
    shown = console.export_text()
    assert "1/2, 1 failed" in shown
    assert "relative to transport = udp" in shown
    assert f"failed: {ALL[1]}, repetition 1: the server ended with code 1 (files: point002-run1)" in shown
    assert "failed: the server ended with code 1" in line(failed[0], ALL[1], 2, 8)
    again = Fake()
    assert go(planned, again, tmp_path, again=True).complete
    assert again.asked == [ALL[1], ALL[0], ALL[2]]


def test_a_changed_experiment_is_refused_or_begun_anew(planned: Plan, tmp_path: Path) -> None:
    go(planned, Fake(), tmp_path)
    for old, new, words in (
        ("[10, 20]", "[10, 30]", r"grid\.connections: \[10, 20\] → \[10, 30\]"),
        ('"1k"', '"2k"', "load.rate: '1k' → '2k'"),
        ('[grid]\ntransport = ["udp", "tcp"]\nconnections = [10, 20]', "[grid]", "grid.transport: .* → None"),
    ):
        fake = Fake()
        with pytest.raises(UsageError, match=f"has changed since its runs in .*: {words}.*--restart"):
            go(write(tmp_path, TEXT.replace(old, new)), fake, tmp_path)
        assert fake.asked == []
    # A comment changes nothing.
    assert go(write(tmp_path, "# new\n" + TEXT), Fake(), tmp_path).complete
    assert go(write(tmp_path, TEXT.replace('"1k"', '"2k"')), Fake(), tmp_path, restart=True).complete
    assert len(list(tmp_path.glob("runs.1/point*/run.json"))) == 8


def test_the_order_of_the_grid_is_part_of_it(tmp_path: Path) -> None:
    go(write(tmp_path, TEXT), Fake(), tmp_path)
    turned = TEXT.replace('transport = ["udp", "tcp"]\n', "") + 'transport = ["udp", "tcp"]\n'
    with pytest.raises(UsageError, match="grid: another order"):
        go(write(tmp_path, turned), Fake(), tmp_path)


def test_two_at_once_are_refused(planned: Plan, tmp_path: Path) -> None:
    fake = Fake()
    with (
        folders.opened(tmp_path / "runs", planned.experiment, restart=False),
        pytest.raises(UsageError, match="another flatout is at this experiment"),
    ):
        go(planned, fake, tmp_path)
    assert fake.asked == []


def test_each_run_is_kept_once(planned: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATOUT_STORE", str(tmp_path / "store.db"))
    fake = Fake()
    fake.trouble = {3: KeyboardInterrupt()}
    with pytest.raises(Interrupted):
        go(planned, fake, tmp_path, keep=True)
    # A crash between the run and the store: the store has it, and then it has not.
    first = tmp_path / "runs" / "point001-run1" / "run.json"
    record = json.loads(first.read_bytes())
    first.write_text(json.dumps({**record, "kept": None}), encoding="utf-8")
    result = go(planned, Fake(), tmp_path, keep=True)
    with open_store() as store:
        labels = sorted(run.label for run in store.runs())
    assert labels == sorted(2 * [f"some/{label}" for label in ALL])
    assert len({run.kept for run in result.runs}) == 8


def test_a_store_that_fails_costs_nothing_else(planned: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATOUT_STORE", "/proc/none/store.db")
    texts: list[str] = []
    watching = Nobody()
    monkeypatch.setattr(watching, "say", texts.append)
    assert go(planned, Fake(), tmp_path, keep=True, watching=watching).complete
    assert len(texts) == 1
    assert "the runs are not kept" in texts[0]


def test_a_folder_that_cannot_be_made(planned: Plan) -> None:
    from flatout.errors import OutputError

    with pytest.raises(OutputError, match="cannot be written"):
        conduct(planned, Path("/proc/none/runs"), watching=Nobody())


def test_show_prints_the_table_and_json(planned: Plan, tmp_path: Path, cli: Cli) -> None:
    result = go(planned, Fake(), tmp_path)
    ran = cli("experiment", "show", "some.toml", "--folder", "runs", "--json", "-")
    assert ran.code == 0
    assert ran.json == json.loads(msgspec.json.encode(result))
    jsonschema.validate(ran.json, {**schema.schema(), "anyOf": [{"$ref": "#/$defs/ExperimentResult"}]})
    ran = cli("experiment", "show", "some.toml", "--folder", "runs")
    assert "medians (least – greatest of the repetitions)" in ran.out
    assert ran.out.count("2/2") == 4


@pytest.mark.parametrize(("upper", "valid"), [(None, False), (210_000.0, True)])
def test_a_search_that_only_ran_out_of_its_budget_found_no_limit(upper: float | None, valid: bool) -> None:
    found = results.limit()
    limit = msgspec.structs.replace(found.limit, stopped_by="budget", upper=upper)
    said = summed_up(msgspec.structs.replace(found, limit=limit), None)
    assert (said["valid"], said["status"]) == (valid, "done")
    assert said["value"] == found.limit.value


def test_a_limit_that_was_not_found_is_shown_as_a_bound(tmp_path: Path) -> None:
    text = TEXT.replace('cooling = "3s"', 'mode = "limit"').replace('[load]\nrate = "1k"\n', "")
    planned, found = write(tmp_path, text), results.limit()
    limit = msgspec.structs.replace(found.limit, stopped_by="generator", upper=None)
    fake = Fake()

    def measure(point: Point, *_: Any) -> LimitResult:
        ended = limit if point.settings["transport"] == "tcp" else found.limit
        return msgspec.structs.replace(found, limit=ended)

    result = go(planned, fake, tmp_path, world=fake.environment._replace(measure=measure))
    assert [point.at_least for point in result.points] == [None, None, limit.value, limit.value]
    assert [point.valid for point in result.points] == [2, 2, 0, 0]
    assert result.ratios == []
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    show(result, console)
    assert console.export_text().count("≥ ") == 2


def test_nothing_is_left_where_nothing_was(tmp_path: Path) -> None:
    assert end_left(tmp_path) == 0
