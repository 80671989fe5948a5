"""Tells the time of the scheduler's host to the hosts of a fleet, over UDP: a cookie in; cookie and two times out.

An exchange of datagrams takes a tenth of a millisecond where a call through the scheduler takes several.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time

from flatout.fleet.clocks import Exchange

_COOKIE = 8
_ANSWER = struct.Struct(f"!{_COOKIE}sQQ")
_EXCHANGES = 24
_WAIT_S = 0.25
# A host that gets no answer at all is not asked on.
_LOST_MOST = 4

_servers: dict[str, ClockServer] = {}


class ClockServer:
    """Answers until it is closed, in a thread of its own."""

    def __init__(self, host: str) -> None:
        """`host`: an address of this host."""
        family = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0][0]
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._answer, name="flatout-clock", daemon=True).start()

    def _answer(self) -> None:
        # A closed socket ends it.
        with contextlib.suppress(OSError):
            while True:
                data, peer = self._socket.recvfrom(_COOKIE + 1)
                received = time.time_ns()
                if len(data) == _COOKIE:
                    with contextlib.suppress(OSError):
                        self._socket.sendto(_ANSWER.pack(data, received, time.time_ns()), peer)

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


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
        answer = asking.recv(_ANSWER.size + 1)
        came = time.time_ns()
        if len(answer) == _ANSWER.size and answer[:_COOKIE] == cookie:
            _, received, answered = _ANSWER.unpack(answer)
            return Exchange(asked, received, answered, came)
