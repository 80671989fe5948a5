"""The limit on descriptors of another process that runs, read and set."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flatout.host.tuning import process_limits
from flatout.host.tuning.system import System


@pytest.fixture
def pid() -> Iterator[int]:
    """A process that waits for its end."""
    wait = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200)); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", wait], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.readline()
        yield program.pid
        program.kill()


def key_of(pid: int) -> str:
    made = process_limits.key(pid)
    assert made is not None
    assert process_limits.KEYS.fullmatch(made)
    return made


def test_both_limits_are_read_and_set(pid: int) -> None:
    host, key = System(), key_of(pid)
    assert host.read(key) == "100 200"
    assert host.blocked(key) == ""
    host.write(key, "150 200")
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (150, 200)
    host.write(key, "100 200")
    assert host.read(key) == "100 200"


def test_a_soft_limit_above_the_hard_one_is_refused(pid: int) -> None:
    with pytest.raises(OSError, match="current limit exceeds maximum limit"):
        process_limits.write(key_of(pid), "300 200")
    assert process_limits.read(key_of(pid)) == "100 200"


@pytest.mark.parametrize("part", [1, 2], ids=["process", "start"])
def test_another_process_with_its_number_is_gone(pid: int, part: int) -> None:
    words = key_of(pid).split(":")
    words[part] = "0"
    for touch in (process_limits.read, lambda key: process_limits.write(key, "150 200")):
        with pytest.raises(FileNotFoundError, match="gone"):
            touch(":".join(words))
    assert process_limits.read(key_of(pid)) == "100 200"


def test_a_process_that_has_ended_has_no_key(tmp_path: Path) -> None:
    assert process_limits.key(1, tmp_path) is None
