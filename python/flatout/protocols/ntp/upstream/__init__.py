"""Where a server's time state comes from: one module a source, each a pure parser and one call that asks."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable
from typing import Any

from flatout.protocols.base import StateSource
from flatout.protocols.ntp.state import LeapTracker, TimeState, Unusable

TIMEOUT_S = 1.0
# As crates/wire/src/ntp/time_state.rs: a smaller step of the system clock is in the dispersion.
_STEP_NS = 128_000_000


def clocks() -> tuple[int, int]:
    """A steady clock and the system clock (Unix), ns."""
    return time.monotonic_ns(), time.time_ns()


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
    dispersion growing, as while the daemon restarts. Once the system clock was set by others, what the daemon said of
    it before is no longer true: until it has set the clock itself it is not believed.
    """

    def __init__(
        self,
        upstream: Upstream,
        max_age_s: float,
        *,
        smear: bool,
        now_ns: Callable[[], tuple[int, int]] = clocks,
    ) -> None:
        self._upstream = upstream
        self._max_age_ns = round(max_age_s * 1e9)
        self._leaps = LeapTracker() if smear else None
        self._now_ns = now_ns
        self._before: tuple[int, int] | None = None
        self._outdated: int | None = None
        self._last: TimeState | None = None
        self._told_ns = 0

    def poll(self) -> list[int]:
        """One question. Errors: OSError, Unusable."""
        self._look_at_clocks()
        state = self._upstream.ask()
        self._last = state
        if not state.synchronised:
            raise Unusable("it is not synchronised")
        if state.reference and state.reference == self._outdated:
            raise Unusable("the system clock was set by others since it set it last")
        self._outdated, self._told_ns = None, self._now_ns()[0]
        leap = self._leaps.note(state.leap, self._now_ns()[1] / 1e9) if self._leaps is not None else None
        return state.words(self._max_age_ns, leap)

    def _look_at_clocks(self) -> None:
        """Finds a step of the system clock since the last question."""
        before, self._before = self._before, self._now_ns()
        if before is None or self._last is None:
            return
        passed, moved = (now - then for now, then in zip(self._before, before, strict=True))
        if abs(moved - passed) > _STEP_NS:
            self._outdated = self._last.reference

    def describe(self) -> dict[str, Any]:
        """The last state that came, for statistics."""
        last = self._last
        if last is None:
            return {"source": self._upstream.name}
        age_ns = max(self._now_ns()[0] - self._told_ns, 0)
        holds = self._max_age_ns == 0 or (self._told_ns > 0 and age_ns <= self._max_age_ns)
        return {
            "source": self._upstream.name,
            "synchronised": holds and self._outdated is None,
            "leap": last.leap,
            "stratum": last.stratum,
            "reference_id": last.reference_id.hex(),
            "root_delay_ns": last.root_delay_ns,
            "root_dispersion_ns": last.root_dispersion_ns,
            "correction_ns": last.correction_ns,
            # Half the way to the primary reference and back, and what may have gone wrong since.
            "error_bound_ns": last.root_delay_ns // 2 + last.root_dispersion_ns + age_ns * last.dispersion_ppb // 10**9,
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
