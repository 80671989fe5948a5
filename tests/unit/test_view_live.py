"""The live view: what is drawn, how often, and that a terminal is left as it was. Time is an argument."""

from __future__ import annotations

import io
import re
import threading
import time

import msgspec
import pytest
import results

from flatout.result.model import Goal, Limit
from flatout.runner.progress import HostProgress, RunProgress, SearchProgress
from flatout.view import facts
from flatout.view.terminal import frame
from flatout.view.terminal.live import REDRAW_S, Live

CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """As much of a terminal as the view uses: lines, going up, clearing; colours are noted and dropped."""

    def __init__(self):
        self.lines = [""]
        self.row = 0
        self.styled = False

    def feed(self, data):
        for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\n|\r)", data):
            self._one(part)

    def _one(self, part):
        if part == "\n":
            self.row += 1
            self.lines += [""] * (self.row + 1 - len(self.lines))
        elif part.endswith("A") and part.startswith("\x1b["):
            self.row -= int(part[2:-1])
            assert self.row >= 0
        elif part == "\x1b[J":
            del self.lines[self.row + 1 :]
            self.lines[self.row] = ""
        elif part.startswith("\x1b[") and part.endswith("m"):
            self.styled = part != "\x1b[0m"
        elif part not in ("\r", "\x1b[K") and not part.startswith("\x1b[?2026"):
            assert not part.startswith("\x1b"), part
            self.lines[self.row] = part or self.lines[self.row]


class Terminal(io.StringIO):
    """A stream that shows what it is sent, counting writes."""

    def __init__(self):
        super().__init__()
        self.writes = 0

    def write(self, data):
        self.writes += 1
        return super().write(data)

    @property
    def screen(self):
        screen = Screen()
        # Colours within a line do not move anything.
        screen.feed(re.sub(r"\x1b\[[0-9]+m", "", self.getvalue()))
        return screen


class Clock:
    def __init__(self):
        self.s = 0.0

    def __call__(self):
        return self.s


def run(t_s=5.0, phase="running", **changes):
    seconds = tuple(results.interval(results.Server(), 200_000, n + 1.0, 3) for n in range(int(t_s)))
    progress = RunProgress(
        phase=phase, t_s=t_s, total_s=10.0, rate_per_s=200_000, planned=1_000_000, sent=1_000_000, unsent=7,
        answered=990_000, late=12, lost=9_985, refused=1, invalid=2, duplicate=0,
        latest=seconds[-1] if seconds else None, intervals=seconds,
    )  # fmt: skip
    return msgspec.structs.replace(progress, **changes)


def search(trial=3, finished=None, limit=None, lower=100_000.0, upper=400_000.0, **changes):
    progress = SearchProgress(
        trial=trial, phase="search", rate_per_s=200_000, trial_s=2.0, elapsed_s=12.0, budget_s=60.0, lower=lower,
        upper=upper, ceiling_hint_per_s=None, run=None if finished or limit else run(), finished=finished, limit=limit,
    )  # fmt: skip
    return msgspec.structs.replace(progress, **changes)


def drawn(*events, title="ntp 192.0.2.10:123"):
    out, clock = Terminal(), Clock()
    live = Live(title, stream=out, now=clock, terminal=True)
    for event in events:
        clock.s += REDRAW_S
        live(event)
    return "\n".join(out.screen.lines)


def test_a_run_shows_progress_rates_loss_latency_and_lateness():
    text = drawn(run())
    second = run().latest
    assert "5 s left of 10 s" in text
    assert "asked 200,000/s" in text
    assert f"answered {second.answered:,}/s" in text
    assert "loss 1.00 %" in text
    assert "late 12" in text
    assert "wrong 3" in text
    assert "unsent 7" in text
    assert frame.fmt.duration(second.p99) in text
    assert f"own lateness p99 {frame.fmt.duration(second.lateness_p99)}" in text


def test_hosts_of_a_fleet_have_a_line_each_the_worst_first():
    def host(number, **changes):
        return HostProgress(**{"host": f"host-{number}", "phase": "running", "rate_per_s": 5e3, **changes})

    hosts = [*map(host, range(1, 9)), host(9, unsent=5), host(10, silent_s=4.0), host(11, lateness_p99_ns=7_000)]
    lines = [line for line in drawn(run(hosts=tuple(hosts))).splitlines() if "host-" in line or "more" in line]
    assert [line.split()[0] for line in lines[:4]] == ["host-10", "host-9", "host-11", "host-1"]
    assert "no word for 4 s" in lines[0]
    assert "unsent 5" in lines[1]
    assert "5,000/s  late p99" in lines[2]
    assert lines[-1].strip() == "and 3 more"
    assert len(lines) == 9


