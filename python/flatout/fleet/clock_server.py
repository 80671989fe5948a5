"""Tells the time of the scheduler's host to the hosts of a fleet, over UDP: a cookie in; cookie and two times out.

An exchange of datagrams takes a tenth of a millisecond where a call through the scheduler takes several. Both ends take
the kernel's time of arrival: what waits in a socket while many hosts ask at once is no part of the way.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from typing import Any

from flatout.fleet.clocks import Exchange

_COOKIE = 8
_ANSWER = struct.Struct(f"!{_COOKIE}sQQ")
_EXCHANGES = 24
_WAIT_S = 0.25
# A host that gets no answer at all is not asked on.
_LOST_MOST = 4
# Linux: <asm-generic/socket.h>. Each datagram comes with the time of its arrival, a timespec of CLOCK_REALTIME.
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
# Room for the questions of some hundred hosts; the kernel gives at most net.core.rmem_max.
_BUFFER = 4 << 20

_servers: dict[str, ClockServer] = {}


class ClockServer:
    """Answers until it is closed, in a thread of its own."""

    def __init__(self, host: str) -> None:
        """`host`: an address of this host."""
        family = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0][0]
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.bind((host, 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._answer, name="flatout-clock", daemon=True).start()

    def _answer(self) -> None:
        # A closed socket ends it.
        with contextlib.suppress(OSError):
            while True:
                data, received, peer = _received(self._socket, _COOKIE + 1)
                if len(data) == _COOKIE:
                    with contextlib.suppress(OSError):
                        self._socket.sendto(_ANSWER.pack(data, received, time.time_ns()), peer)

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _received(on: socket.socket, most: int) -> tuple[bytes, int, Any]:
    """A datagram, the Unix time of its arrival in ns, and its sender."""
    data, beside, _, peer = on.recvmsg(most, socket.CMSG_SPACE(_TIMESPEC.size))
    came = time.time_ns()
    for level, kind, stamp in beside:
        if (level, kind, len(stamp)) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS, _TIMESPEC.size):
            seconds, ns = _TIMESPEC.unpack(stamp)
            came = seconds * 10**9 + ns
    return data, came, peer


def start(host: str) -> int:
    """Starts the one server of this process at an address, if it does not run yet; returns its port."""
    if host not in _servers:
        _servers[host] = ClockServer(host)
    return _servers[host].port


def exchanges(host: str, port: int) -> list[tuple[int, int, int, int]]:
    """Asks that server; returns the times of `Exchange`, none where nothing answers."""
    found: list[tuple[int, int, int, int]] = []
    lost = 0
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(_WAIT_S)
        asking.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        asking.connect(address)
        while len(found) < _EXCHANGES and lost < _LOST_MOST:
            try:
                one = _exchange(asking)
            except (TimeoutError, ConnectionError):
                lost += 1
                continue
            found.append((one.asked, one.received, one.answered, one.came))
    return found


def _exchange(asking: socket.socket) -> Exchange:
    cookie = os.urandom(_COOKIE)
    asked = time.time_ns()
    asking.send(cookie)
    while True:
        answer, came, _ = _received(asking, _ANSWER.size + 1)
        if len(answer) == _ANSWER.size and answer[:_COOKIE] == cookie:
            _, received, answered = _ANSWER.unpack(answer)
            return Exchange(asked, received, answered, came)
