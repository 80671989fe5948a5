"""The progress of a run or a search as Prometheus reads it (text exposition format 0.0.4)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

from flatout.runner.progress import HostProgress, RunProgress, SearchProgress
from flatout.server.exposition import lines_of

_COUNTERS = {
    "planned": "Requests that were due.",
    "sent": "Requests that left.",
    "unsent": "Requests that could not leave in time.",
    "answered": "Right answers in time.",
    "late": "Right answers after the time-out.",
    "refused": "Requests that were refused.",
    "invalid": "Answers that are no right ones.",
    "duplicate": "Answers that came again.",
    "lost": "Requests whose time-out has passed without an answer.",
}
# Of each host of a fleet, under a name of their own: a sum over hosts must not count the whole, too.
_HOST_COUNTERS = {
    "sent": "Requests that left this host.",
    "unsent": "Requests that could not leave this host in time.",
    "answered": "Right answers in time to this host.",
    "lost": "Requests of this host whose time-out has passed without an answer.",
}
_HOST_GAUGES: dict[str, tuple[str, Callable[[HostProgress], float | None]]] = {
    "rate_per_second": ("Sent per second, in the last whole second.", lambda host: host.rate_per_s),
    "lateness_seconds": (
        "How late this host's generator was in the last second, p99.",
        lambda host: None if host.lateness_p99_ns is None else host.lateness_p99_ns / 1e9,
    ),
    "silent_seconds": ("Since this host last told its progress.", lambda host: host.silent_s),
}


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class RunMetrics:
    """Takes progress; another thread may ask for the text meanwhile.

    Counters go on over the trials of a search. They begin with the counted time: those of a warm-up are left out.
    """

    def __init__(self, protocol: str, target: str) -> None:
        self._label = f'protocol="{protocol}",target="{_escaped(target)}"'
        self._lock = threading.Lock()
        self._before: Counter[str] = Counter()
        self._hosts_before: Counter[tuple[str, str]] = Counter()
        self._run: RunProgress | None = None
        self._search: SearchProgress | None = None

    def __call__(self, progress: RunProgress | SearchProgress) -> None:
        """Takes one event of a run or of a search."""
        with self._lock:
            if isinstance(progress, RunProgress):
                self._run = progress
                return
            self._search = progress
            if progress.run is not None:
                self._run = progress.run
            if progress.finished is not None:
                outcomes = progress.finished.outcomes
                self._before.update({name: getattr(outcomes, name) for name in _COUNTERS})
                for host in self._run.hosts if self._run is not None else ():
                    self._hosts_before.update({(host.host, name): getattr(host, name) for name in _HOST_COUNTERS})
                self._run = None

    def text(self) -> str:
        """All metrics."""
        with self._lock:
            return "\n".join([*self._lines(), ""])

    def _lines(self) -> Iterator[str]:
        run, label = self._run, self._label
        for name, text in _COUNTERS.items():
            count = self._before[name] + (getattr(run, name) if run is not None else 0)
            yield from lines_of(f"flatout_load_{name}_total", "counter", text, [(label, count)])
        if run is not None:
            yield from self._of_run(run)
        yield from self._of_hosts(() if run is None else run.hosts)
        if self._search is not None:
            yield from self._of_search(self._search)

    def _of_run(self, run: RunProgress) -> Iterator[str]:
        if run.rate_per_s is not None:
            text = "The rate that is asked for now."
            yield from lines_of("flatout_load_rate_per_second", "gauge", text, [(self._label, run.rate_per_s)])
        if run.connections is not None:
            yield from lines_of("flatout_load_connections", "gauge", "Open now.", [(self._label, run.connections)])
        latest = run.latest
        for quantile, ns in (("0.5", latest.p50), ("0.99", latest.p99)) if latest is not None else ():
            if ns is not None:
                samples = [(f'{self._label},quantile="{quantile}"', ns / 1e9)]
                text = "From due to the answer, in the last second."
                yield from lines_of("flatout_load_latency_seconds", "gauge", text, samples)

    def _of_hosts(self, hosts: tuple[HostProgress, ...]) -> Iterator[str]:
        """Of each host of a fleet; counters go on as those of the whole."""
        now = {(host.host, name): getattr(host, name) for host in hosts for name in _HOST_COUNTERS}
        named = dict.fromkeys(host for host, _ in (*self._hosts_before, *now))
        for name, text in _HOST_COUNTERS.items() if named else ():
            counts = [
                (self._of_host(host), self._hosts_before[host, name] + now.get((host, name), 0)) for host in named
            ]
            yield from lines_of(f"flatout_load_host_{name}_total", "counter", text, counts)
        for name, (text, value) in _HOST_GAUGES.items():
            samples = [(self._of_host(host.host), known) for host in hosts if (known := value(host)) is not None]
            if samples:
                yield from lines_of(f"flatout_load_host_{name}", "gauge", text, samples)

    def _of_host(self, host: str) -> str:
        return f'{self._label},host="{_escaped(host)}"'

    def _of_search(self, search: SearchProgress) -> Iterator[str]:
        numbers = {
            "trial": ("The trial's number.", search.trial),
            "load": ("The load of the trial, per second or connections.", search.load),
            "lower": ("The highest load that held.", search.lower),
            "upper": ("The lowest load that failed.", search.upper),
            "value": ("What was found.", search.limit.value if search.limit is not None else None),
        }
        for name, (text, value) in numbers.items():
            if value is not None:
                yield from lines_of(f"flatout_limit_{name}", "gauge", text, [(self._label, value)])
