"""Frames that the driver sent are not answered at all, and nothing that is read counts why."""

from __future__ import annotations

from flatout.analysis.troubles import many
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Nothing came back by the interface, no counter has half of it, and no error came back either."""
    ledger, outcomes, link = run.ledger, run.outcomes, run.link
    if ledger is None or link is None or run.one_way or outcomes.sent > outcomes.lost or ledger.count("port_closed"):
        return None
    unexplained = ledger.unexplained or 0
    if not unexplained or 2 * unexplained < outcomes.lost:
        return None
    return Finding(
        name="unanswered frames",
        sentence=f"{many(run, outcomes.lost)} left by {link.interface}, past this host's network layer, and nothing "
        "came back by it.",
        evidence=[f"next hop: {', '.join(sorted(set(link.next_hops)))}", f"sent: {outcomes.sent:,}, answered: 0"],
        remedy="; ".join(["the same without --link xdp tells whether the target answers at all", *_checks(run)]),
        confidence="low",
        explains=unexplained,
    )


def _checks(run: LoadResult) -> list[str]:
    """What is different without sockets, and may be wrong."""
    scenario, link = run.scenario, run.link
    found = ["--gateway-mac must be that of the next hop (ip neighbour)"] if scenario.gateway_mac else []
    if scenario.sources:
        found.append("no ARP or NDP of this host answers for --sources that it does not have: the target needs a route")
    if link is not None and link.kind == "veth":
        found.append("the other end of a veth takes such frames only with GRO (ethtool -K DEVICE gro on) or XDP")
    if link is not None and link.kind != "veth":
        found.append(f"answers must come back by {link.interface}, and without a VLAN tag")
    return found
