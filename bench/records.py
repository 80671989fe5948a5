"""Receivers of records on one CPU, fed from the other: tokio, the kernel's ceiling, flatout; and a consumer in NumPy.

In turn, round by round:
- the seed's server for tokio 1.x (bench/tokio_server) and flatout's receiver with its own handler, both fed by
  bench/feed.py with GSO;
- `ceiling oneway touch` (which brings its own sender) and flatout, each plain, with GSO, with GSO and GRO;
- flatout with a consumer in Python that folds each batch into the latest state of 8,192 players, in the same process
  and on the same CPU.

Counted is what the handler got in the seconds that lay wholly within the feeding, and what was sent meanwhile: where
both are about the same, the sender is what ended the climb. Usage:
python bench/records.py --ceiling PATH [--tokio PATH] [--ways plain gso "gso gro"] [--rounds 7] --out DIR
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from peers import SERVER, free_port
from record import Record, ratios, spread

WAYS = {"plain": [], "gso": ["gso"], "gso gro": ["gso", "gro"]}
SIZE = 24
FEED_S = 5.0
HERE = Path(__file__).parent
WORD = re.compile(r"(\w+) ([\d.]+)")


# Records a second: handled, and sent.
Flow = tuple[float, float]


def fed(receiver: list[str], port: int, *, gso: bool) -> Flow:
    """What the receiver handled while it was fed."""
    pinned = ["taskset", "-c", str(SERVER), *receiver]
    with subprocess.Popen(pinned, stdout=subprocess.PIPE, text=True) as running:
        # All receivers print a line as soon as they listen.
        ready = running.stdout.readline() if running.stdout else ""
        feed = [sys.executable, str(HERE / "feed.py"), f"127.0.0.1:{port}", "--seconds", str(FEED_S)]
        command = [*feed, *(["--gso"] if gso else [])]
        sender = words(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        running.terminate()
        out = ready + running.communicate()[0]
    return per_s([words(line) for line in out.splitlines()]), sender["sent"] / sender["seconds"]


def words(line: str) -> dict[str, float]:
    """A line's words and the numbers that follow them."""
    return {name: float(number) for name, number in WORD.findall(line)}


def per_s(lines: list[dict[str, float]], word: str = "handled") -> float:
    """What a word rose by a second, over all seconds that lay wholly within the feeding."""
    at = [line.get("at", float(number)) for number, line in enumerate(lines)]
    counts = [line[word] for line in lines]
    fed = [n for n in range(1, len(counts)) if counts[n] > counts[n - 1]]
    if len(fed) < 4:
        raise SystemExit(f"fed for less than two whole seconds: {lines}")
    first, last = fed[0], fed[-1] - 1
    return (counts[last] - counts[first]) / (at[last] - at[first])


def tokio(path: str) -> Flow:
    """The seed's server for tokio 1.x."""
    port = free_port()
    return fed([path, f"127.0.0.1:{port}"], port, gso=True)


def ours(way: str, *, fold: bool = False) -> Flow:
    """The receiver of flatout."""
    port = free_port()
    options = [*(["--gro"] if "gro" in WAYS[way] else []), *(["--fold"] if fold else [])]
    command = [sys.executable, str(HERE / "take.py"), f"127.0.0.1:{port}", "--seconds", str(FEED_S + 2), *options]
    return fed(command, port, gso="gso" in WAYS[way])


def ceiling(path: str, way: str) -> Flow:
    """The least code that moves datagrams and touches each."""
    command = [path, "oneway", "touch", *WAYS[way], f"size={SIZE}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = words(out)
    return found["received"] * 1e6, found["sent"] * 1e6


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ceiling", required=True)
    parser.add_argument("--tokio", help="bench/tokio_server, built with --release; left out where it is absent")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.out, "records")

    def add(number: int, way: str, receiver: str, flow: Flow) -> None:
        record.add(round=number, way=way, receiver=receiver, per_s=round(flow[0]), sent_per_s=round(flow[1]))

    for number in range(arguments.rounds):
        if arguments.tokio:
            add(number, "gso", "tokio", tokio(arguments.tokio))
        for way in arguments.ways:
            add(number, way, "ceiling", ceiling(arguments.ceiling, way))
            add(number, way, "flatout", ours(way))
            add(number, way, "flatout, NumPy", ours(way, fold=True))
    record.finish(reported(record, arguments.ways, tokio_given=bool(arguments.tokio)))


def reported(record: Record, ways: list[str], *, tokio_given: bool) -> list[str]:
    """Medians, spreads and ratios, side by side."""
    text = [f"Records of {SIZE} bytes a second that reached the handler, receiver on CPU {SERVER} alone:", ""]
    for way in ways:
        found = {
            name: record.values("per_s", way=way, receiver=name) for name in ("ceiling", "flatout", "flatout, NumPy")
        }
        text += [f"- {way}, {name}: {spread(values, 0)}" for name, values in found.items()]
        for name, values in found.items():
            sent = record.values("sent_per_s", way=way, receiver=name)
            text.append(f"- {way}, {name}, handled / sent: {spread(ratios(values, sent))}")
        text += [
            f"- {way}, {name} / ceiling: {spread(ratios(found[name], found['ceiling']))}"
            for name in ("flatout", "flatout, NumPy")
        ]
    if not tokio_given:
        return [*text, "- tokio was not given and is not compared"]
    seed = record.values("per_s", way="gso", receiver="tokio")
    mine = record.values("per_s", way="gso", receiver="flatout")
    usual = record.values("per_s", way="gso gro", receiver="flatout")
    return [
        *text,
        f"- gso, tokio: {spread(seed, 0)}",
        f"- gso, flatout / tokio: {spread(ratios(mine, seed))} without GRO, {spread(ratios(usual, seed), 1)} with it, "
        "which is flatout's default",
        "- tokio: the default multi-threaded runtime, which takes one worker for the one CPU it may use; release build "
        "with LTO; the socket's buffer is the kernel's default, as the seed's; flatout asks for more",
    ]


if __name__ == "__main__":
    main()
