"""How a load is spoken of: requests that a server answers, or messages that a receiver takes in.

The one place that chooses these words for all texts. The names of outcomes and
fields are the contract's, and stand in `result`.
"""

from __future__ import annotations

from typing import NamedTuple


class Wording(NamedTuple):
    """`one` and `many` are what is sent, `came` is what good ones did, `missed` what is said of bad ones.

    `far_end`: where it is sent. `silent`: how one begins to say that the far end is gone; `poorly`: that it does not
    do at a low rate what it did.
    """

    one: str
    many: str
    came: str
    far_end: str
    missed: str
    silent: str
    poorly: str


ANSWERED = Wording(
    one="request",
    many="requests",
    came="answered",
    far_end="server",
    missed="without a timely right answer",
    silent="The target stopped answering",
    poorly="no proper answers",
)
ONE_WAY = Wording(
    one="message",
    many="messages",
    came="received",
    far_end="receiver",
    missed="that are not received",
    silent="The receiver stopped receiving",
    poorly="too few messages arrived",
)


def wording_of(*, one_way: bool) -> Wording:
    """The words for a load; `one_way`: its messages have no replies."""
    return ONE_WAY if one_way else ANSWERED
