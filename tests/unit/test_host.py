"""What the machine says of itself, read from texts as the kernel writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flatout.host import describe

SOCKSTAT = "sockets: used 19021\nTCP: inuse 10 orphan 0 tw 3 alloc 19012 mem 7\nUDP: inuse 3 mem 2\nRAW: inuse 0\n"
MEMINFO = "MemTotal:       24684084 kB\nSlab:             123456 kB\nSReclaimable:      99999 kB\n"


@pytest.fixture
def proc(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    texts = {"/proc/net/sockstat": SOCKSTAT, "/proc/meminfo": MEMINFO}

    def read_text(path: Path, **_: object) -> str:
        if str(path) not in texts:
            raise FileNotFoundError(path)
        return texts[str(path)]

    monkeypatch.setattr(Path, "read_text", read_text)
    return texts


@pytest.mark.usefixtures("proc")
def test_kernel_memory_is_read_in_bytes() -> None:
    assert describe.tcp_memory() == 7 * os.sysconf("SC_PAGE_SIZE")
    assert describe.slab() == 123456 * 1024


def test_what_is_not_there_is_nothing(proc: dict[str, str]) -> None:
    proc["/proc/net/sockstat"], proc["/proc/meminfo"] = "sockets: used 1\n", "MemTotal: 1 kB\n"
    assert (describe.tcp_memory(), describe.slab()) == (0, 0)
    proc.clear()
    assert (describe.tcp_memory(), describe.slab()) == (0, 0)


def test_open_files_are_counted() -> None:
    before = describe.open_files()
    with open(os.devnull, "rb"):
        assert describe.open_files() == before + 1
