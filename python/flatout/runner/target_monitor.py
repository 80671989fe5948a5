"""Detects a target that is lost during a run. Pure: cumulative counters in, a reason out."""

from __future__ import annotations

from typing import NamedTuple

# Fewer unanswered requests than this can be chance.
ENOUGH = 10


class Sample(NamedTuple):
    """Cumulative counters at a time in s since the counted start; `live`: open connections, None over datagrams."""

    t_s: float
    sent: int
    answered: int
    refused: int
    invalid: int
    live: int | None = None


class TargetMonitor:
    """Detects a lost target: no right answer for `patience_s` while requests leave, or while no connection is open."""

    def __init__(self, timeout_s: float) -> None:
        self.patience_s = max(2.0, 2 * timeout_s)
        self.timeout_s = timeout_s
        self.last_answer: Sample | None = None
        self._last_open_s = 0.0

    def lost(self, sample: Sample) -> str | None:
        """Why the target counts as lost; None while it does not."""
        if self.last_answer is None:
            self.last_answer = sample._replace(sent=0, answered=0, refused=0, invalid=0, t_s=max(sample.t_s, 0.0))
        before = self.last_answer
        if sample.live != 0:
            # One that has ended may be opened again, and a low rate has no answer to show for it yet.
            self._last_open_s = sample.t_s
        if sample.answered > before.answered:
            self.last_answer = sample
            return None
        silent_s = sample.t_s - before.t_s
        refused = sample.refused - before.refused
        # Over connections that are open the target refuses nothing, though it has reset others.
        if not sample.live and refused >= ENOUGH and silent_s > 0.5 and 2 * refused > sample.sent - before.sent:
            return f"{_since(before)}: it refuses (port closed, or a firewall says no)"
        if sample.live == 0 and min(silent_s, sample.t_s - self._last_open_s) > self.patience_s:
            return f"{_since(before)}: all connections have ended"
        if sample.sent - before.sent >= ENOUGH and silent_s > self.patience_s:
            return f"{_since(before)}: {_silence(sample, before)}"
        return None


class RefusalMonitor:
    """Detects that one-way messages are refused: most of them, for half a second or more.

    per_refusal: how many messages one refusal can stand for; more than 1 with segmented sends.
    """

    def __init__(self, per_refusal: int = 1) -> None:
        self._per_refusal = per_refusal
        self._before: Sample | None = None

    def lost(self, sample: Sample) -> str | None:
        """Why the target counts as lost; None while it does not."""
        before = self._before or sample._replace(sent=0, refused=0, t_s=0.0)
        if sample.t_s - before.t_s < 0.5:
            self._before = before
            return None
        self._before = sample
        refused, sent = sample.refused - before.refused, sample.sent - before.sent
        if refused >= ENOUGH and 2 * refused * self._per_refusal > sent:
            return f"since {before.t_s:.1f} s it refuses (port closed, or a firewall says no)"
        return None


def _since(before: Sample) -> str:
    return f"the target has not answered since {before.t_s:.1f} s" if before.answered else "the target never answered"


def _silence(sample: Sample, before: Sample) -> str:
    invalid = sample.invalid - before.invalid
    if invalid:
        return f"all of {invalid:,} answers were wrong"
    return "nothing comes back (is it running, is a firewall in between?)"
