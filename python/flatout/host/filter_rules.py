"""Reads the counters of packet filter rules that drop: `nft -j list ruleset`, where nft is installed and permitted.

iptables on nftables is seen too. A rule without a counter, or a chain's policy, counts nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flatout.host import netlink
from flatout.host.counters import Values

PREFIX = "nft."
_WAIT_S = 2.0
_ADMIN_PATH = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"


def read(net: Path) -> Values:
    """Packets by rule, such as {"nft.inet filter input handle 4": 12}; empty where they cannot be read."""
    program = shutil.which("nft") or shutil.which("nft", path=_ADMIN_PATH)
    if program is None:
        return {}

    def listed() -> str:
        command = [program, "-j", "list", "ruleset"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_WAIT_S)
        return done.stdout

    try:
        return parse(netlink.inside(net, listed))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError, AttributeError):
        # They are evidence beside what the ledger counts, and nothing is wrong without.
        return {}


def parse(text: str) -> Values:
    """The counters in what nft prints. Errors: ValueError, KeyError, TypeError, AttributeError if it is something else.

    A rule is named by its comment too, where it has one.
    """
    found: Values = {}
    for entry in json.loads(text)["nftables"]:
        rule = entry.get("rule")
        if rule is None:
            continue
        statements = list(_flat(rule.get("expr", [])))
        packets = next((each["counter"]["packets"] for each in statements if _counts(each)), None)
        if packets is not None and any("drop" in each or "reject" in each for each in statements):
            comment = f' "{rule["comment"]}"' if rule.get("comment") else ""
            name = f"{rule['family']} {rule['table']} {rule['chain']} handle {rule['handle']}{comment}"
            found[PREFIX + name] = packets
    return found


def _flat(expressions: list[Any]) -> Iterator[dict[str, Any]]:
    return (each for each in expressions if isinstance(each, dict))


def _counts(statement: dict[str, Any]) -> bool:
    """Whether it is a counter of the rule's own; a named one may count other rules' packets."""
    return isinstance(statement.get("counter"), dict)
