"""The part of one of several nodes: whole numbers divided so that the parts of all nodes add up. Pure.

A node is (i, n). Where nodes are unequal, a share is (units of the nodes before, its own, of all).
"""

from __future__ import annotations

import re
from typing import Any

from flatout.errors import UsageError

Node = tuple[int, int]
Share = tuple[int, int, int]
# More than enough for load generators that are started by hand.
_MOST_NODES = 10_000


def parse(text: str) -> Node:
    """A node from text: `2/3` is the second of three."""
    found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text, re.ASCII)
    if not found:
        raise UsageError(f"node '{text}': write it like 2/3, the second of three")
    return check((int(found[1]), int(found[2])))


def check(node: Any) -> Node:
    """The node itself, if it makes sense."""
    index, of = node
    if not 1 <= index <= of <= _MOST_NODES:
        raise UsageError(f"node {index}/{of}: count from 1 to the number of nodes (at most {_MOST_NODES:,})")
    return index, of


def check_share(share: Any) -> Share:
    """The share itself, if it makes sense."""
    before, mine, total = share
    if not 0 <= before < before + mine <= total:
        raise UsageError(f"share {mine} of {total} after {before}: give at least one unit, and no more than there are")
    return before, mine, total


def fraction(node: Node | None, share: Share | None) -> float:
    """The share of a node in the whole."""
    if share is not None:
        return share[1] / share[2]
    return 1 / node[1] if node else 1.0


def part(total: int, node: Node | None, share: Share | None = None) -> int:
    """Give a node's part of `total`; of equal nodes the first ones take one more where it does not divide."""
    if share is not None:
        before, mine, units = share
        return total * (before + mine) // units - total * before // units
    if node is None:
        return total
    index, of = node
    return total // of + (index <= total % of)
