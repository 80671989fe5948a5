"""The lines of the live view, from a progress event and the events before it.

Pure apart from `Memory`, which keeps the last trials. A line is a list of (style, text); `paint` cuts it to a width and
colours it. No stream, no clock, no terminal codes except colours.
"""

from __future__ import annotations

import math
import unicodedata
from collections import deque
from collections.abc import Sequence
from typing import Literal

from flatout.result.model import Axis, Interval, Limit, Trial
from flatout.runner.progress import RunProgress, SearchProgress
from flatout.view import facts
from flatout.view import format as fmt
from flatout.view.exchange import Exchange, exchange_of
from flatout.view.terminal import hosts as host_lines

Style = Literal["", "bold", "dim", "green", "red", "yellow", "cyan"]
Line = Sequence[tuple[Style, str]]

_CODES: dict[Style, str] = {"bold": "1", "dim": "2", "green": "32", "red": "31", "yellow": "33", "cyan": "36"}
_VERDICT_STYLES: dict[str, Style] = {"held": "green", "failed": "red", "invalid": "yellow"}
_MARKS = {"held": "●", "failed": "✕", "invalid": "?"}
_BAR_WIDTH = 40
_CELL_WIDTH = 19
_LAST_TRIALS = 6


class Memory:
    """What a frame needs beside the event: the title, the last trials, the range of loads, the run's last event."""

    def __init__(self, title: str = "") -> None:
        self.title = safe(title)
        self.trials: deque[tuple[int, Trial]] = deque(maxlen=_LAST_TRIALS)
        self.lowest = math.inf
        self.highest = 0.0
        self.run: RunProgress | None = None

    def note(self, progress: RunProgress | SearchProgress) -> bool:
        """Stores what later frames need; true where the event must be drawn at once."""
        if isinstance(progress, RunProgress):
            self.run = progress
            return progress.phase == "done"
        return self._note_search(progress)

    def _note_search(self, progress: SearchProgress) -> bool:
        if progress.load > 0:
            self.lowest = min(self.lowest, progress.load)
            self.highest = max(self.highest, progress.load)
        self.run = progress.run or self.run
        if progress.finished is not None:
            self.trials.append((progress.trial, progress.finished))
        return progress.finished is not None or progress.limit is not None


def safe(text: str) -> str:
    """Text from outside as printable characters of one column each."""
    return text if text.isascii() and text.isprintable() else "".join(map(_one_column, fmt.plain(text)))


def _one_column(char: str) -> str:
    wide = unicodedata.east_asian_width(char) in ("W", "F")
    return "□" if wide or unicodedata.combining(char) else char


def lines(progress: RunProgress | SearchProgress, memory: Memory) -> list[Line]:
    """The whole frame."""
    if isinstance(progress, RunProgress):
        return [_run_title(progress, memory.title), *_run(progress)]
    return _search(progress, memory)


def paint(line: Line, width: int, *, colours: bool) -> str:
    """Cut the line to `width` columns and colour it; every character drawn here is one column wide."""
    parts = []
    for style, text in line:
        cut = text[:width]
        width -= len(cut)
        parts.append(f"\x1b[{_CODES[style]}m{cut}\x1b[0m" if colours and style and cut else cut)
    return "".join(parts)


def second_line(second: Interval, exchange: Exchange) -> str:
    """One second of a run, for a log."""
    return (
        f"{second.t_s:6.1f} s  asked {second.planned:>9,}  sent {second.sent:>9,}{exchange.second_line(second)}"
        f"  late p99 {fmt.duration(second.lateness_p99):>7}"
    )


def connecting_line(progress: RunProgress) -> str:
    """The beginning and the end of connecting, for a log."""
    asked = fmt.count(progress.connections_asked)
    if progress.phase == "connecting":
        return f"opening {asked} connections"
    return f"{fmt.count(progress.connections)} of {asked} connections open"


def trial_line(number: int, trial: Trial, progress: SearchProgress) -> str:
    """One trial of a search, for a log."""
    lower, upper = _bound(progress.lower, progress.axis), _bound(progress.upper, progress.axis)
    return f"{number:3}  {_trial_numbers(trial)}  {trial.verdict:7}  bounds {lower} … {upper}{_reason(trial)}"


def limit_line(limit: Limit) -> str:
    """Word the end of a search, for a log."""
    reason = facts.STOPPED.get(limit.stopped_by, limit.stopped_by)
    if limit.value is None:
        return f"no limit: {reason}"
    unit = "" if limit.axis == "rate" else " connections"
    return f"limit {facts.load(limit.value, limit.axis)}{unit}: {reason}"


def _run_title(progress: RunProgress, title: str) -> Line:
    return [("bold", title), ("", "  " if title else ""), ("dim", progress.phase)]


def _run(progress: RunProgress) -> list[Line]:
    return [_run_bar(progress), *_run_numbers(progress), *_hosts(progress)]


def _run_bar(progress: RunProgress) -> Line:
    if progress.phase == "connecting":
        live, asked = progress.connections or 0, progress.connections_asked or 0
        share = min(1.0, live / asked) if asked else 0.0
        return [("cyan", _bar(share)), ("", f"  {fmt.count(live)} of {fmt.count(asked)} connections")]
    if progress.phase == "waiting":
        return [("", _bar(0.0)), ("dim", "  waits for the time to start")]
    if progress.phase == "warm-up":
        return [("", _bar(0.0)), ("dim", f"  starts in {fmt.seconds(max(0.0, -progress.t_s))}")]
    share = min(1.0, progress.t_s / progress.total_s) if progress.total_s > 0 else 0.0
    left = max(0.0, progress.total_s - progress.t_s)
    return [("cyan", _bar(share)), ("", f"  {fmt.seconds(left)} left of {fmt.seconds(progress.total_s)}")]


