"""The contract with programs: every output of every command fits the published schema, and its sums close."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

import jsonschema
import msgspec
import pytest
from hdrh.histogram import HdrHistogram

import flatout
from conftest import ROOT, Cli, free_port
from flatout import schema
from flatout._engine import Histogram
from flatout.result.histogram import distribution, histogram
from flatout.scenario.model import Scenario
from flatout.testing import Faults, FaultyServer

SHORT = ("--rate", "5k", "--for", "400ms", "--warmup", "0", "--timeout", "200ms", "--json", "-", "--quiet")
SEARCH = ("--min", "1k", "--max", "3k", "--budget", "5s", "--loss", "10%", "--json", "-", "--quiet")


def strict() -> dict[str, Any]:
    """The published schema, but fields that it does not name are wrong: nothing undocumented is printed."""
    found = copy.deepcopy(schema.schema())
    for definition in found["$defs"].values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    return found


def check(value: Any, name: str) -> None:
    jsonschema.validate(value, schema.schema())
    jsonschema.validate(value, {**strict(), "anyOf": [{"$ref": f"#/$defs/{name}"}]})


def assert_closes(run: Any) -> None:
    o = run["outcomes"]
    assert o["planned"] == o["sent"] + o["unsent"]
    good = "answered" if o["received"] is None else "received"
    assert o["sent"] == o[good] + o["late"] + o["lost"] + o["refused"] + o["invalid"]
    assert run["loss"] == (pytest.approx((o["sent"] - o[good]) / o["sent"]) if o["sent"] else None)
    assert sum(run["unsent_because"].values()) == o["unsent"]
    for name, per_s in run["rate_per_s"].items():
        assert per_s == (None if o[name] is None else pytest.approx(o[name] / run["duration_s"])), name
    for name in ("planned", "sent", "unsent", "answered", "late", "refused", "invalid", "duplicate"):
        in_seconds = sum(row[name] for row in run["intervals"])
        # An answer that names no request becomes invalid when the books are closed, not in its second.
        assert in_seconds == o[name] or name in ("late", "invalid"), name


def test_the_published_schema_is_up_to_date() -> None:
    assert (ROOT / "docs" / "schema.json").read_text(encoding="utf-8") == schema.text(), "run: make schema"


def test_the_schema_is_a_schema_and_refuses_what_is_none() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.schema())
    for nonsense in ({}, {"kind": "load"}, [], {"t_s": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(nonsense, schema.schema())


@pytest.fixture
def server(ntp_server: flatout.Server) -> flatout.Server:
    return ntp_server


FAULTS = [
    Faults(),
    Faults(drop=0.2),
    Faults(drop=0.1, duplicate=0.1, corrupt=0.1, late=0.1, late_by_s=0.3),
    Faults(drop=0.999999),
    Faults(corrupt=0.999999),
    Faults(late=0.999999, late_by_s=0.3),
    Faults(reorder=0.3),
    Faults(die_after=500),
    Faults(capacity_per_s=1000),
]


@pytest.mark.parametrize("faults", FAULTS, ids=lambda faults: str(msgspec.structs.asdict(faults)))
def test_every_load_fits_and_closes(cli: Cli, faults: Faults) -> None:
    with FaultyServer("ntp", faults) as faulty:
        done = cli("load", "ntp", faulty.address, *SHORT, "--require", "p99<1ms", "loss<1%")
    check(done.json, "LoadResult")
    assert_closes(done.json)
    assert done.code == {"ok": int(not all(need["met"] for need in done.json["requirements"]))}.get(
        done.json["verdict"], {"generator-limited": 4, "target-lost": 3}.get(done.json["verdict"])
    )


def test_a_refused_load_fits_and_closes(cli: Cli) -> None:
    done = cli("load", "ntp", f"127.0.0.1:{free_port()}", *SHORT)
    check(done.json, "LoadResult")
    assert_closes(done.json)


def test_a_hopeless_load_fits_and_closes(cli: Cli, server: flatout.Server) -> None:
    done = cli("load", "ntp", server.address, "--rate", "20M", *SHORT[2:])
    check(done.json, "LoadResult")
    assert_closes(done.json)


def test_a_sweep_fits_and_its_runs_close(cli: Cli, server: flatout.Server) -> None:
    ladder = ("--sweep", "1k..2k", "--step", "2", "--for", "200ms", "--warmup", "0", "--timeout", "200ms")
    done = cli("limit", "ntp", server.address, *ladder, "--json", "-", "--quiet")
    check(done.json, "SweepResult")
    for run in done.json["runs"]:
        assert_closes(run)


def test_a_check_of_a_server_fits(cli: Cli, server: flatout.Server) -> None:
    quick = ("--samples", "1", "--timeout", "200ms", "--json", "-", "--quiet")
    check(cli("ntp", "check", server.address, *quick).json, "CheckResult")
    check(cli("ntp", "check", f"127.0.0.1:{free_port()}", *quick).json, "CheckResult")


def test_every_search_fits_and_its_trials_close(cli: Cli, server: flatout.Server) -> None:
    done = cli("limit", "ntp", server.address, *SEARCH)
    check(done.json, "LimitResult")
    assert done.json["trials"]
    for trial in done.json["trials"]:
        assert trial["verdict"] in ("held", "failed", "invalid")
        assert_closes(trial)
    assert done.json["rate_per_s"] == done.json["limit"]["value"]


def test_every_line_of_serve_fits_and_adds_up(cli: Cli) -> None:
    port = free_port()
    serving = cli.start(
        "serve", "ntp", "--listen", f"127.0.0.1:{port}", "--for", "2500ms", "--json", "-", "--threads", "2"
    )
    run = cli("load", "ntp", f"127.0.0.1:{port}", "--rate", "1k", "--for", "500ms", "--warmup", "0", *SHORT[6:]).json
    done = serving.end()
    lines = [json.loads(line) for line in done.out.splitlines()]
    for line in lines:
        check(line, "ServeLine")
    *seconds, total = lines
    assert total["total"] is True
    assert len(seconds) >= 2
    for name in ("received", "answered", "kernel_drops"):
        assert sum(line[name] for line in seconds) == total[name]
        assert sum(worker.get(name, 0) for worker in total["workers"]) == total[name]
    assert total["received"] == total["answered"] + sum(total["dropped"].values())
    assert total["received"] <= run["outcomes"]["sent"]


def test_a_stored_scenario_can_be_run_again(cli: Cli, server: flatout.Server) -> None:
    stored = cli("load", "ntp", server.address, *SHORT, "--flows", "3", "--arrivals", "poisson").json["scenario"]
    again = msgspec.convert(stored, Scenario)
    assert msgspec.json.decode(msgspec.json.encode(again)) == stored
    assert set(stored) == set(Scenario.__struct_fields__)


QUANTILES: dict[str, float] = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}


def test_histograms_say_the_same_to_others(server: flatout.Server) -> None:
    run = flatout.load("ntp", server.address, rate=5000, duration=0.4, warmup=0)
    for measured in (run.latency_ns.from_due, run.latency_ns.from_sent, run.lateness_ns):
        assert measured is not None
        theirs = HdrHistogram.decode(measured.hdr)
        assert theirs.get_total_count() == measured.count
        for name, percentile in QUANTILES.items():
            # Where a rank falls between two samples, either is right.
            either = 101 / measured.count
            least, most = (theirs.get_value_at_percentile(percentile + by) for by in (-either, either))
            assert 0.99 * least <= getattr(measured, name) <= 1.01 * most, name
        assert theirs.get_max_value() == pytest.approx(measured.max, rel=0.01)
        assert measured.min <= measured.p50 <= measured.p90 <= measured.p99 <= measured.p999 <= measured.max


def filled(values: range) -> Histogram:
    made = Histogram()
    for value in values:
        made.record(value)
    return made


@pytest.mark.parametrize("through", [lambda h: h, lambda h: Histogram.decode(h.encode())], ids=["direct", "encoded"])
def test_histograms_merge_exactly(through: Callable[[Histogram], Histogram]) -> None:
    parts, whole = [range(1, 1000, 7), range(5_000, 90_000, 13), range(10**6, 10**9, 10**6 + 1)], Histogram()
    merged = Histogram()
    for part in parts:
        merged.add(through(filled(part)))
        for value in part:
            whole.record(value)
    ours, theirs = distribution(merged), distribution(whole)
    assert ours is not None
    assert theirs is not None
    assert msgspec.structs.replace(ours, mean=0.0, hdr="") == msgspec.structs.replace(theirs, mean=0.0, hdr="")
    assert ours.mean == pytest.approx(theirs.mean)
    assert HdrHistogram.decode(ours.hdr).get_total_count() == sum(map(len, parts))


def test_two_runs_merge_into_one_distribution(server: flatout.Server) -> None:
    runs = [flatout.load("ntp", server.address, rate=2000, duration=0.3, warmup=0) for _ in range(2)]
    merged = Histogram()
    for run in runs:
        assert run.latency_ns.from_due is not None
        merged.add(histogram(run.latency_ns.from_due))
    dues = [run.latency_ns.from_due for run in runs if run.latency_ns.from_due]
    assert merged.count == sum(due.count for due in dues)
    assert merged.max == max(due.max for due in dues)
    assert base64.b64encode(bytes(merged.encode()))
