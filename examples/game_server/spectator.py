"""Watches the game over the network and draws what it saw: where players are, and the way they came.

python examples/game_server/spectator.py [--server 127.0.0.1:31234] [--for 5] [--picture world.svg]
"""

from __future__ import annotations

import argparse
import re
import socket
import time
from pathlib import Path

import numpy as np

from command import run
from flatout import OutputError, UsageError, units
from world import SIZE, SPECTATOR, UPDATE, read_snapshot

_TRAIL = 60
_PIXELS = 640

# Of each tick the places of all players.
Seen = dict[int, dict[int, tuple[float, float]]]


def reach(server: str) -> socket.socket:
    """A socket that speaks to the server alone, over IPv4 where it has both. Errors: UsageError."""
    host, _, port = server.rpartition(":")
    if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise UsageError(f"server '{server}': write it like 127.0.0.1:31234 or [::1]:31234")
    try:
        family, _, _, _, address = min(socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM))
        reaching = socket.socket(family, socket.SOCK_DGRAM)
        reaching.connect(address)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"server '{server}' cannot be reached: {error}") from error
    reaching.settimeout(0.2)
    return reaching


def watch(watching: socket.socket, seconds: float) -> Seen:
    """What came in so many seconds, or until Ctrl-C."""
    seen: Seen = {}
    until, asked = time.monotonic() + seconds, 0.0
    try:
        while (now := time.monotonic()) < until:
            try:
                if now > asked + 1:
                    # Again and again: a datagram may be lost, and the server may have begun anew.
                    asked = now
                    watching.send(np.array([(SPECTATOR, 0, time.time_ns(), 0, 0)], UPDATE).tobytes())
                tick, places = read_snapshot(watching.recv(2048))
            except (TimeoutError, ConnectionRefusedError, ValueError):
                continue
            seen.setdefault(tick, {}).update(
                zip(places["id"].tolist(), zip(places["x"].tolist(), places["y"].tolist(), strict=True), strict=True)
            )
    except KeyboardInterrupt:
        print("stopped")
    return seen


def draw(seen: Seen) -> str:
    """The world as SVG: a trail and a dot a player."""
    ticks = sorted(seen)[-_TRAIL:]
    scale = _PIXELS / SIZE
    lines, dots = [], []
    # Watching may have ended in the middle of a tick's datagrams: of each player the last that was seen.
    for player in sorted({player for tick in ticks[-2:] for player in seen[tick]}):
        hue = player * 137.508 % 360
        way = [seen[tick][player] for tick in ticks if player in seen[tick]]
        x, y = way[-1]
        points = " ".join(f"{px * scale:.0f},{py * scale:.0f}" for px, py in [*way[::3], way[-1]])
        lines.append(f'<polyline points="{points}" stroke="hsl({hue:.0f} 70% 55%)"/>')
        dots.append(f'<circle cx="{x * scale:.1f}" cy="{y * scale:.1f}" r="2.2" fill="hsl({hue:.0f} 80% 60%)"/>')
    reported = f"{len(dots):,} players, tick {ticks[-1]:,}" if ticks else "nothing was seen"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_PIXELS} {_PIXELS + 24}" font-family="sans-serif">\n'
        f'<rect width="100%" height="100%" fill="#12151c"/>\n'
        f'<g fill="none" stroke-width="0.8" stroke-opacity="0.55">\n{chr(10).join(lines)}\n</g>\n'
        f"{chr(10).join(dots)}\n"
        f'<text x="8" y="{_PIXELS + 17}" fill="#c8ccd4" font-size="13">{reported}</text>\n</svg>\n'
    )


def main() -> None:
    """Watches, then draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="127.0.0.1:31234")
    parser.add_argument("--for", dest="seconds", type=units.duration, default=5.0)
    parser.add_argument("--picture", type=Path, default=Path("world.svg"))
    arguments = parser.parse_args()
    with reach(arguments.server) as watching:
        seen = watch(watching, arguments.seconds)
    try:
        arguments.picture.write_text(draw(seen), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"'{arguments.picture}' cannot be written: {error.strerror}") from error
    players = max((len(places) for places in seen.values()), default=0)
    print(f"saw {len(seen):,} ticks of {players:,} players; drawn into {arguments.picture}")


if __name__ == "__main__":
    run(main)
