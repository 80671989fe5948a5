"""Measures one installed flatout: the worker of bench/versions.py, run by the interpreter of the version under test.

Prints one JSON object. CPU time per message is from the kernel's accounting; rates are per second of the load. The
load generator runs on the first CPU, the server on the last one.

Usage: PYTHON bench/figures.py --ceiling PATH
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy

import flatout
from feed import PLAYERS, RECORD
from peers import ASKER, SERVER, ceiling, cpu_s, free_port, process

ASKED = re.compile(r"asked (\d+)/s answered (\d+)/s")
FORMAT = "id:u4 seq:u4 sent:u8 x:f4 y:f4"


@contextmanager
def server(*arguments: str) -> Iterator[tuple[str, int]]:
    """`flatout serve` of this version in a process of its own: where it listens, and its process id."""
    port = free_port()
    command = [sys.executable, "-m", "flatout", "serve", *arguments, "--listen", f"127.0.0.1:{port}", "--quiet"]
    with process([*command, "--threads", "1", "--cpus", str(SERVER)], SERVER) as running:
        time.sleep(0.7)
        yield f"127.0.0.1:{port}", running.pid


def load_ntp(path: str) -> dict[str, float]:
    """The generator against the ceiling's server: CPU time per request at 150 k/s, lateness, the most that it sends."""
    plain = {"warmup": 0.2, "timeout": 0.25, "flows": 64, "cpus": (ASKER,)}
    with ceiling(path) as target:
        steady = flatout.load("ntp", target, rate=150e3, duration=2.0, **plain)
        fastest = flatout.load("ntp", target, rate=600e3, duration=1.0, **plain)
    return {
        "load_ntp_ns": 1e9 * steady.cpu_s["workers"] / steady.outcomes.sent,
        "load_ntp_lateness_p99_us": steady.lateness_ns.p99 / 1e3 if steady.lateness_ns else 0.0,
        "load_ntp_sent_per_s": fastest.rate_per_s.sent,
    }


def serve_ntp(path: str) -> dict[str, float]:
    """The NTP server under `ceiling ask` at more than it can answer."""
    with server("ntp") as (target, pid):
        before = cpu_s(pid)
        command = [path, "ask", target.rpartition(":")[2], "800000", "seconds=2", "flows=64"]
        found = ASKED.search(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        used = cpu_s(pid) - before
    answered = float(found[2]) if found else 0.0
    return {"serve_ntp_per_s": answered, "serve_ntp_ns": 1e9 * used / (2 * answered) if answered else 0.0}


def dns_over_tcp() -> dict[str, float]:
    """Both ends over 1,000 connections at 60 k/s: CPU time per answer of each."""
    with server("dns") as (target, pid):
        before = cpu_s(pid)
        plain = {"transport": "tcp", "connections": 1000, "warmup": 0.2, "cpus": (ASKER,)}
        result = flatout.load("dns", target, rate=60e3, duration=2.0, **plain)
        used = cpu_s(pid) - before
    answered = max(result.outcomes.answered, 1)
    asked = 1e9 * result.cpu_s["workers"] / answered
    return {"load_dns_tcp_ns": asked, "serve_dns_tcp_ns": 1e9 * used / (answered * 1.1)}


def records() -> dict[str, float]:
    """A one-way load at 1 M/s with GSO into the receiver: CPU time per record of each end."""
    with server("record", "--format", FORMAT) as (target, pid):
        before = cpu_s(pid)
        result = flatout.load("record", target, rate=1e6, duration=2.0, gso=True, cpus=(ASKER,))
        used = cpu_s(pid) - before
    sent, received = max(result.outcomes.sent, 1), max(result.outcomes.received or 0, 1)
    return {"load_record_ns": 1e9 * result.cpu_s["workers"] / sent, "receive_record_ns": 1e9 * used / received}


def arrays() -> dict[str, float]:
    """`Sender.send` of arrays with GSO, flat out into the receiver: CPU time per record, and records a second."""
    records = numpy.zeros(PLAYERS, RECORD)
    os.sched_setaffinity(0, {ASKER})
    with server("record", "--format", FORMAT) as (target, _), flatout.Sender(target, RECORD, gso=True) as sender:
        used, began = time.process_time(), time.monotonic()
        while (taken := time.monotonic() - began) < 1.5:
            sender.send(records)
        used = time.process_time() - used
        return {"send_array_ns": 1e9 * used / max(sender.sent, 1), "send_array_per_s": sender.sent / taken}


def main() -> None:
    """Measures once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ceiling", required=True)
    path = parser.parse_args().ceiling
    print(json.dumps(load_ntp(path) | serve_ntp(path) | dns_over_tcp() | records() | arrays()))


if __name__ == "__main__":
    main()
