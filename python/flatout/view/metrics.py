"""The progress of a run or a search as metrics, and as Prometheus reads them (text exposition format 0.0.4)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

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


class Family(NamedTuple):
    """A metric as Prometheus names it, and its values now, each with its labels."""

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    samples: list[tuple[dict[str, str], float]]


class RunMetrics:
    """Takes progress; another thread may ask for the metrics meanwhile.

    Counters go on over the trials of a search. They begin with the counted time: those of a warm-up are left out.
    """

    def __init__(self, protocol: str, target: str) -> None:
        self.labels = {"protocol": protocol, "target": target}
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
        """All metrics as Prometheus reads them."""
        return "\n".join([*(line for family in self.families() for line in _lines(family)), ""])

    def families(self) -> list[Family]:
        """All metrics that have a value now."""
        with self._lock:
            return [family for family in self._all() if family.samples]

    def _all(self) -> Iterator[Family]:
        run, labels = self._run, self.labels
        for name, text in _COUNTERS.items():
            count = self._before[name] + (getattr(run, name) if run is not None else 0)
            yield Family(f"flatout_load_{name}_total", "counter", text, [(labels, count)])
        if run is not None:
            yield from self._of_run(run)
        yield from self._of_hosts(() if run is None else run.hosts)
        if self._search is not None:
            yield from self._of_search(self._search)

    def _of_run(self, run: RunProgress) -> Iterator[Family]:
        yield self._gauge("load_rate_per_second", "The rate that is asked for now.", run.rate_per_s)
        yield self._gauge("load_connections", "Open now.", run.connections)
        latest = run.latest
        known = {} if latest is None else {"0.5": latest.p50, "0.99": latest.p99}
        samples = [({**self.labels, "quantile": name}, ns / 1e9) for name, ns in known.items() if ns is not None]
        text = "From due to the answer, in the last second."
        yield Family("flatout_load_latency_seconds", "gauge", text, samples)

    def _of_hosts(self, hosts: tuple[HostProgress, ...]) -> Iterator[Family]:
        """Of each host of a fleet; counters go on as those of the whole."""
        now = {(host.host, name): getattr(host, name) for host in hosts for name in _HOST_COUNTERS}
        named = dict.fromkeys(host for host, _ in (*self._hosts_before, *now))
        for name, text in _HOST_COUNTERS.items():
            counts = [
                (self._of_host(host), self._hosts_before[host, name] + now.get((host, name), 0)) for host in named
            ]
            yield Family(f"flatout_load_host_{name}_total", "counter", text, counts)
        for name, (text, value) in _HOST_GAUGES.items():
            samples = [(self._of_host(host.host), known) for host in hosts if (known := value(host)) is not None]
            yield Family(f"flatout_load_host_{name}", "gauge", text, samples)

    def _of_host(self, host: str) -> dict[str, str]:
        return {**self.labels, "host": host}

    def _of_search(self, search: SearchProgress) -> Iterator[Family]:
        yield self._gauge("limit_trial", "The trial's number.", search.trial)
        yield self._gauge("limit_load", "The load of the trial, per second or connections.", search.load)
        yield self._gauge("limit_lower", "The highest load that held.", search.lower)
        yield self._gauge("limit_upper", "The lowest load that failed.", search.upper)
        found = search.limit.value if search.limit is not None else None
        yield self._gauge("limit_value", "What was found.", found)

    def _gauge(self, name: str, text: str, value: float | None) -> Family:
        return Family(f"flatout_{name}", "gauge", text, [] if value is None else [(self.labels, value)])


def _lines(family: Family) -> Iterator[str]:
    samples = [
        (",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()), value)
        for labels, value in family.samples
    ]
    yield from lines_of(family.name, family.kind, family.text, samples)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
