"""Whether both paths of `flatout serve ntp --xdp native` give the same time: one client, one server, by turns.

Over veth between two namespaces, which share one clock, at a light load. A plain request is answered in the driver, and
one with an extension field by the sockets. The client's times are the kernel's software stamps, of a request when veth
takes it and of an answer when it is received; beside that the client's own clock before its call. The offset is
((T2 + T3) - (T1 + T4)) / 2; as all share one clock, it is the error of the stamps and half the asymmetry of the way.
T2 - T1 and T4 - T3 cannot be negative by right: the least of each bounds the error of the clock that a path reads.
Needs root. Usage: python bench/xdp_offset.py [--rounds 7] [--rate 1000] [--seconds 4] --out DIR
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ntp_offset import TARGET
from peers import ASKER
from record import Record, spread
from xdp_answers import by_driver
from xdp_pair import ADDRESS, PORT, VB, asker, flatout, pair

UNIX_EPOCH = 2_208_988_800
# SOF_TIMESTAMPING_: TX_SOFTWARE, RX_SOFTWARE, SOFTWARE, OPT_TSONLY; the socket option and CLONE_NEWNET.
STAMPS, SO_TIMESTAMPING, NEWNET = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 11, 37, 0x40000000
PLAIN = bytes([4 << 3 | 3, 0, 6]) + bytes(37)
FIELD = struct.pack("!HH", 0x104F, 28) + bytes(24)
PATHS = {"driver": b"", "sockets": FIELD}
WANTED_US = 1.0


class Exchange(NamedTuple):
    """The four times, Unix ns, and when the client was about to ask."""

    called: int
    t1: int
    t2: int
    t3: int
    t4: int


def stamp(control: list[tuple[int, int, bytes]]) -> int:
    """The kernel's software stamp; 0: there is none."""
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPING):
            seconds, ns = struct.unpack_from("qq", data)
            return int(seconds) * 1_000_000_000 + int(ns)
    return 0


def unix_ns(answer: bytes, at: int) -> int:
    """A time of an answer."""
    seconds, fraction = struct.unpack_from("!II", answer, at)
    return int((seconds - UNIX_EPOCH) * 1_000_000_000 + (fraction * 1_000_000_000 >> 32))