def test_half_a_run_is_half_a_bar():
    bar = next(line for line in drawn(run()).splitlines() if "━" in line)
    assert bar.count("━") == bar.count("─") == 20


def test_warm_up_says_when_counting_starts():
    assert "starts in 0.5 s" in drawn(run(-0.5, "warm-up"))


def test_a_search_shows_the_bounds_and_the_last_trials():
    trials = results.trials(results.Server())
    text = drawn(*(search(i, finished=t) for i, t in enumerate(trials, 1)), search(len(trials)))
    assert "held 100,000/s … failed 400,000/s" in text
    assert "trial    13  search at 200,000/s" in text
    shown = [line for line in text.splitlines() if re.match(r" +\d+ .* loss ", line)]
    assert len(shown) == 6
    assert "✕ failed  p99 2." in shown[4]
    assert "● held" in shown[5]


def test_held_and_failed_are_told_apart_without_colour():
    bar = next(line for line in drawn(search()).splitlines() if "▲" in line)
    assert set(bar.split("  ")[0].strip()) <= set("━·╳▲")
    wide = drawn(search(rate_per_s=50_000.0), search(rate_per_s=800_000.0), search())
    bar = next(line for line in wide.splitlines() if "▲" in line)
    assert re.search(r"━+·+▲·+╳+  50\.0 k/s … 800 k/s", bar)


def test_the_end_of_a_search_is_said():
    limit = Limit(
        axis="rate", value=2e5, lower=2e5, upper=2.1e5, unit="requests/s", goal=Goal(loss=0), stopped_by="max"
    )
    assert "limit 200,000/s: held up to the highest load" in drawn(search(limit=limit))


def test_at_most_four_frames_a_second_but_every_milestone():
    out, clock = Terminal(), Clock()
    live = Live("", stream=out, now=clock, terminal=True)
    for tick in range(100):
        clock.s = tick / 100
        live(run())
    assert out.writes <= 4
    live(search(finished=results.trial(20_000, "bracket", results.Server(), 1)))
    assert out.writes == 5


def test_frames_draw_over_one_another():
    frames = drawn(run(), search(), search(), run())
    assert frames.count("asked 200,000/s") == 1
    assert frames.count("bounds") == 0


def test_a_good_end_clears_the_frame():
    out = Terminal()
    with Live("", stream=out, terminal=True) as live:
        live(search())
        live(search())
    assert out.screen.lines == [""]


def interrupted(out):
    with Live("", stream=out, terminal=True) as live:
        live(run())
        raise KeyboardInterrupt


def test_an_interrupted_frame_stays_and_the_terminal_needs_no_mending():
    out = Terminal()
    with pytest.raises(KeyboardInterrupt):
        interrupted(out)
    assert "5 s left" in "\n".join(out.screen.lines)
    assert out.screen.lines[out.screen.row] == ""
    text = out.getvalue()
    assert "\x1b[?25l" not in text
    assert "\x1b[?1049h" not in text
    assert text.count("\x1b[?2026h") == text.count("\x1b[?2026l")
    assert re.findall(r"\x1b\[([0-9]+)m", text)[-1] == "0"


def test_every_frame_ends_its_colours_and_fits_its_width():
    memory = frame.Memory("x" * 200)
    trials = results.trials(results.Server())
    for number, trial in enumerate(trials, 1):
        memory.note(search(number, finished=trial))
    for line in frame.lines(search(), memory):
        painted = frame.paint(line, 39, colours=True)
        assert len(CODE.sub("", painted)) <= 39
        assert painted.count("\x1b[") == 2 * painted.count("\x1b[0m")
        assert "\x1b" not in frame.paint(line, 39, colours=False)


