"""`load ntp` and `limit ntp` over veth between two namespaces, IPv4 and IPv6. Needs root and iproute2.

Usage: python bench/veth.py [--rounds 7] --out DIR
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from peers import ASKER, SERVER, process
from record import Record, spread

FLATOUT = [sys.executable, "-m", "flatout"]
TARGETS = {"IPv4": "10.77.0.2:1123", "IPv6": "[fd77::2]:1123"}


def ip(*words: str) -> None:
    """Runs ip."""
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def namespaces() -> Iterator[tuple[str, str]]:
    """Two namespaces of our own, joined by veth, with addresses of both families."""
    names = (f"flatout-a{os.getpid()}", f"flatout-b{os.getpid()}")
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "va", "netns", names[0], "type", "veth", "peer", "vb", "netns", names[1])
        for name, device, number in ((names[0], "va", 1), (names[1], "vb", 2)):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", device)
            ip("-n", name, "addr", "add", f"fd77::{number}/64", "dev", device, "nodad")
            ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def inside(name: str, *words: str) -> list[str]:
    """A command of flatout inside a namespace."""
    return ["ip", "netns", "exec", name, *FLATOUT, *words]


def run(name: str, *words: str) -> dict[str, object]:
    """The result of a command inside a namespace."""
    command = inside(name, *words, "--cpus", str(ASKER), "--json", "-", "--quiet")
    found = subprocess.run(command, capture_output=True, check=False)
    result: dict[str, object] = json.loads(found.stdout)
    return result


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.out, "veth")
    with namespaces() as (asking, serving):
        serve = inside(serving, "serve", "ntp", "--listen", "[::]:1123", "--quiet", "--cpus", str(SERVER))
        with process(serve, SERVER):
            time.sleep(0.7)
            for number in range(arguments.rounds):
                for family, target in TARGETS.items():
                    found = run(asking, "limit", "ntp", target, "--loss", "0.5%", "--budget", "12s")
                    limit = found["limit"]
                    assert isinstance(limit, dict)
                    value, by = limit["value"] or 0, limit["stopped_by"]
                    record.add(
                        round=number, family=family, value_per_s=value, stopped_by=by, sentence=found["sentence"]
                    )
    text = [
        f"- {family}: {spread(record.values('value_per_s', family=family), 0)}/s held at a loss of at most 0.5 %"
        for family in TARGETS
    ]
    record.finish(text)


if __name__ == "__main__":
    main()
