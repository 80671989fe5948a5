"""A small authoritative game server in plain NumPy: takes in updates, keeps each player's latest, sends snapshots.

python examples/game_server/server.py [--listen 127.0.0.1:31234] [--players 100k] [--tick 20] [--for 60]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import flatout
from command import run, several
from flatout import units
from world import SIZE, SPECTATOR, UPDATE, snapshots

# A straggler is no more than so many numbers behind; what is further behind comes from a player that began again,
_STRAGGLERS = 64
# and so does whatever comes from one of whom nothing new was heard for so long.
_SILENT_S = 1.0
# Spectators ask each second, of which two may be lost; a datagram in somebody else's name costs that one no more.
_WATCHES_S = 3.0


class Game:
    """The latest of each player, and who wants to see it. Times are of a clock that only rises."""

    def __init__(self, most_players: int) -> None:
        self.state = np.zeros(most_players, UPDATE)
        self.known = np.zeros(most_players, bool)
        self.heard = np.zeros(most_players)
        self.spectators: dict[int, float] = {}
        self.refused = self.stale = 0
        self.tick = 0

    def ingest(self, batch: flatout.Batch, now: float) -> None:
        """A batch of updates: of each player the last one counts, unless it is a straggler."""
        ids = batch["id"]
        watching = ids == SPECTATOR
        if watching.any():
            self.spectators |= dict.fromkeys(batch.sender[watching].tolist(), now)
        inside = (batch["x"] >= 0) & (batch["x"] <= SIZE) & (batch["y"] >= 0) & (batch["y"] <= SIZE)
        fair = inside & (ids < len(self.state))
        self.refused += int(np.count_nonzero(~fair & ~watching))
        updates = np.asarray(batch)[fair]
        ids = updates["id"]
        # Numbers wrap: what lies less than half the way behind is older.
        ahead = (updates["seq"] - self.state["seq"][ids]).astype("i4")
        restarted = ~self.known[ids] | (ahead < -_STRAGGLERS) | (now - self.heard[ids] > _SILENT_S)
        taken = (ahead > 0) | restarted
        self.stale += int(np.count_nonzero(~taken))
        ids, updates = ids[taken], updates[taken]
        self.state[ids] = updates
        self.known[ids], self.heard[ids] = True, now

    def broadcast(self, receiver: flatout.Receiver, now: float) -> int:
        """The world to all who asked for it lately; returns how many datagrams left."""
        self.tick += 1
        self.spectators = {number: asked for number, asked in self.spectators.items() if now - asked <= _WATCHES_S}
        to = np.fromiter(self.spectators, "u4", len(self.spectators))
        if not len(to):
            return 0
        return sum(receiver.send(part, to) for part in snapshots(self.tick, np.flatnonzero(self.known), self.state))


def play(game: Game, receiver: flatout.Receiver, tick_s: float, seconds: float) -> int:
    """Plays for so long; returns how many snapshot datagrams left."""
    began, reported = time.monotonic(), 0
    left = 0
    while (now := time.monotonic() - began) < seconds:
        batch = receiver.take(max((game.tick + 1) * tick_s - now, 0.0))
        if batch is not None:
            game.ingest(batch, time.monotonic())
        if time.monotonic() - began >= (game.tick + 1) * tick_s:
            left += game.broadcast(receiver, time.monotonic())
        if now >= reported + 1:
            reported += 1
            tell(game, receiver)
    return left


def tell(game: Game, receiver: flatout.Receiver) -> None:
    """One line of what came."""
    stats = receiver.stats()
    print(
        f"tick {game.tick:,}: {np.count_nonzero(game.known):,} players, {stats['parsed']:,} updates, "
        f"{stats['missing']:,} lost on the way, {stats['queue']['dropped']:,} dropped here, "
        f"{game.refused:,} against the rules, {game.stale:,} too late, {len(game.spectators)} watching",
        flush=True,
    )


def main() -> None:
    """Serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:31234")
    parser.add_argument("--players", type=several, default=100_000, help="the highest id, and one")
    parser.add_argument("--tick", type=units.rate, default=20.0, help="snapshots a second")
    parser.add_argument("--for", dest="seconds", type=units.duration, default=60.0)
    arguments = parser.parse_args()
    game = Game(arguments.players)
    with flatout.Receiver(arguments.listen, UPDATE, counters=True) as receiver:
        print(f"game server on {receiver.address}", flush=True)
        try:
            play(game, receiver, 1 / arguments.tick, arguments.seconds)
        except KeyboardInterrupt:
            print("stopped")
        tell(game, receiver)


if __name__ == "__main__":
    run(main)