def _bar(share: float) -> str:
    full = round(share * _BAR_WIDTH)
    return "━" * full + "─" * (_BAR_WIDTH - full)


def _run_numbers(progress: RunProgress) -> list[Line]:
    rows = [_row(name, *cells) for name, cells in exchange_of(progress).live_rows(progress)]
    return [*rows, *_run_connections(progress)]


def _run_connections(progress: RunProgress) -> list[Line]:
    if progress.connections is None:
        return []
    return [_row("streams", ("live", fmt.count(progress.connections)), ("of", fmt.count(progress.connections_asked)))]


def _hosts(progress: RunProgress) -> list[Line]:
    """The hosts of a fleet, under their sum."""
    shown = host_lines.cells(progress.hosts)
    width = max((len(name) for name, _, _ in shown), default=0)
    return [
        [("dim", f"{safe(name):{width}}  "), ("", numbers), ("yellow", f"  {trouble}" if trouble else "")]
        for name, numbers, trouble in shown
    ]


def _row(name: str, *cells: tuple[str, str]) -> Line:
    line: list[tuple[Style, str]] = [("dim", f"{name:9}")]
    for word, value in cells:
        line += [("dim", f"{word} "), ("", value.ljust(_CELL_WIDTH - len(word)))]
    return line


def _search(progress: SearchProgress, memory: Memory) -> list[Line]:
    head: list[Line] = [_search_title(progress, memory.title), _search_trial(progress), *_bounds(progress, memory)]
    if progress.limit is not None:
        head.append([("bold", limit_line(progress.limit))])
    elif progress.finished is None and progress.run is not None:
        head += _run(progress.run)
    elif memory.run is not None:
        head += _run(memory.run)
    return head + [_trial(number, trial) for number, trial in memory.trials]


def _search_title(progress: SearchProgress, title: str) -> Line:
    left = max(0.0, progress.budget_s - progress.elapsed_s)
    gone = f"{fmt.seconds(round(progress.elapsed_s))} gone, at most {fmt.seconds(round(left))} left"
    return [("bold", title), ("", "  " if title else ""), ("dim", gone)]


def _search_trial(progress: SearchProgress) -> Line:
    return [
        ("dim", f"{'trial':9}"),
        ("bold", f"{progress.trial}"),
        ("", f"  {safe(progress.phase)} at {_load_words(progress)}"),
        ("dim", _ceiling(progress)),
    ]


def _load_words(progress: SearchProgress) -> str:
    rate = fmt.rate(progress.rate_per_s)
    return rate if progress.connections is None else f"{fmt.count(progress.connections)} connections, {rate}"


def _ceiling(progress: SearchProgress) -> str:
    hint = progress.ceiling_hint_per_s
    return "" if hint is None else f"  (the generator may end near {fmt.rate_short(hint)})"


def _bounds(progress: SearchProgress, memory: Memory) -> list[Line]:
    words: Line = [
        ("dim", f"{'bounds':9}"),
        ("green", f"held {_bound(progress.lower, progress.axis)}"),
        ("dim", " … "),
        ("red", f"failed {_bound(progress.upper, progress.axis)}"),
        ("dim", _apart(progress)),
    ]
    return [words, [("", " " * 9), *_bounds_bar(progress, memory)]] if memory.highest else [words]


def _bound(load: float | None, axis: Axis) -> str:
    return "nothing yet" if load is None else facts.load(load, axis)


def _apart(progress: SearchProgress) -> str:
    if not progress.lower or not progress.upper:
        return ""
    return f"  {fmt.percent(progress.upper / progress.lower - 1)} apart"


def _bounds_bar(progress: SearchProgress, memory: Memory) -> Line:
    """Draw loads on a log axis from the lowest tried to the highest: held, between, failed, and where it is now."""
    low, high = memory.lowest, max(memory.highest, memory.lowest * 1.01)
    cells = [_bound_cell(low * (high / low) ** ((i + 0.5) / _BAR_WIDTH), progress) for i in range(_BAR_WIDTH)]
    here = int(_BAR_WIDTH * math.log(max(progress.load, low) / low) / math.log(high / low))
    cells[min(_BAR_WIDTH - 1, here)] = ("bold", "▲")
    return [*cells, ("dim", f"  {_short(low, progress.axis)} … {_short(high, progress.axis)}")]


def _short(load: float, axis: Axis) -> str:
    return fmt.rate_short(load) if axis == "rate" else fmt.count(round(load))


def _bound_cell(load: float, progress: SearchProgress) -> tuple[Style, str]:
    if progress.lower is not None and load <= progress.lower:
        return ("green", "━")
    if progress.upper is not None and load >= progress.upper:
        return ("red", "╳")
    return ("dim", "·")


def _trial(number: int, trial: Trial) -> Line:
    style = _VERDICT_STYLES.get(trial.verdict, "")
    return [
        ("dim", f"{number:3}  "),
        ("", _trial_numbers(trial)),
        (style, f"  {_MARKS.get(trial.verdict, '?')} {trial.verdict}"),
        ("dim", _reason(trial)),
    ]


def _trial_numbers(trial: Trial) -> str:
    due = trial.latency_ns.from_due
    latency = f"  p99 {fmt.duration(due.p99 if due else None):>7}" if exchange_of(trial).percentiles else ""
    return f"{facts.load(trial.load, facts.axis_of(trial)):>12}  loss {fmt.percent(trial.loss):>8}{latency}"


def _reason(trial: Trial) -> str:
    return "" if trial.verdict == "held" else f"  {safe(trial.why)}"
