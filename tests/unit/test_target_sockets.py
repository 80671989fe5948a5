"""The target's sockets and descriptors: read once for all targets, a bounded number, and the most of a run."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from flatout.host import sock_diag, target, target_sockets
from flatout.host.target_sockets import SocketCounters
from flatout.runner.peaks import Peaks

LOOPBACK = ip_address("127.0.0.1")


def descriptors(proc: Path, pid: int, *links: str) -> None:
    folder = proc / str(pid) / "fd"
    folder.mkdir(parents=True)
    for number, link in enumerate(links):
        (folder / str(number)).symlink_to(link)


def test_holders_are_looked_for_until_all_are_found_and_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0

    def readlink(path: str) -> str:
        nonlocal looked
        looked += 1
        return os.readlink(path)

    monkeypatch.setattr(target, "_link", readlink)
    descriptors(tmp_path, 7, *["socket:[1]"] * 5)
    descriptors(tmp_path, 8, *["socket:[2]"] * 50)
    descriptors(tmp_path, 9, *["socket:[1]"] * 50)
    assert target.holders_of([1, 2], [7, 8, 9], tmp_path) == {1: 7, 2: 8}
    assert looked <= 1 + 5 + 1
    monkeypatch.setattr(target, "_MOST_DESCRIPTORS", 10)
    looked = 0
    assert target.holders_of([3], [8, 9], tmp_path) == {}
    assert looked == 20


HEAD = "sl local_address rem_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode ref pointer drops\n"
ROW = "1: {at}:{port:04X} 00000000:0000 07 0:{unread:08X} 00:0 0 0 0 {inode} 2 0 {drops}\n"


def test_the_table_of_another_namespace_is_read_once_for_all_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ROW.format(at="00000000", port=1_000 + n, unread=0, inode=n, drops=n) for n in range(1, 30)]
    (tmp_path / "udp").write_text(HEAD + "".join(rows), encoding="ascii")
    read: list[Path] = []
    at_once = target._read
    monkeypatch.setattr(target, "_read", lambda path: read.append(path) or at_once(path))
    targets = [(LOOPBACK, 1_000 + n) for n in range(1, 21)]
    found = target_sockets.read(targets, stream=False, net=tmp_path, same_namespace=False)
    assert {inode: each.drops for inode, each in found.items()} == {n: n for n in range(1, 21)}
    assert [path.name for path in read] == ["udp", "udp6"]


@pytest.fixture
def bound() -> Iterator[dict[int, int]]:
    """Sockets of this process: inodes by port."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(10)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    yield {each.getsockname()[1]: os.fstat(each.fileno()).st_ino for each in sockets}
    for each in sockets:
        each.close()


@pytest.mark.parametrize(("ports", "dumps"), [(1, 2), (3, 6), (10, 2)])
def test_many_ports_are_one_question_to_the_kernel(
    monkeypatch: pytest.MonkeyPatch, bound: dict[int, int], ports: int, dumps: int
) -> None:
    asked: list[int] = []
    dump = sock_diag._dump

    def counted(family: int, port: int, *, stream: bool) -> Any:
        asked.append(port)
        return dump(family, port, stream=stream)

    monkeypatch.setattr(sock_diag, "_dump", counted)
    wanted = dict(list(bound.items())[:ports])
    found = sock_diag.bound_to(wanted.keys(), stream=False)
    assert found is not None
    assert {port: each.inode for port, rows in found.items() for each in rows} == wanted
    assert len(asked) == dumps


# --- The most of a run ---


def test_descriptors_are_counted_without_looking_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    before = target_sockets.files(os.getpid())
    with open(os.devnull, "rb"):
        now = target_sockets.files(os.getpid())
    assert before is not None
    assert now is not None
    if os.stat("/proc/self/fd").st_size:
        monkeypatch.setattr(os, "listdir", None)
        assert now[0] == before[0] + 1
        assert target_sockets.files(os.getpid()) == before


def test_the_most_is_kept_after_all_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    files = iter([(5, 64), (64, 64), (6, 64)])
    queues = iter([0, 7, 2])
    monkeypatch.setattr(target_sockets, "files", lambda _pid: next(files))
    listener = SocketCounters("0.0.0.0:53", 0, None, queue=0, queue_limit=4)
    peaks = Peaks([9], lambda: {1: listener._replace(queue=next(queues)), 2: SocketCounters("[::]:53", 0, 0)})
    for _ in range(3):
        peaks.look()
    assert peaks.files == (64, 64)
    after = peaks.added_to({1: listener, 3: listener, 2: SocketCounters("[::]:53", 0, 0)})
    assert [each.queue for each in after.values()] == [7, 0, None]


def test_of_many_processes_the_one_nearest_to_its_limit_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {1: (900, 10_000), 2: (20, 20), 3: None}
    monkeypatch.setattr(target_sockets, "files", known.get)
    peaks = Peaks([1, 2, 3], dict)
    peaks.look()
    assert peaks.files == (20, 20)
