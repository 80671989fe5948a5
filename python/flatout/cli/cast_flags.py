"""What may be typed of messages that go one way: who sends them, and when. For protocols that have such messages.

What the flags mean is in scenario; no protocol is named here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

from flatout import units
from flatout.errors import UsageError
from flatout.options import LoadOptions

SENDERS = Group("Who sends", sort_key=1)


@dataclass
class Casting:
    """The senders of a one-way load."""

    players: Annotated[
        str, Parameter(group=SENDERS, help="Senders, e.g. 10k: each has an identity and numbers its messages.")
    ] = "1"
    spread: Annotated[
        str,
        Parameter(
            group=SENDERS,
            help="Each sender sends once a tick (players / rate), at moments spread over this share of it: 0% is all "
            "at once.",
        ),
    ] = "100%"

    @property
    def senders(self) -> int:
        """How many there are."""
        return units.count(self.players)

    def options(self) -> LoadOptions:
        """As keyword arguments of the Python API."""
        return {"senders": self.senders, "spread": self.spread}


@dataclass
class Ticking:
    """Their pace."""

    tick: Annotated[
        str | None, Parameter(group=SENDERS, help="Messages per second of each player, in place of --rate, e.g. 20.")
    ] = None

    def rate(self, casting: Casting) -> str | None:
        """The rate of all senders together, as text."""
        if self.tick is None:
            return None
        senders = casting.senders
        if senders < 1:
            raise UsageError(f"--players {casting.players}: give 1 or more")
        return repr(senders * units.rate(self.tick))
