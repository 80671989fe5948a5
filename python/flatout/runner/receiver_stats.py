"""Asks the receiver of messages that nobody answers what has arrived: before, during and after a run.

Method: before the run it is told that numbers begin anew. After it, it is asked until two answers agree: what still
waits in a socket is received too. A receiver that is overrun loses questions as it loses messages, so only the end
decides whether it is still there. What the counters mean is in `arrivals`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from flatout import _engine
from flatout.errors import TargetError, UsageError
from flatout.plan.targets import Endpoint
from flatout.result import loss as arrivals
from flatout.result.model import Reading

Words = dict[str, int]
Ask = Callable[[Endpoint, bool, float], Words | None]

_PATIENCE_S = 0.5
# In mid-run nothing may hold the run's own watch up: the next second brings another look.
_GLANCE_S = 0.05
_STILL_S = 0.05
_SETTLE_S = 2.0
# A receiver whose handler is slow finds the question behind all that its sockets hold.
_BACKLOG_S = 10.0
# What stands still once nothing more comes; a handler may take long over what waits for it.
_SETTLED = ("instance", "received", "parsed", "malformed", "duplicate", "reordered", "missing", "kernel_drops")


def ask(endpoint: Endpoint, reset_sequences: bool = False, timeout_s: float = _PATIENCE_S) -> Words | None:
    """The counters of the receiver there; None: nobody tells. Errors: TargetError where nobody listens."""
    try:
        return _engine.arrived(endpoint, reset_sequences, timeout_s)
    except ConnectionRefusedError as error:
        remedy = "start a receiver there (flatout serve …, or flatout.Receiver)"
        raise TargetError(f"nobody listens at {endpoint}: {remedy}") from error
    except OSError:
        # No way there, no descriptor left: the run itself will say it better.
        return None


class StatsQuery:
    """Asks a run's receiver at each of its addresses. `lost`: why it told nothing at the end, where it did before."""

    def __init__(
        self, endpoints: Sequence[Endpoint], ask: Ask = ask, rest: Callable[[float], object] = time.sleep
    ) -> None:
        self.endpoints = list(endpoints)
        self.lost: str | None = None
        self._before: list[Words] = []
        self._after: list[Words] = []
        self._ask = ask
        self._rest = rest

    @property
    def counted(self) -> bool:
        """Whether the receiver told anything when it was asked first."""
        return bool(self._before)

    def begin(self, size: int | None, places: int | None = None) -> None:
        """Asks before the run. `size`, `places`: how long messages are, where they say who sent them and their number.

        Errors: TargetError where nobody listens, UsageError for one of other messages.
        """
        found = [self._ask(endpoint, True, _PATIENCE_S) for endpoint in self.endpoints]
        for endpoint, reported in zip(self.endpoints, found, strict=True):
            if reported is not None and size is not None and reported["size"] != size:
                raise UsageError(
                    f"the receiver at {endpoint} takes messages of {reported['size']} bytes, and these have {size}: "
                    "give both ends the same format"
                )
            if reported is not None and reported["sequence_bits"] and places not in (None, reported["places"]):
                raise UsageError(
                    f"the receiver at {endpoint} looks elsewhere in a message for who sent it and for its number, and "
                    "would take these for others' and lost ones: give both ends the same format and byte order"
                )
        # An address that tells nothing leaves the sum of the others without a meaning.
        known = [words for words in found if words is not None]
        self._before = known if len(known) == len(found) else []

    def received(self) -> int | None:
        """How many messages have come since the run began; None where that is not told just now."""
        now = self._readings(self._after or self._all(_GLANCE_S, last=False))
        return arrivals.together(now)["received"] if now and not arrivals.restarted(now) else None

    def end(self, sent: int) -> None:
        """Asks after the run until nothing more comes."""
        spent_s = 0.0
        while self.counted and self.lost is None and spent_s < (_SETTLE_S if self._after else _BACKLOG_S):
            now = self._all(_PATIENCE_S, last=True)
            spent_s += _STILL_S if now else _PATIENCE_S
            if not now:
                continue
            if not self._after:
                spent_s = 0.0  # its backlog is done: from now on it answers at once
            still = bool(self._after) and all(map(_same, now, self._after))
            self._after = now
            if still:
                return
            self._rest(_STILL_S)
        if self.counted and not self._after:
            self.lost = self.lost or (
                f"the receiver told nothing for {_BACKLOG_S:.0f} s after the run (is it gone, or not yet done with "
                f"what came?): none knows what became of {sent:,} messages"
            )

    def _all(self, timeout_s: float, *, last: bool) -> list[Words]:
        """The counters at all addresses; empty where not all of them tell. Before the last time one may come back."""
        found = []
        for endpoint in self.endpoints if self.counted else []:
            try:
                reported = self._ask(endpoint, False, timeout_s)
            except TargetError:
                self.lost = f"nobody listens at {endpoint} any more" if last else None
                return []
            if reported is None:
                return []
            found.append(reported)
        return found

    def _readings(self, after: Sequence[Words]) -> list[Reading]:
        pairs = zip(self.endpoints, self._before, after, strict=True) if after else ()
        return [Reading(target=str(endpoint), before=before, after=now) for endpoint, before, now in pairs]

    def readings(self) -> list[Reading]:
        """What was told before and after; empty where nobody told."""
        return self._readings(self._after)


def _same(one: Words, other: Words) -> bool:
    return all(one[name] == other[name] for name in _SETTLED)
