"""Memory of the page to watch at many updates a second: of the server, the browser's page and its process.

A made run publishes its progress as a real one does, with every update written to its file (a real one writes at most
four a second). The real server reads that folder; a page is open in headless Chromium. Values are taken after the
browser's garbage collection.

Usage: python bench/web.py [--seconds 600] [--every 10] [--rate 1000] --out DIR
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from flatout.result.model import Interval
from flatout.runner.progress import LATENCY_SECONDS, HostProgress, LatencySecond, RunProgress
from flatout.scenario.build import scenario_of
from flatout.store.live_publisher import LivePublisher
from record import Record

_RATE_PER_S = 100_000
_HOSTS = 8
COLUMNS = ("server_mib", "renderer_mib", "heap_mib", "nodes", "listeners")


class MadeRun:
    """The progress of a run that goes on: each second another, with latencies of a varying server, over 8 hosts."""

    def __init__(self, total_s: float) -> None:
        self._total_s, self._intervals, self._latency = total_s, list[Interval](), list[LatencySecond]()
        self._random = random.Random(1)

    def at(self, t_s: float) -> RunProgress:
        """What it tells at that time since its start."""
        while len(self._intervals) + 1 <= t_s:
            self._end_second(float(len(self._intervals) + 1))
        sent = round(t_s * _RATE_PER_S)
        counts = {"planned": sent, "sent": sent, "answered": sent - len(self._intervals), "lost": len(self._intervals)}
        one = HostProgress(
            host="", phase="running", rate_per_s=_RATE_PER_S / _HOSTS, sent=sent // _HOSTS, answered=sent // _HOSTS
        )
        return RunProgress(
            phase="running",
            t_s=t_s,
            total_s=self._total_s,
            rate_per_s=_RATE_PER_S,
            **counts,
            **dict.fromkeys(("unsent", "late", "refused", "invalid", "duplicate"), 0),
            latest=self._intervals[-1] if self._intervals else None,
            intervals=self._intervals,
            latency=self._latency[-LATENCY_SECONDS:],
            hosts=tuple(_named(one, n) for n in range(_HOSTS)),
        )

    def _end_second(self, t_s: float) -> None:
        middle = self._random.uniform(48, 53)
        shares = {band: math.exp(-(((band - middle) / 3) ** 2)) for band in range(42, 66)}
        whole = sum(shares.values())
        bands = [(band, round(_RATE_PER_S * share / whole)) for band, share in shares.items()]
        self._latency.append(LatencySecond(t_s, [one for one in bands if one[1]]))
        p50 = round(10 ** (middle / 10))
        unused = dict.fromkeys(("unsent", "late", "refused", "invalid", "duplicate"), 0)
        self._intervals.append(
            Interval(
                t_s=t_s,
                planned=_RATE_PER_S,
                sent=_RATE_PER_S,
                answered=_RATE_PER_S - 1,
                lost=1,
                p50=p50,
                p99=4 * p50,
                lateness_p99=round(p50 / 20),
                **unused,
            )
        )


def _named(one: HostProgress, n: int) -> HostProgress:
    return HostProgress(**{name: getattr(one, name) for name in one.__struct_fields__} | {"host": f"generator-{n + 1}"})


class Publishing(threading.Thread):
    """Publishes so many updates a second until it is stopped; `done` have been."""

    def __init__(self, folder: Path, per_s: int, total_s: float) -> None:
        super().__init__(daemon=True)
        self._folder, self._per_s, self._run = folder, per_s, MadeRun(total_s)
        self.done, self.ended = 0, threading.Event()

    def run(self) -> None:
        """A clock that leaps: every update seems late enough to be written."""
        scenario = scenario_of("echo", "192.0.2.1:7", rate=_RATE_PER_S, duration=1, profile=None)
        began = time.monotonic()
        with LivePublisher(self._folder, "load", scenario, now=itertools.count().__next__) as live:
            while not self.ended.is_set():
                live(self._run.at(time.monotonic() - began))
                self.done += 1
                self.ended.wait(max(began + self.done / self._per_s - time.monotonic(), 0))


@contextmanager
def serving(store: Path) -> Iterator[tuple[int, str]]:
    """The server's process and the page's address."""
    command = [sys.executable, "-m", "flatout", "web", "--listen", "127.0.0.1:0"]
    environment = os.environ | {"FLATOUT_STORE": str(store)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            found = re.search(r"http://\S+", server.stdout.readline())
            if found is None:
                raise SystemExit("flatout web does not start")
            yield server.pid, found[0]
        finally:
            server.terminate()


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


class Watched:
    """The page in a browser, and what it takes."""

    def __init__(self, browser: Any, address: str) -> None:
        self.page = browser.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self._devtools = self.page.context.new_cdp_session(self.page)
        self._devtools.send("Performance.enable")
        self._browser = browser.new_browser_cdp_session()
        self.page.goto(address)
        self.page.wait_for_selector("#live article")

    def sample(self, server: int) -> dict[str, float]:
        """After a collection of garbage."""
        self._devtools.send("HeapProfiler.collectGarbage")
        metrics = {one["name"]: one["value"] for one in self._devtools.send("Performance.getMetrics")["metrics"]}
        processes = self._browser.send("SystemInfo.getProcessInfo")["processInfo"]
        renderers = [rss_mib(one["id"]) for one in processes if one["type"] == "renderer"]
        values = (
            rss_mib(server),
            max(renderers),
            metrics["JSHeapUsedSize"] / 2**20,
            metrics["Nodes"],
            metrics["JSEventListeners"],
        )
        return {name: round(value, 3) for name, value in zip(COLUMNS, values, strict=True)}

    def shown(self) -> int:
        """The number of sent requests that the page shows."""
        text = self.page.inner_text("#live dl div:nth-child(2) dd")
        return int(text.replace(",", ""))


def watched(seconds: float, every_s: float, per_s: int) -> Iterator[dict[str, float]]:
    """A row every so often: time, updates a second since the last one, how old what is shown is, and memory."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("install chromium")
    with tempfile.TemporaryDirectory() as folder, serving(store := Path(folder) / "runs.db") as (server, address):
        publishing = Publishing(store.with_name("runs.db.live"), per_s, seconds)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            publishing.start()
            page = Watched(browser, address)
            began = before_s = time.monotonic()
            done = publishing.done
            while before_s - began < seconds:
                page.page.wait_for_timeout(every_s * 1000)
                now, row = time.monotonic(), page.sample(server)
                written, done, passed_s = publishing.done - done, publishing.done, now - before_s
                behind_s = (publishing.done / per_s) - page.shown() / _RATE_PER_S
                before_s = now
                yield (
                    {"t_s": round(now - began, 1), "updates_per_s": round(written / passed_s, 1)}
                    | row
                    | {"behind_s": round(behind_s, 2)}
                )
            publishing.ended.set()
            publishing.join()
            browser.close()
        if page.faults:
            raise SystemExit(f"the page complains: {page.faults[0]}")


