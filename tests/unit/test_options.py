"""Arguments of the Python API and text of the command line become the same scenario; wrong ones are bad use."""

from __future__ import annotations

from typing import Any

import pytest

from flatout.errors import UsageError
from flatout.plan import resolve as plan
from flatout.protocols import PROTOCOLS
from flatout.scenario.build import scenario_of
from flatout.scenario.model import Scenario, Segment

NAME = next(iter(PROTOCOLS))


def scenario(**given: Any) -> Scenario:
    fields: dict[str, Any] = {"rate": 1000, "duration": 1.0, "profile": None, **given}
    return scenario_of(NAME, "127.0.0.1:5", **fields)


def test_numbers_and_text_mean_the_same() -> None:
    text = scenario(rate="10k", duration="1m30s", warmup="500ms", timeout="250ms")
    assert text == scenario(rate=10_000, duration=90, warmup=0.5, timeout=0.25)
    assert text.profile == (Segment(90.0, 10_000.0, 10_000.0),)
    assert (text.duration_s, text.peak_per_s) == (90.0, 10_000.0)


def test_profiles_as_text_or_segments() -> None:
    assert scenario(rate=None, profile="1k 1s, 2k 1s") == scenario(
        rate=None, profile=[Segment(1.0, 1e3, 1e3), Segment(1.0, 2e3, 2e3)]
    )


def test_defaults_are_filled_in() -> None:
    made = scenario()
    assert (made.flows, made.warmup_s, made.timeout_s, made.seed, made.threads) == (64, 1.0, 1.0, 42, 1)
    assert (made.arrivals, made.stamps, made.sources, made.require) == ("constant", "kernel", (), ())
    protocol_options = {field.name for field in PROTOCOLS[NAME].options.__dataclass_fields__.values()}
    assert set(made.options) == protocol_options


@pytest.mark.parametrize(
    "given",
    [
        {"rate": None},
        {"rate": 1000, "profile": "1k 1s"},
        {"rate": 0},
        {"rate": -1},
        {"rate": 1e99},
        {"rate": float("nan")},
        {"rate": float("inf")},
        {"rate": "fast"},
        {"duration": 0},
        {"duration": -1},
        {"duration": float("nan")},
        {"duration": "long"},
        {"warmup": "long"},
        {"timeout": "-1s"},
        {"arrivals": "sometimes"},
        {"stamps": "rubber"},
        {"flows": "many"},
        {"flows": 1.5},
        {"seed": "x"},
        {"threads": None},
        {"options": {"no_such_knob": 1}},
        {"options": {"version": 9}},
        {"no_such_option": 1},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_bad_use(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        plan.make(scenario(**given))


def test_an_unknown_protocol_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=NAME):
        scenario_of("smoke-signals", "127.0.0.1", rate=1, duration=1, profile=None)
