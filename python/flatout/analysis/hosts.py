"""Findings about the generators of several hosts: one a cause, with the hosts that it was found at. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from flatout.result.finding import Finding
from flatout.result.model import Node

# So many hosts are named.
_NAMED = 3


def of_hosts(nodes: Sequence[Node]) -> list[Finding]:
    """What was found at each host; the sentence is that of the host where it explains most."""
    by_name: dict[str, list[tuple[Node, Finding]]] = {}
    for node in nodes:
        for finding in node.findings:
            by_name.setdefault(finding.name, []).append((node, finding))
    return [_together(found) for found in by_name.values()]


def _together(found: list[tuple[Node, Finding]]) -> Finding:
    worst = sorted(found, key=lambda pair: -pair[1].explains)
    node, most = worst[0]
    others = [_title(each) for each, _ in worst[1:_NAMED]]
    more = len(worst) - 1 - len(others)
    also = [*others, *([f"{more} more"] if more else [])]
    text = f" The same at {' and '.join([', '.join(also[:-1]), also[-1]] if len(also) > 1 else also)}." if also else ""
    return msgspec.structs.replace(
        most,
        sentence=f"{_title(node)}: {most.sentence}{text}",
        evidence=[f"{_title(each)}: {text}" for each, finding in worst[:_NAMED] for text in finding.evidence],
        explains=sum(finding.explains for _, finding in found),
    )


def _title(node: Node) -> str:
    return f"node {node.node} ({node.hostname})"
