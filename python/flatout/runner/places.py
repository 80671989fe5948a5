"""What one place of the ledger counted."""

from __future__ import annotations

from typing import NamedTuple

from flatout.result.ledger import Place


class Counted(NamedTuple):
    """What one place counted; None: blind."""

    place: Place
    number: int | None
    where: str
    source: str
    blind: str = ""
