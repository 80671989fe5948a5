"""Queries the receiver of one-way messages for its counters: before, during and after a run.

The query before the run resets the receiver's sequence numbers. After the run it is repeated until two replies agree:
messages that wait in a socket are received as well. An overloaded receiver loses queries as it loses messages, so only
the end decides whether it is still there. `result.loss` says what the counters mean.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from flatout import _engine
from flatout.errors import GeneratorError, TargetError, UsageError
from flatout.plan.targets import Endpoint
from flatout.result.counts import CounterSamples
from flatout.result.loss import Counters, counted, receiver_restarted

Ask = Callable[[Endpoint, bool, float], Counters | None]

_TIMEOUT_S = 0.5
# During the run a query must not delay the run's own ticks: the next second brings another one.
_TIMEOUT_DURING_RUN_S = 0.05
_PAUSE_S = 0.05
_SETTLE_S = 2.0
# A receiver with a slow handler reads the query after everything that its sockets hold.
_BACKLOG_S = 10.0
# These stand still once nothing more arrives; a handler may take long over what waits for it.
_SETTLED = ("instance", "received", "parsed", "malformed", "duplicate", "reordered", "missing", "kernel_drops")


def ask(endpoint: Endpoint, reset_sequences: bool = False, timeout_s: float = _TIMEOUT_S) -> Counters | None:
    """The counters of the receiver at an address; None without a reply.

    Errors: TargetError for a closed port, GeneratorError where a system call that this takes is refused.
    """
    try:
        return _engine.arrived(endpoint, reset_sequences, timeout_s)
    except ConnectionRefusedError as error:
        remedy = "start a receiver there (flatout serve …, or flatout.Receiver)"
        raise TargetError(f"no receiver listens at {endpoint}: {remedy}") from error
    except OSError as error:
        if error.errno is None:
            raise GeneratorError(f"the receiver at {endpoint} cannot be asked: {error}") from error
        # No route, or no descriptor left: the run itself reports that better.
        return None


class StatsQuery:
    """Queries a run's receiver at each of its addresses.

    `lost`: why its counters at the end are unknown. `failed`: the system call that failed, so that they are.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], ask: Ask = ask, rest: Callable[[float], object] = time.sleep
    ) -> None:
        self.endpoints = list(endpoints)
        self.lost: str | None = None
        self.failed: str | None = None
        self._before: list[Counters] = []
        self._after: list[Counters] = []
        self._ask = ask
        self._rest = rest

    @property
    def counted(self) -> bool:
        """Whether the receiver replied to the first query."""
        return bool(self._before)

    def begin(self, size: int | None, places: int | None = None) -> None:
        """Queries before the run.

        size: bytes of each message; None: unknown.
        places: where a message holds its sender and its sequence number, as the engine encodes it; None: unknown.
        Errors: TargetError for a closed port, GeneratorError, UsageError for a receiver of another format.
        """
        found = [self._ask(endpoint, True, _TIMEOUT_S) for endpoint in self.endpoints]
        for endpoint, counters in zip(self.endpoints, found, strict=True):
            if counters is not None:
                _check_format(endpoint, counters, size, places)
        # Without the counters of one address the sum of the others means nothing.
        known = [counters for counters in found if counters is not None]
        self._before = known if len(known) == len(found) else []

    def received(self) -> int | None:
        """How many messages have arrived since the run began; None without a reply."""
        now = self._samples(self._after or self._all(_TIMEOUT_DURING_RUN_S, last=False))
        return counted(now)["received"] if now and not receiver_restarted(now) else None

    def end(self, sent: int) -> None:
        """Queries after the run until nothing more arrives."""
        spent_s = 0.0
        while self.counted and not (self.lost or self.failed) and spent_s < (_SETTLE_S if self._after else _BACKLOG_S):
            now = self._all(_TIMEOUT_S, last=True)
            spent_s += _PAUSE_S if now else _TIMEOUT_S
            if not now:
                continue
            if not self._after:
                spent_s = 0.0  # its backlog is done: from now on it replies at once
            settled = bool(self._after) and all(map(_same, now, self._after))
            self._after = now
            if settled:
                return
            self._rest(_PAUSE_S)
        if self.counted and not self._after and not self.failed:
            self.lost = self.lost or (
                f"the receiver reported nothing for {_BACKLOG_S:.0f} s after the run (has it ended, or is it still "
                f"busy?): the loss of {sent:,} messages is unknown"
            )

    def _all(self, timeout_s: float, *, last: bool) -> list[Counters]:
        """The counters at all addresses; empty unless all reply. A closed port is final only in the `last` queries."""
        found = []
        for endpoint in self.endpoints if self.counted else []:
            try:
                counters = self._ask(endpoint, False, timeout_s)
            except TargetError:
                self.lost = f"the receiver at {endpoint} has ended" if last else None
                return []
            except GeneratorError as error:
                self.failed = str(error)
                return []
            if counters is None:
                return []
            found.append(counters)
        return found

    def _samples(self, after: Sequence[Counters]) -> list[CounterSamples]:
        pairs = zip(self.endpoints, self._before, after, strict=True) if after else ()
        return [CounterSamples(target=str(endpoint), before=before, after=now) for endpoint, before, now in pairs]

    def samples(self) -> list[CounterSamples]:
        """The counters before and after the run; empty where they are unknown."""
        return self._samples(self._after)


def _check_format(endpoint: Endpoint, counters: Counters, size: int | None, places: int | None) -> None:
    if size is not None and counters["size"] != size:
        raise UsageError(
            f"the receiver at {endpoint} takes messages of {counters['size']} bytes, and these have {size}: "
            "give both ends the same format"
        )
    if counters["sequence_bits"] and places not in (None, counters["places"]):
        raise UsageError(
            f"the receiver at {endpoint} looks for sender and sequence number elsewhere in a message, and would count "
            "wrong losses: give both ends the same format and byte order"
        )


def _same(one: Counters, other: Counters) -> bool:
    return all(one[name] == other[name] for name in _SETTLED)
