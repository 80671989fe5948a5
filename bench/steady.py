"""A long load: is memory flat? And the time from starting the command to its first request.

Usage: python bench/steady.py [--minutes 10] --out DIR
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import ASKER, ours
from record import Record, spread

FLATOUT = [sys.executable, "-m", "flatout", "load", "ntp"]


def resident(pid: int) -> int:
    """Resident memory of a process in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


def first_request_s(target: str) -> float:
    """From starting the command to the first request's due time."""
    began = time.time()
    command = [*FLATOUT, target, "--rate", "1k", "--for", "200ms", "--warmup", "0s", "--json", "-", "--quiet"]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return datetime.datetime.fromisoformat(found["started_at"]).timestamp() - began


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", default="50k")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.out, "steady")
    with ours() as target, tempfile.TemporaryDirectory() as folder:
        starts = [first_request_s(target) for _ in range(7)]
        path = Path(folder, "result.json")
        seconds = arguments.minutes * 60
        command = [*FLATOUT, target, "--rate", arguments.rate, "--for", f"{seconds:.0f}s", "--cpus", str(ASKER)]
        began = time.monotonic()
        with subprocess.Popen([*command, "--json", str(path), "--quiet"]) as load:
            while load.poll() is None:
                time.sleep(min(20.0, seconds / 10))
                if load.poll() is None:
                    record.add(t_s=round(time.monotonic() - began), resident_kib=resident(load.pid))
        result = json.loads(path.read_text(encoding="utf-8"))
    kept = record.values("resident_kib")
    outcomes = result["outcomes"]
    record.finish(
        [
            f"- {arguments.rate}/s for {arguments.minutes:g} min: verdict {result['verdict']}, {outcomes}",
            f"- resident memory: first {kept[0]:,.0f} KiB, last {kept[-1]:,.0f} KiB, greatest {max(kept):,.0f} KiB",
            f"- from starting the command to its first request: {spread(starts)} s",
        ]
    )


if __name__ == "__main__":
    main()
