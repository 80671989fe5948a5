"""A server that answers until it is stopped: `with serve("ntp") as server: ...`."""

from __future__ import annotations

import errno
import re
import time
from types import TracebackType
from typing import Any, Self

from flatout._engine import Server as _Server
from flatout.errors import FlatoutError, GeneratorError, UsageError
from flatout.protocols.base import knob_values
from flatout.scenario import target
from flatout.scenario.plan import protocol as by_name


class Server:
    """A running server. `address` is where it listens, as text that `load` takes as target."""

    def __init__(
        self, protocol: str, listen: str | None = None, *, threads: int = 1, cpus: tuple[int, ...] = (), **knobs: Any
    ) -> None:
        """Binds and starts. Port 0 takes a free one; default is the protocol's test port on 127.0.0.1.

        Errors: UsageError (unknown protocol or knob, no permission, not an address of this host, already in use).
        """
        spoken = by_name(protocol)
        if not 1 <= threads <= 1024:
            raise UsageError(f"{threads} threads: give 1 to 1024")
        try:
            values = knob_values(spoken.serve_knobs(**knobs))
        except TypeError as error:
            raise UsageError(f"serving {protocol} has no such option: {error}") from error
        at = listen_address(listen or f"127.0.0.1:{spoken.test_port}")
        try:
            self._server = _Server(
                protocol=protocol, knobs=list(values.items()), listen=at, workers=threads, cpus=list(cpus)
            )
        except OSError as error:
            raise _why_not(error, at) from error
        self.protocol = protocol
        self._began = time.monotonic()
        self._stopped = False

    @property
    def endpoint(self) -> target.Endpoint:
        """Where it listens."""
        address, port = self._server.address
        return target.Endpoint(address, port, 0)

    @property
    def address(self) -> str:
        """Where it listens, as text."""
        return str(self.endpoint)

    @property
    def alive(self) -> bool:
        """Whether all its threads are at work."""
        return not self._stopped and self._server.alive

    def stats(self) -> dict[str, Any]:
        """Cumulative counters: {t_s, received, answered, dropped {reason: n}, workers [...], kernel_drops}."""
        workers = self._server.served()
        return {
            "t_s": round(time.monotonic() - self._began, 3),
            "received": sum(worker["received"] for worker in workers),
            "answered": sum(worker["answered"] for worker in workers),
            "dropped": self._server.dropped(),
            "workers": workers,
            "kernel_drops": sum(worker["kernel_drops"] for worker in workers),
            "connections": None,
        }

    def stop(self) -> None:
        """Stops all threads; the counters stay."""
        self._stopped = True
        self._server.stop()

    def __enter__(self) -> Self:
        """It runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops it."""
        self.stop()


def listen_address(text: str) -> target.Endpoint:
    """`ADDR:PORT` to listen on; the port may be 0, the address a wildcard."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise UsageError(f"listen address '{text}': write it like 127.0.0.1:1123, 0.0.0.0:123 or [::]:123")
    endpoint = target.resolve(f"{host}:1", 1)
    return endpoint._replace(port=int(port))


def _why_not(error: OSError, at: target.Endpoint) -> FlatoutError:
    text = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return UsageError(f"listening on {at} is not permitted: ports below 1024 need root or CAP_NET_BIND_SERVICE")
    if error.errno in _ADDRESS:
        return UsageError(f"cannot listen on {at}: {text}")
    return GeneratorError(f"cannot serve on {at}: {text}")


_ADDRESS = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
