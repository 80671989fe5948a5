"""Text and bytes from outside, whatever they are: a value or one of flatout's own errors, never another exception.

Law: what people type, and files they hand in, is their fault and is told so (UsageError, TargetError). Found inputs
that broke it stand as examples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import results
from hypothesis import example, given
from hypothesis import strategies as st

from flatout import units
from flatout.errors import TargetError, UsageError
from flatout.plan import listen, targets
from flatout.result import files
from flatout.result.model import LimitResult, LoadResult
from flatout.scenario import profile, requirement
from flatout.scenario.target import split

MANY_DIGITS = "9" * 5000
MOST_CPUS = 8192  # of a Linux kernel
WORDS = [
    *(
        "k",
        "M",
        "ms",
        "us",
        "µs",
        "s",
        "h",
        "m",
        "d",
        "KiB",
        "GB",
        "%",
        "/s",
        "qps",
        "p99",
        "loss",
        "rate",
        "lost",
        "host",
    ),
    *(
        "<",
        "<=",
        ">",
        "..",
        "+",
        "-",
        ",",
        ":",
        "[",
        "]",
        "#",
        "/",
        ".",
        " ",
        "\n",
        "\0",
        "%eth0",
        "::1",
        "127.0.0.0/8",
    ),
    *("0", "1", "007", "1.5", "1e9", "1e400", "1e-400", "nan", "inf", "١٢", "²", "1_0", MANY_DIGITS),
]
# Pieces of the grammars in any order come near what is right; any text at all comes from far.
texts = st.lists(st.sampled_from(WORDS), max_size=8).map("".join) | st.text(max_size=40)
# Without white space a profile is a file's name, and any name may be a device that never ends.
profiles = st.tuples(texts, texts).map(" ".join).filter(lambda text: len(text.split()) > 1)


def value_or_refusal(parse: Callable[[Any], Any], given_: Any) -> Any:
    """What the parser makes of it; None where it refuses."""
    try:
        return parse(given_)
    except (UsageError, TargetError):
        return None


@given(texts)
@example("1e400")
@example(MANY_DIGITS)
def test_units(text: str) -> None:
    rate = value_or_refusal(units.rate, text)
    assert rate is None or 0 < rate <= units.MOST_PER_S
    seconds = value_or_refusal(units.duration, text)
    assert seconds is None or 0 <= seconds <= 366 * 86400
    share = value_or_refusal(units.share, text)
    assert share is None or 0 <= share < 1
    size = value_or_refusal(units.size, text)
    assert size is None or size >= 0


# A wide range would be counted out where it is not refused: a failure here must not take the machine with it.
@given(texts.filter(lambda text: not re.search(r"\d{7}", text)))
@example("0-99999")
@example("²")
def test_cpu_lists(text: str) -> None:
    cpus = value_or_refusal(units.cpu_list, text) or ()
    assert len(set(cpus)) == len(cpus) <= MOST_CPUS


@pytest.mark.parametrize("text", [MANY_DIGITS, f"0,{MANY_DIGITS}", f"0-{MANY_DIGITS}", f"{MANY_DIGITS}-{MANY_DIGITS}"])
def test_cpus_that_no_machine_has(text: str) -> None:
    with pytest.raises(UsageError):
        units.cpu_list(text)


@given(profiles)
@example("1e400 1s")
@example("10 1s, +1e300/s 1s")
def test_profiles(text: str) -> None:
    segments = value_or_refusal(profile.parse, text)
    for segment in segments or ():
        assert segment.seconds > 0
        assert min(segment.from_per_s, segment.to_per_s) >= 0
        assert math.isfinite(segment.seconds + segment.from_per_s + segment.to_per_s)


@pytest.mark.parametrize("name", ["\0", "a\0b", "x" * 10_000, "\ud800", "", ".", "/nonexistent/profile"])
def test_a_profile_that_is_no_file(name: str) -> None:
    with pytest.raises(UsageError):
        profile.parse(name)


@given(texts)
def test_ramps(text: str) -> None:
    value_or_refusal(lambda given_: profile.ramp(given_, 1.0), text)


@given(texts)
@example(f"host:{MANY_DIGITS}")
@example(f"[::1]:{MANY_DIGITS}")
@example("host:²")
def test_targets(text: str) -> None:
    found = value_or_refusal(lambda given_: split(given_, 123), text)
    assert found is None or 0 < found[1] < 65536


@given(texts)
@example("0.0.0.0/0")
@example("::/0")
def test_sources(text: str) -> None:
    found = value_or_refusal(lambda given_: targets.sources((given_,), 4), text)
    assert found is None or len(found) <= 4


@pytest.mark.parametrize("port", [MANY_DIGITS, "²", "-1", "65536", "", "\0"])
def test_listen_addresses(port: str) -> None:
    with pytest.raises(UsageError):
        listen.listen_address(f"127.0.0.1:{port}")


@given(texts | texts.map("{}:0".format))
@example("[::1%lo]:0")
def test_any_listen_address(text: str) -> None:
    value_or_refusal(listen.listen_address, text)


@given(texts)
@example(f"lost<{MANY_DIGITS}")
@example("lost<²")
def test_requirements(text: str) -> None:
    value_or_refusal(requirement.check, text)


RIGHT = [results.load().to_json(), results.limit().to_json()]
HEAD = b'{"schema": "flatout/1", "kind": "load", "scenario": '


@given(st.binary(max_size=200) | st.text(max_size=200))
@example("\ud800")
@example(HEAD + b"[" * 100_000)
@example(HEAD + b'{"a":' * 100_000)
@example(HEAD + b"1" * 5000)
def test_results_of_any_bytes(data: bytes | str) -> None:
    value_or_refusal(files.from_json, data)


@given(st.sampled_from(RIGHT), st.data())
def test_results_with_some_bytes_changed(right: bytes, data: st.DataObject) -> None:
    spoiled = bytearray(right)
    at = data.draw(st.integers(0, len(right) - 1))
    spoiled[at : at + data.draw(st.integers(0, 20))] = data.draw(
        st.binary(max_size=4) | st.sampled_from([b"null", b"-1", b"1e999", b"[]", b"{}", b'"', b"\xff", b"9" * 5000])
    )
    read = value_or_refusal(files.from_json, bytes(spoiled))
    assert read is None or isinstance(read, LoadResult | LimitResult)
