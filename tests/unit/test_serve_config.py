"""Flags of `serve` from a TOML file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_serve_endpoints import STATS

from conftest import ROOT
from flatout.cli.config import with_file
from flatout.cli.flags import shared as flags
from flatout.cli.flags.serving import LimitFlags, Operation, Serving
from flatout.errors import UsageError
from flatout.protocols import PROTOCOLS
from flatout.server.exposition import prometheus
from flatout.server.limits import admission

EXAMPLES = ROOT / "examples" / "ntp"
GROUPS = (Serving(), LimitFlags(), Operation())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.toml"


def test_keys_are_the_names_of_flags_in_any_table(file: Path) -> None:
    file.write_text(
        'listen = ["127.0.0.1:123", "[::1]:123"]\nthreads = 2\nfor = 5\n'
        '[limits]\nclient-rate = 0.125\nkod = true\ndeny = "10.0.0.0/8"\nmax_rate = "10Mbps"\n',
        encoding="utf-8",
    )
    serving, limits, _ = with_file(str(file), GROUPS)
    assert (serving.listen, serving.threads, serving.for_) == (["127.0.0.1:123", "[::1]:123"], 2, "5")
    assert (limits.client_rate, limits.kod, limits.deny, limits.max_rate) == ("0.125", True, ["10.0.0.0/8"], "10Mbps")


def test_the_command_line_wins(file: Path) -> None:
    file.write_text("threads = 2\nclient_burst = 3\n", encoding="utf-8")
    serving, limits, _ = with_file(str(file), (Serving(threads=7), LimitFlags(), Operation()))
    assert (serving.threads, limits.client_burst) == (7, 3)


def test_without_a_file_nothing_changes() -> None:
    assert with_file(None, GROUPS) == GROUPS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("threds = 2", "threds"),
        ("threads = 'two'", "--threads"),
        ("threads = true", "--threads"),
        ("kod = 1", "--kod"),
        ("balance = 'fair'", "--balance"),
        ("listen = [1]", "--listen"),
        ("client_rate = 1\n[limits]\nclient-rate = 2", "twice"),
        ("threads =", "no TOML"),
        ("client_burst = 1.7", "does not fit --client-burst"),
        ("client_burst = inf", "does not fit --client-burst"),
    ],
)
def test_what_does_not_fit_is_named(file: Path, text: str, said: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        with_file(str(file), GROUPS)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="No such file"):
        with_file("/nowhere/server.toml", GROUPS)


def test_the_example_is_a_configuration() -> None:
    options = flags.option_flags(PROTOCOLS["ntp"], PROTOCOLS["ntp"].serve_options)
    serving, limits, operation, own = with_file(str(EXAMPLES / "ntp.toml"), (*GROUPS, options()))
    assert (serving.listen, own.upstream, operation.control) == (["systemd"], "chrony", "/run/flatout/ntp")
    assert admission(limits.limits(), kisses=True).clients == 1_000_000


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    panels = json.loads((EXAMPLES / "grafana.json").read_text(encoding="utf-8"))["panels"]
    shown = {name for panel in panels for one in panel["targets"] for name in re.findall(r"flatout_\w+", one["expr"])}
    text = prometheus({**STATS, "clients_forgotten": 0}, "x")
    assert len(shown) > 8
    assert shown <= set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