def slope(times: list[float], values: list[float]) -> tuple[float, float]:
    """The slope a minute and its standard error."""
    fitted = statistics.linear_regression(times, values)
    middle = statistics.fmean(times)
    left = [value - fitted.slope * at - fitted.intercept for at, value in zip(times, values, strict=True)]
    error = math.sqrt(sum(one * one for one in left) / (len(times) - 2) / sum((at - middle) ** 2 for at in times))
    return fitted.slope * 60, error * 60


def main() -> None:
    """Samples until the time is over, then says how memory went in the last four fifths."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seconds", type=float, default=600)
    asked.add_argument("--every", type=float, default=10)
    asked.add_argument("--rate", type=int, default=1000)
    asked.add_argument("--out", type=Path, required=True)
    given = asked.parse_args()
    record = Record(given.out, "web")
    for row in watched(given.seconds, given.every, given.rate):
        record.add(**row)
    late = [row for row in record.rows if float(str(row["t_s"])) > given.seconds / 5]
    times = [float(str(row["t_s"])) for row in late]
    lines = []
    for name in COLUMNS:
        values = [float(str(row[name])) for row in late]
        a_minute, error = slope(times, values)
        extent = f"{min(values):,.2f} to {max(values):,.2f}"
        lines.append(
            f"| {name} | {values[0]:,.2f} | {values[-1]:,.2f} | {extent} | {a_minute:+.4f} ± {2 * error:.4f} |"
        )
    record.finish(
        [
            f"A run of {_HOSTS} hosts with 120 seconds of charts and heat map, every update written to its file: "
            f"{statistics.fmean(record.values('updates_per_s')):,.0f} updates a second. The server reads four times a "
            "second, and sends the whole state if it has changed.",
            f"Memory in the last four fifths of {given.seconds:,.0f} s; the slope with twice its standard error:",
            "",
            "| | first | last | least to most | slope a minute |",
            "| --- | --- | --- | --- | --- |",
            *lines,
        ]
    )


if __name__ == "__main__":
    main()
