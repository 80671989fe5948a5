"""The dashboards for Grafana: its published schema knows each key, and their queries ask for metrics that there are.

Grafana itself is not run here: its schema is that of its own SDK for dashboards. Queries are parsed by a parser of
PromQL; tests/peers/test_prometheus.py asks them of a real Prometheus.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser as promql
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client.parser import text_string_to_metric_families

from conftest import ROOT
from exposed import Everything
from flatout.watch.dashboard import dashboard as of_watch

register_default_plugins()
LOAD: dict[str, Any] = json.loads((ROOT / "dashboards" / "flatout-load.json").read_text(encoding="utf-8"))
SERVER: dict[str, Any] = json.loads((ROOT / "examples" / "ntp" / "grafana.json").read_text(encoding="utf-8"))
ALL = pytest.mark.parametrize("board", [LOAD, SERVER, of_watch()], ids=["load", "server", "watch"])


def unknown(given: Any, understood: Any, at: str = "") -> Iterator[str]:
    """What a dashboard has that did not come through Grafana's types."""
    if isinstance(given, dict) and isinstance(understood, dict):
        for key, value in given.items():
            yield from unknown(value, understood[key], f"{at}/{key}") if key in understood else [f"{at}/{key}"]
    elif isinstance(given, list) and isinstance(understood, list):
        for number, pair in enumerate(zip(given, understood, strict=True)):
            yield from unknown(*pair, f"{at}/{number}")
    elif given != understood:
        yield f"{at}: {given!r} became {understood!r}"


def misunderstood(board: dict[str, Any]) -> list[str]:
    return list(unknown(board, json.loads(JSONEncoder().encode(Dashboard.from_json(board)))))


@ALL
def test_grafana_knows_every_key(board: dict[str, Any]) -> None:
    assert misunderstood(board) == []


def test_a_misspelt_key_is_found() -> None:
    board = json.loads(json.dumps(LOAD))
    board["panels"][0]["gridpos"] = board["panels"][0].pop("gridPos")
    board["panels"][1]["fieldConfig"]["defaults"]["Unit"] = "s"
    assert misunderstood(board) == ["/panels/0/gridpos", "/panels/1/fieldConfig/defaults/Unit"]


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in panels(board) for target in panel["targets"]]


def filled(query: str) -> str:
    """A query with values for Grafana's variables."""
    return re.sub(r"\$\w+", ".*", query.replace("$__rate_interval", "1m"))


@ALL
def test_queries_parse_and_variables_are_declared(board: dict[str, Any]) -> None:
    declared = {variable["name"] for variable in board["templating"]["list"]}
    for query in queries(board):
        promql.parse(filled(query))
        used = set(re.findall(r"\$\{?(\w+)", query)) - {"__rate_interval"}
        assert used <= declared, query


@ALL
def test_panels_have_numbers_of_their_own_and_do_not_overlap(board: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


# --- Load and limit: what is asked for is what is exposed ---


def exposed() -> dict[str, tuple[str, set[str]]]:
    """Each series of a search over a fleet: its kind and its labels."""
    found = {}
    for family in text_string_to_metric_families(Everything().metrics.text()):
        for sample in family.samples:
            found[sample.name] = (family.type, set(sample.labels) | {"instance", "job"})
    return found


def selectors(expression: Any, within: str = "") -> Iterator[tuple[Any, str]]:
    """The selectors of a query, each with the innermost function that it is an argument of."""
    if isinstance(expression, promql.VectorSelector):
        yield expression, within
    elif isinstance(expression, promql.MatrixSelector):
        yield expression.vector_selector, within
    elif isinstance(expression, promql.Call):
        for argument in expression.args:
            yield from selectors(argument, expression.func.name)
    elif isinstance(expression, promql.AggregateExpr | promql.ParenExpr | promql.UnaryExpr):
        yield from selectors(expression.expr, within)
    elif isinstance(expression, promql.BinaryExpr):
        yield from selectors(expression.lhs, within)
        yield from selectors(expression.rhs, within)


def test_each_metric_is_shown_and_each_query_has_one() -> None:
    known = exposed()
    asked = {}
    for query in queries(LOAD):
        for selector, function in selectors(promql.parse(filled(query))):
            asked[selector.name] = function
            assert selector.name in known, query
            kind, labels = known[selector.name]
            assert {matcher.name for matcher in selector.matchers.matchers} <= labels, query
            assert (kind == "counter") == (function in {"rate", "increase"}), query
    assert set(asked) == {name for name in known if not name.endswith("_created")}


def test_legends_and_groups_name_labels_that_there_are() -> None:
    known = exposed()
    for panel in panels(LOAD):
        for target in panel["targets"]:
            (name, *_) = re.findall(r"flatout_\w+", target["expr"])
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            grouped = {
                label.strip() for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(",")
            }
            assert named | grouped <= known[name][1], target
            assert not grouped or named <= grouped, target
