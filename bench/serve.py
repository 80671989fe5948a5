"""Servers under the same asker, in turn: the kernel's ceiling, one chronyd, `flatout serve ntp`.

Each round finds for each server the most answers per second over a climb of rates, asked over 64 flows without GSO. All
answer on the last CPU, the asker is on the first. Usage: python bench/serve.py --ceiling PATH [--rounds 7] [--out DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from peers import ask, ceiling, chronyd, ours
from record import Record, ratios, spread

RATES = [180e3, 210e3, 240e3, 270e3, 300e3, 330e3, 360e3, 400e3, 450e3]


def most_answers(target: str) -> tuple[float, float]:
    """The most answers per second that came back, right or not, and the rate asked for then.

    The ceiling does not copy the origin stamp, so its answers count as invalid; they came back all the same.
    """
    best = (0.0, 0.0)
    for rate in RATES:
        result = ask(target, rate)
        outcomes = result.outcomes
        answers = (outcomes.answered + outcomes.late + outcomes.invalid) / result.duration_s
        best = max(best, (answers, rate))
        if answers < 0.8 * best[0]:
            break
    return best


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ceiling", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.out, "serve")
    servers = {
        "ceiling stamp pktinfo": lambda: ceiling(arguments.ceiling, "stamp", "pktinfo"),
        "chronyd": chronyd,
        "flatout": ours,
    }
    for number in range(arguments.rounds):
        for name, server in servers.items():
            with server() as target:
                answers, rate = most_answers(target)
            record.add(round=number, server=name, answers_per_s=round(answers), asked_per_s=round(rate))
    found = {name: record.values("answers_per_s", server=name) for name in servers}
    text = [f"- {name}: {spread(values, 0)} answers/s" for name, values in found.items()]
    for other in ("ceiling stamp pktinfo", "chronyd"):
        text.append(f"- flatout / {other}, round by round: {spread(ratios(found['flatout'], found[other]))}")
    text.append("- chronyd's configuration: `local stratum 10`, `noclientlog`, `cmdport 0`, one instance with `-x`")
    record.finish(text)


if __name__ == "__main__":
    main()
