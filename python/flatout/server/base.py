"""What all that serves has: it listens, works on threads of its own, counts, and ends."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from flatout._engine import BpfError
from flatout._engine import Receiver as _Receiver
from flatout._engine import Server as _Server
from flatout.errors import UsageError, of_engine
from flatout.plan import targets
from flatout.plan.listen import listen_address, why_not


class Server(abc.ABC):
    """A running server, as `flatout.serve` begins it: one that answers, or one that only receives.

    `protocol` is what it speaks, `transports` over what, `threads` how many workers it has. `addresses` is where
    it listens, as texts that `load` takes as target, `address` the first of them.
    """

    _engine: _Server | _Receiver

    def __init__(self, protocol: str, threads: int, transports: tuple[str, ...] = ("udp",)) -> None:
        self.protocol = protocol
        self.threads = threads
        self.transports = transports
        self._began = time.monotonic()
        self._stopped = False

    @property
    def endpoints(self) -> list[targets.Endpoint]:
        """Where it listens: at least one."""
        engine = self._engine
        at = engine.addresses if isinstance(engine, _Server) else [engine.address]
        return [targets.Endpoint(*each) for each in at]

    @property
    def endpoint(self) -> targets.Endpoint:
        """Where it listens; of several addresses the first."""
        return self.endpoints[0]

    @property
    def address(self) -> str:
        """Where it listens, as text; of several addresses the first."""
        return str(self.endpoint)

    @property
    def addresses(self) -> list[str]:
        """All addresses that it listens on, as text."""
        return [str(endpoint) for endpoint in self.endpoints]

    @property
    def alive(self) -> bool:
        """Whether all its threads are at work."""
        return not self._stopped and self._engine.alive

    @property
    def streams(self) -> bool:
        """Whether it takes connections."""
        return self.transports != ("udp",)

    @property
    def carrier(self) -> str:
        """What carries its connections: "io_uring" or "epoll"; empty where it takes none."""
        return ""

    @property
    def most_connections(self) -> int:
        """How many connections there can be at once."""
        return 0

    @property
    def errors(self) -> list[str]:
        """The system calls that failed so that threads could not go on; while there are any it is not `alive`."""
        return list(dict.fromkeys(self._engine.failures))

    @property
    @abc.abstractmethod
    def notes(self) -> list[str]:
        """What is worth knowing and no fault: what replaces system calls that this host refuses."""

    @abc.abstractmethod
    def stats(self) -> dict[str, Any]:
        """Cumulative counters."""

    def stop(self) -> None:
        """Stops all threads and cuts off all connections. The counters stay, and what waits to be taken."""
        self._stopped = True
        self._engine.stop()

    def __enter__(self) -> Self:
        """It runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops it."""
        self.stop()


def bound(engine: Callable[..., _Receiver], listen: str, **arguments: Any) -> _Receiver:
    """A receiver, begun at an address given as text. Errors: UsageError, GeneratorError."""
    at = listen_address(listen)
    try:
        return engine(listen=at, **arguments)
    except ValueError as error:
        raise of_engine(error) from error
    except BpfError as error:
        raise UsageError(f"link: {error.args[1]}") from error
    except OSError as error:
        raise why_not(error, at) from error
