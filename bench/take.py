"""Receives records on one CPU and says once a second how many: what bench/records.py measures of flatout.

python bench/take.py ADDR:PORT [--gro] [--fold] [--seconds 5]; prints `received N handled N kernel_drops N` a second.
Without --fold the engine's own handler counts, as the seed's does; with it Python folds each batch into an array of
the players' latest states.
"""

from __future__ import annotations

import argparse
import os
import threading
import time

import numpy as np

import flatout
from feed import PLAYERS, RECORD
from peers import SERVER


def fold(receiver: flatout.Receiver, state: np.ndarray) -> None:
    """Keeps each player's latest record."""
    for batch in receiver:
        state[batch["id"]] = batch.view(state.dtype).view(np.ndarray)


def main() -> None:
    """Receives until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("listen")
    parser.add_argument("--gro", action="store_true")
    parser.add_argument("--fold", action="store_true")
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {SERVER})
    # Whole records are moved as bytes, which NumPy does faster than field by field.
    state = np.zeros(PLAYERS, f"V{RECORD.itemsize}")
    queue = 1 << 18
    with flatout.Receiver(arguments.listen, RECORD, gro=arguments.gro, queue=queue, linger=0.002) as receiver:
        if arguments.fold:
            threading.Thread(target=fold, args=(receiver, state), daemon=True).start()
        else:
            receiver.drain()
        began = time.monotonic()
        # The first line says that it listens.
        for second in range(round(arguments.seconds) + 1):
            time.sleep(max(began + second - time.monotonic(), 0.0))
            stats = receiver.stats()
            at = time.monotonic() - began
            counts = {"received": stats["parsed"], "handled": stats["handed_over"], "kernel": stats["kernel_drops"]}
            dropped = stats["queue"]["dropped"]
            print(
                f"at {at:.4f}", *(f"{name} {count}" for name, count in counts.items()), f"dropped {dropped}", flush=True
            )


if __name__ == "__main__":
    main()
