"""What a run is worth: its verdict, and whether its target is still there. Pure: counters in, words out."""

from __future__ import annotations

from typing import NamedTuple

from flatout.result import Connections, Distribution, Outcomes, RunVerdict
from flatout.terms import terms_of

UNSENT_SHARE = 0.001
LATENESS_NS = 1_000_000
# Fewer requests without answer than this can be chance.
ENOUGH = 10


class Look(NamedTuple):
    """Cumulative counters at a time in s since the run's counted beginning; `live` connections stand, if it has any."""

    t_s: float
    sent: int
    answered: int
    refused: int
    invalid: int
    live: int | None = None


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
        if look.live == 0 and silent_s > self.patience_s:
            return f"{_since(before)}: no connection stands any more"
        if look.sent - before.sent >= ENOUGH and silent_s > self.patience_s:
            return f"{_since(before)}: {_silence(look, before)}"
        return None


class RefusalWatch:
    """Notices that nobody takes what goes one way: most of what leaves is refused, for half a second or more.

    `together`: so many messages may be refused as one, where the kernel cuts them apart.
    """

    def __init__(self, together: int = 1) -> None:
        self._together = together
        self._before: Look | None = None

    def lost(self, look: Look) -> str | None:
        """Why the target counts as lost, in words; None while it does not."""
        before = self._before or look._replace(sent=0, refused=0, t_s=0.0)
        if look.t_s - before.t_s < 0.5:
            self._before = before
            return None
        self._before = look
        refused, sent = look.refused - before.refused, look.sent - before.sent
        if refused >= ENOUGH and 2 * refused * self._together > sent:
            return f"since {before.t_s:.1f} s it refuses (port closed, or a firewall says no)"
        return None


def _since(before: Look) -> str:
    return f"the target has not answered since {before.t_s:.1f} s" if before.answered else "the target never answered"


def _silence(look: Look, before: Look) -> str:
    invalid = look.invalid - before.invalid
    if invalid:
        return f"{invalid:,} answers came, none of them right"
    return "nothing comes back (is it running, is a firewall in between?)"


def unconnected(connections: Connections | None, asked: int) -> str | None:
    """Why not one connection could be established, in words; None where one could, or there are none to be."""
    if connections is None or connections.established or not connections.opened:
        return None
    reasons = [
        (connections.refused, "refused"),
        (connections.timed_out, "timed out"),
        (connections.cut_off, "broken off"),
        (connections.local, "not possible from here"),
    ]
    told = ", ".join(f"{number:,} {word}" for number, word in reasons if number) or "nothing came back"
    return f"none of {asked:,} connections could be established: {told}"


def shortfalls(connections: Connections | None, asked: int, *, churn: bool) -> tuple[list[str], list[str]]:
    """What to say of connections: that fewer stood than asked for, and how many the far end ended.

    Where none stood the verdict says it.
    """
    if connections is None:
        return [], []
    fewer = [] if churn or connections.peak >= asked or not connections.established else [_fewer(connections, asked)]
    ended = connections.closed + connections.reset
    told = f"the target ended {ended:,} of {connections.established:,} connections ({connections.closed:,} closed, "
    again = f"; {connections.reopened:,} were opened again" if connections.reopened and not churn else ""
    return fewer, [f"{told}{connections.reset:,} reset){again}"] if ended and connections.established else []


def _fewer(connections: Connections, asked: int) -> str:
    reasons = [
        (connections.refused, "refused"),
        (connections.timed_out, "timed out"),
        (connections.cut_off, "broken off"),
        (connections.local, "not possible from here"),
    ]
    told = ", ".join(f"{number:,} {word}" for number, word in reasons if number)
    return f"only {connections.peak:,} of {asked:,} connections stood at once{': ' if told else ''}{told}"


def verdict(
    outcomes: Outcomes,
    lateness: Distribution | None,
    own_drops: int,
    *,
    lost: str | None,
    interrupted: bool,
    connections: Connections | None = None,
    blocked: int = 0,
    one_way: bool = False,
) -> tuple[RunVerdict, str]:
    """The run's verdict and why, in the contract's words; the first that holds of the contract's order.

    `blocked`: requests that could not leave because the target took no more. `one_way`: answers are not to be expected.
    """
    if interrupted:
        return "interrupted", "stopped before its end"
    if lost:
        return "target-lost", lost
    if why := _in_vain(outcomes) if one_way else _unanswered(outcomes):
        return "target-lost", why
    behind = not outcomes.planned or outcomes.unsent > UNSENT_SHARE * outcomes.planned
    if behind and (why := _deserted(connections)):
        return "target-lost", why
    if why := generator_limited(outcomes, lateness, own_drops, blocked, terms_of(one_way=one_way).many):
        return "generator-limited", why
    return "ok", "the generator kept its schedule"


def _deserted(connections: Connections | None) -> str | None:
    """Requests that stay behind because the target has ended most connections are not this generator's failure.

    One that ends them but takes new ones is still there.
    """
    if connections is None or 2 * (connections.closed + connections.reset) < max(connections.established, 1):
        return None
    if 2 * connections.live > connections.peak:
        return None
    ended = f"{connections.closed:,} closed, {connections.reset:,} reset"
    return f"the target ended most of its {connections.established:,} connections ({ended}), and requests stayed behind"


def _in_vain(outcomes: Outcomes) -> str | None:
    """Where nothing comes back, only a receiver that counts can tell that nothing came."""
    if outcomes.received == 0 and outcomes.sent >= ENOUGH:
        return f"the receiver got none of {outcomes.sent:,} messages"
    return None


def _unanswered(outcomes: Outcomes) -> str | None:
    if not outcomes.sent or outcomes.answered + outcomes.late:
        return None
    if outcomes.refused:
        return f"the target never answered: {outcomes.refused:,} of {outcomes.sent:,} requests were refused"
    if outcomes.invalid:
        return f"the target never answered rightly: {outcomes.invalid:,} answers came, none of them right"
    return f"the target never answered: nothing came back for {outcomes.sent:,} requests"


def generator_limited(
    outcomes: Outcomes, lateness: Distribution | None, own_drops: int, blocked: int, things: str
) -> str | None:
    """Why the generator did not drive what was asked, or None if it did; `things` are what it sends."""
    if 2 * blocked > outcomes.unsent > UNSENT_SHARE * outcomes.planned:
        behind = f"{outcomes.unsent:,} of {outcomes.planned:,} {things}"
        return f"{behind} could not leave, {blocked:,} of them because the target took no more"
    if outcomes.planned and outcomes.unsent > UNSENT_SHARE * outcomes.planned:
        share = outcomes.unsent / outcomes.planned
        return f"{outcomes.unsent:,} of {outcomes.planned:,} {things} ({share:.1%}) could not leave within 1 ms of due"
    if lateness and lateness.p99 > LATENESS_NS:
        return f"1 % of the {things} left {lateness.p99 / 1e6:.1f} ms or more after they were due"
    if outcomes.sent and own_drops > UNSENT_SHARE * outcomes.sent:
        return f"{own_drops:,} answers reached this host but were not read in time"
    return None
