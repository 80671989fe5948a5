"""What a run is worth: its verdict, and whether its target is still there. Pure: counters in, words out."""

from __future__ import annotations

from typing import NamedTuple

from flatout.result import Distribution, Outcomes, RunVerdict

UNSENT_SHARE = 0.001
LATENESS_NS = 1_000_000
# Fewer requests without answer than this can be chance.
ENOUGH = 10


class Look(NamedTuple):
    """Cumulative counters at a time in s since the run's counted beginning."""

    t_s: float
    sent: int
    answered: int
    refused: int
    invalid: int


class Watch:
    """Notices that a target answers no more: nothing right for `patience_s` although requests kept leaving."""

    def __init__(self, timeout_s: float) -> None:
        self.patience_s = max(2.0, 2 * timeout_s)
        self.timeout_s = timeout_s
        self.last_answer: Look | None = None

    def lost(self, look: Look) -> str | None:
        """Why the target counts as lost, in words; None while it does not."""
        if self.last_answer is None:
            self.last_answer = look._replace(sent=0, answered=0, refused=0, invalid=0, t_s=max(look.t_s, 0.0))
        before = self.last_answer
        if look.answered > before.answered:
            self.last_answer = look
            return None
        silent_s = look.t_s - before.t_s
        refused = look.refused - before.refused
        if refused >= ENOUGH and silent_s > 0.5 and 2 * refused > look.sent - before.sent:
            return f"{_since(before)}: it refuses (port closed, or a firewall says no)"
        if look.sent - before.sent >= ENOUGH and silent_s > self.patience_s:
            return f"{_since(before)}: {_silence(look, before)}"
        return None


def _since(before: Look) -> str:
    return f"the target has not answered since {before.t_s:.1f} s" if before.answered else "the target never answered"


def _silence(look: Look, before: Look) -> str:
    invalid = look.invalid - before.invalid
    if invalid:
        return f"{invalid:,} answers came, none of them right"
    return "nothing comes back (is it running, is a firewall in between?)"


def verdict(
    outcomes: Outcomes, lateness: Distribution | None, own_drops: int, *, lost: str | None, interrupted: bool
) -> tuple[RunVerdict, str]:
    """The run's verdict and why, in the contract's words; the first that holds of the contract's order."""
    if interrupted:
        return "interrupted", "stopped before its end"
    if lost:
        return "target-lost", lost
    if outcomes.sent and not outcomes.answered + outcomes.late:
        return "target-lost", _nothing(outcomes)
    if why := generator_limited(outcomes, lateness, own_drops):
        return "generator-limited", why
    return "ok", "the generator kept its schedule"


def _nothing(outcomes: Outcomes) -> str:
    if outcomes.refused:
        return f"the target never answered: {outcomes.refused:,} of {outcomes.sent:,} requests were refused"
    if outcomes.invalid:
        return f"the target never answered rightly: {outcomes.invalid:,} answers came, none of them right"
    return f"the target never answered: nothing came back for {outcomes.sent:,} requests"


def generator_limited(outcomes: Outcomes, lateness: Distribution | None, own_drops: int) -> str | None:
    """Why the generator did not drive what was asked, or None if it did."""
    if outcomes.planned and outcomes.unsent > UNSENT_SHARE * outcomes.planned:
        share = outcomes.unsent / outcomes.planned
        return f"{outcomes.unsent:,} of {outcomes.planned:,} requests ({share:.1%}) could not leave within 1 ms of due"
    if lateness and lateness.p99 > LATENESS_NS:
        return f"1 % of the requests left {lateness.p99 / 1e6:.1f} ms or more after they were due"
    if outcomes.sent and own_drops > UNSENT_SHARE * outcomes.sent:
        return f"{own_drops:,} answers reached this host but were not read in time"
    return None
