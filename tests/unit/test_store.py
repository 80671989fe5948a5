"""The store over SQLite: what is kept is whole, numbers are never given twice, and bad files are said plainly."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import alembic.autogenerate
import alembic.migration
import msgspec
import pytest
import results
import sqlalchemy as sql

from flatout.errors import OutputError, UsageError
from flatout.store import migrate
from flatout.store.choose import chosen, compare, numbers
from flatout.store.export import encoded, frame
from flatout.store.location import store_url
from flatout.store.rows import StoredRun, exchange_key
from flatout.store.store import Store, Wanted
from flatout.store.tables import METADATA


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'deep' / 'runs.db'}"


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store(url(tmp_path)) as opened:
        yield opened


def test_what_is_kept_comes_back_as_it_was(store: Store) -> None:
    kept = [results.limit(), results.interrupted(), results.limit_of_connections()]
    made = [store.add(result, "x") for result in kept]
    assert made == [1, 2, 3]
    for number, result in zip(made, kept, strict=True):
        assert store.result(number) == result
    listed = store.runs()
    assert [run.id for run in listed] == [3, 2, 1]
    assert [run.kind for run in listed] == ["limit", "load", "limit"]
    assert listed[2].value == kept[0].limit.value
    assert listed[2].valid
    assert not listed[1].valid, "it was interrupted"
    assert listed[0].unit == "connections"


def test_lists_are_cut_and_filtered(store: Store) -> None:
    for n, label in enumerate("aabb"):
        store.add(results.limit(target=f"192.0.2.{n // 3}:123"), label)
    assert [run.id for run in store.runs(last=2)] == [4, 3]
    assert [run.id for run in store.runs(Wanted(label="a"))] == [2, 1]
    assert [run.id for run in store.runs(Wanted(label="b", target="192.0.2.1:123"))] == [4]
    assert store.runs(Wanted(protocol="dns")) == []
    began = store.runs()[0].started_at
    assert len(store.runs(Wanted(since=began, before=began + 1))) == 4
    assert store.runs(Wanted(before=began)) == []


def test_what_held_when_the_budget_ended_is_a_bound(store: Store) -> None:
    found = results.limit()
    for upper, valid in ((found.limit.upper, True), (None, False)):
        limit = msgspec.structs.replace(found.limit, stopped_by="budget", upper=upper)
        store.add(msgspec.structs.replace(found, limit=limit))
        assert store.runs()[0].valid is valid


def test_a_number_is_never_given_twice(store: Store) -> None:
    assert [store.add(results.interrupted()) for _ in range(3)] == [1, 2, 3]
    assert store.remove([3, 2, 99]) == 2
    assert store.add(results.interrupted()) == 4
    with pytest.raises(UsageError, match="no run 3"):
        store.result(3)


def test_what_was_asked_is_known_without_the_target_and_the_seed() -> None:
    base = results.limit()
    elsewhere = msgspec.structs.replace(base, scenario=msgspec.structs.replace(base.scenario, target="h:1", seed=7))
    slower = msgspec.structs.replace(base, search=msgspec.structs.replace(base.search, budget_s=1.0))
    wider = msgspec.structs.replace(base, scenario=msgspec.structs.replace(base.scenario, flows=65))
    assert exchange_key(base) == exchange_key(elsewhere)
    assert len({exchange_key(one) for one in (base, slower, wider)}) == 3
    assert exchange_key(base) == "d0485bfc5bf33698", (
        "a new setting, at its default, leaves the runs of before comparable"
    )


def test_the_steps_lead_to_the_tables(tmp_path: Path) -> None:
    Store(url(tmp_path)).close()
    with sql.create_engine(url(tmp_path)).connect() as connection:
        context = alembic.migration.MigrationContext.configure(connection)
        assert context.get_current_revision() == migrate.HEAD
        assert alembic.autogenerate.compare_metadata(context, METADATA) == []


def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    with Store(url(tmp_path)) as store:
        store.add(results.interrupted())
    path = tmp_path / "deep" / "runs.db"
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(UsageError, match="newer flatout"):
        Store(url(tmp_path))
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT count(*) FROM runs").fetchone() == (1,)
    raw.close()


@pytest.mark.parametrize("made", ["a text file", "a folder"])
def test_what_is_no_store_is_said(tmp_path: Path, made: str) -> None:
    path = tmp_path / "runs.db"
    if made == "a folder":
        path.mkdir()
    else:
        path.write_text("no database\n" * 100)
    with pytest.raises(OutputError, match=r"runs\.db cannot be opened"):
        Store(f"sqlite:///{path}")


def test_a_damaged_result_is_said_and_others_stay(store: Store, tmp_path: Path) -> None:
    store.add(results.interrupted())
    store.add(results.interrupted())
    with sqlite3.connect(tmp_path / "deep" / "runs.db") as raw:
        raw.execute("UPDATE results SET result = x'00' WHERE run = 1")
    raw.close()
    with pytest.raises(OutputError, match=r"run 1 .* is damaged"):
        store.result(1)
    assert store.result(2) == results.interrupted()


def _write(where: str, times: int) -> None:
    with Store(where) as store:
        for _ in range(times):
            store.add(results.interrupted(), str(os.getpid()))


def test_several_may_write_at_once_also_a_new_store(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    writers = [spawn.Process(target=_write, args=(url(tmp_path), 20)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    with Store(url(tmp_path)) as store:
        assert len(store.runs()) == 80


def test_a_writer_that_is_killed_leaves_whole_runs(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    Store(url(tmp_path)).close()
    for _ in range(5):
        writer = spawn.Process(target=_write, args=(url(tmp_path), 10_000))
        writer.start()
        with Store(url(tmp_path)) as store:
            before = len(store.runs())
            while len(store.runs()) < before + 5:
                pass
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    with Store(url(tmp_path)) as store:
        for run in store.runs():
            assert store.result(run.id) == results.interrupted()
        assert store.add(results.interrupted()) > 25


# --- Where it is ---


def test_where_runs_are_kept() -> None:
    assert store_url({"FLATOUT_STORE": "off"}) is None
    assert store_url({"HOME": "/home/x"}) == "sqlite:////home/x/.local/share/flatout/runs.db"
    assert store_url({"HOME": "/home/x", "XDG_DATA_HOME": "/data"}) == "sqlite:////data/flatout/runs.db"
    assert store_url({"FLATOUT_STORE": "/x/y.db"}) == "sqlite:////x/y.db"
    assert store_url({"FLATOUT_STORE": "postgres://u@h/d"}) == "postgresql+psycopg://u@h/d"
    with pytest.raises(UsageError, match="mysql"):
        store_url({"FLATOUT_STORE": "mysql://u@h/d"})


# --- Choosing ---


def test_numbers_of_runs() -> None:
    assert numbers("7,9-11,9") == [7, 9, 10, 11]
    for bad in ("", "x", "7,", "1-", "1-999999999"):
        with pytest.raises(UsageError):
            numbers(bad)


def test_sides_are_labels_or_numbers(store: Store) -> None:
    for label in ("a", "a", "b"):
        store.add(results.limit(), label)
    assert chosen(store, "a")[0] == "a"
    assert [run.id for run in chosen(store, "a")[1]] == [2, 1]
    assert [run.id for run in chosen(store, "1,3")[1]] == [1, 3]
    for bad in ("4", "none"):
        with pytest.raises(UsageError, match="flatout runs list"):
            chosen(store, bad)


def test_sides_must_be_of_one_kind_and_apart(store: Store) -> None:
    store.add(results.limit(), "a")
    store.add(results.interrupted(), "b")
    store.add(results.limit_of_connections(), "c")
    for a, b in (("a", "b"), ("a", "c")):
        with pytest.raises(UsageError, match="one kind"):
            compare(store, a, b)
    with pytest.raises(UsageError, match="both sides"):
        compare(store, "1", "1")
    with pytest.raises(UsageError, match="tolerance"):
        compare(store, "1", "2", 1.0)


def test_a_comparison_names_what_differs(store: Store) -> None:
    base = results.limit()
    store.add(base, "a")
    scenario = msgspec.structs.replace(base.scenario, flows=128)
    host = msgspec.structs.replace(base.host, kernel="7.0")
    store.add(msgspec.structs.replace(base, scenario=scenario, host=host), "b")
    found = compare(store, "a", "b")
    assert {(one.what, one.b) for one in found.differences} == {("flows", "128"), ("host kernel", "7.0")}


# --- Export ---


def test_csv_has_a_line_a_run(store: Store) -> None:
    store.add(results.limit(), 'a "quoted", label')
    lines = encoded(store.runs(), "x.CSV").decode().split("\r\n")
    assert lines[0].split(",") == list(StoredRun.__struct_fields__)
    assert '"a ""quoted"", label"' in lines[1]
    with pytest.raises(UsageError, match=r"\.parquet"):
        encoded([], "x.txt")


def test_frames_have_types_also_where_nothing_is_known(store: Store) -> None:
    polars = pytest.importorskip("polars")
    store.add(results.unanswered())
    rows = frame(store.runs())
    assert rows.schema["p99_ns"] == polars.Int64
    assert rows["p99_ns"].to_list() == [None]
    assert frame([]).columns == list(StoredRun.__struct_fields__)
