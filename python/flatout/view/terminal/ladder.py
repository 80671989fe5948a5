"""A sweep as lines of text: two header lines as ntpperf prints them, then one line a rate. Pure: rows in, lines out."""

from __future__ import annotations

from collections.abc import Sequence

from flatout.result.sweep import SweepRow
from flatout.view import format as fmt

_TALLY = 11


def header(tallies: Sequence[str], *, offsets: bool) -> list[str]:
    """The two lines above the rows."""
    kinds = "".join(f"{name.replace('_', ' '):>{_TALLY}}" for name in tallies)
    answers = f"{'lost':>8} {'invalid':>8}{kinds}"
    times = f"{'min':>9} {'mean':>9} {'max':>9} {'stddev':>9}"
    ours = f"{'answered/s':>11} {'late':>7} {'p50':>9} {'p99':>9} {'p99.9':>9} {'own p99':>9}"
    ours += f" {'offset p50':>11} {'p99':>9}" if offsets else ""
    groups = f"{'':18}|{'responses':^{len(answers) + 1}}|{'response time':^{len(times) + 1}}| latency from due"
    return [groups, f"{'rate':<9} {'clients':>7} |{answers} |{times} |{ours}"]


def line(row: SweepRow, *, offsets: bool) -> str:
    """One rate."""
    kinds = "".join(f"{_percent(share):>{_TALLY}}" for share in row.tallies.values())
    response = (row.response_min_ns, row.response_mean_ns, row.response_max_ns, row.response_stddev_ns)
    latency = (row.p50_ns, row.p99_ns, row.p999_ns, row.lateness_p99_ns)
    ours = f"{row.answered_per_s:>11.0f} {_percent(row.late):>7}{_times(latency)}"
    if offsets:
        p50, p99 = (fmt.NOTHING if at is None else fmt.offset(at) for at in (row.offset_p50_ns, row.offset_p99_ns))
        ours += f" {p50:>11} {p99:>9}"
    counts = f"{_percent(row.lost):>8} {_percent(row.invalid):>8}{kinds}"
    said = "" if row.verdict == "ok" else f"  {row.verdict}"
    return f"{row.rate_per_s:<9.0f} {row.clients:>7} |{counts} |{_times(response)[1:]} |{ours}{said}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _times(values: Sequence[float | None]) -> str:
    return "".join(f" {fmt.duration(value):>9}" for value in values)
