"""The verdict of a run, with its reason. Pure: counters in, text out."""

from __future__ import annotations

from collections.abc import Mapping

from flatout.result.model import Connections, Distribution, Outcomes, RunVerdict
from flatout.result.own_drops import text as own_drops_text
from flatout.result.thresholds import LATENESS_NS, LATENESS_TEXT, just_a_few, too_many
from flatout.runner.exchange import Exchange


def unconnected(connections: Connections | None, asked: int) -> str | None:
    """Why no connection could be established; None where one could, or where there are none to establish.

    None also where this host is the cause of every failure: that says nothing of the target.
    """
    if connections is None or connections.established or not connections.opened or _unopened(connections):
        return None
    reasons = _failures(connections) or "nothing came back"
    return f"none of {asked:,} connections could be established: {reasons}"


def _failures(connections: Connections) -> str:
    reasons = [
        (connections.refused, "refused"),
        (connections.timed_out, "timed out"),
        (connections.cut_off, "broken off"),
        (connections.local, "not possible from here"),
    ]
    return ", ".join(f"{number:,} {reason}" for number, reason in reasons if number)


def _failed_here(failed_call: str | None, connections: Connections | None) -> str | None:
    """What failed on this host, so that nothing is known of the target."""
    return f"a system call failed on this host: {failed_call}" if failed_call else _unopened(connections)


def _unopened(connections: Connections | None) -> str | None:
    """Why none of the connections was established where all failed on this host; else None."""
    if connections is None or connections.established or not 0 < connections.failed <= connections.local:
        return None
    return f"this host could open none of {connections.opened:,} connections: no port, no memory or no permission"


def shortfalls(connections: Connections | None, asked: int, *, churn: bool) -> tuple[list[str], list[str]]:
    """Warnings and notes on connections: that fewer were open than asked for, and how many the far end ended.

    Where no connection was ever open, the verdict says so.
    """
    if connections is None:
        return [], []
    fewer = [] if churn or connections.peak >= asked or not connections.established else [_fewer(connections, asked)]
    ended = connections.closed + connections.reset
    again = f"; {connections.reopened:,} were opened again" if connections.reopened and not churn else ""
    note = (
        f"the target ended {ended:,} of {connections.established:,} connections "
        f"({connections.closed:,} closed, {connections.reset:,} reset){again}"
    )
    return fewer, [note] if ended and connections.established else []


def _fewer(connections: Connections, asked: int) -> str:
    reasons = _failures(connections)
    return f"only {connections.peak:,} of {asked:,} connections were open at once{': ' if reasons else ''}{reasons}"


def verdict(
    outcomes: Outcomes,
    lateness: Distribution | None,
    own_drops: int,
    exchange: Exchange,
    *,
    lost: str | None,
    interrupted: bool,
    connections: Connections | None = None,
    blocked: int = 0,
    starved: str | None = None,
    failed_call: str | None = None,
    no_connection: int = 0,
    send_failed: int = 0,
    no_slot: int = 0,
    left_late: int | None = None,
    by_driver: bool = False,
) -> tuple[RunVerdict, str]:
    """The run's verdict and its reason, in the contract's words; the first that holds in the contract's order.

    own_drops: replies that reached this host but were not read in time.
    lost: why the target counts as lost; None where it does not.
    interrupted: the run was stopped before its end.
    connections: None over datagrams.
    blocked: requests that could not leave because the target took no more.
    starved: why what was lost is not the target's fault.
    failed_call: the system call that failed and ended the run: nothing is known of the target.
    no_connection: requests that could not leave because no connection was open.
    send_failed: because the kernel refused to send them.
    no_slot: because all slots waited for answers.
    by_driver: frames went past the kernel's sockets.
    left_late: requests that left later than allowed; None: not known, so that p99 of lateness alone decides.
    """
    if interrupted:
        return "interrupted", "stopped before its end"
    if why := _failed_here(failed_call, connections):
        return "generator-limited", why
    if why := lost or exchange.target_lost(outcomes):
        return "target-lost", why
    behind = not outcomes.planned or too_many(outcomes.unsent, outcomes.planned)
    if behind and (why := _ended_by_target(connections, outcomes)):
        return "target-lost", why
    causes = {
        "the target took no more": blocked,
        "no connection was open": no_connection,
        "this host refused to send them": send_failed,
        "all slots waited for answers": no_slot,
    }
    if lateness and left_late is not None and just_a_few(left_late, lateness.count):
        lateness = None
    dropped = own_drops_text(own_drops, by_driver=by_driver) if too_many(own_drops, outcomes.sent) else None
    if why := generator_limited(outcomes, lateness, dropped, causes, exchange.wording.many) or starved:
        return "generator-limited", why
    return "ok", exchange.on_schedule


def _ended_by_target(connections: Connections | None, outcomes: Outcomes) -> str | None:
    """Why requests were left unsent where the target has ended most connections: not this generator's failure.

    A target that accepts others in their place, and answers, is still there.
    """
    if connections is None or 2 * (connections.closed + connections.reset) < max(connections.established, 1):
        return None
    missing, answers = connections.peak - connections.live, outcomes.answered + outcomes.late
    if 2 * connections.live > connections.peak or (answers and 2 * missing < connections.closed + connections.reset):
        return None
    ended = f"{connections.closed:,} closed, {connections.reset:,} reset"
    return f"the target ended most of its {connections.established:,} connections ({ended}), and requests stayed unsent"


def generator_limited(
    outcomes: Outcomes, lateness: Distribution | None, dropped: str | None, causes: Mapping[str, int], many: str
) -> str | None:
    """Why the generator did not drive what was asked; None if it did.

    lateness: None also where too few left late to count.
    dropped: too much that this host dropped itself, in words; None: it did not.
    causes: how many requests were left unsent for other reasons than the generator's schedule.
    many: "requests" or "messages".
    """
    for cause, number in causes.items():
        if 2 * number > outcomes.unsent and too_many(outcomes.unsent, outcomes.planned):
            unsent = f"{outcomes.unsent:,} of {outcomes.planned:,} {many}"
            return f"{unsent} could not leave, {number:,} of them because {cause}"
    if too_many(outcomes.unsent, outcomes.planned):
        share = f"{outcomes.unsent / outcomes.planned:.1%}"
        unsent = f"{outcomes.unsent:,} of {outcomes.planned:,} {many} ({share})"
        return f"{unsent} could not leave within {LATENESS_TEXT} of due"
    if lateness and lateness.p99 > LATENESS_NS:
        return f"1 % of the {many} left {lateness.p99 / 1e6:.1f} ms or more after they were due"
    if dropped:
        return dropped
    return None if outcomes.sent else "nothing was sent"
