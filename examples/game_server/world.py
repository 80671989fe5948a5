"""The world that server and players share: what they send each other, and how players move."""

from __future__ import annotations

import numpy as np

SIZE = 1000.0
UPDATE = np.dtype([("id", "<u4"), ("seq", "<u4"), ("sent", "<u8"), ("x", "<f4"), ("y", "<f4")])
# A snapshot is one datagram or several of these: the tick, then where so many players are.
HEAD = np.dtype([("tick", "<u4"), ("count", "<u4")])
PLACE = np.dtype([("id", "<u4"), ("x", "<f4"), ("y", "<f4")])
PLACES_A_DATAGRAM = 100
# A wish to see the world: an update of this id, whom nobody draws.
SPECTATOR = 0xFFFFFFFF


def snapshots(tick: int, ids: np.ndarray, state: np.ndarray) -> list[np.ndarray]:
    """The places of these players, cut into datagrams that no network has to cut again."""
    datagrams = []
    for first in range(0, len(ids), PLACES_A_DATAGRAM):
        some = ids[first : first + PLACES_A_DATAGRAM]
        head = np.array([(tick, len(some))], HEAD)
        places = np.empty(len(some), PLACE)
        places["id"], places["x"], places["y"] = some, state["x"][some], state["y"][some]
        datagrams.append(np.concatenate([head.view("u1"), places.view("u1")]))
    return datagrams


def read_snapshot(datagram: bytes) -> tuple[int, np.ndarray]:
    """Tick and places of one datagram. Errors: ValueError where it is none."""
    head = np.frombuffer(datagram, HEAD, count=1)[0]
    places = np.frombuffer(datagram, PLACE, offset=HEAD.itemsize)
    if len(places) != head["count"]:
        raise ValueError("a snapshot that is not as long as it says")
    return int(head["tick"]), places


class Walkers:
    """Players that walk in curves and turn back at the world's edge."""

    def __init__(self, count: int, seed: int = 7) -> None:
        self.random = np.random.default_rng(seed)
        self.places = self.random.uniform(0.1 * SIZE, 0.9 * SIZE, (count, 2))
        self.heading = self.random.uniform(0, 2 * np.pi, count)
        self.speed = self.random.uniform(20, 80, count)

    def walk(self, seconds: float) -> None:
        """On for so long."""
        self.heading += self.random.normal(0, 2.0 * seconds, len(self.heading))
        step = np.stack([np.cos(self.heading), np.sin(self.heading)], axis=1)
        self.places += step * (self.speed * seconds)[:, None]
        outside = ((self.places < 0) | (self.places > SIZE)).any(axis=1)
        self.heading[outside] += np.pi
        np.clip(self.places, 0, SIZE, out=self.places)