def test_no_colour_when_asked(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    Live("title", stream=out, terminal=True)(run())
    assert not re.search(r"\x1b\[[0-9]+m", out.getvalue())


def test_a_run_without_terminal_is_one_plain_line_a_second():
    out = io.StringIO()
    with Live("ntp 192.0.2.10:123", stream=out) as live:
        live(run(-0.5, "warm-up"))
        for tenth in range(10, 41):
            live(run(tenth / 10))
    lines = out.getvalue().splitlines()
    assert lines[0] == "ntp 192.0.2.10:123"
    assert [line.split()[:2] for line in lines[1:]] == [["1.0", "s"], ["2.0", "s"], ["3.0", "s"], ["4.0", "s"]]
    assert "answered" in lines[1]
    assert out.getvalue().replace("\n", "").isprintable()


def test_seconds_that_are_over_at_once_have_a_line_each():
    out = io.StringIO()
    with Live("", stream=out) as live:
        for t_s in (0.5, 1.0, 3.0, 3.5):
            live(run(t_s))
    assert [line.split()[:2] for line in out.getvalue().splitlines()] == [["1.0", "s"], ["2.0", "s"], ["3.0", "s"]]


def test_a_search_without_terminal_is_one_plain_line_a_trial():
    out = io.StringIO()
    found = results.limit()
    with Live("", stream=out) as live:
        for number, trial in enumerate(found.trials, 1):
            lower, upper = facts.bounds(found.trials)[number - 1]
            live(search(number, lower=lower, upper=upper))
            live(search(number, finished=trial, lower=lower, upper=upper))
        live(search(limit=found.limit))
    lines = out.getvalue().splitlines()
    assert len(lines) == len(found.trials) + 1
    assert "invalid" in lines[3]
    assert "the generator was late" in lines[3]
    assert "bounds 160,000/s … 320,000/s" in lines[5]
    assert lines[-1].startswith("limit ")
    assert out.getvalue().replace("\n", "").isprintable()


def test_what_trials_say_cannot_command_the_terminal():
    trial = msgspec.structs.replace(results.trials(results.Server())[5], why="\x1b[2J\x07boom")
    for terminal in (True, False):
        out = Terminal()
        Live("\x1b]0;title\x07", stream=out, terminal=terminal)(search(finished=trial))
        assert "\x1b[2J" not in out.getvalue()
        assert "\x07" not in out.getvalue()
        assert "boom" in out.getvalue()


def test_a_search_that_ends_before_any_load_is_drawn():
    limit = Limit(
        axis="rate", value=None, lower=None, upper=None, unit="requests/s", goal=Goal(loss=0), stopped_by="interrupted"
    )
    text = drawn(search(limit=limit, rate_per_s=0.0, lower=None, upper=None))
    assert "no limit: interrupted" in text
    assert "held nothing yet … failed nothing yet" in text


def test_two_runs_after_one_another_are_both_logged():
    out = io.StringIO()
    live = Live("", stream=out)
    for t_s in (1.0, 2.0, 1.0, 2.0):
        live(run(t_s))
    assert len(out.getvalue().splitlines()) == 4


def test_characters_of_two_columns_do_not_break_lines():
    assert frame.safe("ntp 時計.example e\u0301") == "ntp □□.example e□"


class Gone(io.StringIO):
    def write(self, _):
        raise BrokenPipeError


def test_a_closed_standard_error_does_not_stop_the_measurement():
    for terminal in (True, False):
        with Live("", stream=Gone(), terminal=terminal) as live:
            live(run())
            live(search(finished=results.trial(20_000, "bracket", results.Server(), 1)))


def test_a_frame_costs_less_than_two_milliseconds_and_no_thread():
    threads = threading.active_count()
    out, clock = Terminal(), Clock()
    live = Live("ntp 192.0.2.10:123", stream=out, now=clock, terminal=True)
    trials = results.trials(results.Server())
    costs = []
    for number, trial in enumerate(trials, 1):
        live(search(number, finished=trial))
        clock.s += 1
        event, before = search(number), time.thread_time()
        live(event)
        costs.append(time.thread_time() - before)
    assert out.writes == 2 * len(trials)
    assert min(costs) < 0.002
    assert threading.active_count() == threads


def test_drawing_goes_to_standard_error_only(capsys):
    with Live("x") as live:
        live(run())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("x\n")


def test_opening_connections_is_shown():
    text = drawn(run(-1.0, "connecting", connections=25_000, connections_asked=100_000))
    assert "25,000 of 100,000 connections" in text
    bar = next(line for line in text.splitlines() if "━" in line)
    assert bar.count("━") == 10
    assert "live 99,998" in drawn(run(connections=99_998, connections_asked=100_000))
    assert "waits for the time to start" in drawn(run(-1.0, "waiting"))


def test_lines_say_when_connecting_begins_and_ends():
    out = io.StringIO()
    live = Live("x", stream=out, terminal=False)
    for phase, stand in (("connecting", 0), ("connecting", 5), ("warm-up", 9)):
        live(run(-1.0, phase, connections=stand, connections_asked=10))
    assert out.getvalue().splitlines() == ["x", "opening 10 connections", "9 of 10 connections open"]


def test_a_search_of_connections_counts_them():
    trials = results.limit_of_connections().trials
    along = {"axis": "connections", "connections": 4000, "lower": 2000.0, "upper": 8000.0}
    text = drawn(search(1, trials[0], **along), search(2, **along))
    assert "held 2,000 … failed 8,000" in text
    assert "search at 4,000 connections, 200,000/s" in text
    assert re.search(r"1,000 +loss", text)
    limit = results.limit_of_connections().limit
    assert "limit 10,152 connections: the limit is known" in drawn(search(limit=limit, **along))
