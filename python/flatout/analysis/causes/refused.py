"""Something refuses what reaches the target: a packet filter, or on another host perhaps a port without a program."""

from __future__ import annotations

from flatout.analysis.causes.port_closed import is_closed
from flatout.analysis.troubles import refused
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Refusals (ICMP port unreachable, resets of handshakes) that no closed port of this host explains."""
    ledger = run.ledger
    number, what = refused(run)
    if ledger is None or not number or is_closed(run):
        return None
    by = "resets" if run.connections is not None else "ICMP messages (port unreachable)"
    if ledger.sockets:
        sentence = f"{what} were refused although a program is bound to {run.scenario.target}: a packet filter says no."
        remedy = "look at the rules that reject (nft list ruleset, iptables -nvL), here and on the way"
        if run.connections is not None:
            sentence = (
                f"{what} were refused although a program listens on {run.scenario.target}: a packet filter "
                "says no, or its accept queue is full and net.ipv4.tcp_abort_on_overflow is set."
            )
    else:
        sentence = f"{run.scenario.target} refused {what}: no program is bound there, or a packet filter says no."
        remedy = "is the program running there, and on this port? (ss -tulpn there); look at the rules that reject"
    counted = ledger.count("port_closed")
    return Finding(
        name="refused",
        sentence=sentence,
        evidence=[
            f"refusals that came back, as {by}: {number:,}",
            *([f"Udp NoPorts of the target's network namespace: {counted:,}"] if counted else []),
        ],
        remedy=remedy,
        confidence="medium",
        explains=run.outcomes.refused,
    )
