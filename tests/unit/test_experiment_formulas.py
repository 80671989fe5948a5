"""Formulas of experiment files: what they compute, and that nothing else is evaluated."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import UsageError
from flatout.experiments.formulas import evaluate, whole

NAMES = {"connections": 1000.0, "threads": 4.0, "zero": 0.0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500 + 1.05 * connections / threads", 762.5),
        ("2 * (connections - 1)", 1998.0),
        ("7 // 2", 3.0),
        ("-threads + +1", -3.0),
        ("max(10, threads, 3)", 10.0),
        ("min(threads)", 4.0),
        ("ceil(connections / 3)", 334.0),
        (" 1e3 ", 1000.0),
    ],
)
def test_it_computes(text: str, value: float) -> None:
    assert evaluate(text, NAMES) == pytest.approx(value)


def test_sizes_round_up() -> None:
    assert whole("500 + 1.05 * connections / threads", NAMES) == 763
    assert whole("0.1 * 30", NAMES) == 3


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "threads.real",
        "(1).bit_length()",
        "connections[0]",
        "2 ** 3",
        "7 % 2",
        "1 if threads else 2",
        "[1][0]",
        "True",
        "1j",
        "'a' * 9",
        "f'{threads}'",
        "(x := 1)",
        "lambda: 1",
        "abs(-1)",
        "max()",
        "ceil(1, 2)",
        "min(1, *[2])",
        "max(1, key=2)",
        "max",
        "1, 2",
        "threads == 4",
        "not threads",
        "~1",
        "1 +",
        "",
        "unknown + 1",
        "1 / zero",
        "1 // zero",
        "1e400",
        "9" * 250,
        "1e12 * 1e12",
        "(" * 200 + "1" + ")" * 200,
        "-" * 290 + "1",
        "1 + " * 100 + "1",
        "threads\0",
    ],
)
def test_nothing_else_is_evaluated(text: str) -> None:
    if set(text) == {"-", "1"}:
        assert abs(evaluate(text, NAMES)) == 1
        return
    with pytest.raises(UsageError):
        evaluate(text, NAMES)


_SIGNS = st.sampled_from([*"+-*/(),.[]':={}@#\\\n", "**", "//", "%"])
_WORDS = st.sampled_from(["threads", "connections", "x", "1", "2.5", "1e9", "max", "min", "ceil"])
_PIECES = _SIGNS | _WORDS | st.sampled_from(["if", "else", "lambda", "await", "__class__"])


@given(st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=25).map(" ".join), st.lists(_PIECES).map("".join)))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    try:
        value = evaluate(text, NAMES)
    except UsageError:
        return
    assert type(value) is float
    assert math.isfinite(value)
    assert not set(text.split("#", maxsplit=1)[0]) & set("[]{}'=@%:")
    assert "**" not in text.split("#", maxsplit=1)[0]


@given(st.integers(0, 10**6), st.integers(1, 10**3), st.floats(0, 1e6))
def test_it_is_the_arithmetic_of_python(a: int, b: int, c: float) -> None:
    names = {"a": float(a), "b": float(b), "c": c}
    assert evaluate("a / b + c * 2 - max(a, c)", names) == pytest.approx(a / b + c * 2 - max(a, c))
