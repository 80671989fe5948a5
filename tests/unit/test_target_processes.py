"""Who answers at an address: sockets, holders and threads, from a /proc made by hand."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path

import pytest

from flatout.host import target
from flatout.host.target import Target, find, is_local

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LOOPBACK = ipaddress.ip_address("127.0.0.1")


def line(local: str, inode: int, state: str = "07") -> str:
    return f"  1: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 2 0 0\n"


class Proc:
    """A /proc with sockets and processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "net").mkdir()
        (root / "self/ns").mkdir(parents=True)
        os.symlink("net:[1]", root / "self/ns/net")

    def sockets(self, name: str, *lines: str, net: str = "net") -> None:
        (self.root / net).mkdir(parents=True, exist_ok=True)
        (self.root / net / name).write_text(HEADER + "".join(lines), encoding="ascii")

    def process(
        self,
        pid: int,
        *inodes: int,
        name: str = "server",
        parent: int = 1,
        cpus: str = "0-1",
        tids: tuple[int, ...] = (),
    ) -> None:
        folder = self.root / str(pid)
        (folder / "fd").mkdir(parents=True)
        for number, inode in enumerate(inodes):
            os.symlink(f"socket:[{inode}]", folder / "fd" / str(number))
        stat = f"{pid} ({name}) S {parent} " + " ".join(["0"] * 34) + " 1 0 0"
        for each in (folder, *(folder / "task" / str(tid) for tid in (pid, *tids))):
            each.mkdir(parents=True, exist_ok=True)
            (each / "stat").write_text(stat, encoding="ascii")
            (each / "comm").write_text(f"{name}\n", encoding="ascii")
            (each / "status").write_text(f"Name:\tx\nCpus_allowed_list:\t{cpus}\n", encoding="ascii")

    def find(self, address: str = "127.0.0.1", port: int = 53, *, stream: bool = False) -> Target:
        return find(ipaddress.ip_address(address), port, stream=stream, proc=self.root)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_the_holder_of_the_socket_and_its_threads_are_found(proc: Proc) -> None:
    proc.sockets("udp", line("0100007F:0035", 77), line("0100007F:0036", 78))
    proc.process(500, 77, name="knotd", tids=(501, 502))
    proc.process(600, 78)
    found = proc.find()
    assert (found.where, found.pids, found.command, found.sockets) == ("here", (500,), "knotd", 1)
    assert [(thread.tid, thread.cpus, thread.last_cpu) for thread in found.threads] == [
        (500, (0, 1), 1),
        (501, (0, 1), 1),
        (502, (0, 1), 1),
    ]


@pytest.mark.parametrize(
    ("table", "local"),
    [
        ("udp", "00000000:0035"),
        ("udp6", "00000000000000000000000000000000:0035"),
        ("udp6", "0000000000000000FFFF00000100007F:0035"),
    ],
    ids=["all addresses", "all addresses, both versions", "a mapped address"],
)
def test_sockets_on_all_addresses_are_found(proc: Proc, table: str, local: str) -> None:
    proc.sockets(table, line(local, 77))
    proc.process(500, 77)
    assert proc.find().pids == (500,)


def test_only_listening_sockets_count_over_tcp(proc: Proc) -> None:
    proc.sockets("tcp", line("0100007F:0035", 70, "01"), line("0100007F:0035", 77, "0A"))
    proc.process(400, 70)
    proc.process(500, 77)
    assert proc.find(stream=True).pids == (500,)


def test_a_parent_that_only_passed_its_socket_on_is_left_out(proc: Proc) -> None:
    proc.sockets("udp", line("0100007F:0035", 77))
    proc.process(500, 77, name="nsd")
    proc.process(501, 77, parent=500)
    proc.process(502, 77, parent=501)
    proc.process(503, 77, parent=501)
    found = proc.find()
    assert found.pids == (502, 503)
    assert found.sockets == 2, "two processes read one socket"


def test_what_may_not_be_read_is_said(proc: Proc) -> None:
    """As /proc looks with hidepid=2, or to another user: the socket is there, and nobody holds it."""
    proc.sockets("udp", line("0100007F:0035", 77))
    assert proc.find().where == "hidden"


def test_nobody_may_listen(proc: Proc) -> None:
    proc.sockets("udp", line("0100007F:0036", 78))
    assert proc.find().where == "nobody"


def test_an_address_of_another_namespace_is_found_there(proc: Proc) -> None:
    proc.process(500, 77)
    (proc.root / "500/ns").mkdir()
    os.symlink("net:[2]", proc.root / "500/ns/net")
    proc.sockets("udp", line("0202000A:0035", 77), net="500/net")
    trie = "Local:\n  +-- 10.0.0.0/8\n     |-- 10.0.2.2\n        /32 host LOCAL\n"
    (proc.root / "500/net/fib_trie").write_text(trie, encoding="ascii")
    found = proc.find("10.0.2.2")
    assert (found.where, found.pids) == ("namespace", (500,))
    assert proc.find("10.0.2.3").where == "elsewhere"


def test_processes_that_ended_are_found_also_as_zombies(proc: Proc) -> None:
    for pid in (500, 501):
        proc.process(pid)
    (proc.root / "501/stat").write_text("501 (a) b) Z 1 0\n", encoding="ascii")
    assert target.ended([500, 501, 502], proc.root) == [501, 502]


def test_where_threads_ran_last_is_read_anew(proc: Proc) -> None:
    proc.process(500, 77)
    proc.sockets("udp", line("0100007F:0035", 77))
    threads = proc.find().threads
    assert target.last_cpus(threads, proc.root) == {1}
    stat = proc.root / "500/task/500/stat"
    stat.write_text(stat.read_text(encoding="ascii").replace(" 1 0 0", " 3 0 0"), encoding="ascii")
    assert target.last_cpus(threads, proc.root) == {3}


def test_only_addresses_of_this_host_are_local() -> None:
    assert is_local(LOOPBACK)
    assert not is_local(ipaddress.ip_address("192.0.2.1"))


def test_a_thread_of_this_process_is_found_but_not_its_loads(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target.os, "getpid", lambda: 500)
    proc.sockets("udp", line("0100007F:0035", 77))
    proc.process(500, 77, name="python", tids=(501, 502))
    for tid, name in ((501, "flatout-serve"), (502, "flatout-load")):
        (proc.root / f"500/task/{tid}/comm").write_text(f"{name}\n", encoding="ascii")
    assert [thread.tid for thread in proc.find().threads] == [501]


def test_this_process_is_found_on_this_machine() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        found = find(LOOPBACK, server.getsockname()[1], stream=False)
    assert found.pids == (os.getpid(),)
    assert found.sockets == 1
