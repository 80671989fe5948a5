"""Memory of the page to watch at many updates a second: of the server, the browser's page and its process.

A made run publishes its progress as a real one does, with every update written to its file (a real one writes at most
four a second), in memory where there is a tmpfs. The real server reads that folder; a page is open in headless
Chromium. Values are taken after the browser's garbage collection.

Usage: python bench/web.py [--seconds 600] [--every 10] [--rate 1000] --out DIR
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
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

from tornado.websocket import websocket_connect

from flatout.result.model import Interval
from flatout.runner.progress import LATENCY_SECONDS, HostProgress, LatencySecond, RunProgress
from flatout.scenario.build import scenario_of
from flatout.store.live_publisher import LivePublisher
from record import Record

_RATE_PER_S = 100_000
_HOSTS = 8
# A disk would be asked to write 30 MB a second, which is not what is looked at.
_IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
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
        self._began = time.monotonic()

    def at_s(self) -> float:
        """The time of the run."""
        return time.monotonic() - self._began

    def run(self) -> None:
        """A clock that leaps: every update seems late enough to be written."""
        scenario = scenario_of("echo", "192.0.2.1:7", rate=_RATE_PER_S, duration=1, profile=None)
        with LivePublisher(self._folder, "load", scenario, now=itertools.count().__next__) as live:
            while not self.ended.is_set():
                live(self._run.at(self.at_s()))
                self.done += 1
                self.ended.wait(max(self.done / self._per_s - self.at_s(), 0))


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


class DevTools:
    """One end of the browser's DevTools protocol: commands and their answers, one at a time.

    Without a test driver between: those follow the network, for which the browser keeps up to 20 MiB of what a page
    gets.
    """

    def __init__(self, address: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(self._connected(address))
        self._numbers = itertools.count(1)

    async def _connected(self, address: str) -> Any:
        return await websocket_connect(address)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What it answers."""
        return self._loop.run_until_complete(asyncio.wait_for(self._asked(method, parameters), 30))

    async def _asked(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        await self._connection.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        while (text := await self._connection.read_message()) is not None:
            reported = json.loads(text)
            if reported.get("id") == number:
                found: dict[str, Any] = reported["result"]
                return found
        raise SystemExit("the browser is gone")

    def close(self) -> None:
        """It needs the browser no longer."""
        self._connection.close()
        self._loop.close()


@contextmanager
def browsing(folder: str) -> Iterator[str]:
    """A headless Chromium; the address of its DevTools."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("install chromium")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={folder}")
    with subprocess.Popen([chromium, *flags, "about:blank"], stderr=subprocess.PIPE, text=True) as browser:
        assert browser.stderr is not None
        try:
            for line in browser.stderr:
                if found := re.search(r"listening on (ws://\S+)", line):
                    threading.Thread(target=browser.stderr.read, daemon=True).start()
                    yield found[1]
                    break
        finally:
            browser.terminate()


class Watched:
    """The page in a browser, and what it takes."""

    def __init__(self, devtools: str, address: str) -> None:
        self._browser = DevTools(devtools)
        target = self._browser.ask("Target.createTarget", url=address)["targetId"]
        self._page = DevTools(re.sub(r"/devtools/.*", f"/devtools/page/{target}", devtools))
        self._page.ask("Performance.enable")
        for _ in range(100):
            if self._found("document.querySelector('#live article') !== null"):
                return
            time.sleep(0.1)
        raise SystemExit("the page does not show the run")

    def _found(self, script: str) -> Any:
        return self._page.ask("Runtime.evaluate", expression=script)["result"].get("value")

    def sample(self, server: int) -> dict[str, float]:
        """After a collection of garbage."""
        self._page.ask("HeapProfiler.collectGarbage")
        metrics = {one["name"]: one["value"] for one in self._page.ask("Performance.getMetrics")["metrics"]}
        processes = self._browser.ask("SystemInfo.getProcessInfo")["processInfo"]
        renderers = [rss_mib(one["id"]) for one in processes if one["type"] == "renderer"]
        values = (
            rss_mib(server),
            max(renderers),
            metrics["JSHeapUsedSize"] / 2**20,
            metrics["Nodes"],
            metrics["JSEventListeners"],
        )
        return {name: round(value, 3) for name, value in zip(COLUMNS, values, strict=True)}

    def shown_s(self) -> float:
        """The time of the run that the page shows."""
        return float(self._found("document.querySelector('#live .note').textContent.match(/[\\d.]+/)[0]"))

    def close(self) -> None:
        """The page is read no longer."""
        self._page.close()
        self._browser.close()


def watched(seconds: float, every_s: float, per_s: int) -> Iterator[dict[str, float]]:
    """A row every so often: time, updates a second since the last one, how old what is shown is, and memory."""
    with (
        tempfile.TemporaryDirectory(dir=_IN_MEMORY) as folder,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        serving(store := Path(folder) / "runs.db") as (server, address),
        browsing(profile) as devtools,
    ):
        publishing = Publishing(store.with_name("runs.db.live"), per_s, seconds)
        publishing.start()
        page = Watched(devtools, address)
        began = before_s = time.monotonic()
        done = publishing.done
        while before_s - began < seconds:
            time.sleep(every_s)
            now, memory, behind_s = time.monotonic(), page.sample(server), publishing.at_s() - page.shown_s()
            rate = (publishing.done - done) / (now - before_s)
            before_s, done = now, publishing.done
            times = {"t_s": round(now - began, 1), "updates_per_s": round(rate, 1)}
            yield times | memory | {"behind_s": round(behind_s, 2)}
        publishing.ended.set()
        publishing.join()
        page.close()


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
