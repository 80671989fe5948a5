"""The type of a finding: a named cause of what a run lost or could not send."""

from __future__ import annotations

from typing import Literal

import msgspec

Confidence = Literal["high", "medium", "low"]


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
