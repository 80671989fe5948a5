"""What `flatout watch` costs: CPU time of its process, and run time of its BPF programs, beside a load. Needs root.

A server on the last CPU, a load on the first one, over veth or loopback; `watch` in the server's namespace, wherever
the scheduler puts it. "elsewhere": the same over veth, with `watch` in a third namespace, whose programs see the same
packets and count none. The kernel measures programs while a descriptor of BPF_ENABLE_STATS is open, and what that takes
is in each run; the runs elsewhere are little else.

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
from veth import FLATOUT, ip, namespaces

# The bpf system call, and its command (uapi/linux/bpf.h).
_BPF = {"x86_64": 321, "aarch64": 280}
_ENABLE_STATS = 32
PORT = 1123
PATHS = ("veth", "loopback", "elsewhere")


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


def enter(namespace: str) -> list[str]:
    """The beginning of a command inside a namespace."""
    return ["ip", "netns", "exec", namespace]


@contextmanager
def third() -> Iterator[str]:
    """A namespace where nothing goes."""
    name = f"flatout-c{os.getpid()}"
    ip("netns", "add", name)
    try:
        yield name
    finally:
        ip("netns", "del", name)


def one_round(record: Record, path: str, options: argparse.Namespace) -> None:
    """A round: load, with a watch beside it whose cost is read at both ends of the middle."""
    with namespaces() as (left, right), third() as other:
        asks, target = (right, f"127.0.0.1:{PORT}") if path == "loopback" else (left, f"10.77.0.2:{PORT}")
        serve = [*enter(right), *FLATOUT, "serve", "ntp", "--listen", f"*:{PORT}", "--threads", "1", "--quiet"]
        watch = [*enter(other if path == "elsewhere" else right), *FLATOUT, "watch", "--port", f"udp/{PORT}"]
        watch += ["--json", "/dev/null", "--quiet"]
        load = [*enter(asks), *FLATOUT, "load", "ntp", target, "--rate", options.rate, "--cpus", str(ASKER)]
        load += ["--for", f"{options.seconds + 3}s", "--warmup", "0", "--json", "-", "--quiet"]
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
        for path in PATHS:
            one_round(record, path, options)
    none_ns = statistics.median(record.values("ns_a_run", path="elsewhere"))
    lines = [f"- a run that counts nothing, with what measuring takes: {none_ns:.0f} ns"]
    for path in PATHS[:2]:
        lines += found(record, path, none_ns)
    record.finish(lines)


def found(record: Record, path: str, none_ns: float) -> list[str]:
    """What a path costs, with and without the runs that count nothing."""
    process_share = record.values("process_share", path=path)
    runs, ns = record.values("runs_per_s", path=path), record.values("ns_a_run", path=path)
    whole = [100 * (one * each / 1e9 + own) for one, each, own in zip(runs, ns, process_share, strict=True)]
    less = [100 * (one * (each - none_ns) / 1e9 + own) for one, each, own in zip(runs, ns, process_share, strict=True)]
    sent, answered = (record.values(f"{name}_per_s", path=path) for name in ("sent", "answered"))
    packets = statistics.median([one + other for one, other in zip(sent, answered, strict=True)])
    return [
        f"- {path}, {packets:,.0f} packets/s: {spread(less, 2)} % of a CPU",
        f"  - with what measuring takes: {spread(whole, 2)} %",
        f"  - programs: {spread(ns, 0)} ns a run, {statistics.median(runs):,.0f} runs/s",
        f"  - process: {spread([100 * value for value in process_share], 2)} %",
    ]


if __name__ == "__main__":
    sys.exit(main())
