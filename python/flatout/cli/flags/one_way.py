"""What may be typed of messages that go one way: who sends them, and when. For protocols that have such messages.

What the flags mean is in scenario; no protocol is named here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from flatout import units
from flatout.cli.flags.shared import HOW, Asking
from flatout.protocols.base import Protocol
from flatout.scenario.build import LoadOptions

SENDERS = Group("Who sends", sort_key=1)


@dataclass
class Casting:
    """The senders of a one-way load."""

    players: Annotated[
        str | None,
        Parameter(
            group=SENDERS,
            help="Senders, e.g. 10k: each has an identity and numbers its messages. [10k, or fewer where the format "
            "tells no more apart]",
        ),
    ] = None
    spread: Annotated[
        str | None,
        Parameter(
            group=SENDERS,
            help="Each sender sends once a tick (players / rate), at moments spread over this share of it: 0% is all "
            "at once. [100%]",
        ),
    ] = None

    def options(self) -> LoadOptions:
        """As keyword arguments of the Python API."""
        given: LoadOptions = {}
        if self.spread is not None:
            given["spread"] = units.share(self.spread, may_be_all=True)
        if self.players is not None:
            given["senders"] = self.players
        return given


@dataclass
class Ticking:
    """Their pace."""

    tick: Annotated[
        str | None, Parameter(group=SENDERS, help="Messages per second of each player, in place of --rate, e.g. 20.")
    ] = None

    def options(self) -> LoadOptions:
        """As keyword arguments of the Python API."""
        return {} if self.tick is None else {"tick": self.tick}


@dataclass
class AskingOrCasting(Asking):
    """How messages are sent of which some protocols' are answered and others' are not."""

    timeout: Annotated[
        str | None,
        Parameter(group=HOW, help="Where answers come back: one later than this is late. [1s; limit: 500ms]"),
    ] = None
    warmup: Annotated[
        str | None,
        Parameter(
            group=HOW, help="Where answers come back: ask so long before counting begins. [1s; limit: 200ms a trial]"
        ),
    ] = None
    stamps: Annotated[
        Literal["kernel", "user"],
        Parameter(group=HOW, help="Where answers come back: whose clock reading tells when."),
    ] = "kernel"


def load_flags(protocol: Protocol) -> type[Asking]:
    """How to ask, told as it is for the protocol."""
    return Asking if protocol.one_way is None else AskingOrCasting


def target_help(protocol: Protocol) -> str:
    """What a target is."""
    several = "" if protocol.one_way is None else "; several, of one receiver or more, with commas between"
    return f"Name or address, with a port where it is not the protocol's own{several}."
