"""Where the server's CPU goes while NTP is answered in the driver or by sockets: `perf record` of it, by function.

CPU time per answer is the CPU's busy time by the answers of the same second, everything included: the interface, the
program, and handing the answer over. Needs root and perf. Usage: python bench/xdp_cpu.py [--rounds 7] --out DIR
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from peers import SERVER
from record import Record, spread
from xdp_answers import BARE, CLIENTS, GENERIC, LISTS, NATIVE, SOCKET, VALID, cases
from xdp_pair import Load, asker, pair

ONE = Load(0, 2.0, 256)
ASKED = dict.fromkeys((BARE, VALID, NATIVE, GENERIC, SOCKET), ONE) | {LISTS: ONE._replace(addresses=CLIENTS)}
LINE = re.compile(r"^ *([\d.]+)% +\[(.)\] +(\S+)")
# What a function belongs to, by the beginning of its name; the first that fits.
PARTS = {
    "the program": ("bpf_prog_",),
    "clock": ("read_tsc", "ktime_get", "pvclock", "timekeeping"),
    "maps": ("htab_", "__htab", "lookup_nulls", "array_map", "lookup_elem", "memcmp", "bpf_", "trie_", "jhash"),
    "veth": ("veth_",),
    "NAPI and soft interrupts": ("napi_", "__napi", "net_rx", "handle_softirqs", "__local_bh", "__do_softirq"),
    "frames and pages": ("page_pool", "__xdp_return", "xdp_", "free_", "__free", "alloc_"),
    "idle": ("pv_native_safe_halt", "default_idle", "cpuidle", "do_idle", "acpi_"),
}
OTHER = "all else of the kernel"


def part(function: str, *, kernel: bool) -> str:
    """The part that a function belongs to."""
    if not kernel:
        return "processes"
    return next((name for name, starts in PARTS.items() if function.startswith(starts)), OTHER)


def profile(seconds: float) -> Counter[str]:
    """The shares of the server's CPU, by part."""
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/data"
        command = ["perf", "record", "-q", "-a", "-C", str(SERVER), "-e", "cpu-clock", "-F", "4999", "-o", data]
        subprocess.run([*command, "--", "sleep", str(seconds)], check=True, capture_output=True)
        report = ["perf", "report", "-i", data, "--sort", "symbol", "--stdio"]
        text = subprocess.run(report, check=True, capture_output=True, text=True).stdout
    shares: Counter[str] = Counter()
    for line in text.splitlines():
        if found := LINE.match(line):
            shares[part(found[3], kernel=found[2] == "k")] += float(found[1]) / 100
    return shares


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=list(ASKED))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record, servers = Record(arguments.out, "xdp_cpu"), cases(None)
    with pair() as made:
        for number in range(arguments.rounds):
            for name in arguments.only:
                with servers[name].start(made), asker(made, sources=servers[name].sources) as asking:
                    asking.begin(ASKED[name])
                    time.sleep(0.4)
                    shares = profile(1.0)
                    came = asking.end()
                whole = sum(shares.values())
                for each in (*PARTS, OTHER, "processes"):
                    ns = 1e9 * shares[each] / whole / came.answered
                    record.add(round=number, server=name, part=each, ns_per_answer=round(ns, 1))
    record.finish(_found(record, arguments.only))


def _found(record: Record, names: list[str]) -> list[str]:
    lines = [f"| CPU per answer, ns | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
    for each in (*PARTS, OTHER, "processes"):
        cells = [spread(record.values("ns_per_answer", server=name, part=each), 0) for name in names]
        lines.append(f"| {each} | {' | '.join(cells)} |")
    return [
        *lines,
        "",
        "- at the most that each answers with 256 requests on their way; `idle`: not used by anybody",
        "- the asker's device is polled on this CPU: its counting program is in `the program`, some 20 ns of it",
    ]


if __name__ == "__main__":
    main()
