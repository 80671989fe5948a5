"""Where a server's time state comes from: one module a source, each a pure parser and one call that asks."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable
from typing import Any

from flatout.protocols.base import StateSource
from flatout.protocols.ntp.state import LeapTracker, TimeState, Unusable

TIMEOUT_S = 1.0


class Upstream(abc.ABC):
    """Something that can be asked for a time state."""

    name: str
    """How it is called in messages and statistics."""

    @abc.abstractmethod
    def ask(self) -> TimeState:
        """Asks once, for 1 s at most. Errors: OSError (it does not answer), Unusable (what it answers)."""

    def close(self) -> None:  # noqa: B027 - most have nothing open
        """Gives back what it holds."""


class TimeSource(StateSource):
    """A time state, asked for again and again, as the engine takes it.

    A daemon that says that it is not synchronised tells nothing new: the last state holds until `max_age_s`, with its
    dispersion growing, as while the daemon restarts.
    """

    def __init__(
        self, upstream: Upstream, max_age_s: float, *, smear: bool, unix_s: Callable[[], float] = time.time
    ) -> None:
        self._upstream = upstream
        self._max_age_ns = round(max_age_s * 1e9)
        self._leaps = LeapTracker() if smear else None
        self._unix_s = unix_s
        self._last: TimeState | None = None

    def poll(self) -> list[int]:
        """One question. Errors: OSError, Unusable."""
        state = self._upstream.ask()
        self._last = state
        if not state.synchronised:
            raise Unusable("it is not synchronised")
        leap = self._leaps.note(state.leap, self._unix_s()) if self._leaps is not None else None
        return state.words(self._max_age_ns, leap)

    def describe(self) -> dict[str, Any]:
        """The last state that came, for statistics."""
        last = self._last
        if last is None:
            return {"source": self._upstream.name}
        return {
            "source": self._upstream.name,
            "leap": last.leap,
            "stratum": last.stratum,
            "reference_id": last.reference_id.hex(),
            "root_delay_ns": last.root_delay_ns,
            "root_dispersion_ns": last.root_dispersion_ns,
            "correction_ns": last.correction_ns,
            # Half the way to the primary reference and back, and what may have gone wrong since.
            "error_bound_ns": last.root_delay_ns // 2 + last.root_dispersion_ns,
        }

    def close(self) -> None:
        """Gives back what it holds."""
        self._upstream.close()


class StaticSource(TimeSource):
    """A state that an operator states: told once, for ever."""

    interval_s = None

    def __init__(self, state: TimeState) -> None:
        super().__init__(_Stated(state), 0, smear=False)


class _Stated(Upstream):
    name = "static"

    def __init__(self, state: TimeState) -> None:
        self._state = state

    def ask(self) -> TimeState:
        return self._state
