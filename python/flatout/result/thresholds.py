"""Thresholds that several modules share, and their texts.

The generator drives a run only while it keeps to both: at most `UNSENT_SHARE` of the requests unsent, and 99 % of them
no later than `LATENESS_NS` after they were due. The engine drops a request that it cannot send in that time.
"""

from __future__ import annotations

UNSENT_SHARE = 0.001
LATENESS_NS = 1_000_000
LATENESS_TEXT = f"{LATENESS_NS / 1e6:g} ms"
# The share of replies that may be later than the goal for p99.
LATE_SHARE = 0.01