def exchange(client: socket.socket, field: bytes) -> Exchange | None:
    """One request and its answer; None: it was lost, or has no stamps."""
    mark = os.urandom(8)
    called = time.time_ns()
    client.send(PLAIN + mark + field)
    try:
        answer, control, _, _ = client.recvmsg(256, 512)
        _, sent, _, _ = client.recvmsg(256, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except (BlockingIOError, TimeoutError):
        return None
    t1, t4 = stamp(sent), stamp(control)
    if not t1 or not t4 or answer[24:32] != mark:
        return None
    return Exchange(called, t1, unix_ns(answer, 32), unix_ns(answer, 40), t4)


def client(namespace: str, rate: float, seconds: float) -> dict[str, list[Exchange]]:
    """Asks by turns from the namespace: in a process of its own, which enters it."""
    words = [sys.executable, __file__, "--inside", namespace, "--rate", f"{rate}", "--seconds", f"{seconds}"]
    done = subprocess.run(["taskset", "-c", str(ASKER), *words], capture_output=True, text=True, check=True)
    return {path: [Exchange(*each) for each in found] for path, found in json.loads(done.stdout).items()}


def inside(namespace: str, rate: float, seconds: float) -> None:
    """The client's process."""
    with open(f"/run/netns/{namespace}", "rb") as entered:
        if ctypes.CDLL(None, use_errno=True).setns(entered.fileno(), NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    found: dict[str, list[Exchange]] = {path: [] for path in PATHS}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, STAMPS)
        asking.settimeout(0.5)
        asking.connect((ADDRESS, int(PORT)))
        began, number = time.monotonic(), 0
        while (now := time.monotonic()) < began + seconds:
            number += 1
            time.sleep(max(0.0, began + number / rate - now))
            path = ("driver", "sockets")[number % 2]
            if (seen := exchange(asking, PATHS[path])) is not None and number > 0.1 * rate:
                found[path].append(seen)
    print(json.dumps(found))


def errors(path: str, found: list[Exchange]) -> dict[str, object]:
    """What is kept of a path's exchanges, in ns: offsets by the kernel's stamps and by the client's own clock."""
    kernel = [((one.t2 + one.t3) - (one.t1 + one.t4)) / 2 for one in found]
    own = [((one.t2 + one.t3) - (one.called + one.t4)) / 2 for one in found]
    forth, back = sorted(one.t2 - one.t1 for one in found), sorted(one.t4 - one.t3 for one in found)
    return {
        "path": path,
        "exchanges": len(found),
        "mean": round(statistics.mean(kernel), 1),
        "p50": round(statistics.median(kernel), 1),
        "own_clock_mean": round(statistics.mean(own), 1),
        "own_clock_p50": round(statistics.median(own), 1),
        "forth_min": forth[0],
        "forth_p50": forth[len(forth) // 2],
        "back_min": back[0],
        "back_p50": back[len(back) // 2],
        "backwards": sum(one.t3 < one.t2 for one in found),
        "served_p50": round(statistics.median(one.t3 - one.t2 for one in found)),
    }


@contextlib.contextmanager
def quiet_pair() -> Iterator[tuple[str, Path]]:
    """The asking namespace and the server's control socket. The asker's device has a program, as native mode needs."""
    with (
        pair(threaded=False) as made,
        asker(made, port="0"),
        flatout(made, "--xdp", "native", "--interface", VB) as control,
    ):
        yield made.asking, control


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.inside:
        inside(arguments.inside, arguments.rate, arguments.seconds)
        return
    record = Record(arguments.out, "xdp_offset")
    with quiet_pair() as (asking, control):
        for number in range(arguments.rounds):
            for path, found in client(asking, arguments.rate, arguments.seconds).items():
                record.add(round=number, **errors(path, found))
        share = by_driver(control)
    record.finish(_found(record, share))


def _found(record: Record, share: float | str) -> list[str]:
    lines = ["| | driver, ns | sockets, ns |", "| --- | --- | --- |"]
    names = {
        "mean": "offset, mean of a round",
        "p50": "offset, p50",
        "own_clock_mean": "offset by the client's own clock, mean",
        "own_clock_p50": "offset by the client's own clock, p50",
        "forth_min": "T2 - T1, least",
        "forth_p50": "T2 - T1, p50",
        "back_min": "T4 - T3, least",
        "back_p50": "T4 - T3, p50",
        "served_p50": "T3 - T2, p50",
        "backwards": "T3 before T2",
    }
    for column, text in names.items():
        cells = [spread(record.values(column, path=path), 0) for path in PATHS]
        lines.append(f"| {text} | {' | '.join(cells)} |")
    lines.append("")
    for column in ("mean", "p50"):
        both = zip(*(record.values(column, path=path) for path in PATHS), strict=True)
        apart = [(driver - sockets) / 1e3 for driver, sockets in both]
        reached = "reached" if abs(statistics.median(apart)) <= WANTED_US else "**missed**"
        wanted = f"wanted within {WANTED_US:g}: {reached}"
        lines.append(f"- driver less sockets, {column} round by round: {spread(apart, 3)} µs; {wanted}")
    least = {name: min(record.values(name, path="driver")) for name in ("forth_min", "back_min")}
    return [
        *lines,
        f"- the driver's clock is between {-least['back_min']:.0f} and {least['forth_min']:.0f} ns off the kernel's: "
        "it cannot be off by more than the shortest ways allow",
        f"- {share} of the answers were the driver's, by the server's statistics; the target is {TARGET}",
    ]


if __name__ == "__main__":
    main()
