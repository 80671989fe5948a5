"""The data behind the stacked picture: what was planned adds up, and trials of one load are one stack."""

from __future__ import annotations

from typing import get_args

import ledgers
import msgspec
import one_way_results
import pytest
import results
from hypothesis import given
from hypothesis import strategies as st
from ramps import line, search, trial

from flatout.result.ledger import LedgerLine, Place
from flatout.view import ledger as account
from flatout.view.picture import parts, picture

RUNS = {
    "load": results.load,
    "lossy": lambda: results.load(230_000, 5),
    "unanswered": results.unanswered,
    "interrupted": results.interrupted,
    "streams": lambda: results.over_streams("echo"),
    "one way": one_way_results.run,
    "one way lossy": lambda: one_way_results.run(lost_in_kernel=300_000, lost_elsewhere=20_000, malformed=40),
    "one way unknown": one_way_results.uncounted,
    "with a ledger": lambda: ledgers.closed(ledgers.run(900, unsent={"late": 30}, refused=7), ledgers.sampled()),
}


@pytest.mark.parametrize("name", RUNS)
def test_parts_add_up_to_what_was_planned(name):
    run = RUNS[name]()
    assert sum(parts(run).values()) == run.outcomes.planned
    assert min(parts(run).values(), default=0) >= 0


Lines = st.lists(
    st.builds(
        LedgerLine,
        side=st.sampled_from(["unsent", "lost", "beside"]),
        place=st.sampled_from(get_args(Place)),
        count=st.none() | st.integers(0, 2_000),
    ),
    max_size=8,
)


@given(Lines, st.integers(0, 1_000))
def test_they_add_up_whatever_a_ledger_says(lines, good):
    run = trial(1_000, good=good, lines=lines)
    found = parts(run)
    assert sum(found.values()) == run.outcomes.planned
    assert min(found.values()) >= 0
    drawn = picture(search([run]))
    assert sum(drawn.stacks[0].share(name) for name in drawn.names) == pytest.approx(1.0)


def test_the_words_are_those_of_the_ledgers_table():
    run = ledgers.closed(
        ledgers.run(900, unsent={"late": 30}),
        ledgers.sampled(sockets=[msgspec.structs.replace(ledgers.SOCKET, drops=600)]),
    )
    drawn = picture(run)
    assert set(drawn.names) - {"answered"} == {row.place for row in account.rows(run) if row.share is not None}
    assert drawn.names == ["answered", "receive buffer", "unexplained", "unsent: late here"]
    assert drawn.stacks[0].parts["receive buffer"] == 600


def test_trials_of_one_load_are_one_stack_in_order_of_load():
    full = trial(2_000, good=500, lines=[line("receive_buffer", 15_000)])
    drawn = picture(search([full, trial(1_000), trial(2_000, good=1_500), trial(1_000)]))
    assert [(stack.load, stack.trials, stack.planned) for stack in drawn.stacks] == [
        (1_000, 2, 20_000),
        (2_000, 2, 40_000),
    ]
    assert {name: n for name, n in drawn.stacks[1].parts.items() if n} == {
        "answered": 20_000,
        "receive buffer": 15_000,
        "unexplained": 5_000,
    }


def test_every_place_has_its_place_in_the_order():
    lines = [LedgerLine(side="lost", place=place, count=1) for place in get_args(Place)]
    assert len(picture(search([trial(1_000, good=0, lines=lines)])).names) == len(get_args(Place)) + 1


def test_without_a_ledger_the_outcomes_are_shown():
    assert picture(results.unanswered()).names == ["refused", "lost", "unsent"]


def test_unknown_outcomes_are_one_part():
    assert set(picture(one_way_results.uncounted()).names) <= {"unknown", "unsent"}


def test_nothing_planned_is_no_stack():
    assert picture(results.interrupted()).stacks == []
