"""The summary on a terminal: approved output, and what must hold of any.

After a wanted change: FLATOUT_APPROVE=1 pytest tests/unit/test_view_summary.py, and read the difference.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import ledgers
import msgspec
import one_way_results
import pytest
import results
from rich.console import Console

from flatout.analysis import explained
from flatout.result.model import Requirement
from flatout.view import facts
from flatout.view.exchange import exchange_of
from flatout.view.terminal import labels, summary

GOLDEN = Path(__file__).parent.parent / "golden"


def with_findings():
    """A stopped server: a full receive buffer, and what lies in it."""
    full = msgspec.structs.replace(ledgers.SOCKET, drops=7_000, unread_bytes=212_992)
    return explained(
        ledgers.closed(ledgers.run(7_300), ledgers.sampled(sockets=[full], target_stopped=True, stopped_pids=[812]))
    )


CASES = {
    "load": results.load,
    "load_lossy": lambda: results.load(230_000, 5),
    "load_unanswered": results.unanswered,
    "load_interrupted": results.interrupted,
    "load_streams": lambda: results.over_streams("echo"),
    "load_labels": lambda: results.over_streams("dns", tallies={"noerror": 199_000, "nxdomain": 1000, "truncated": 5}),
    "load_one_way": one_way_results.run,
    "load_one_way_lossy": lambda: one_way_results.run(lost_in_kernel=300_000, lost_elsewhere=20_000, malformed=40),
    "load_one_way_unknown": one_way_results.uncounted,
    "load_one_way_behind": one_way_results.behind,
    "load_findings": with_findings,
    "limit": results.limit,
    "limit_one_way": one_way_results.limit,
    "limit_connections": results.limit_of_connections,
    "limit_interrupted": results.limit_interrupted,
    "limit_improved": results.improved,
}


@pytest.mark.parametrize("name", CASES)
def test_approved(name):
    approved = GOLDEN / f"summary_{name}.txt"
    text = summary.text(CASES[name]())
    if "FLATOUT_APPROVE" in os.environ:
        approved.write_text(text, encoding="utf-8")
    assert text == approved.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_fits_80_columns(name):
    assert max(map(len, summary.text(CASES[name]()).splitlines())) <= 80


def test_the_labels_are_those_that_scripts_look_for():
    text = summary.text(CASES["load_labels"](), width=40)
    found = re.findall(r"^  ([A-Z][^:]+):", text, re.MULTILINE)
    assert found == [
        "Queries sent",
        "Queries completed",
        "Queries lost",
        "Response codes",
        "Run time (s)",
        "Queries per second",
        "Average Latency (s)",
        "Latency StdDev (s)",
        "Connection attempts",
        "Average Latency (s)",
    ]
    assert re.search(
        r"^  Response codes:       NOERROR 199000 \(99.50%\), NXDOMAIN 1000 \(0.50%\)$", text, re.MULTILINE
    )
    assert float(re.search(r"^  Queries per second:   ([0-9.]+)$", text, re.MULTILINE)[1]) == pytest.approx(
        200_000 / CASES["load_labels"]().duration_s
    )


def test_protocols_without_codes_have_no_labels():
    assert labels.block(results.over_streams("echo")) is None
    assert labels.block(results.interrupted()) is None


def test_every_outcome_adds_up_as_shown():
    run = results.load(230_000, 5)
    shown = {row.word: row.number for row in facts.outcome_rows(run)}
    assert shown["planned"] == shown["sent"] + shown["unsent"]
    assert shown["sent"] == sum(shown[word] for word in exchange_of(run).sent_words)
    assert run.outcomes.lost > 0


def printed(result, **console):
    out = io.StringIO()
    Console(file=out, width=80, **console).print(summary.summary(result))
    return out.getvalue()


def test_colours_only_on_a_terminal():
    assert "\x1b[" not in printed(results.load())
    assert "\x1b[" in printed(results.load(), force_terminal=True, color_system="standard")


def test_verdicts_differ_in_colour():
    colours = {}
    for run in (results.load(), results.unanswered()):
        line = printed(run, force_terminal=True, color_system="standard").splitlines()[0]
        colours[run.verdict] = line.split(run.verdict)[0].rsplit("\x1b", 1)[1]
    assert colours == {"ok": "[1;32m", "target-lost": "[1;31m"}


def test_nothing_from_outside_reaches_the_terminal_as_code_or_markup():
    evil = "[red]x[/red]\x1b[2J\x07"
    run = results.load(
        why=evil,
        tallies={evil: 3},
        unsent_because={evil: 1},
        scenario=results.scenario(evil),
        requirements=[Requirement(expression=evil, value=1.0, met=False)],
    )
    text = printed(run)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert text.count("[red]x[/red]") >= 4


def test_requirements_say_what_was_measured_in_its_own_unit():
    said = {
        expression: facts.requirement_value(Requirement(expression=expression, value=value, met=True))
        for expression, value in (("loss<1%", 0.004), ("p999<5ms", 4_200_000.0), ("rate>9k", 9_500.0), ("late<9", 8.0))
    }
    assert said == {
        "loss<1%": "measured 0.40 %",
        "p999<5ms": "measured 4.20 ms",
        "rate>9k": "measured 9,500/s",
        "late<9": "measured 8",
    }


def test_bounds_close_in_and_a_load_that_failed_later_is_no_lower_bound():
    server = results.Server()
    trials = [
        results.trial(20_000, "bracket", server, 1),
        results.trial(400_000, "bracket", server, 2),
        results.trial(100_000, "search", server, 3),
        results.msgspec.structs.replace(results.trial(100_000, "confirm", server, 4), verdict="failed"),
    ]
    assert facts.bounds(trials) == [(20_000, None), (20_000, 400_000), (100_000, 400_000), (20_000, 100_000)]


def test_the_confirming_trial_is_shown_even_if_another_took_longer():
    found = results.limit()
    longer = results.msgspec.structs.replace(found.trials[0], duration_s=99.0)
    assert facts.shown_run(results.limit(trials=[longer, *found.trials])) is found.trials[-1]
    assert found.trials[-1].phase == "confirm"
    unconfirmed = results.limit(trials=[*found.trials[:3], longer])
    assert facts.shown_run(unconfirmed) is longer
    assert facts.shown_run(results.limit_interrupted()) is None


def test_a_trial_that_held_though_it_lost_more_than_the_goal_is_explained() -> None:
    found = results.limit()
    assert "the verdict that of the time" not in " ".join(summary.text(found).split())
    disturbed = results.msgspec.structs.replace(next(t for t in found.trials if t.verdict == "held"), loss=0.3)
    assert "the verdict that of the time" in " ".join(
        summary.text(results.limit(trials=[disturbed, *found.trials])).split()
    )


def test_what_no_setting_helps_with_is_left_to_people_and_an_undone_change_is_as_before():
    tried = results.improved().improvements
    left = msgspec.structs.replace(tried[2], finding="CPU quota", setting="", why="the remedy is yours: raise it")
    shown = " ".join(summary.text(results.limit(improvements=[tried[1], left])).split())
    assert "Left to you, with the remedies above: CPU quota." in shown
    assert "All that was changed is as it was before (read back)." in shown
    # One stays.
    assert "as it was before" not in summary.text(results.improved())
    assert "Left to you" not in summary.text(results.improved())


def test_values_of_several_numbers_are_shown_without_their_tabs():
    shown = [setting for setting, _ in facts.improvement_lines(results.improved())]
    assert "net.ipv4.udp_mem: 575,799 767,734 1,151,598 → 2,303,196 3,070,936 4,606,392" in shown
    assert facts.improvement_lines(results.limit()) == []
