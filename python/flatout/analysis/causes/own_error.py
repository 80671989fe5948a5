"""The generator's host refuses to send: a rule of its own packet filter (EPERM), a message too long (EMSGSIZE)."""

from __future__ import annotations

from flatout.analysis.troubles import many
from flatout.result.finding import Finding
from flatout.result.model import LoadResult
from flatout.result.thresholds import too_many

_CALL = "sendmsg: "
# What the kernel says, and what it means for a send call.
_REMEDIES = {
    "Operation not permitted": "look at the rules for what leaves this host (nft list ruleset, hook output; "
    "iptables -nvL OUTPUT) and at BPF programs of its control group (bpftool cgroup tree)",
    "Message too long": "shorter messages, or a larger MTU on the way (ip link)",
    "Network is unreachable": "a route to the target: ip route get ADDRESS",
    "No route to host": "a route to the target and its hardware address: ip route get ADDRESS, ip neighbour",
    "Network is down": "the device towards the target: ip link",
    "Invalid argument": "the target's address and the sources (--sources)",
}


def find(run: LoadResult) -> Finding | None:
    """Send calls that failed, with the kernel's words for the first of them."""
    ledger = run.ledger
    failed = ledger.count("own_error") if ledger else 0
    if not too_many(failed, run.outcomes.planned):
        return None
    said = [warning.removeprefix(_CALL) for warning in run.warnings if warning.startswith(_CALL)]
    why = f": {said[0]}" if said else ""
    return Finding(
        name="send errors",
        sentence=f"This host refused to send {many(run, failed)}{why}.",
        evidence=[f"sendmsg failed {failed:,} times", *(f"the kernel's words: {text}" for text in said)],
        remedy=_REMEDIES.get("".join(said[:1]), "look up what the error means for sendmsg (man 2 send, man 7 ip)"),
        confidence="high",
        explains=failed,
    )
