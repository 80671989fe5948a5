"""The generator in the driver: `flatout load --link xdp` against the least responder, and beside kxdpgun. Needs root.

Over veth, one CPU a side. NTP: requests that the least XDP responder answers right, each reply timed, over a climb of
rates; and the lateness at half of the highest. DNS: `flatout load dns --link xdp` and kxdpgun in turn against one Knot,
on sockets and with its XDP listener. Usage:
python bench/xdp_generator.py [--rounds 7] [--part ntp dns] --out DIR
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from installed import KNOT, ZONE
from ntp_offset import TARGET
from peers import ASKER, SERVER
from record import Record, ratios, spread
from veth import inside
from xdp_pair import ADDRESS, CLIENT, VA, VB, Pair, bare, pair

RATES = [0.5e6, 1e6, 1.5e6, 2e6, 3e6]
DNS_RATES = [250e3, 300e3, 400e3, 600e3]
WANTED_PER_S, LATENESS_NS = 3e6, 100_000
# A listener in the driver needs a port of its own or the sockets' one.
DNS_PORT = 1053
# What ours asks for by default.
QUERY = "example.com"
SOCKETS, XDP = "sockets", "XDP"
REPLIES = re.compile(r"total queries: +(\d+).*?(?:total replies: +(\d+).*?)?duration: ([\d.]+)", re.DOTALL)


def loaded(pair: Pair, rate: float, *words: str, seconds: float = 1.0) -> dict[str, Any]:
    """A load of ours from the driver: its result."""
    flags = ("--link", "xdp", "--interface", VA, "--cpus", str(ASKER), "--warmup", "200ms", "--timeout", "250ms")
    command = inside(pair.asking, "load", *words, *flags, "--rate", f"{rate:.0f}", "--for", f"{seconds:g}s")
    command = ["taskset", "-c", str(ASKER), *command, "--json", "-", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    try:
        result: dict[str, Any] = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"{' '.join(command)} ended with code {done.returncode}: {done.stderr[-2000:]}") from None
    return result


def seen(result: dict[str, Any]) -> dict[str, object]:
    """What is kept of a result."""
    latency = (result.get("latency_ns") or {}).get("from_due") or {}
    lateness = result.get("lateness_ns") or {}
    return {
        "asked_per_s": round(result["rate_per_s"]["sent"]),
        "answered_per_s": round(result["rate_per_s"]["answered"]),
        "timed": latency.get("count", 0),
        "lateness_p99_ns": lateness.get("p99", 0),
        "latency_p50_ns": latency.get("p50", 0),
        "latency_p99_ns": latency.get("p99", 0),
        "loss": result["loss"],
        "verdict": result["verdict"],
    }


def ntp_round(record: Record, pair: Pair, number: int) -> None:
    """A climb of rates, and the lateness at half of the highest that was asked."""
    with bare(pair, "valid"):
        rows = {rate: seen(loaded(pair, rate, "ntp", TARGET, "--flows", "64")) for rate in RATES}
        for rate, row in rows.items():
            record.add(round=number, load="climb", rate=round(rate), **row)
        half = max(float(str(row["answered_per_s"])) for row in rows.values()) / 2
        found = seen(loaded(pair, half, "ntp", TARGET, "--flows", "64", seconds=2.0))
        record.add(round=number, load="half", rate=round(half), **found)


@contextlib.contextmanager
def knot(pair: Pair, listen: str) -> Iterator[None]:
    """Knot with one worker on the server's CPU, on sockets or with its listener in the driver as well."""
    path = shutil.which("knotd", path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        raise SystemExit("knotd is not installed (Debian: knot)")
    text = KNOT.replace("127.0.0.1@", f"{ADDRESS}@")
    if listen == XDP:
        text = text.replace("database:", f"xdp:\n    listen: {VB}@{DNS_PORT}\n    udp: on\ndatabase:")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "zone").write_text(ZONE, encoding="ascii")
        (folder / "configuration").write_text(text.format(port=DNS_PORT, folder=folder, threads=1), encoding="ascii")
        command = ["taskset", "-c", str(SERVER), "ip", "netns", "exec", pair.serving, path, "-c"]
        with subprocess.Popen([*command, f"{folder}/configuration"], stderr=subprocess.DEVNULL) as running:
            try:
                time.sleep(1.5)
                yield
            finally:
                running.terminate()
                running.wait(timeout=20)


