"""The limit on descriptors of a process that runs, by prlimit(2).

Keys are "files:PID:START"; START, when the process began, says whether it is still the same one. A value is the soft
and the hard limit.
"""

from __future__ import annotations

import errno
import re
import resource
from pathlib import Path

from flatout.host.tuning import live_socket

KEYS = re.compile(r"files:\d+:\d+", re.ASCII)


def key(pid: int, proc: Path = Path("/proc")) -> str | None:
    """The key of a process; None where it has ended."""
    began = live_socket.started(pid, proc)
    return f"files:{pid}:{began}" if began else None


def read(key: str, proc: Path = Path("/proc")) -> str:
    """The soft and the hard limit now. Errors: OSError."""
    soft, hard = resource.prlimit(_process(key, proc), resource.RLIMIT_NOFILE)
    return f"{soft} {hard}"


def write(key: str, value: str, proc: Path = Path("/proc")) -> None:
    """Sets both. Errors: OSError; ValueError for what are not two numbers."""
    soft, hard = map(int, value.split())
    try:
        resource.prlimit(_process(key, proc), resource.RLIMIT_NOFILE, (soft, hard))
    except ValueError as error:
        # The kernel's EINVAL.
        raise OSError(errno.EINVAL, str(error)) from error


def _process(key: str, proc: Path) -> int:
    _, pid, began = key.split(":")
    if live_socket.started(int(pid), proc) != began:
        raise FileNotFoundError(errno.ENOENT, "gone: its process has ended")
    return int(pid)
