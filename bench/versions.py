"""Compares the speed of two versions of flatout, in turn, round by round.

Each version is named by the Python interpreter that it is installed for. Figures are those of bench/figures.py; the
ratio of each round is after / before. Usage:
python bench/versions.py --before PYTHON --after PYTHON --ceiling PATH [--rounds 7] --out DIR
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

from record import Record, ratios, spread

FIGURES = Path(__file__).with_name("figures.py")


def measured(python: str, ceiling: str) -> dict[str, float]:
    """The figures of one version."""
    command = [python, str(FIGURES), "--ceiling", ceiling]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", required=True)
    parser.add_argument("--after", required=True)
    parser.add_argument("--ceiling", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.out, "versions")
    versions = {"before": arguments.before, "after": arguments.after}
    for number in range(arguments.rounds):
        for name, python in versions.items():
            record.add(round=number, version=name, **measured(python, arguments.ceiling))
    lines = ["| figure | before | after | after / before |", "| --- | --- | --- | --- |"]
    for figure in list(record.rows[0])[2:]:
        before, after = (record.values(figure, version=name) for name in versions)
        lines.append(f"| {figure} | {spread(before, 1)} | {spread(after, 1)} | {spread(ratios(after, before))} |")
    record.finish([*lines, "", "`_ns`: CPU time per message in ns, less is better; `_per_s`: more is better."])


if __name__ == "__main__":
    main()
