"""Processes whose standard output or error is full, closed or left by its reader, or whose terminal closes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import flatout
from conftest import Cli, wait_until

LOAD = ("--rate", "200", "--for", "300ms", "--warmup", "0", "--json", "r.json", "--html", "r.html")


def shell(folder: Path, redirected: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of flatout with its streams redirected by a shell; `$LEFT` is a pipe that no one reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        line = f'"$@" {redirected}'.replace("$LEFT", str(writer))
        command = ["bash", "-c", line, "bash", sys.executable, "-m", "flatout", *arguments]
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=60, pass_fds=[writer]
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize(
    ("redirected", "reported"),
    [
        (">&$LEFT", ""),
        (">/dev/full", "flatout: standard output cannot be written: No space left on device\n"),
        (">&-", "flatout: standard output cannot be written: Bad file descriptor\n"),
        ("2>/dev/full", ""),
        ("2>&$LEFT", ""),
        (">&$LEFT 2>&1", ""),
        ("<&- >&- 2>&-", ""),
    ],
)
def test_a_load_leaves_its_files(redirected: str, reported: str, tmp_path: Path, dns_server: flatout.Server) -> None:
    done = shell(tmp_path, redirected, "load", "dns", dns_server.address, *LOAD)
    run = json.loads((tmp_path / "r.json").read_text())
    assert run["outcomes"]["planned"] == 60
    assert (tmp_path / "r.html").stat().st_size > 10_000
    fine = 0 if run["verdict"] == "ok" else 4
    assert done.returncode == (fine or ("LEFT" not in redirected and redirected[0] != "2"))
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stderr.endswith(reported)


@pytest.mark.parametrize(
    "redirected",
    [">&$LEFT 2>&1", *(pytest.param(how, marks=pytest.mark.slow) for how in (">/dev/full 2>&1", ">&- 2>&-"))],
)
def test_a_search_leaves_its_file(redirected: str, tmp_path: Path, dns_server: flatout.Server) -> None:
    goal = ("--loss", "90%", "--min", "100", "--max", "200", "--within", "50%", "--budget", "5s")
    done = shell(tmp_path, redirected, "limit", "dns", dns_server.address, *goal, "--json", "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["trials"]
    assert done.stderr.count("Traceback") == 0


@pytest.mark.parametrize("asked", [["--help"], ["--version"], ["load", "ntp", "--help"]])
@pytest.mark.parametrize(("redirected", "code"), [(">/dev/full", 1), (">&-", 1), (">&$LEFT", 0)])
def test_help_ends_without_a_traceback(asked: Sequence[str], redirected: str, code: int, tmp_path: Path) -> None:
    done = shell(tmp_path, redirected, *asked)
    assert (done.returncode, done.stderr.count("\n")) == (code, code), done.stderr


@pytest.mark.parametrize("what", [("ntp",), ("record", "--format", "movement")], ids=("answers", "receives"))
@pytest.mark.parametrize(
    ("redirected", "written", "code"),
    [
        ("2>/dev/full", "r.json", 0),
        (">&- 2>&-", "r.json", 0),
        ("2>&$LEFT", "r.json", 0),
        ("", "/dev/full", 1),
        (">/dev/full", "-", 1),
        (">&$LEFT", "-", 0),
    ],
)
def test_a_server_serves_on(what: Sequence[str], redirected: str, written: str, code: int, tmp_path: Path) -> None:
    arguments = ("serve", *what, "--listen", "127.0.0.1:0", "--for", "200ms", "--json", written)
    done = shell(tmp_path, redirected, *arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert ("it goes on without" in done.stderr) == (written != "r.json")
    if written == "r.json":
        assert json.loads((tmp_path / "r.json").read_text().splitlines()[-1])["total"] is True


@pytest.mark.parametrize("ending", [signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize("verb", ["load", "limit"])
def test_a_closed_terminal_ends_a_measurement_with_its_result(cli: Cli, verb: str, ending: signal.Signals) -> None:
    how = ("--rate", "2k", "--for", "60s", "--warmup", "0") if verb == "load" else ("--max", "5k", "--loss", "50%")
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        measuring = cli.start(verb, "ntp", server.address, *how, "--json", "r.json", "--html", "r.html")
        wait_until(lambda: server.stats()["received"] > 500, message="measuring")
        measuring.process.send_signal(ending)
        done = measuring.end(20)
    assert done.code == 130, done.err
    run = json.loads((cli.folder / "r.json").read_text())
    assert (run["verdict"] if verb == "load" else run["limit"]["stopped_by"]) == "interrupted"
    assert (cli.folder / "r.html").exists()


def test_a_closed_terminal_ends_a_server_with_its_totals(cli: Cli) -> None:
    serving = cli.start("serve", "ntp", "--listen", "127.0.0.1:0", "--json", "-")
    wait_until(lambda: "127.0.0.1:" in serving.err.read_text(), message="serving")
    serving.process.send_signal(signal.SIGHUP)
    done = serving.end(20)
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["total"] is True
