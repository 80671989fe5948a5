"""Settings of a socket that another program holds open: its receive buffer, and the length of its accept queue.

A duplicate of its descriptor (pidfd_getfd(2), Linux 5.6; the rights of ptrace) is the same socket, so what is set there
counts at once, without a restart. Keys are "socket:PID:START:INODE:SETTING"; START, when the process began, and INODE
say whether it is still the same one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

RCVBUF, BACKLOG = "rcvbuf", "backlog"
KEYS = re.compile(rf"socket:\d+:\d+:\d+:(?:{RCVBUF}|{BACKLOG})", re.ASCII)
_PIDFD_GETFD = 438
_SO_RCVBUFFORCE = 33
# Of struct tcp_info: for a socket that listens the greatest number of connections that may wait.
_MOST_WAITING = struct.Struct("=28xI")
# Of the fields behind the name in proc_pid_stat(5).
_START = 19


def key(pid: int, inode: int, setting: str, proc: Path = Path("/proc")) -> str | None:
    """The key of a setting; None where the process has ended."""
    began = started(pid, proc)
    return f"socket:{pid}:{began}:{inode}:{setting}" if began else None


def read(key: str, proc: Path = Path("/proc")) -> str:
    """The value now; of a receive buffer in the kernel's charge. Errors: OSError."""
    with _duplicate(key, proc) as found:
        if key.endswith(RCVBUF):
            return str(found.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))
        info = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MOST_WAITING.size)
        return str(_MOST_WAITING.unpack(info)[0])


def write(key: str, value: str, proc: Path = Path("/proc")) -> None:
    """Sets a value. Errors: OSError; ValueError for what is no number."""
    number = int(value)
    with _duplicate(key, proc) as found:
        if key.endswith(BACKLOG):
            found.listen(number)
            return
        # The kernel doubles what it is given (sock_setsockopt in net/core/sock.c).
        try:
            found.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, number // 2)
        except PermissionError:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, number // 2)


@contextlib.contextmanager
def _duplicate(key: str, proc: Path) -> Iterator[socket.socket]:
    _, pid, began, inode, _ = key.split(":")
    if started(int(pid), proc) != began:
        raise _gone()
    pidfd = os.pidfd_open(int(pid))
    try:
        duplicate = _get(pidfd, _descriptor(int(pid), inode, proc))
    finally:
        os.close(pidfd)
    with socket.socket(fileno=duplicate) as found:
        if os.fstat(duplicate).st_ino != int(inode):
            raise _gone()
        yield found


def _get(pidfd: int, descriptor: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.syscall(_PIDFD_GETFD, pidfd, descriptor, 0))
    if found < 0:
        number = ctypes.get_errno()
        raise _gone() if number == errno.EBADF else OSError(number, os.strerror(number))
    return found


def _descriptor(pid: int, inode: str, proc: Path) -> int:
    with os.scandir(proc / str(pid) / "fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if os.readlink(entry.path) == f"socket:[{inode}]":
                    return int(entry.name)
    raise _gone()


def started(pid: int, proc: Path) -> str:
    """When a process began, in ticks since boot; empty where it has ended."""
    try:
        fields = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return fields[_START].decode("ascii")
    except (OSError, IndexError, ValueError):
        return ""


def _gone() -> OSError:
    return FileNotFoundError(errno.ENOENT, "gone: the socket was closed, or its process has ended")
