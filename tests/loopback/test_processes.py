"""Most tests run the command line inside their own process; here it is compared with a process of its own."""

from __future__ import annotations

import signal

import pytest

import flatout
from conftest import Cli

COMMANDS = [
    ("--version",),
    ("load", "ntp", "--help"),
    ("serve", "record", "--help"),
    ("load", "ntp", "127.0.0.1:5", "--rate", "0"),
    ("load", "ntp", "127.0.0.1:5", "--no-such-flag"),
    ("load", "ntp", "127.0.0.1:5", "--json", "/nowhere/r.json"),
    ("load", "ntp", "8.8.8.8"),
    ("load", "ntp", "nowhere.invalid"),
    ("report", "missing.json"),
    ("nonsense",),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_code_and_output_are_those_of_a_process(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli(*arguments) == cli.process(*arguments)


def test_a_measurement_leaves_the_same_things(cli: Cli, ntp_server: flatout.Server) -> None:
    asked = ("--rate", "200", "--for", "300ms", "--warmup", "0", "--seed", "7", "--flows", "2")
    here, alone = (
        run("load", "ntp", ntp_server.address, *asked, "--json", "-", "--log", f"{name}.csv")
        for name, run in (("here", cli), ("alone", cli.process))
    )
    assert {here.code, alone.code} <= {0, 4}, here.err + alone.err
    assert here.json.keys() == alone.json.keys()
    scenarios = [{**done.json["scenario"], "log": None} for done in (here, alone)]
    assert scenarios[0] == scenarios[1]
    assert here.json["outcomes"]["planned"] == alone.json["outcomes"]["planned"] == 60
    rows = [(cli.folder / f"{name}.csv").read_text(encoding="ascii").splitlines() for name in ("here", "alone")]
    assert [row.split(",")[0] for row in rows[0]] == [row.split(",")[0] for row in rows[1]]


def test_a_command_leaves_no_signal_handler_behind(cli: Cli) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert cli("serve", "record", "--listen", "127.0.0.1:0", "--for", "1ms").code == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
