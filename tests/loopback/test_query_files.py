"""Query files that are bad, empty or huge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import accounts
import flatout
from conftest import Cli

ASKED = ("--rate", "500", "--for", "300ms", "--warmup", "0", "--json", "-", "--quiet")


@pytest.fixture(scope="module")
def unasked() -> Iterator[flatout.Server]:
    """A server that nothing may be sent to."""
    with flatout.serve("dns", "127.0.0.1:0", threads=1) as running:
        yield running


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a.example.com A\nb.example.com\n", 2, "expected"),
        ("a.example.com A\n; remark\n\nb.example.com NOSUCHTYPE\n", 4, "expected"),
        (f"{'a' * 64}.example.com A\n", 1, "expected"),
        ("a..example.com A\n", 1, "expected"),
        ("a.example.com A\n" + "x" * 5000 + " A\n", 2, "shorter"),
        ("a.example.com A\r\n\x00\x01\x02", 2, "expected"),
    ],
    ids=["no type", "an unknown type", "a long label", "an empty label", "a long line", "no text"],
)
def test_a_bad_line_is_named_before_anything_is_sent(
    cli: Cli, unasked: flatout.Server, text: str, line: int, reason: str
) -> None:
    queries = cli.folder / "queries"
    queries.write_text(text, encoding="latin-1")
    for transport in ("udp", "tcp"):
        done = cli("load", "dns", unasked.address, *ASKED, "--transport", transport, "--queries", queries)
        assert (done.code, done.out) == (2, "")
        # Long lines are broken on the screen.
        said = " ".join(done.err.split())
        assert f"line {line}:" in said, done.err
        assert reason in said, done.err
        assert "queries" in said, "which file"
    assert (unasked.stats()["received"], unasked.stats()["connections"]["accepted"]) == (0, 0)


@pytest.mark.parametrize("text", ["", "\n\n", "; remarks\n# alone\n"], ids=["empty", "blank", "remarks"])
def test_a_file_without_a_query_is_told(tmp_path: Path, cli: Cli, text: str) -> None:
    queries = tmp_path / "queries"
    queries.write_text(text, encoding="ascii")
    done = cli("load", "dns", "127.0.0.1:9", *ASKED, "--queries", queries)
    assert (done.code, done.out) == (2, "")
    assert "no queries" in " ".join(done.err.split()), done.err


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_file_that_cannot_be_read_is_told(cli: Cli, name: str) -> None:
    path = cli.folder / name
    done = cli("load", "dns", "127.0.0.1:9", *ASKED, "--queries", path)
    assert (done.code, done.out) == (2, "")
    assert str(path) in "".join(done.err.split()), done.err
    assert "cannot be read" in " ".join(done.err.split()), done.err


@pytest.mark.parametrize("thousands", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_millions_of_lines_are_read_without_being_held(tmp_path: Path, cli: Cli, thousands: int) -> None:
    """In memory a query takes its name and 8 bytes; beside that there is the interpreter."""
    queries = tmp_path / "queries"
    with queries.open("w", encoding="ascii") as file:
        for thousand in range(thousands):
            file.write("".join(f"n{thousand:04}{n:03}.example.com A\n" for n in range(1000)))
    size = queries.stat().st_size
    assert size == 1000 * thousands * len("n0000000.example.com A\n")
    with flatout.serve("dns", "127.0.0.1:0", threads=1) as server:
        done = cli.process(
            "load", "dns", server.address, *ASKED, "--transport", "tcp", "--queries", queries, seconds=120
        )
    assert done.code in {0, 4}, done.err
    run = flatout.result.files.from_json(done.out)
    assert isinstance(run, flatout.LoadResult)
    accounts.all_answered(run)
    a_query = len("n0000000.example.com") + 8
    most = 1000 * thousands * a_query * 1.6 + (120 << 20)
    assert run.memory.peak_rss < most, f"{run.memory.peak_rss >> 20} MiB, {most / 2**20:.0f} MiB expected at most"


def test_all_lines_are_asked_in_turn(tmp_path: Path) -> None:
    """Each code as often as its lines."""
    zone, queries = tmp_path / "zone", tmp_path / "queries"
    zone.write_text("$ORIGIN example.com.\n@ 60 IN SOA ns host 1 2 3 4 5\nwww 60 IN A 192.0.2.1\n", encoding="ascii")
    queries.write_text("www.example.com A\nnone.example.com A\nelsewhere.test A\n", encoding="ascii")
    with flatout.serve("dns", "127.0.0.1:0", threads=1, zone=str(zone)) as server:
        how = {"rate": 600, "duration": 0.5, "warmup": 0, "queries": str(queries)}
        for transport in ("udp", "tcp"):
            run = flatout.load("dns", server.address, transport=transport, **how)
            accounts.check(run)
            tallies, heard = run.tallies, run.outcomes.sent - run.outcomes.lost
            assert tallies["noerror"] + tallies["nxdomain"] + tallies["refused"] == heard
            for code in ("noerror", "nxdomain", "refused"):
                assert tallies[code] == pytest.approx(heard / 3, abs=2 + run.outcomes.lost), tallies
