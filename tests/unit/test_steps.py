"""`limit --improve` and the host: who owns the journal, what is said before anything is measured, `host undo`."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import hosts
import pytest

from conftest import Cli
from flatout.cli import host as verbs
from flatout.errors import UsageError
from flatout.host import target as find_target
from flatout.host.target import Target, Where
from flatout.host.tuning import apply as tuning
from flatout.host.tuning import journal as journals
from flatout.host.tuning import live_socket
from flatout.host.tuning.check import Setting
from flatout.host.tuning.remedies import Remedy
from flatout.host.tuning.steps import Steps
from flatout.host.tuning.system import System

TARGETS = [(ip_address("192.0.2.1"), 123), (ip_address("2001:db8::1"), 123)]
SYSCTL = "/proc/sys/net/core/somaxconn"


@pytest.fixture
def host(tmp_path: Path) -> System:
    return hosts.host(hosts.tree(tmp_path / "host"))


def larger(key: str, now: str, wanted: str) -> Setting:
    return Setting(name="a buffer", key=key, now=now, wanted=wanted, state="differs", why="", risk="")


# --- Who owns the journal ---


def test_while_one_is_at_work_no_other_begins_or_undoes(tmp_path: Path, host: System, cli: Cli) -> None:
    at = tmp_path / "state" / "improve.json"
    with Steps(TARGETS, at, host) as steps:
        assert not steps.change(Remedy("a cause", "a buffer", (larger(SYSCTL, "4096", "8192"),)))
        with pytest.raises(UsageError, match="is at work with the journal"), journals.owned(at, make=True):
            pass
        done = cli("host", "undo", "--journal", at)
        assert (done.code, "undoes its changes itself: wait for its end" in done.err) == (2, True), done.err
        assert host.read(SYSCTL) == "8192"
        assert steps.undo() == []
    assert list(at.parent.iterdir()) == []


def test_a_journal_that_another_one_left_meanwhile_is_not_added_to(tmp_path: Path, host: System) -> None:
    at = tmp_path / "improve.json"
    second = Steps(TARGETS, at, host)
    with Steps(TARGETS, at, host) as first:
        assert not first.change(Remedy("a cause", "a buffer", (larger(SYSCTL, "4096", "8192"),)))
    with pytest.raises(UsageError, match="kept its changes"), second:
        pass
    assert first.undo() == []
    with second:
        pass


def test_a_lock_whose_name_is_gone_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = tmp_path / "improve.json"
    lock = fcntl.flock

    def late(handle: int, how: int) -> None:
        (tmp_path / "improve.json.lock").unlink()
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(UsageError), journals.owned(at, make=True):
        pass


def test_what_a_dead_owner_left_is_nobody_s(tmp_path: Path, host: System) -> None:
    at = tmp_path / "improve.json"
    (tmp_path / "improve.json.lock").touch()
    with Steps(TARGETS, at, host):
        pass
    assert not (tmp_path / "improve.json.lock").exists()


def test_a_folder_that_cannot_be_written_ends_it_before_anything_is_measured(tmp_path: Path, host: System) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="nothing is changed"):
        Steps(TARGETS, tmp_path / "file" / "improve.json", host)


def test_a_second_interrupt_does_not_stop_the_undo(tmp_path: Path, host: System) -> None:
    assert threading.current_thread() is threading.main_thread()
    write = host.write

    def interrupted(key: str, value: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        write(key, value)

    with Steps(TARGETS, tmp_path / "improve.json", host) as steps:
        assert not steps.change(Remedy("a cause", "a buffer", (larger(SYSCTL, "4096", "8192"),)))
        host.write = interrupted  # type: ignore[method-assign]
        assert steps.undo() == []
    assert host.read(SYSCTL) == "4096"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- What is said first ---

Outlook = Callable[[Where], list[str]]


@pytest.fixture
def outlook(tmp_path: Path, host: System, monkeypatch: pytest.MonkeyPatch) -> Outlook:
    def said(where: Where) -> list[str]:
        monkeypatch.setattr(find_target, "find", lambda *_, **__: Target(where))
        return Steps(TARGETS, tmp_path / "improve.json", host).outlook(stream=False)

    return said


@pytest.mark.parametrize("where", ["here", "namespace"])
def test_where_all_can_be_changed_nothing_is_said(outlook: Outlook, where: Where) -> None:
    assert outlook(where) == []


def test_a_target_on_another_host(outlook: Outlook) -> None:
    (line,) = outlook("elsewhere")
    assert line.endswith("is left alone: run there `flatout host check --role server --for udp --port 123`")


@pytest.mark.parametrize("where", ["hidden", "nobody"])
def test_a_target_without_a_process(outlook: Outlook, where: Where) -> None:
    (line,) = outlook(where)
    assert line == "the process of the target cannot be seen, so its sockets and limits cannot be changed"


def test_without_root(outlook: Outlook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert outlook("here") == [
        "settings of the kernel cannot be changed: needs root",
        "sockets of this user's own processes can: receive buffers up to 425,984 bytes, accept queues",
    ]


def test_settings_that_are_read_only(outlook: Outlook, host: System) -> None:
    host.path(SYSCTL).chmod(0o444)
    (line,) = outlook("here")
    assert line.startswith("settings of the kernel cannot be changed: read-only here")


# --- host undo ---


@pytest.fixture
def sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[int]]]:
    """Two sockets of this process that were changed, each with a journal at one of the usual places."""
    places = [tmp_path / "host.json", tmp_path / "improve.json"]
    monkeypatch.setattr(journals, "DEFAULT", str(places[0]))
    monkeypatch.setattr(verbs, "journal_path", lambda: places[1])
    made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in places]
    for at, each in zip(places, made, strict=True):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        key = live_socket.key(os.getpid(), os.fstat(each.fileno()).st_ino, live_socket.RCVBUF)
        assert key is not None
        (change,) = tuning.set_all([larger(key, "16384", "32768")], System(), at)
        assert not change.failed, change
    yield lambda: [each.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for each in made]
    for each in made:
        each.close()


def test_undo_restores_what_improve_and_apply_left(sizes: Callable[[], list[int]], tmp_path: Path) -> None:
    assert sizes() == [32_768, 32_768]
    assert verbs.undo(quiet=True) == 0
    assert sizes() == [16_384, 16_384]
    assert list(tmp_path.glob("*.json*")) == []
    with pytest.raises(UsageError, match=r"nothing to undo: there is no journal '.*/host\.json'"):
        verbs.undo(quiet=True)


def test_undo_of_one_journal_leaves_the_other(sizes: Callable[[], list[int]], tmp_path: Path) -> None:
    assert verbs.undo(journal=str(tmp_path / "improve.json"), quiet=True) == 0
    assert sizes() == [32_768, 16_384]
    assert verbs.undo(quiet=True) == 0
