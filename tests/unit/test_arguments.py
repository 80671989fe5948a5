"""Arguments of the Python API: what none can be, empty text, and the names of files; each error names its argument."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import results
from hypothesis import given
from hypothesis import strategies as st

import flatout
from flatout import api, arguments, searching
from flatout.errors import ArgumentError, UsageError
from flatout.receiver.receiver import Receiver
from flatout.scenario.build import scenario_of
from flatout.scenario.model import Scenario, Segment
from flatout.scenario.settings import DEFINITIONS, LoadOptions
from flatout.testing import Faults, FaultyServer


def shown(value: object) -> str:
    """A test's name, the same in each process."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


NONE_TAKES = [object(), b"\xff", float("nan"), {"a": 1}, [object()], "", " ", 1j]
# Bytes are names of files, a mapping may be empty, and a list of nothing is a list.
FILES = {"queries", "log", "tls['ca']", "options['values']"}
SECONDS, COUNTS = ("timeout", "warmup", "connect_timeout", "busy_poll"), ("flows", "connections", "churn", "hold")


def named(error: UsageError, argument: str) -> bool:
    """Whether an error names an argument, as a word."""
    return re.search(rf"(?<![\w']){re.escape(argument)}(?!\w)", str(error)) is not None


def asked(protocol: str = "dns", target: str = "127.0.0.1:1", **options: Any) -> Scenario:
    given_ = {"rate": 100, "duration": 1, "profile": None, **options}
    return scenario_of(protocol, target, **given_)


def load_settings() -> dict[str, Callable[[Any], Scenario]]:
    """Each setting of a load, with what makes a scenario with it."""
    made: dict[str, Callable[[Any], Scenario]] = {}
    for name, part, _, setting in DEFINITIONS:
        protocol = "dns" if setting.of is None or setting.of(flatout_protocol("dns")) else "record"
        if part is None:
            made[name] = lambda value, name=name, protocol=protocol: asked(protocol, **{name: value})
        else:
            made[f"{name}[{part!r}]"] = lambda value, name=name, part=part: asked(
                transport="tls", **{name: {part: value}}
            )
    for name in ("rate", "duration", "profile", "profile_format"):
        rest = {"rate": None} if name == "profile" else {}
        made[name] = lambda value, name=name, rest=rest: asked(**{**rest, name: value})
    made["options"] = lambda value: asked(options=value if value != {"a": 1} else [value])
    made["options['udp_size']"] = lambda value: asked(options={"udp_size": value})
    made["options['edns']"] = lambda value: asked(options={"edns": value})
    made["options['endian']"] = lambda value: asked("record", options={"endian": value})
    made["options['format']"] = lambda value: asked("record", options={"format": value})
    made["options['values']"] = lambda value: asked("record", options={"values": value})
    return made


def flatout_protocol(name: str) -> Any:
    from flatout.protocols import protocol

    return protocol(name)


SETTINGS = load_settings()


def test_every_setting_is_looked_at() -> None:
    assert {name.split("[")[0] for name in SETTINGS} >= set(LoadOptions.__annotations__)
    assert set(inspect.signature(api.load).parameters) - {"protocol", "target", "progress", "fleet"} <= {*SETTINGS}


def cannot_be(name: str) -> list[Any]:
    """Of the values that no argument takes those that are no names of files, where it takes such."""
    of_files = name in FILES or name == "profile"
    return [value for value in NONE_TAKES if not (of_files and (isinstance(value, bytes) or value == " "))]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in SETTINGS for value in cannot_be(name)], ids=shown
)
def test_a_value_that_it_cannot_have_is_refused_with_its_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError) as refused:
        SETTINGS[name](value)
    assert named(refused.value, name.replace("profile_format", "profile")), refused.value


@pytest.mark.parametrize("name", [*SECONDS, *COUNTS, "threads", "seed", "spread", "rate", "duration", "connect_rate"])
def test_switches_and_texts_of_no_number_are_no_numbers(name: str) -> None:
    for value in (True, "a", "1 2", -1):
        if (name, value) == ("seed", -1) or (name == "threads" and value == -1):
            continue  # any number seeds; how many threads there can be is looked at later
        with pytest.raises(UsageError) as refused:
            SETTINGS[name](value)
        assert named(refused.value, name), refused.value


