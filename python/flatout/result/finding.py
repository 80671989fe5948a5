"""The type of a finding: a named cause of what a run lost or could not send."""

from __future__ import annotations

from typing import Literal

import msgspec

Confidence = Literal["high", "medium", "low"]

# The names of those about a generator's own host.
OF_GENERATOR = frozenset(
    {
        "generator",
        "other programs",
        "generator's receive buffer",
        "steal",
        "CPU quota",
        "ephemeral ports",
        "descriptors",
        "send errors",
        "send queue",
        "full slots",
    }
)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A cause: `sentence` says it in plain words with its numbers, `remedy` what helps.

    `evidence` are the numbers and their sources. `explains` is how many requests it accounts for; 0 where it made the
    run slow, or kept connections waiting, without a number of requests.
    """

    name: str
    sentence: str
    evidence: list[str]
    remedy: str
    confidence: Confidence
    explains: int = 0


class Improvement(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that `limit --improve` changed, and what became of the limit.

    `finding` named it; `setting` is empty where what helps is none, and `why` has it. `before` and `tried` are its
    values, of each of `keys`. The limits are in the search's unit; `limit_after` is null where it was not measured.
    `kept`: the limit rose, and its load failed again without the change, so it stayed for the next step; `undone`: it
    is as before now; `interrupted`: what came after it was. `why` says what was decided, or why it was not tried.
    """

    finding: str
    setting: str
    keys: list[str] = []
    before: str = ""
    tried: str = ""
    risk: str = ""
    limit_before: float | None = None
    limit_after: float | None = None
    gain: float | None = None
    kept: bool = False
    undone: bool = False
    interrupted: bool = False
    why: str = ""
