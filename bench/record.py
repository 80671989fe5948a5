"""Keeps a benchmark: every round into raw.csv, machine and versions and medians into README.md."""

from __future__ import annotations

import csv
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from flatout import __version__
from flatout.host import describe as host


class Record:
    """One kept run of one benchmark. Rows are written as they come, so an interrupted run keeps what it measured."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.name = name
        self.rows: list[dict[str, object]] = []
        self.began = time.time()
        self.stolen = host.stolen_s()
        self._file = (folder / f"{name}.csv").open("w", newline="", encoding="utf-8")
        self._writer: csv.DictWriter[str] | None = None

    def add(self, **row: object) -> None:
        """Keeps a row and shows it."""
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, fieldnames=list(row))
            self._writer.writeheader()
        self.rows.append(row)
        self._writer.writerow(row)
        self._file.flush()
        print("  ".join(f"{name} {_short(value)}" for name, value in row.items()), file=sys.stderr)

    def values(self, column: str, **where: object) -> list[float]:
        """A column of the rows that match."""
        rows = (row for row in self.rows if all(row[name] == value for name, value in where.items()))
        return [float(str(row[column])) for row in rows]

    def _stolen_s(self) -> float:
        return host.stolen_s() - self.stolen

    def finish(self, text: Iterable[str]) -> None:
        """Writes what was found beside the raw numbers."""
        lines = [
            f"# {self.name}",
            "",
            *text,
            "",
            f"- command: `python bench/{Path(sys.argv[0]).name} {' '.join(_plain(sys.argv[1:]))}`",
            f"- flatout {__version__}, Python {platform.python_version()}, Linux {platform.release()}, {_cpu()}",
            f"- took {time.time() - self.began:.0f} s; stolen by the hypervisor: {self._stolen_s():.2f} CPU s",
            f"- raw numbers, every round: `{self.name}.csv`",
        ]
        (self.folder / f"{self.name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print("\n".join(lines))


def spread(values: list[float], digits: int = 3) -> str:
    """Median, least and greatest, in one phrase."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f}, n={len(values)})"


def ratios(mine: list[float], others: list[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(mine, others, strict=True)]


def highest(rates: Iterable[float], clean: Callable[[float], bool]) -> float:
    """The highest of rising rates that was clean; two unclean ones in a row end the climb."""
    best, misses = 0.0, 0
    for rate in rates:
        if clean(rate):
            best, misses = rate, 0
        else:
            misses += 1
            if misses == 2:
                break
    return best


def _plain(arguments: list[str]) -> list[str]:
    """Arguments without this machine's folders."""
    return [Path(argument).name if argument.startswith("/") else argument for argument in arguments]


def _short(value: object) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _cpu() -> str:
    out = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    model = next((line.split(":", 1)[1].strip() for line in out.splitlines() if line.startswith("Model name")), "?")
    cores = next((line.split(":", 1)[1].strip() for line in out.splitlines() if line.startswith("CPU(s):")), "?")
    return f"{cores} CPUs {model}"
