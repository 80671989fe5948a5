"""Empty values on the command line: each option of each command refuses one, before anything begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from commands import run_here
from flatout.cli.app import build


def commands(app: App, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    """Each command that does something, with its words."""
    for name in app:
        if not name.startswith("-"):
            below = app[name]
            inner = list(commands(below, (*words, name)))
            yield from inner or [((*words, name), below)]


def options() -> Iterator[tuple[tuple[str, ...], str]]:
    """Each option that has a value, by its first name, with its command."""
    for words, app in commands(build()):
        for argument in app.assemble_argument_collection():
            names = [name for name in argument.names if name.startswith("--")]
            if names and argument.hint is not bool and argument.parse:
                yield words, names[0]


OPTIONS = sorted(set(options()))


def test_all_options_are_looked_at() -> None:
    assert len(OPTIONS) > 150
    assert {("load", "dns"), ("serve", "record"), ("limit", "echo"), ("rerun",), ("demo",)} <= {
        words for words, _ in OPTIONS
    }
    assert {"--rate", "--for", "--cpus", "--json", "--html", "--require", "--zone", "--tls-ca"} <= {
        n for _, n in OPTIONS
    }


@pytest.mark.parametrize("joined", [False, True], ids=["--option ''", "--option="])
def test_an_empty_value_is_bad_use(joined: bool, tmp_path: Path) -> None:
    for words, name in OPTIONS:
        given = [f"{name}="] if joined else [name, ""]
        target = [] if words[0] in ("serve", "demo") else ["127.0.0.1:1"]
        done = run_here([*words, *target, *given], tmp_path)
        assert (done.code, done.out) == (2, ""), (words, name)
        assert done.err == (
            f"flatout: empty value behind {name} (a variable that is not set?): give one, or leave it out\n"
        )


@pytest.mark.parametrize(
    "arguments",
    [
        ["load", "dns", ""],
        ["limit", "ntp", ""],
        ["load", "dns", "127.0.0.1:1,"],
        ["load", "dns", "127.0.0.1:1", "--require", "loss<1%", ""],
        ["load", "dns", "127.0.0.1:1", "--sources", "127.0.0.1", ""],
        ["report", ""],
        ["merge", "", "b.json"],
        ["rerun", ""],
        [""],
        *(["load", "dns", "127.0.0.1:1", *given] for given in (["--cpus", ","], ["--cpus", "0,"], ["--cpus", " "])),
        *(["load", "dns", "127.0.0.1:1", "--profile", text] for text in (" ", "1k 5s, ", ",", "1k 5s,,2k 5s")),
        *(["load", "dns", "127.0.0.1:1", name, " "] for name in ("--rate", "--for", "--count", "--ramp", "--require")),
        *(["load", "dns", "127.0.0.1:1", name, " "] for name in ("--sources", "--start-at", "--node", "--timeout")),
        ["load", "dns", "127.0.0.1:1", "--transport", "tls", "--tls-name", " "],
        ["load", "record", "127.0.0.1:1", "--format", " "],
        ["load", "record", "127.0.0.1:1", "--format", "id:u4,,seq:u4"],
        ["load", "record", "127.0.0.1:1", "--reply", " "],
        *(["serve", "dns", name, " "] for name in ("--listen", "--cpus", "--answer", "--transport", "--for")),
        *(
            ["serve", "record", name, " "]
            for name in ("--listen", "--cpus", "--queue", "--buffer", "--follow", "--for")
        ),
        *(["limit", "dns", "127.0.0.1:1", name, " "] for name in ("--loss", "--p99", "--min", "--max", "--budget")),
    ],
    ids=" ".join,
)
def test_empty_parts_and_blanks_are_bad_use(arguments: list[str], tmp_path: Path) -> None:
    done = run_here(arguments, tmp_path)
    assert (done.code, done.out) == (2, ""), done.err
    assert "Traceback" not in done.err


def test_a_value_that_begins_with_an_equals_sign_is_one(tmp_path: Path) -> None:
    done = run_here(["load", "dns", "127.0.0.1:1", "--require==", "--rate=5"], tmp_path)
    assert (done.code, "empty" in done.err) == (2, False)
    assert "requirement '='" in done.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--connect-rate", "1m", "--transport", "tcp"], "--connect-rate: rate '1m': m could mean a million or"),
        (["--rate", "1m"], "--rate '1m': m could mean a million or a thousandth: write 1M"),
        (["--ramp", "1k..1m"], "rate '1m': m could mean"),
        (["--count", "10m"], "--count: number '10m': m could mean a million or minutes: write 10M"),
        (["--connections", "1m"], "--connections: number '1m': m could mean"),
        (["--require", "rate>1m"], "rate '1m': m could mean"),
        (["--for", "x"], "--for 'x': write it like"),
        (["--timeout", "x"], "--timeout: duration 'x'"),
        (["--flows", "x"], "--flows: number 'x'"),
        (["--node", "x"], "--node 'x'"),
        (["--udp-size", "5"], "--udp-size: 512 to 4096 bytes"),
        (["--udp-size", "9" * 30], "--udp-size="),
        (["--seed", "9" * 30], "--seed="),
        (["--connections", "0"], "--connections=0: over udp they are flows"),
        (["--queries", "nothing"], "--queries '"),
        (["--profile", "example.com A"], "profile: rate 'example.com'"),
        (["--json", "9" * 400], "cannot be written: File name too long"),
        (["--for", "1\n\x1b[2J"], "--for '1\\n\\x1b[2J': write"),
        (["--for", "\ufeff1s"], "--for '\\ufeff1s': write"),
        (["--cpus", "0,"], "--cpus '0,': write them like"),
        (["--start-at", "noon"], "--start-at: start 'noon': write it like"),
        (["--count", "0"], "--count=0: give a number from 1 on"),
    ],
)
def test_errors_name_the_flag(given: list[str], said: str, tmp_path: Path) -> None:
    done = run_here(["load", "dns", "127.0.0.1:1", *given], tmp_path)
    assert done.code == 2
    assert said in done.err


def test_servers_name_their_flags(tmp_path: Path) -> None:
    for value, said in (("5", "--udp-size: 512 to 4096 bytes"), ("9" * 30, "--udp-size=999")):
        done = run_here(["serve", "dns", "--listen", "127.0.0.1:0", "--for", "1ms", "--udp-size", value], tmp_path)
        assert (done.code, said in done.err, done.err.count("\n")) == (2, True, 1), done.err


def test_an_error_names_the_file_and_is_not_as_long_as_that(tmp_path: Path) -> None:
    (tmp_path / "deep").write_text("[" * 100_000, encoding="utf-8")
    done = run_here(["load", "dns", "127.0.0.1:1", "--profile", "deep"], tmp_path)
    assert (done.code, len(done.err) < 1100) == (2, True)
    assert done.err.startswith("flatout: profile 'deep': ")
    assert "write steps like '1000 8s'" in done.err


@pytest.mark.parametrize("protocol", ["dns", "record"])
def test_searches_name_their_flags(protocol: str, tmp_path: Path) -> None:
    for name in ("--loss", "--p99", "--min", "--max", "--within", "--budget"):
        done = run_here(["limit", protocol, "127.0.0.1:1", name, "1m" if name in ("--min", "--max") else "x"], tmp_path)
        assert done.code == 2
        assert f"flatout: {name}: " in done.err, done.err
