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
        str | None,
        Parameter(
            group=SENDERS,
            help="Senders, e.g. 10k: each has an identity and numbers its messages. [one for each of --threads]",
        ),
    ] = None
    spread: Annotated[
        str,
        Parameter(
            group=SENDERS,
            help="Each sender sends once a tick (players / rate), at moments spread over this share of it: 0% is all "
            "at once.",
        ),
    ] = "100%"

    def options(self) -> LoadOptions:
        """As keyword arguments of the Python API."""
        given: LoadOptions = {"spread": self.spread}
        if self.players is not None:
            given["senders"] = self.players
        return given


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
        senders = units.count(casting.players or "0")
        if senders < 1:
            raise UsageError("--tick is the rate of each player: say how many --players there are")
        return repr(senders * units.rate(self.tick))