def kxdpgun(pair: Pair, rate: float) -> dict[str, object]:
    """One second of kxdpgun. Its socket may still be in use from the time before."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as queries:
        queries.write(f"{QUERY} A\n")
        queries.flush()
        where = ["-p", str(DNS_PORT), "-I", VA, "-l", CLIENT, "-F", str(ASKER), ADDRESS]
        command = ["taskset", "-c", str(ASKER), "ip", "netns", "exec", pair.asking, "kxdpgun"]
        for _ in range(5):
            time.sleep(0.5)
            text = [*command, "-t", "1", "-Q", f"{rate:.0f}", "-i", queries.name, *where]
            done = subprocess.run(text, capture_output=True, text=True, timeout=30, check=False)
            if found := REPLIES.search(done.stdout):
                seconds = float(found[3])
                sent, answered = (float(number or 0) / seconds for number in found.groups()[:2])
                nothing = dict.fromkeys(("timed", "lateness_p99_ns", "latency_p50_ns", "latency_p99_ns"), 0)
                loss = 1 - answered / max(sent, 1)
                return {"asked_per_s": round(sent), "answered_per_s": round(answered), **nothing, "loss": loss}
    raise SystemExit(f"kxdpgun: {done.stdout} {done.stderr}")


def dns_round(record: Record, pair: Pair, number: int, listens: list[str]) -> None:
    """Both askers of one Knot, each over a climb that ends where answers become fewer."""
    words = ("dns", f"{ADDRESS}:{DNS_PORT}", "--flows", "64")
    for listen in listens:
        with knot(pair, listen):
            for name in ("flatout", "kxdpgun"):
                best = 0.0
                for rate in DNS_RATES:
                    if name == "flatout":
                        row = {
                            key: value for key, value in seen(loaded(pair, rate, *words)).items() if key != "verdict"
                        }
                    else:
                        row = kxdpgun(pair, rate)
                    record.add(round=number, asker=name, knot=listen, rate=round(rate), **row)
                    came = float(str(row["answered_per_s"]))
                    if came < 0.9 * best:
                        break
                    best = max(best, came)


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--part", nargs="*", default=["ntp", "dns"])
    parser.add_argument("--knot", nargs="*", default=[SOCKETS, XDP])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with pair() as made:
        if "ntp" in arguments.part:
            record = Record(arguments.out, "xdp_generator")
            for number in range(arguments.rounds):
                ntp_round(record, made, number)
            record.finish(_of_ntp(record, arguments.rounds))
        if "dns" in arguments.part:
            record = Record(arguments.out, "xdp_generator_dns")
            for number in range(arguments.rounds):
                dns_round(record, made, number, arguments.knot)
            record.finish(_of_dns(record, arguments.rounds, arguments.knot))


def _most(record: Record, column: str, **where: object) -> float:
    return max(record.values(column, **where), default=0.0)


def _of_ntp(record: Record, rounds: int) -> list[str]:
    lines = ["| asked for | asked | answered and timed | lateness p99, µs | latency p50, µs | latency p99, µs |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for rate in RATES:
        where = {"load": "climb", "rate": round(rate)}
        counts = [spread(record.values(name, **where), 0) for name in ("asked_per_s", "answered_per_s")]
        names = ("lateness_p99_ns", "latency_p50_ns", "latency_p99_ns")
        times = [spread([ns / 1e3 for ns in record.values(name, **where)], 1) for name in names]
        lines.append(f"| {rate:,.0f}/s | {' | '.join(counts + times)} |")
    most = [_most(record, "answered_per_s", load="climb", round=number) for number in range(rounds)]
    late = record.values("lateness_p99_ns", load="half")
    return [
        *lines,
        "",
        f"- answered and timed, most of a round: {spread(most, 0)}/s; wanted {WANTED_PER_S:,.0f}: "
        + _word(sorted(most)[rounds // 2] >= WANTED_PER_S),
        f"- lateness p99 at half of that: {spread([ns / 1e3 for ns in late], 1)} µs; wanted {LATENESS_NS / 1e3:g}: "
        + _word(sorted(late)[rounds // 2] <= LATENESS_NS),
        "- the least XDP responder answers, right for a client; 64 flows, one CPU a side",
    ]


def _of_dns(record: Record, rounds: int, listens: list[str]) -> list[str]:
    lines = []
    for listen in listens:
        best = {
            name: [_most(record, "answered_per_s", asker=name, knot=listen, round=number) for number in range(rounds)]
            for name in ("flatout", "kxdpgun")
        }
        lines += [f"- Knot on {listen}, {name}: {spread(values, 0)} answers/s, most" for name, values in best.items()]
        compared = ratios(best["flatout"], best["kxdpgun"])
        reached = _word(sorted(compared)[rounds // 2] >= 1.0)
        lines.append(f"- Knot on {listen}, flatout / kxdpgun: {spread(compared)}; wanted 1: {reached}")
        asked = [_most(record, "asked_per_s", asker=name, knot=listen) for name in best]
        lines.append(f"- Knot on {listen}, asked at most: flatout {asked[0]:,.0f}/s, kxdpgun {asked[1]:,.0f}/s")
    return [*lines, "- each asker: one CPU, one query; kxdpgun measures no latency; Knot: one worker on the other CPU"]


def _word(reached: bool) -> str:
    return "reached" if reached else "**missed**"


if __name__ == "__main__":
    main()
