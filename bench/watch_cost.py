"""What `flatout watch` costs: CPU time of its process, and run time of its BPF programs, beside a load. Needs root.

A server on the last CPU, a load on the first one, over veth or loopback; `watch` in the server's namespace, wherever
the scheduler puts it. The kernel measures programs while a descriptor of BPF_ENABLE_STATS is open. What that takes is
in each run; so a program that does nothing runs beside it on one of the same tracepoints, and its time is subtracted.

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
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from peers import ASKER, SERVER, process
from record import Record, spread
from veth import FLATOUT, namespaces

# The bpf system call, and its command (uapi/linux/bpf.h).
_BPF = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _RAW_TRACEPOINT_OPEN, _ENABLE_STATS = 5, 17, 32
_RAW_TRACEPOINT = 17
PORT = 1123
PATHS = ("veth", "loopback")


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


@contextmanager
def empty_program() -> Iterator[None]:
    """A program that does nothing, on a tracepoint that each packet passes: what measuring takes is its run time."""
    libc = ctypes.CDLL(None, use_errno=True)

    def bpf(command: int, *words: int) -> int:
        attributes = struct.pack(f"{len(words)}Q", *words).ljust(128, b"\0")
        made = libc.syscall(_BPF[platform.machine()], command, attributes, len(attributes))
        if made < 0:
            raise SystemExit(f"bpf({command}): {os.strerror(ctypes.get_errno())}")
        return int(made)

    # r0 = 0; exit
    code = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))
    name, licence = ctypes.create_string_buffer(b"netif_receive_skb"), ctypes.create_string_buffer(b"GPL")
    kind_and_length = _RAW_TRACEPOINT | 2 << 32
    program = bpf(_PROG_LOAD, kind_and_length, ctypes.addressof(code), ctypes.addressof(licence))
    link = bpf(_RAW_TRACEPOINT_OPEN, ctypes.addressof(name), program)
    try:
        yield
    finally:
        os.close(link)
        os.close(program)


def programs(pid: int) -> tuple[int, int]:
    """Runs and ns of all programs that a process holds."""
    runs, ns = 0, 0
    for entry in Path(f"/proc/{pid}/fdinfo").iterdir():
        # That of the folder itself, for example.
        with suppress(FileNotFoundError):
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


def one_round(record: Record, path: str, options: argparse.Namespace) -> None:
    """A round: load, with a watch beside it whose cost is read at both ends of the middle."""
    with namespaces() as (left, right):
        asks, target = (right, f"127.0.0.1:{PORT}") if path == "loopback" else (left, f"10.77.0.2:{PORT}")
        serve = [*enter(right), *FLATOUT, "serve", "ntp", "--listen", f"*:{PORT}", "--threads", "1", "--quiet"]
        watch = [*enter(right), *FLATOUT, "watch", "--port", f"udp/{PORT}", "--json", "/dev/null", "--quiet"]
        load = [*enter(asks), *FLATOUT, "load", "ntp", target, "--rate", options.rate, "--cpus", str(ASKER)]
        load += ["--for", f"{options.seconds + 3}s", "--warmup", "0", "--json", "-", "--quiet"]
        with process(serve, SERVER), measured_programs(), empty_program():
            begun = subprocess.Popen(load, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            watching = subprocess.Popen(watch, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(2.5)
            before = programs(watching.pid), cpu_s(watching.pid), time.monotonic(), programs(os.getpid())
            time.sleep(options.seconds - 1)
            after = programs(watching.pid), cpu_s(watching.pid), time.monotonic(), programs(os.getpid())
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
            ns_empty=(after[3][1] - before[3][1]) / max(after[3][0] - before[3][0], 1),
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
    lines = []
    for path in PATHS:
        lines += found(record, path)
    record.finish(lines)


def found(record: Record, path: str) -> list[str]:
    """What a path costs, without what measuring takes."""
    process_share = record.values("process_share", path=path)
    runs, ns = record.values("runs_per_s", path=path), record.values("ns_a_run", path=path)
    empty = record.values("ns_empty", path=path)
    own = [each - nothing for each, nothing in zip(ns, empty, strict=True)]
    shares = [100 * one * each / 1e9 for one, each in zip(runs, own, strict=True)]
    both = [share + 100 * one for share, one in zip(shares, process_share, strict=True)]
    sent, answered = (record.values(f"{name}_per_s", path=path) for name in ("sent", "answered"))
    packets = statistics.median([one + other for one, other in zip(sent, answered, strict=True)])
    return [
        f"- {path}, {packets:,.0f} packets/s: {spread(both, 2)} % of a CPU",
        f"  - programs: {spread(shares, 2)} %, {statistics.median(runs):,.0f} runs/s of {spread(own, 0)} ns, and "
        f"{spread(empty, 0)} ns for measuring",
        f"  - process: {spread([100 * value for value in process_share], 2)} %",
    ]


if __name__ == "__main__":
    sys.exit(main())
