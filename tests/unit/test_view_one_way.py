"""What views say of messages that go one way: how many came, where the rest went, and nothing of latency."""

from __future__ import annotations

import io
import re

import one_way_results
import pytest
import results

from flatout.result.model import LimitResult, LoadResult
from flatout.runner.progress import RunProgress
from flatout.view import facts
from flatout.view.page import page
from flatout.view.terminal import frame, summary
from flatout.view.terminal.live import Live

LOSSY = one_way_results.run(lost_in_kernel=300_000, lost_elsewhere=20_000, malformed=40)


def test_what_was_sent_is_the_sum_of_the_words_shown() -> None:
    shown = {row.word: row.number for row in facts.outcome_rows(LOSSY)}
    assert shown["sent"] == shown["received"] + shown["lost"] + shown["invalid"] == LOSSY.outcomes.sent
    assert not {"answered", "late", "refused"} & set(shown)
    assert facts.equations(LOSSY)[1] == "sent 3,200,000 = received 2,879,960 + lost 320,000 + invalid 40"


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (one_way_results.run(), "800,000/s received of 800,000/s asked with 0 % loss."),
        (one_way_results.run(lost_in_kernel=32), "0.001 % loss, all of it in the receiver's kernel."),
        (one_way_results.run(lost_elsewhere=32), "0.001 % loss, none of it in the receiver's kernel."),
        (LOSSY, "10.00 % loss, 93.75 % of it in the receiver's kernel."),
        (one_way_results.uncounted(), "The number of received messages is unknown: no receiver at the"),
    ],
    ids=["all", "kernel", "elsewhere", "both", "unknown"],
)
def test_the_sentence_says_where_it_was_lost(run: LoadResult, said: str) -> None:
    assert said in facts.sentence(run)


def test_where_nobody_counted_nothing_is_claimed() -> None:
    text = summary.text(one_way_results.uncounted())
    assert "unknown" in text
    assert not re.search(r"\b(received|lost|answered)\s+0\b", text)
    assert re.search(r"^loss +–", text, re.MULTILINE)


@pytest.mark.parametrize("run", [one_way_results.run(), LOSSY, one_way_results.uncounted(), one_way_results.limit()])
def test_no_view_speaks_of_latency_or_answers(run: LoadResult | LimitResult) -> None:
    pytest.importorskip("bokeh")
    drawn = page.render(run).split("<footer>")[0]
    for reported in (summary.text(run), re.sub(r"<style>.*?</style>", "", drawn, flags=re.DOTALL)):
        assert not re.search(r"\banswered\b(?!_)|latency (p50|from)|Latency (by|over)", reported)


def test_the_page_shows_what_the_receiver_counted() -> None:
    pytest.importorskip("bokeh")
    html = page.render(LOSSY)
    assert "The receiver&#39;s own count" in html
    assert "lost: in the receiver&#39;s kernel 300,000, elsewhere 20,000" in html
    assert "received 2,879,960" in html
    assert "tallies" not in html.split("<footer>")[0].split("<main>")[1]


def test_the_end_of_the_last_second_is_no_breakdown() -> None:
    pytest.importorskip("bokeh")
    from flatout.view.page import chart

    assert len(LOSSY.intervals) == one_way_results.FOR_S + 1
    assert f"{one_way_results.FOR_S} seconds; " in page.render(LOSSY)
    assert len(chart.course(LOSSY, "run")) == 3


def test_requests_that_are_answered_are_told_as_before() -> None:
    for run in (results.load(), results.unanswered(), results.interrupted()):
        assert not re.search(r"\breceived\b|messages left", summary.text(run))
        assert "answered" in summary.text(run)


def progress(received: int | None) -> RunProgress:
    second = one_way_results.second(2.0, 800_000, 0 if received else None)
    return RunProgress(
        phase="running", t_s=2.0, total_s=4.0, rate_per_s=8e5, planned=1_600_000, sent=1_600_000, unsent=7, answered=0,
        late=0, refused=0, invalid=0, duplicate=0, latest=second, intervals=(second,),
        one_way=True, received=received,
    )  # fmt: skip


@pytest.mark.parametrize("received", [None, 1_500_000])
def test_the_live_view_shows_what_left_and_what_came(received: int | None) -> None:
    lines = ["".join(text for _, text in line) for line in frame.lines(progress(received), frame.Memory())]
    text = "\n".join(lines)
    assert "sent 800,000/s" in text
    assert "unsent 7" in text
    assert ("received 1,500,000" in text) == (received is not None)
    assert not re.search("answered|p50|loss", text)


def test_a_log_has_a_line_a_second() -> None:
    out = io.StringIO()
    with Live("title", stream=out, terminal=False) as live:
        live(progress(1_500_000))
        live(progress(1_500_000))
    assert out.getvalue().count("received   800,000") == 1
    assert "answered" not in out.getvalue()
