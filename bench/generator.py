"""The generator against the ceiling's server: its schedule at 150 k/s, its highest clean rate against `ceiling ask`.

Both ask `ceiling serve` on the last CPU from the first, over 64 flows, without GSO, in turn. Clean: 99.9 % of the rate
asked left, and 99.9 % of what left was answered, in one of three attempts of 1 s for either (a stall of the machine is
caught up by `ceiling ask` in a burst, while flatout leaves out what is more than 1 ms late).

Usage: python bench/generator.py --ceiling PATH [--rounds 7] --out DIR
"""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path

from peers import ASKER, ask, ceiling
from record import Record, highest, ratios, spread

RATES = [280e3 * 1.05**step for step in range(16)]
ATTEMPTS = 3
ASKED = re.compile(r"asked (\d+)/s answered (\d+)/s")


def ours_clean(target: str, rate: float) -> bool:
    """Whether flatout drove the rate and everything came back (the ceiling's answers name no request: invalid)."""
    result = ask(target, rate)
    outcomes = result.outcomes
    came = outcomes.answered + outcomes.invalid
    return outcomes.sent >= 0.999 * outcomes.planned and came >= 0.999 * outcomes.sent


def theirs_clean(path: str, target: str, rate: float) -> bool:
    """Whether `ceiling ask` drove the rate and everything came back."""
    port = target.rpartition(":")[2]
    command = [path, "ask", port, str(round(rate)), "seconds=1", "flows=64"]
    found = ASKED.search(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    asked, answered = (int(number) for number in found.groups()) if found else (0, 0)
    return asked >= 0.999 * rate and answered >= 0.999 * asked


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ceiling", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.out, "generator")
    for number in range(arguments.rounds):
        with ceiling(arguments.ceiling) as target:
            steady = ask(target, 150e3, 2.0)
            mine = highest(RATES, lambda rate, at=target: any(ours_clean(at, rate) for _ in range(ATTEMPTS)))
            theirs = highest(
                RATES, lambda rate, at=target: any(theirs_clean(arguments.ceiling, at, rate) for _ in range(ATTEMPTS))
            )
        lateness = steady.lateness_ns
        record.add(
            round=number,
            unsent=steady.outcomes.unsent,
            lost=steady.outcomes.lost,
            lateness_p99_us=lateness.p99 / 1e3 if lateness else 0.0,
            lateness_max_us=lateness.max / 1e3 if lateness else 0.0,
            stolen_s=steady.cpu_s["stolen"],
            flatout_clean_per_s=round(mine),
            ceiling_clean_per_s=round(theirs),
        )
    flatout, other = record.values("flatout_clean_per_s"), record.values("ceiling_clean_per_s")
    record.finish(
        [
            f"At 150 k/s for 2 s over 64 flows from one core (CPU {ASKER}), round by round:",
            f"- unsent: {spread(record.values('unsent'), 0)}; lost: {spread(record.values('lost'), 0)} of 300,000",
            f"- p99 of lateness: {spread(record.values('lateness_p99_us'), 1)} µs",
            f"- stolen by the hypervisor: {spread(record.values('stolen_s'), 2)} s",
            "",
            "Highest clean rate (steps of 5 %, three attempts each):",
            f"- flatout load ntp: {spread(flatout, 0)}/s; ceiling ask: {spread(other, 0)}/s",
            f"- flatout / ceiling, round by round: {spread(ratios(flatout, other))}",
        ]
    )


if __name__ == "__main__":
    main()
