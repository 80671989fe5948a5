"""The notifications that systemd takes from a service (sd_notify(3)): ready, alive, reloading, stopping."""

from __future__ import annotations

import contextlib
import os
import socket
import time


class Notifier:
    """Tells the service manager what this process does; silent where none listens."""

    def __init__(self) -> None:
        self._path = os.environ.get("NOTIFY_SOCKET", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        wanted = os.environ.get("WATCHDOG_USEC", "")
        # As sd_watchdog_enabled(3) advises: twice in the time that is allowed.
        self._each_s = int(wanted) / 2e6 if mine and wanted.isdecimal() and int(wanted) > 0 else None
        self._told_s = 0.0
        self._socket: socket.socket | None = None
        if self._path:
            # Opened and connected before privileges and the root directory are given up.
            with contextlib.suppress(OSError):
                made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                made.connect("\0" + self._path[1:] if self._path.startswith("@") else self._path)
                self._socket = made

    def tell(self, *lines: str) -> None:
        """Sends assignments such as "READY=1"."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.send("\n".join(lines).encode())

    def ready(self, status: str) -> None:
        """It serves."""
        self.tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """It takes over a new configuration; `ready` ends that."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """It ends."""
        self.tell("STOPPING=1")

    def alive(self) -> None:
        """All workers are at work; call it each second or so. Without such calls the watchdog restarts the service."""
        now = time.monotonic()
        if self._each_s is not None and now - self._told_s >= min(self._each_s, 1.0):
            self._told_s = now
            self.tell("WATCHDOG=1")
