"""Odd command lines and odd files: each is refused in one sentence that names it, or runs and leaves a whole result.

Method: each option gets values from one list of oddities, each reader of files contents from another. Whatever comes of
it is held against the contract: exit codes, where text goes, and that no verdict "ok" stands on nothing.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flatout
import flatout.result.files
from conftest import Cli, Ran, free_port

DIGITS = "9" * 400
# The first is what an unset variable of a script leaves.
VALUES = [
    "",
    " ",
    "0",
    "-1",
    "x",
    "nan",
    "inf",
    "1e999",
    DIGITS,
    "1k",
    "0.05",
    "1,2",
    "٣",
    "é",
    "/",
    "none/x",
    "[",
    "%",
]
RAW = ["\udcff", "a\udcfcb"]
# So many of them for each option, in turn; and in the slow test.
EACH, MORE = 2, 5
LOAD = [
    *("rate", "for", "ramp", "profile", "profile-format", "count", "wait", "busy-poll", "require", "log", "log-format"),
    *("queries", "flows", "sources", "arrivals", "seed", "timeout", "warmup", "threads", "cpus", "stamps", "transport"),
    *("connections", "connect-rate", "connect-timeout", "churn", "hold", "io", "tls-name", "tls-ca", "udp-size"),
    *("node", "start-at"),
]
LIMIT = ["loss", "p99", "min", "max", "within", "budget", "search", "rate", "require", "sources", "timeout", "threads"]
SERVE = [
    "listen",
    "transport",
    "threads",
    "cpus",
    "io",
    "connections",
    "idle-timeout",
    "for",
    "zone",
    "answer",
    "udp-size",
]
RECORD = ["senders", "tick", "spread", "format", "endian", "values", "reply"]
# What else a message may call an option.
ALIASES = {
    "for": ("duration", "how long", "last longer"),
    "warmup": ("warm-up", "duration"),
    "timeout": ("time-out", "duration"),
    "idle-timeout": ("time-out", "duration"),
    "connect-timeout": ("time-out", "duration"),
    "busy-poll": ("duration", "ping-pong"),
    "start-at": ("start",),
    "max": ("highest",),
    "min": ("lowest",),
    "within": ("precision",),
    "hold": ("connections",),
    "connections": ("flows",),
    "queries": ("query file",),
    "udp-size": ("udp_size",),
    "format": ("field",),
    "reply": ("field",),
    "churn": ("connections",),
    "listen": ("write it like",),
    "profile-format": ("profile",),
    "log-format": ("--log",),
    "p99": ("duration",),
    "wait": ("ping-pong",),
    "tls-ca": ("authorities", "tls"),
    "tls-name": ("tls",),
    "connect-rate": ("connections",),
}
# Words of a library or of the language, which say nothing to a user.
FOREIGN = re.compile(r"Traceback|<class|object at 0x|NoneType|msgspec|ValidationError|Exception\b|Errno|os error")
TARGETS = [
    *("", " ", ",", "x,", ":", ":53", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x", "127.0.0.1:-1"),
    *(
        "[",
        "[]",
        "[::1",
        "::1]",
        "[::1]x",
        "[fe80::1]:5",
        "fe80::1",
        "fe80::1%",
        "fe80::1%nosuch0",
        "::1%lo",
        "fe80::x",
    ),
    *(
        "127.0.0.1%lo",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "ff02::1%lo",
        "8.8.8.8",
        "127.0.0.1/8",
    ),
    *("a" * 64, "a..b", "-", "é.invalid", "\udcff", "http://127.0.0.1/", "127.0.0.1:5,127.0.0.1:5", "127.0.0.1,::1"),
    *("127.0.0.1:53 ", "٣", DIGITS, "nosuch.invalid", "*", "[*]:5", "127.1:1", "0x7f000001:1", "localhost:0"),
]


class Use(NamedTuple):
    """A command line, and the words of which its refusal must have one."""

    words: tuple[str, ...]
    names: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.words)[:100].encode("ascii", "backslashreplace").decode()


def asks(target: str, protocol: str = "dns") -> tuple[str, ...]:
    """A short load, which the odd option comes behind."""
    return ("load", protocol, target, "--rate=2k", "--for=50ms", "--warmup=0", "--timeout=200ms", "--json=-", "--quiet")


def odd(base: tuple[str, ...], option: str, value: str) -> Use:
    # The odd option in place of the same one, where the base has it.
    words = tuple(word for word in base if not word.startswith(f"--{option}="))
    if option in {"profile", "ramp", "count"}:
        words = tuple(word for word in words if not word.startswith(("--rate=", "--for=")) or option == "ramp")
    names = (option, option.replace("-", " "), option.rstrip("s"), *ALIASES.get(option, ()))
    return Use((*words, f"--{option}={value}"), (*names, *([f"'{value}'"] if value else [])))


def option_uses(address: str, closed: str, each: int = EACH) -> Iterator[Use]:
    """Each option with an empty value, and some of the others in turn."""
    turn = itertools.cycle([*VALUES[1:], *RAW])
    search = ("limit", "dns", closed, "--budget=5s", "--quiet", "--json=-")
    serve = ("serve", "dns", "--listen=127.0.0.1:0", "--for=20ms", "--quiet")
    record = ("load", "record", closed, "--for=50ms", "--warmup=0", "--quiet", "--json=-")
    for base, options in ((asks(address), LOAD), (search, LIMIT), (serve, SERVE), (record, RECORD)):
        for option in options:
            for value in ["", *itertools.islice(turn, each)]:
                yield odd(base, option, value)


def other_uses(address: str) -> Iterator[Use]:
    """Targets, and lines that lack or repeat something."""
    for target in TARGETS:
        yield Use(asks(target), ("target", "port", "known", "empty value", "host"))
    for text in (
        "",
        "x",
        "1.2.3",
        "fe80::1",
        "fe80::1%nosuch0",
        "::1%lo",
        "127.0.0.1",
        "10.0.0.0/33",
        "fe80::/64",
        "::1",
    ):
        yield Use((*asks(address), "--sources", text), ("sources",))
    base = asks(address)
    yield from (
        Use(words, ("",))
        for words in (
            *[
                (),
                ("nosuch",),
                ("load",),
                ("load", "nosuch", address),
                ("load", "dns"),
                ("", "dns"),
                ("load", "", address),
            ],
            *[
                (*base, "--nosuch"),
                (*base, "extra"),
                (*base, "--rate=1", "--rate=2"),
                (*base, "--json=-"),
                (*base, "--"),
            ],
            *[
                (*base, "--profile=100 1s"),
                (*base, "--count=5"),
                (*base, "--ramp=1..2"),
                (*base, "--flows=1k", "--threads=9"),
            ],
            *[(*base, "--transport=tls", "--tls-verify"), (*base, "--io=io_uring"), (*base, "--arrivals=ping-pong")],
            *[("merge",), ("report",), ("rerun",), ("limit", "dns"), ("limit", "nosuch", address), ("serve", "nosuch")],
            *[
                ("serve", "dns", "--listen", "127.0.0.1:99999"),
                ("serve", "dns", "--listen", "192.0.2.1:0", "--for", "1ms"),
            ],
        )
    )


def check(use: Use, ran: Ran) -> None:
    """What the contract says of every command."""
    said = " ".join(ran.err.split())
    assert ran.code in {0, 1, 2, 3, 4}, (ran.code, said)
    assert not FOREIGN.search(said), said
    assert len(said) < 1500, said
    if ran.code == 2:
        assert ran.out == "", "bad use prints nothing on standard output"
        assert said, "bad use is said"
        lines = [line for line in ran.err.splitlines() if line.startswith("flatout: ")]
        boxes = ran.err.count("╭")
        assert (len(lines) == 1 and len(ran.err.strip().splitlines()) == 1) or (boxes == 1 and not lines), ran.err
        assert any(name.lower() in said.lower() for name in use.names), f"a wrong reason: {said}"
    elif ran.code:
        assert said, "what went wrong is said"


def whole(ran: Ran) -> None:
    """A result that was measured is there, and its verdict stands on something."""
    result = flatout.result.files.from_json(ran.out)
    if isinstance(result, flatout.LoadResult):
        assert result.verdict != "ok" or (
            result.outcomes.sent > 0 and result.outcomes.answered + result.outcomes.late > 0
        )
        assert ran.code or result.verdict == "ok"
    else:
        assert ran.code or result.limit.value


def hold(cli: Cli, use: Use) -> None:
    """Runs it and holds it against the contract."""
    ran = cli(*use.words)
    check(use, ran)
    if "--json=-" in use.words and (ran.out or not ran.code):
        whole(ran)


def faults_of(cli: Cli, uses: Iterator[Use]) -> list[str]:
    """Every use that breaks the contract, with how."""
    found = []
    for use in uses:
        try:
            hold(cli, use)
        except Exception as broken:
            found.append(f"{use}\n    {type(broken).__name__}: {str(broken).splitlines()[0][:400]}")
    return found


@pytest.fixture
def address(dns_server: flatout.Server) -> str:
    return dns_server.address


def test_odd_values_of_every_option(cli: Cli, address: str) -> None:
    uses = list(option_uses(address, f"127.0.0.1:{free_port()}"))
    assert len(uses) > 180
    faults = faults_of(cli, iter(uses))
    assert not faults, "\n".join(faults)


@pytest.mark.slow
def test_more_odd_values_of_every_option(cli: Cli, address: str) -> None:
    faults = faults_of(cli, option_uses(address, f"127.0.0.1:{free_port()}", MORE))
    assert not faults, "\n".join(faults)


def test_odd_targets_and_lines(cli: Cli, address: str) -> None:
    faults = faults_of(cli, other_uses(address))
    assert not faults, "\n".join(faults)


def test_an_empty_value_never_starts_anything(cli: Cli, address: str) -> None:
    base = asks(address)
    started = [option for option in LOAD if cli(*odd(base, option, "").words).code != 2]
    assert not started


# --- Files ---

NAMES = "example.com A\nwww.example.com AAAA\n"


def contents(result: str) -> dict[str, bytes]:
    """Odd contents, by what they are."""
    return {
        "empty": b"",
        "newlines": b"\n\n\n",
        "nul": b"\0",
        "bytes": bytes(range(256)),
        "mark": b"\xef\xbb\xbf",
        "marked": b"\xef\xbb\xbf" + NAMES.encode(),
        "utf16": NAMES.encode("utf-16"),
        "latin1": "; é\n# é\nexämple.com A\n".encode("latin-1"),
        "crlf": NAMES.replace("\n", "\r\n").encode(),
        "cr": NAMES.replace("\n", "\r").encode(),
        "long": b"a" * 1_000_000,
        "comment": b"# nothing\n; nothing\n",
        "gzip": gzip.compress(NAMES.encode()),
        "null": b"null",
        "list": b"[]",
        "object": b'{"schema": "flatout/1", "kind": "load"}',
        "deep": b"[" * 100_000,
        "cut": result.encode()[: len(result) // 2],
        "other": result.replace('"flatout/1"', '"flatout/9"').encode(),
        "twice": (result + result).encode(),
    }


def readers(address: str, closed: str, path: str) -> list[tuple[str, ...]]:
    """Each command that reads a file."""
    return [
        (*asks(address), f"--queries={path}"),
        tuple(word for word in (*asks(address), f"--profile={path}") if not word.startswith(("--rate", "--for"))),
        (*asks(closed), "--transport=tls", "--tls-verify", f"--tls-ca={path}", "--connections=1"),
        ("serve", "dns", f"--zone={path}", "--listen=127.0.0.1:0", "--for=10ms", "--quiet"),
        ("load", "record", closed, "--format=id:u4 x:u4", f"--values={path}", "--for=50ms", "--quiet", "--json=-"),
        ("report", path),
        ("merge", path, path),
        ("rerun", path, "--json=-", "--quiet"),
    ]


@pytest.mark.parametrize("part", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_odd_files(cli: Cli, address: str, part: int) -> None:
    ran = cli(*asks(address))
    # A busy machine may spoil its schedule: the result is whole all the same.
    assert ran.code in (0, 4), ran.err
    odd_files = contents(ran.out)
    # No longer than it must: a load read back runs as it is stored.
    assert json.loads(ran.out)["duration_s"] < 1
    closed = f"127.0.0.1:{free_port()}"
    uses = []
    for name, content in itertools.islice(odd_files.items(), part, None, 2):
        path = cli.folder / name
        path.write_bytes(content)
        uses += [Use(words, (name,)) for words in readers(address, closed, str(path))]
    folder = cli.folder / "folder"
    folder.mkdir()
    for path in (folder, cli.folder / "missing", Path("/dev/null"), Path("/proc/self/mem")):
        uses += [Use(words, (path.name,)) for words in readers(address, closed, str(path))]
    assert len(uses) > 100
    faults = faults_of(cli, iter(uses))
    assert not faults, "\n".join(faults)


# --- Several at once ---

pairs = st.lists(st.tuples(st.sampled_from([*LOAD, "json"]), st.sampled_from([*VALUES, *RAW])), min_size=1, max_size=3)


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs)
def test_odd_values_together(cli: Cli, address: str, pairs: list[tuple[str, str]]) -> None:
    words = asks(address)
    for option, value in pairs:
        words = odd(words, option, value).words
    check(Use(words, ("",)), cli(*words))
