"""`--host-log` beside a load, and `flatout host log`: rows on their schedule, whole after an end of any kind."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

import flatout
from conftest import Cli, wait_until


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="ascii", newline="") as file:
        return list(csv.DictReader(file))


def test_a_load_has_a_log_beside_it(cli: Cli, echo_server: flatout.Server) -> None:
    path = cli.folder / "host.csv"
    done = cli(
        "load",
        "echo",
        echo_server.address,
        "--transport",
        "udp",
        "--rate",
        "2k",
        "--for",
        "1s",
        "--host-log",
        path,
        "--json",
        "-",
        "--quiet",
    )
    assert done.code in (0, 4), done.err
    found = rows(path)
    # The load, its warm-up and its drain take longer than its second; a busy machine may leave rows out.
    assert len(found) >= 5
    assert [row["unix_ns"] for row in found] == sorted(row["unix_ns"] for row in found)
    assert all(None not in row and None not in row.values() for row in found)
    received = sum(float(row["lo_rx_packets_per_s"]) * float(row["elapsed_s"]) for row in found)
    # Requests and answers; the rows begin before the load, and all of it is in them but its last part.
    assert received >= done.json["outcomes"]["answered"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full")
def test_a_full_disk_ends_the_log_and_not_the_load(cli: Cli, echo_server: flatout.Server) -> None:
    done = cli(
        "load",
        "echo",
        echo_server.address,
        "--transport",
        "udp",
        "--rate",
        "100",
        "--for",
        "300ms",
        "--host-log",
        "/dev/full",
        "--json",
        "-",
    )
    assert done.json["outcomes"]["sent"] > 0
    assert "the host log ends after 0 rows: No space left on device" in done.err
    assert done.code in (1, 4)


def test_ctrl_c_ends_it_and_its_rows_are_whole(cli: Cli) -> None:
    path = cli.folder / "host.csv"
    running = cli.start("host", "log", path, "--every", "10ms")
    wait_until(lambda: path.exists() and path.read_text("ascii").count("\n") > 3, message="logging")
    running.interrupt()
    done = running.end()
    assert done.code == 0, done.err
    found = rows(path)
    assert len(found) >= 3
    assert all(float(row["elapsed_s"]) > 0 for row in found)
    assert len([name for name in found[0] if name.endswith("_idle_percent")]) == os.cpu_count()


def test_it_ends_by_itself(cli: Cli) -> None:
    done = cli("host", "log", "-", "--every", "50ms", "--for", "300ms")
    assert done.code == 0, done.err
    assert 2 <= done.out.count("\n") <= 7
    assert done.out.startswith("unix_ns,elapsed_s,cpu0_user_percent")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("--every", "1ms"), "--every"), (("--for", "soon"), "--for"), (("--every", "0"), "--every")],
)
def test_a_wrong_flag_is_named(cli: Cli, arguments: tuple[str, ...], named: str) -> None:
    done = cli("host", "log", cli.folder / "host.csv", *arguments)
    assert done.code == 2
    assert named in done.err
