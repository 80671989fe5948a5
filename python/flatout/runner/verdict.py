"""The verdict of a run, with its reason. Pure: counters in, words out."""

from __future__ import annotations

from flatout.result.model import Connections, Distribution, Outcomes, RunVerdict
from flatout.runner.target_monitor import ENOUGH
from flatout.scenario.exchange.wording import wording_of

UNSENT_SHARE = 0.001
LATENESS_NS = 1_000_000


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
    reported = ", ".join(f"{number:,} {word}" for number, word in reasons if number) or "nothing came back"
    return f"none of {asked:,} connections could be established: {reported}"


def shortfalls(connections: Connections | None, asked: int, *, churn: bool) -> tuple[list[str], list[str]]:
    """What to say of connections: that fewer stood than asked for, and how many the far end ended.

    Where none stood the verdict says it.
    """
    if connections is None:
        return [], []
    fewer = [] if churn or connections.peak >= asked or not connections.established else [_fewer(connections, asked)]
    ended = connections.closed + connections.reset
    reported = f"the target ended {ended:,} of {connections.established:,} connections ({connections.closed:,} closed, "
    again = f"; {connections.reopened:,} were opened again" if connections.reopened and not churn else ""
    return fewer, [f"{reported}{connections.reset:,} reset){again}"] if ended and connections.established else []


def _fewer(connections: Connections, asked: int) -> str:
    reasons = [
        (connections.refused, "refused"),
        (connections.timed_out, "timed out"),
        (connections.cut_off, "broken off"),
        (connections.local, "not possible from here"),
    ]
    reported = ", ".join(f"{number:,} {word}" for number, word in reasons if number)
    return f"only {connections.peak:,} of {asked:,} connections stood at once{': ' if reported else ''}{reported}"


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
    if why := generator_limited(outcomes, lateness, own_drops, blocked, wording_of(one_way=one_way).many):
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