def test_none_stands_for_no_value_where_the_type_has_it() -> None:
    for name, part, kind, _ in DEFINITIONS:
        argument = name if part is None else f"{name}[{part!r}]"
        if type(None) in get_args(kind):
            assert SETTINGS[argument](None)
        elif part is None and name != "tls":
            with pytest.raises(UsageError):
                SETTINGS[argument](None)


def test_numbers_of_other_libraries_are_numbers() -> None:
    scenario = asked(
        rate=np.float64(5), duration=np.int64(2), timeout=np.float32(0.5), flows=np.int32(7), gso=np.bool_(False)
    )
    assert (scenario.peak_per_s, scenario.duration_s, scenario.timeout_s, scenario.flows) == (5.0, 2.0, 0.5, 7)
    assert asked(cpus=np.array([0]), start_at=np.float64(2e9), node=np.array([1, 2])).node == (1, 2)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_is_named_by_text_bytes_or_a_path(name: str, tmp_path: Path) -> None:
    files = [tmp_path / "plain.npy", tmp_path / "b\udcfc.npy"]
    for file in files:
        np.save(os.fsencode(file).decode("utf-8", "surrogateescape"), np.zeros(1, "u4"))
        for given_ in (str(file), file, os.fsencode(file)):
            made = (
                SETTINGS[name](given_)
                if name != "options['values']"
                else asked("record", options={"values": given_, "format": "x:u4"})
            )
            found = {"queries": made.queries, "log": made.log, "tls['ca']": made.tls.ca}
            assert found.get(name, made.options.get("values")) == str(file)
    with pytest.raises(UsageError) as refused:
        SETTINGS[name]("a\0b")
    assert named(refused.value, name)


def test_a_zone_and_a_result_are_named_alike(tmp_path: Path) -> None:
    zone, result = tmp_path / "a.zone", tmp_path / "r.json"
    zone.write_text("$ORIGIN lab.test.\n@ 60 IN SOA ns h 1 2 3 4 5\n", encoding="utf-8")
    for given_ in (zone, os.fsencode(zone), str(zone)):
        with flatout.serve("dns", "127.0.0.1:0", zone=given_, threads=1) as server:
            assert server.alive
    for given_ in (result, os.fsencode(result), str(result)):
        results.load().save(given_)
        assert flatout.read(given_) == results.load()


class Taking:
    """Something that takes arguments, called with good ones but for one."""

    def __init__(self, call: Callable[..., Any], *given_: Any, **good: Any) -> None:
        self.call, self.given, self.good = call, given_, good


def limit(**options: Any) -> Any:
    return searching.search_of(
        searching.trial_scenario("dns", "127.0.0.1:1"),
        **{"loss": 0.1, "p99": None, "least": None, "most": None, "within": 0.02, "budget": 60, **options},
    )


SERVE = Taking(flatout.serve, "dns", "127.0.0.1:0")
RECEIVE = Taking(flatout.serve, "record", "127.0.0.1:0")
RECEIVER = Taking(Receiver, "127.0.0.1:0")
SENDER = Taking(flatout.Sender, "127.0.0.1:1")
FAULTY = Taking(lambda **faults: FaultyServer("ntp", Faults(**faults)))
OTHERS = {
    **{f"limit {name}": Taking(limit) for name in ("loss", "p99", "least", "most", "within", "budget")},
    **{f"serve {name}": SERVE for name in ("threads", "cpus", "transports", "io", "connections", "idle_timeout")},
    **{f"serve {name}": SERVE for name in ("zone", "answer", "udp_size")},
    **{f"receive {name}": RECEIVE for name in ("threads", "cpus", "format", "endian", "queue", "full", "follow")},
    **{f"receiver {name}": RECEIVER for name in ("threads", "cpus", "shared", "gro", "stamps", "buffer", "queue")},
    **{f"receiver {name}": RECEIVER for name in ("full", "batch", "idle", "linger", "follow", "counters")},
    **{f"sender {name}": SENDER for name in ("sources", "flows", "gso", "allow_public")},
    **{f"faulty {name}": FAULTY for name in Faults.__struct_fields__},
}


