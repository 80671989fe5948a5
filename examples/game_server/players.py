"""Players that walk about and say so, from one process.

python examples/game_server/players.py [--target 127.0.0.1:31234] [--players 2k] [--rate 20] [--for 10]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import flatout
from command import run, several
from flatout import units
from world import UPDATE, Walkers


def walk(target: str, players: int, per_s: float, seconds: float) -> int:
    """Walks for so long or until Ctrl-C, each player sending so often a second; returns how many updates left."""
    walkers = Walkers(players)
    updates = np.zeros(players, UPDATE)
    updates["id"] = np.arange(players)
    with flatout.Sender(target, UPDATE, flows=min(players, 64)) as sender:
        began, ticks = time.monotonic(), round(seconds * per_s)
        try:
            for tick in range(ticks):
                walkers.walk(1 / per_s)
                updates["seq"], updates["sent"] = tick, time.time_ns()
                updates["x"], updates["y"] = walkers.places.T
                sender.send(updates)
                time.sleep(max(began + (tick + 1) / per_s - time.monotonic(), 0.0))
        except KeyboardInterrupt:
            print("stopped")
        return sender.sent


def main() -> None:
    """Walks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="127.0.0.1:31234")
    parser.add_argument("--players", type=several, default=2000)
    parser.add_argument("--rate", type=units.rate, default=20.0, help="updates of each player a second")
    parser.add_argument("--for", dest="seconds", type=units.duration, default=10.0)
    arguments = parser.parse_args()
    sent = walk(arguments.target, arguments.players, arguments.rate, arguments.seconds)
    print(f"{arguments.players:,} players sent {sent:,} updates")


if __name__ == "__main__":
    run(main)
