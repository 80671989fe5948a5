"""Sends records flat out for some seconds: the one feeder of all receivers in bench/records.py.

python bench/feed.py TARGET --seconds 4 [--gso] [--cpu 0]; prints how many left, as `sent N seconds S`.
Records are those of flatout's default layout, of 8,192 players over one socket, their numbers in sequence.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

import flatout
from peers import ASKER

RECORD = np.dtype([("id", "<u4"), ("seq", "<u4"), ("sent", "<u8"), ("x", "<f4"), ("y", "<f4")])
PLAYERS, AHEAD = 8192, 1


def main() -> None:
    """Sends until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--gso", action="store_true")
    parser.add_argument("--cpu", type=int, default=ASKER)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {arguments.cpu})
    records = np.zeros(PLAYERS * AHEAD, RECORD)
    records["id"] = np.arange(len(records)) % PLAYERS
    records["seq"] = np.arange(len(records)) // PLAYERS
    # Once, for a time in each would cost the feeder much; so delays grow, and are recorded all the same.
    records["sent"] = time.time_ns()
    with flatout.Sender(arguments.target, RECORD, gso=arguments.gso) as sender:
        began = time.monotonic()
        while (taken := time.monotonic() - began) < arguments.seconds:
            sender.send(records)
            records["seq"] += AHEAD
        print(f"sent {sender.sent} seconds {taken:.3f}")


if __name__ == "__main__":
    main()
