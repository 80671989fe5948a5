"""The store where things fail: a full disk, a read-only one, writers and runs that are killed."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import flatout
from conftest import Cli, wait_until
from flatout.errors import OutputError
from flatout.result.model import LoadResult
from flatout.store.store import Store

_NEW_MOUNTS = 0x20000  # CLONE_NEWNS
_fork = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def one() -> LoadResult:
    """The result of a short load."""
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        return flatout.load("ntp", server.address, rate=500, duration=0.2, warmup=0)


# --- Disks ---


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True)


def _inside(answer: Connection, folder: Path, size: str, what: Callable[[Path], Any]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS):
        answer.send(("skip", os.strerror(ctypes.get_errno())))
        return
    try:
        mount("--make-rprivate", "/")
        mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
    except (OSError, subprocess.CalledProcessError) as error:
        answer.send(("skip", str(error)))
        return
    try:
        answer.send(("done", what(folder)))
    except BaseException as error:
        answer.send(("failed", repr(error)))
        raise


def on_a_disk(folder: Path, size: str, what: Callable[[Path], Any]) -> Any:
    """What `what` returns in a process for which the folder is a disk of this size; skips where none can be made."""
    answer, their = _fork.Pipe(duplex=False)
    process = _fork.Process(target=_inside, args=(their, folder, size, what))
    process.start()
    their.close()
    try:
        kind, value = answer.recv()
    except EOFError:
        kind, value = "failed", "it ended without a word"
    finally:
        process.join(10)
    if kind == "skip":
        pytest.skip(f"a disk cannot be made here: {value}")
    assert kind == "done", value
    return value


def _fill(store: Store, one: LoadResult) -> tuple[list[int], str]:
    """The numbers of the runs that a disk takes until it is full, and what is then said."""
    numbers: list[int] = []
    while len(numbers) < 10_000:
        try:
            numbers.append(store.add(one))
        except OutputError as error:
            return numbers, str(error)
    return numbers, ""


def test_a_full_disk_loses_no_kept_run(root: None, tmp_path: Path, one: LoadResult) -> None:  # noqa: ARG001
    def fill(disk: Path) -> Any:
        url = f"sqlite:///{disk / 'runs.db'}"
        with Store(url) as store:
            kept, said = _fill(store, one)
            listed = [run.id for run in store.runs()]
            whole = all(store.result(number) == one for number in listed)
        mount("-o", "remount,size=8m", disk)
        with Store(url) as store:
            return kept, said, listed, whole, store.add(one), len(store.runs())

    kept, said, listed, whole, later, in_the_end = on_a_disk(tmp_path, "600k", fill)
    assert said.endswith("cannot be written: database or disk is full")
    assert listed[::-1] == kept
    assert len(kept) > 3
    assert whole
    assert (later, in_the_end) == (kept[-1] + 1, len(kept) + 1)


@pytest.mark.parametrize("size", ["4k", "20k"])
def test_a_disk_too_small_for_a_store_costs_no_result(
    root: None,  # noqa: ARG001
    tmp_path: Path,
    ntp_server: flatout.Server,
    size: str,
) -> None:
    def load(disk: Path) -> Any:
        os.environ["FLATOUT_STORE"] = str(disk / "runs.db")
        asked = ("load", "ntp", ntp_server.address, "--rate", "200", "--for", "0.2s", "--warmup", "0", "--json", "-")
        ran = Cli(tmp_path.parent)(*asked)
        return ran.code, ran.json["kind"], ran.err

    code, kind, err = on_a_disk(tmp_path, size, load)
    assert kind == "load"
    assert code in (1, 4)
    assert "the run is not kept: the store" in err
    assert "disk is full" in err


@pytest.mark.parametrize("closed", [True, False], ids=["closed in order", "left by a crash"])
def test_a_read_only_disk_is_read(root: None, tmp_path: Path, one: LoadResult, closed: bool) -> None:  # noqa: ARG001
    def look(disk: Path) -> Any:
        path = disk / "runs.db"
        os.environ["FLATOUT_STORE"] = str(path)
        if closed:
            _add(path, one, 4)
        else:
            writer = _fork.Process(target=_add_and_die, args=(path, one, 4))
            writer.start()
            writer.join()
        mount("-o", "remount,ro", disk)
        cli = Cli(tmp_path.parent)
        commands = (("list", "--json", "-"), ("show", "4", "--quiet"), ("rm", "1"))
        return [cli("runs", *words) for words in commands] + [cli("compare", "1-2", "3-4", "--json", "-")]

    listed, shown, removed, compared = on_a_disk(tmp_path, "4m", look)
    assert [run["id"] for run in listed.json["runs"]] == [4, 3, 2, 1]
    assert shown.code in (0, 4)
    assert compared.json["kind"] == "comparison"
    assert removed.code == 2
    assert "cannot be written: attempt to write a readonly database" in removed.err


def test_a_file_of_another_user_is_read(root: None, one: LoadResult) -> None:  # noqa: ARG001
    def look(disk: Path) -> Any:
        _add(disk / "runs.db", one, 2)
        disk.chmod(0o755)
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        with Store(f"sqlite:///{disk / 'runs.db'}") as store:
            with pytest.raises(OutputError, match="cannot be written"):
                store.add(one)
            return len(store.runs())

    # In the folders of tests only their user may look.
    assert on_a_disk(Path("/mnt"), "4m", look) == 2


def _add(path: Path, one: LoadResult, times: int) -> None:
    with Store(f"sqlite:///{path}") as store:
        for _ in range(times):
            store.add(one)


def _add_and_die(path: Path, one: LoadResult, times: int) -> None:
    """Adds and ends without closing: the log stays beside the file."""
    store = Store(f"sqlite:///{path}")
    for _ in range(times):
        store.add(one)
    os.kill(os.getpid(), signal.SIGKILL)


# --- Kills ---


def _acknowledge(path: Path, one: LoadResult, reported: Connection) -> None:
    with Store(f"sqlite:///{path}") as store:
        while True:
            reported.send(store.add(one))


def test_writers_killed_at_any_moment_lose_nothing_acknowledged(tmp_path: Path, one: LoadResult) -> None:
    chance, path, acknowledged = random.Random(7), tmp_path / "runs.db", list[int]()
    Store(f"sqlite:///{path}").close()
    for _ in range(8):
        pairs = [_fork.Pipe(duplex=False) for _ in range(2)]
        writers = [_fork.Process(target=_acknowledge, args=(path, one, theirs)) for _, theirs in pairs]
        for writer in writers:
            writer.start()
        for _, theirs in pairs:
            theirs.close()
        # A wait of no meaning: the kill is to hit anywhere in a write.
        for _ in range(chance.randint(1, 20)):
            acknowledged.append(pairs[0][0].recv())
        writers[1].join(chance.uniform(0, 0.01))
        for writer in writers:
            writer.kill()
            writer.join()
        acknowledged += [number for ours, _ in pairs for number in _rest(ours)]
    with Store(f"sqlite:///{path}") as store:
        stored = {run.id for run in store.runs()}
        assert set(acknowledged) <= stored
        assert all(store.result(number) == one for number in stored)
    assert _is_intact(path)


def _rest(reported: Connection) -> list[int]:
    """What was acknowledged before the kill; a number cut in two was not."""
    numbers: list[int] = []
    try:
        while True:
            numbers.append(reported.recv())
    except (EOFError, OSError):
        return numbers


def _is_intact(path: Path) -> bool:
    with sqlite3.connect(path) as raw:
        found = raw.execute("PRAGMA integrity_check").fetchone()
        orphans = raw.execute("SELECT count(*) FROM results WHERE run NOT IN (SELECT id FROM runs)").fetchone()
        bare = raw.execute("SELECT count(*) FROM runs WHERE id NOT IN (SELECT run FROM results)").fetchone()
    raw.close()
    return bool((found, orphans, bare) == (("ok",), (0,), (0,)))


def test_a_load_killed_in_the_middle_leaves_nothing_half(
    cli: Cli, tmp_path: Path, ntp_server: flatout.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.db"
    monkeypatch.setenv("FLATOUT_STORE", str(path))
    asked = ("load", "ntp", ntp_server.address, "--rate", "200", "--warmup", "0", "--quiet")
    assert cli(*asked, "--for", "0.2s", "--label", "x").code in (0, 4)
    before = ntp_server.stats()["received"]
    running = cli.start(*asked, "--for", "30s", "--label", "x")
    wait_until(lambda: ntp_server.stats()["received"] > before + 20, message="running")
    running.kill()
    assert _is_intact(path)
    assert cli(*asked, "--for", "0.2s", "--label", "x").code in (0, 4)
    assert [run["id"] for run in cli("runs", "list", "--label", "x", "--json", "-").json["runs"]] == [2, 1]
