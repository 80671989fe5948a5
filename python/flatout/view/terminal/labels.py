"""The summary of a run under the labels of dnsperf, which scripts parse; for protocols with answer codes.

Pure text from a result; unknown values are left out. As in dnsperf, a query is completed by any answer in time,
whatever its code.
"""

from __future__ import annotations

from collections.abc import Mapping

from flatout.protocols import PROTOCOLS
from flatout.result.histogram import standard_deviation_ns
from flatout.result.model import Distribution, LoadResult


def block(run: LoadResult) -> str | None:
    """The labels and their numbers, or None where the protocol has none."""
    protocol = PROTOCOLS.get(run.scenario.protocol)
    if protocol is None or not protocol.codes or not run.outcomes.sent:
        return None
    parts = [["Statistics:"], _queries(run), _answers(run, protocol.codes), _latency(run), _connections(run)]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _line(label: str, value: str) -> str:
    return f"  {label + ':':<21} {value}"


def _queries(run: LoadResult) -> list[str]:
    sent, completed = run.outcomes.sent, _completed(run)
    return [
        _line("Queries sent", str(sent)),
        _line("Queries completed", _share(completed, sent)),
        _line("Queries lost", _share(sent - completed, sent)),
    ]


def _completed(run: LoadResult) -> int:
    return run.outcomes.answered + run.outcomes.invalid


def _share(number: int, of: int) -> str:
    return f"{number} ({100 * number / of if of else 0.0:.2f}%)"


def _answers(run: LoadResult, codes: Mapping[str, str]) -> list[str]:
    counted = {label: run.tallies.get(name, 0) for name, label in codes.items()}
    total = sum(counted.values())
    reported = ", ".join(f"{label} {_share(number, total)}" for label, number in counted.items() if number)
    return [
        *([_line("Response codes", reported)] if reported else []),
        _line("Run time (s)", f"{run.duration_s:.6f}"),
        _line("Queries per second", f"{_completed(run) / run.duration_s:.6f}"),
    ]


def _latency(run: LoadResult) -> list[str]:
    sent = run.latency_ns.from_sent
    if sent is None:
        return []
    return [
        _line("Average Latency (s)", _mean(sent)),
        _line("Latency StdDev (s)", f"{standard_deviation_ns(sent) / 1e9:.6f}"),
    ]


def _mean(values: Distribution) -> str:
    return f"{values.mean / 1e9:.6f} (min {values.min / 1e9:.6f}, max {values.max / 1e9:.6f})"


def _connections(run: LoadResult) -> list[str]:
    connections = run.connections
    if connections is None:
        return []
    good = 100 * connections.established / connections.opened if connections.opened else 0.0
    reported = f"{connections.opened} ({connections.established} successful, {good:.2f}%)"
    lines = ["Connection Statistics:", "", _line("Connection attempts", reported)]
    return [*lines, *([_line("Average Latency (s)", _mean(run.connect_ns))] if run.connect_ns else [])]
