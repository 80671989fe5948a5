"""dnsperf as client of `serve dns`; and its labels, which `load dns` prints too."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flatout
from conftest import Cli

pytestmark = pytest.mark.peer

ZONE = """$ORIGIN example.com.
@ 300 IN SOA ns host 1 3600 600 86400 60
www 300 IN A 192.0.2.2
www 300 IN AAAA 2001:db8::2
"""
QUERIES = "www.example.com A\nwww.example.com AAAA\nwww.example.com TXT\n; a remark\nnone.example.com A\n"


@pytest.fixture(params=["io_uring", "epoll"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[flatout.Server]:
    (tmp_path / "zone").write_text(ZONE, encoding="ascii")
    (tmp_path / "queries").write_text(QUERIES, encoding="ascii")
    with flatout.serve("dns", "127.0.0.1:0", io=request.param, zone=str(tmp_path / "zone")) as running:
        yield running


def labels(reported: str) -> dict[str, str]:
    """Its statistics by label."""
    return {label: value.strip() for label, value in re.findall(r"^  ([A-Z][^:\n]+): (.*)$", reported, re.MULTILINE)}


@pytest.mark.parametrize("mode", ["udp", "tcp"])
@pytest.mark.parametrize("more", [[], ["-e"], ["-D"]], ids=["plain", "edns", "dnssec"])
def test_dnsperf_gets_every_answer(
    server: flatout.Server, peer: Callable[[str], str], tmp_path: Path, mode: str, more: list[str]
) -> None:
    command = [peer("dnsperf"), "-s", "127.0.0.1", "-p", str(server.endpoint.port), "-d", "queries", "-m", mode]
    # Four connections or sockets, at most 500 queries/s; each query 25 times.
    how = ["-c", "4", "-T", "1", "-Q", "500", "-n", "25", "-t", "20", *more]
    done = subprocess.run([*command, *how], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    reported = labels(done.stdout)
    assert reported["Queries sent"] == "100"
    assert reported["Queries completed"] == "100 (100.00%)"
    assert reported["Queries lost"] == "0 (0.00%)"
    assert reported["Response codes"] == "NOERROR 75 (75.00%), NXDOMAIN 25 (25.00%)"
    assert "Warning" not in done.stdout + done.stderr
    if mode == "tcp":
        assert reported["Reconnections"] == "0"
        assert server.stats()["connections"]["accepted"] == 4


def test_scripts_find_dnsperfs_labels_in_our_summary(
    server: flatout.Server, peer: Callable[[str], str], tmp_path: Path, cli: Cli
) -> None:
    command = [peer("dnsperf"), "-s", "127.0.0.1", "-p", str(server.endpoint.port), "-d", "queries", "-m", "tcp"]
    how = ["-c", "2", "-Q", "200", "-l", "1"]
    theirs = subprocess.run([*command, *how], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    asked = ("--rate", "200", "--for", "1s", "--warmup", "0", "--queries", "queries")
    ours = cli("load", "dns", server.address, "--transport", "tcp", "--connections", "2", *asked)
    assert ours.code in {0, 4}, ours.err
    wanted, found = labels(theirs.stdout), labels(ours.out)
    # What has no meaning here: sizes are not measured, and reconnecting is counted in words of our own.
    missing = wanted.keys() - found.keys() - {"Average packet size", "Reconnections"}
    assert not missing, f"{missing} of {sorted(wanted)}"
    assert re.fullmatch(r"[0-9]+\.[0-9]{6}", found["Queries per second"])
    for label in ("Queries completed", "Queries lost"):
        assert re.fullmatch(r"[0-9]+ \([0-9.]+%\)", found[label]), found[label]
