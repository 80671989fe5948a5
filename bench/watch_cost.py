"""What `flatout watch` costs: CPU time of its process, and run time of its BPF programs, beside a load. Needs root.

A server on the last CPU, a load on the first one, over loopback or veth; `watch` wherever the scheduler puts it. The
kernel measures programs while a descriptor of BPF_ENABLE_STATS is open; each run then costs the measurement, too,
which a program that does nothing (an attached tracepoint of `watch` without devices) does not tell apart, so the run
time is an upper bound.

Usage: python bench/watch_cost.py [--rounds 3] [--rate 100k] [--seconds 8] --out DIR
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peers import ASKER, SERVER, process
from record import Record, spread
from veth import FLATOUT, namespaces

# The bpf system call, and its command (uapi/linux/bpf.h).
_BPF = {"x86_64": 321, "aarch64": 280}
_ENABLE_STATS = 32
PORT = 1123


@contextmanager
def measured_programs() -> Iterator[None]:
    """The kernel measures all programs until the block ends; nothing else is changed on the host."""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = (ctypes.c_char * 128)()
    opened = libc.syscall(_BPF[platform.machine()], _ENABLE_STATS, attributes, 128)
    if opened < 0:
        raise SystemExit(f"BPF_ENABLE_STATS: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        os.close(opened)


def programs(pid: int) -> tuple[int, int]:
    """Runs and ns of all programs that a process holds."""
    runs, ns = 0, 0
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        fields = dict(line.split(":\t", 1) for line in entry.read_text().splitlines() if ":\t" in line)
        runs += int(fields.get("run_cnt", 0))
        ns += int(fields.get("run_time_ns", 0))
    return runs, ns


def cpu_s(pid: int) -> float:
    """CPU seconds of the threads of a process."""
    times = [(task / "schedstat").read_text().split()[0] for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(map(int, times)) / 1e9


def one_round(record: Record, path: str, options: argparse.Namespace) -> None:
    """A round: load, with a watch beside it whose cost is read at both ends of the middle."""
    with namespaces() as (left, right):
        asks, target = (right, f"127.0.0.1:{PORT}") if path == "loopback" else (left, f"10.77.0.2:{PORT}")
        enter = ["ip", "netns", "exec", right]
        serve = [*enter, *FLATOUT, "serve", "ntp", "--listen", f"*:{PORT}", "--threads", "1", "--quiet"]
        watch = [*enter, *FLATOUT, "watch", "--port", f"udp/{PORT}", "--json", "/dev/null", "--quiet"]
        load = ["ip", "netns", "exec", asks, *FLATOUT, "load", "ntp", target, "--rate", options.rate]
        load += ["--for", f"{options.seconds + 3}s", "--warmup", "0", "--cpus", str(ASKER), "--json", "-", "--quiet"]
        with process(serve, SERVER), measured_programs():
            begun = subprocess.Popen(load, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            watching = subprocess.Popen(watch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(2.5)
            before = programs(watching.pid), cpu_s(watching.pid), time.monotonic()
            time.sleep(options.seconds - 1)
            after = programs(watching.pid), cpu_s(watching.pid), time.monotonic()
            watching.send_signal(signal.SIGINT)
            watching.wait()
            result = json.loads(begun.communicate()[0])
        span = after[2] - before[2]
        runs, ns = after[0][0] - before[0][0], after[0][1] - before[0][1]
        record.add(
            path=path,
            sent_per_s=result["outcomes"]["sent"] / (options.seconds + 3),
            answered_per_s=result["outcomes"]["answered"] / (options.seconds + 3),
            runs_per_s=runs / span,
            ns_a_run=ns / max(runs, 1),
            bpf_share=ns / 1e9 / span,
            process_share=(after[1] - before[1]) / span,
        )


def main() -> None:
    """Runs the rounds, one mode after the other in each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", default="100k")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    record = Record(options.out, "watch")
    for _ in range(options.rounds):
        for path in ("veth", "loopback"):
            one_round(record, path, options)
    lines = []
    for path in ("veth", "loopback"):
        shares = {name: record.values(f"{name}_share", path=path) for name in ("bpf", "process")}
        both = [100 * (bpf + own) for bpf, own in zip(*shares.values(), strict=True)]
        sent, answered = (record.values(f"{name}_per_s", path=path) for name in ("sent", "answered"))
        packets = statistics.median([one + other for one, other in zip(sent, answered, strict=True)])
        runs = statistics.median(record.values("runs_per_s", path=path))
        programs_ns = spread(record.values("ns_a_run", path=path), 0)
        lines += [
            f"- {path}, {packets:,.0f} packets/s: {spread(both, 2)} % of a CPU",
            f"  - programs: {spread([100 * value for value in shares['bpf']], 2)} %; {programs_ns} ns a run",
            f"  - runs: {runs:,.0f}/s",
            f"  - process: {spread([100 * value for value in shares['process']], 2)} %",
        ]
    record.finish(lines)


if __name__ == "__main__":
    sys.exit(main())
