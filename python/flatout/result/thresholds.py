"""Thresholds that several modules share, and their texts.

The generator drives a run only while it keeps to both: at most `UNSENT_SHARE` of the requests unsent, and 99 % of them
no later than `LATENESS_NS` after they were due; fewer than `LEAST_UNSENT` requests do not count. The engine drops a
request that it cannot send in that time.
"""

from __future__ import annotations

UNSENT_SHARE = 0.001
# In a short run a single late request is more than that share, and says nothing of what the generator can drive.
LEAST_UNSENT = 3
LATENESS_NS = 1_000_000
LATENESS_TEXT = f"{LATENESS_NS / 1e6:g} ms"
# The share of replies that may be later than the goal for p99.
LATE_SHARE = 0.01


def too_many(number: int, of: int) -> bool:
    """Whether `number` of so many requests is more than a run may leave unsent: above the share, and not just a few."""
    return number > UNSENT_SHARE * of and not just_a_few(number, of)


def just_a_few(number: int, of: int) -> bool:
    """Whether it may be one moment of a run: fewer than `LEAST_UNSENT` requests, and less than half of them."""
    return number < LEAST_UNSENT and 2 * number < of
