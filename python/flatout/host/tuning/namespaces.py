"""Sysctls of another network namespace of this host, such as that of a container: read and set from inside it.

Keys are "netns:INODE:FILE": the number of the namespace (of its file in nsfs) and the file below /proc/sys. It is
entered by one of its processes, or by the name that `ip netns` or a container's engine has given it. Needs root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from flatout.host import netlink

T = TypeVar("T")
KEYS = re.compile(r"netns:[1-9]\d*:(/proc/sys/net/[a-z0-9_/]+)", re.ASCII)
_NAMED = ("run/netns", "run/docker/netns")


def key(pid: int, file: str, proc: Path = Path("/proc")) -> str | None:
    """The key of a file below /proc/sys in the namespace of a process; None where that cannot be seen."""
    try:
        return f"netns:{os.stat(proc / str(pid) / 'ns' / 'net').st_ino}:{file}"
    except OSError:
        return None


def file_of(key: str) -> str:
    """The file below /proc/sys that a key is about."""
    return key.split(":", 2)[2]


def inside(key: str, root: Path, work: Callable[[], T]) -> T:
    """What a function returns that runs in the namespace of a key. Errors: OSError; FileNotFoundError if it is gone."""
    found = _found(int(key.split(":")[1]), root)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, "gone: no process and no name is left of the network namespace")
    return netlink.in_namespace(found, work)


def _found(inode: int, root: Path) -> Path | None:
    return next((path for path in _files(root) if _number(path) == inode), None)


def _files(root: Path) -> Iterator[Path]:
    """The file of every network namespace that can be entered, this one's first."""
    proc = root / "proc"
    yield proc / "self" / "ns" / "net"
    for folder in _NAMED:
        with contextlib.suppress(OSError):
            yield from sorted((root / folder).iterdir())
    with contextlib.suppress(OSError):
        yield from (entry / "ns" / "net" for entry in sorted(proc.iterdir()) if entry.name.isdecimal())


def _number(path: Path) -> int:
    try:
        about = os.stat(path)
        # A plain file that stands for a namespace which is not there any more has a number of its own.
        return about.st_ino if about.st_dev == os.stat("/proc/self/ns/net").st_dev else 0
    except OSError:
        return 0