@pytest.mark.parametrize(
    ("which", "value"),
    [(which, value) for which in OTHERS for value in cannot_be("queries" if which == "serve zone" else which)],
    ids=shown,
)
def test_other_calls_refuse_alike(which: str, value: Any) -> None:
    taking, name = OTHERS[which], which.split()[1]
    with pytest.raises(UsageError) as refused:
        taking.call(*taking.given, **{**taking.good, name: value}).stop()
    assert named(refused.value, name), refused.value


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda value: flatout.load(value, "127.0.0.1:1", rate=1), "protocol"),
        (lambda value: flatout.load("dns", value, rate=1), "target"),
        (lambda value: flatout.limit("dns", value), "target"),
        (lambda value: flatout.serve("dns", value), "listen address"),
        (flatout.serve, "protocol"),
        (flatout.Receiver, "listen address"),
        (flatout.Sender, "target"),
        (lambda value: FaultyServer("ntp", value), "faults"),
        (lambda value: FaultyServer(value, Faults()), "protocol"),
        (lambda value: FaultyServer("ntp", Faults(), value), "listen address"),
        (flatout.merge, "result"),
        (lambda value: flatout.merge([value]), "results"),
        (flatout.from_json, "result"),
        (flatout.read, "path"),
        (lambda value: results.load().save(value), "path"),
    ],
)
@pytest.mark.parametrize("value", [object(), 5, "", [object()], {}], ids=["object", "5", "empty", "list", "mapping"])
def test_what_comes_first_is_refused_alike(call: Callable[[Any], Any], name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        call(value)


@pytest.mark.parametrize("call", [flatout.load, flatout.limit])
def test_progress_is_a_function(call: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="progress=5: give a function"):
        call("dns", "127.0.0.1:1", progress=5)


def test_receivers_are_asked_with_numbers() -> None:
    with Receiver("127.0.0.1:0") as receiver:
        assert receiver.source(0) is receiver.source(-1) is receiver.source(2**40) is None
        for value in ("0", 1.5, None, True):
            with pytest.raises(UsageError, match="number="):
                receiver.source(value)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="timeout"):
            receiver.take("")


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        (5, "profile=5: give text, the name of a file, or a list of flatout.Segment"),
        ([(1, 2, 3)], "give text, the name of a file, or a list of flatout.Segment"),
        ([Segment(1, 2, 3), Segment("1", 2, 3)], r"profile\[1\]=.*: give three numbers"),  # type: ignore[arg-type]
    ],
)
def test_profiles_that_are_none(profile: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        asked(rate=None, profile=profile)


def test_shares_of_faults_add_up_to_at_most_all() -> None:
    with pytest.raises(UsageError, match=r"faults: .* add up to at most 1"):
        FaultyServer("ntp", Faults(drop=0.6, late=0.6))


def test_unknown_names_are_named() -> None:
    for mapping, why in (
        ({"x": 1}, "tls has no 'x'; it has server_name, verify, ca, resume"),
        ({1: 2}, "tls has no 1"),
    ):
        with pytest.raises(UsageError, match=why):
            asked(transport="tls", tls=mapping)
    with pytest.raises(UsageError, match=r"dns has no option nothing \(it has: any_code, "):
        asked(options={"nothing": 1})
    with pytest.raises(UsageError, match=r"balance"):
        flatout.serve("ntp", "127.0.0.1:0", balance="fair")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"serving echo has no option nothing \(it has: none\)"):
        flatout.serve("echo", "127.0.0.1:0", nothing=1)


CHECKS: list[Callable[[str, Any], Any]] = [
    *(
        arguments.path,
        arguments.text,
        arguments.texts,
        arguments.switch,
        arguments.cpus,
        arguments.share,
        arguments.rate,
    ),
    lambda name, value: arguments.word(name, value, ["a", "b"]),
    lambda name, value: arguments.mapping(name, value, ["a"]),
]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(CHECKS), anything)
def test_a_check_gives_a_value_or_names_the_argument(check: Callable[[str, Any], Any], value: Any) -> None:
    refused = None
    try:
        assert check("some", value) is not None
    except ArgumentError as error:
        refused = error
    assert refused is None or (refused.argument.startswith("some") and str(refused).startswith(refused.argument))
