"""A packet filter, or the reverse path filter, drops packets."""

from __future__ import annotations

from flatout.analysis.troubles import enough
from flatout.result.finding import Finding
from flatout.result.ledger import Ledger
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Drop reasons, or packets that nothing counts after they came in; and TcpExt IPReversePathFilter."""
    ledger = run.ledger
    if ledger is None:
        return None
    filtered, reverse = ledger.count("firewall"), ledger.count("reverse_path")
    if not enough(filtered + reverse, run):
        return None
    lines = [line for line in ledger.lines if line.place in ("firewall", "reverse_path") and line.count]
    if reverse > filtered:
        sentence = f"The reverse path filter of {lines[0].where} dropped {reverse:,} packets: no route leads back."
        remedy = "a route to the sources, or net.ipv4.conf.*.rp_filter = 2 or 0"
    else:
        where = max(lines, key=lambda line: line.count or 0).where
        sentence = f"A packet filter of {where} dropped {filtered:,} packets.{_busiest(ledger)}"
        remedy = "look at the rules and their counters (nft list ruleset, iptables -nvL)"
    return Finding(
        name="firewall" if filtered >= reverse else "reverse path filter",
        sentence=sentence,
        evidence=[f"{line.where}: {line.counted or line.count:,} {line.source}" for line in lines] + _rules(ledger),
        remedy=remedy,
        # Without drop reasons a filter is inferred.
        confidence="high" if reverse > filtered or all("kfree_skb" in line.source for line in lines) else "medium",
        explains=ledger.lost_at("firewall") + ledger.lost_at("reverse_path"),
    )


def _counted(ledger: Ledger) -> dict[str, int]:
    """What rules that drop have counted since before the warm-up, the busiest first."""
    found = {}
    for name, number in ledger.counters.items():
        rule = name.removeprefix("target.")
        if rule.startswith("nft."):
            found[f"{rule.removeprefix('nft.')} of {'this host' if rule == name else 'the target'}"] = number
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _busiest(ledger: Ledger) -> str:
    rule = next(iter(_counted(ledger)), "")
    return f" The rule that dropped most is {rule}." if rule else ""


def _rules(ledger: Ledger) -> list[str]:
    return [f"nft counter of {rule}: {number:,} packets" for rule, number in _counted(ledger).items()][:5]
