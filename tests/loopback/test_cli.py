"""The command line as people and programs use it: every flag of a load, its log, its reports, and exit codes."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flatout
from conftest import Cli, free_port, until_good, wait_until
from flatout.plan.capacity import local_ports
from flatout.testing import Faults, FaultyServer

SHORT = ("--rate", "5k", "--for", "300ms", "--warmup", "0")
# Its requests are so far apart that they leave in time even where the CPUs are shared.
CALM = ("--rate", "200", "--for", "300ms", "--warmup", "0")
JSON = ("--json", "-", "--quiet")


@pytest.fixture
def server(ntp_server: flatout.Server) -> flatout.Server:
    return ntp_server


@pytest.fixture(scope="module")
def unasked() -> Iterator[flatout.Server]:
    """A server that nothing may be sent to."""
    with flatout.serve("ntp", "127.0.0.1:0") as running:
        yield running


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        (("--flows", "7"), "flows", 7),
        (("--sources", "127.0.0.0/29"), "sources", ["127.0.0.0/29"]),
        (("--sources", "127.0.0.2", "127.0.0.3"), "sources", ["127.0.0.2", "127.0.0.3"]),
        (("--arrivals", "constant"), "arrivals", "constant"),
        (("--seed", "7"), "seed", 7),
        (("--timeout", "200ms"), "timeout_s", 0.2),
        (("--threads", "2"), "threads", 2),
        (("--stamps", "kernel"), "stamps", "kernel"),
        (("--stamps", "user"), "stamps", "user"),
        (("--require", "p99<9s", "loss<99%"), "require", ["p99<9s", "loss<99%"]),
        (("--allow-public",), "allow_public", True),
    ],
    ids=str,
)
def test_each_flag_of_a_load_is_taken_and_told(
    cli: Cli, server: flatout.Server, flags: Any, field: str, value: Any
) -> None:
    done = cli("load", "ntp", server.address, *SHORT, *flags, *JSON)
    run = done.json
    assert done.code in (0, 4), done.err
    assert run["scenario"][field] == value
    assert run["outcomes"]["planned"] == 1500
    assert run["outcomes"]["answered"] > 0


def test_warmup_is_sent_but_not_counted(cli: Cli, server: flatout.Server) -> None:
    before = server.stats()["received"]
    done = cli("load", "ntp", server.address, "--rate", "5k", "--for", "300ms", "--warmup", "200ms", *JSON)
    run = done.json
    assert (run["scenario"]["warmup_s"], run["outcomes"]["planned"]) == (0.2, 1500)
    assert server.stats()["received"] - before > run["outcomes"]["sent"] + 500


def test_poisson_arrivals_come_about_as_often(cli: Cli, server: flatout.Server) -> None:
    run = cli("load", "ntp", server.address, *SHORT, "--arrivals", "poisson", *JSON).json
    assert run["scenario"]["arrivals"] == "poisson"
    assert run["outcomes"]["planned"] == pytest.approx(1500, rel=0.15)


def test_several_sources_are_used(cli: Cli, server: flatout.Server) -> None:
    log = cli.folder / "log.csv"
    cli("load", "ntp", server.address, *SHORT, "--sources", "127.0.0.0/29", "--flows", "6", "--log", log, *JSON)
    with log.open() as file:
        assert {row["flow"] for row in csv.DictReader(file)} == set("012345")


def at_the_rates(asked: list[float]) -> Any:
    """Whether the seconds of a run have these rates."""
    return lambda done: (
        [row["planned"] for row in done.json["intervals"]][: len(asked)] == pytest.approx(asked, rel=0.05)
    )


def test_a_profile_changes_the_rate(cli: Cli, server: flatout.Server) -> None:
    def attempt() -> Any:
        return cli("load", "ntp", server.address, "--profile", "2000 1s, 6000 1s, 1k 1s", "--warmup", "0", *JSON)

    good = at_the_rates([2000, 6000, 1000])
    done = until_good(attempt, good)
    assert good(done), done.json["intervals"]
    assert done.json["outcomes"]["planned"] == 9000


def test_a_profile_from_a_file_with_a_slope(cli: Cli, server: flatout.Server) -> None:
    (cli.folder / "profile.txt").write_text("2000 1s  # steady\n+2000/s 1s\n", encoding="utf-8")
    done = cli("load", "ntp", server.address, "--profile", "profile.txt", "--warmup", "0", *JSON)
    assert done.json["outcomes"]["planned"] == pytest.approx(5000, abs=2)


def test_a_ramp_changes_the_rate(cli: Cli, server: flatout.Server) -> None:
    good = at_the_rates([3000, 5000])

    def attempt() -> Any:
        return cli("load", "ntp", server.address, "--ramp", "2k..6k", "--for", "2s", "--warmup", "0", *JSON)

    done = until_good(attempt, good)
    assert good(done), done.json["intervals"]


def test_the_protocols_own_flag(cli: Cli, server: flatout.Server) -> None:
    for flag in ("--version", "--ntp-version"):
        done = cli("load", "ntp", server.address, *SHORT, flag, "3", *JSON)
        assert done.json["scenario"]["options"]["version"] == 3
        assert done.json["tallies"]["basic"] == done.json["outcomes"]["answered"] > 0


def test_json_on_standard_output_is_alone_there(cli: Cli, server: flatout.Server) -> None:
    done = cli("load", "ntp", server.address, *SHORT, "--json", "-")
    assert done.json["kind"] == "load"
    assert "answered" in done.err, "people still read the summary"


def test_quiet_leaves_nothing_but_errors(cli: Cli, server: flatout.Server) -> None:
    done = until_good(lambda: cli("load", "ntp", server.address, *CALM, "--quiet"), lambda done: done.code == 0)
    assert (done.code, done.out, done.err) == (0, "", "")
    bad = cli("load", "ntp", server.address, "--rate", "0", "--quiet")
    assert bad.out == ""
    assert "rate '0'" in bad.err


def test_json_and_html_files_and_the_report_again(cli: Cli, server: flatout.Server) -> None:
    # In processes of their own, as a page numbers its parts from the beginning of its process.
    done = cli.process("load", "ntp", server.address, *SHORT, "--json", "r.json", "--html", "r.html")
    assert done.code in (0, 4), done.err
    stored = json.loads((cli.folder / "r.json").read_text())
    assert stored["outcomes"]["planned"] == 1500
    again = cli.process("report", "r.json", "--html", "again.html")
    assert again.code == 0, again.err
    page = (cli.folder / "again.html").read_text()
    assert page == (cli.folder / "r.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|url\(["']?https?:""", page.split("<script")[0]), (
        "it works offline"
    )
    assert not re.search(r"<script[^>]+src=", page)


def test_a_report_without_html_prints_the_summary(cli: Cli, server: flatout.Server) -> None:
    cli("load", "ntp", server.address, *SHORT, "--json", "r.json", "--quiet")
    done = cli("report", "r.json")
    assert done.code == 0
    assert "answered" in done.out


@pytest.mark.parametrize("content", [None, "", "{}", '{"schema": "flatout/9", "kind": "load"}'])
def test_a_report_of_no_result_is_bad_use(cli: Cli, content: str | None) -> None:
    if content is not None:
        (cli.folder / "r.json").write_text(content)
    done = cli("report", "r.json", "--html", "r.html")
    assert done.code == 2
    assert done.err.startswith("flatout: ")
    assert not (cli.folder / "r.html").exists()


def test_the_log_has_one_row_a_request(cli: Cli) -> None:
    faults = Faults(drop=0.1, corrupt=0.05, late=0.1, late_by_s=0.3, duplicate=0.1)
    with FaultyServer("ntp", faults) as server:
        log = cli.folder / "log.csv"
        done = cli(
            "load",
            "ntp",
            server.address,
            "--rate",
            "5k",
            "--for",
            "500ms",
            "--timeout",
            "200ms",
            "--warmup",
            "200ms",
            "--log",
            log,
            *JSON,
        )
    with log.open() as file:
        rows = list(csv.DictReader(file))
    outcomes = done.json["outcomes"]
    words = Counter(row["outcome"] for row in rows)
    assert len(rows) == outcomes["planned"] == 2500
    identified = {word: outcomes[word] for word in ("unsent", "answered", "late")}
    assert {word: words[word] for word in identified} == identified
    # A spoiled answer may not name its request: such rows say lost, and together they agree.
    assert words["lost"] + words["invalid"] == outcomes["lost"] + outcomes["invalid"]
    assert_plausible(rows)


def assert_plausible(rows: list[dict[str, str]]) -> None:
    dues = sorted(int(row["due_ns"]) for row in rows)
    assert dues[0] < 1_000_000
    assert dues[-1] == pytest.approx(499_800_000, abs=300_000)
    for row in rows:
        if row["outcome"] == "unsent":
            assert (row["sent_ns"], row["answered_ns"]) == ("", "")
            continue
        assert int(row["due_ns"]) <= int(row["sent_ns"])
        if row["outcome"] in ("answered", "late"):
            waited = int(row["answered_ns"]) - int(row["sent_ns"])
            assert (waited > 200_000_000) == (row["outcome"] == "late")
        if row["outcome"] == "lost":
            assert row["answered_ns"] == ""


# --- Bad use and bad luck ---


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rate", "0"),
        ("--rate", "-1"),
        ("--rate", "1e99"),
        ("--rate", "fast"),
        ("--for", "0"),
        ("--for", "soon"),
        ("--flows", "0"),
        ("--flows", "-1"),
        ("--flows", str(local_ports() + 1)),
        ("--threads", "0"),
        ("--threads", "65"),
        ("--sources", "nowhere"),
        ("--sources", "::1"),
        ("--sources", "203.0.113.7"),
        ("--arrivals", "sometimes"),
        ("--seed", "x"),
        ("--timeout", "0"),
        ("--ramp", "1k"),
        ("--ramp", "1k..2k", "--rate", "1k"),
        ("--profile", "1000"),
        ("--profile", "1k 1s", "--for", "1s"),
        ("--require", "speed>1"),
        ("--stamps", "rubber"),
        ("--json", "/nowhere/r.json"),
        ("--html", "/nowhere/r.html"),
        ("--log", "/nowhere/log.csv"),
        ("--no-such-flag",),
        ("--version", "5"),
        ("--mode", "2"),
        ("--key-file", "/nowhere/keys"),
        ("--extension-field", "F323"),
    ],
    ids=" ".join,
)
def test_bad_use_is_2_and_says_why(cli: Cli, unasked: flatout.Server, arguments: tuple[str, ...]) -> None:
    done = cli("load", "ntp", unasked.address, *arguments)
    assert done.code == 2, done.err
    assert done.out == ""
    assert done.err.strip()
    assert "Traceback" not in done.err
    assert unasked.stats()["received"] == 0, "nothing was sent"


@pytest.mark.parametrize("target", ["8.8.8.8", "[2001:4860:4860::8888]", "[::ffff:8.8.8.8]:123", "203.0.113.1"])
@pytest.mark.parametrize("verb", ["load", "limit"])
def test_public_targets_need_a_word(cli: Cli, verb: str, target: str) -> None:
    done = cli(verb, "ntp", target)
    assert done.code == 2
    assert "--allow-public" in done.err
    assert "harm" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--loss", "100%"),
        ("--p99", "never"),
        ("--min", "5k", "--max", "1k"),
        ("--min", "0"),
        ("--max", "1e99"),
        ("--within", "0"),
        ("--budget", "1s"),
    ],
    ids=" ".join,
)
def test_bad_use_of_limit(cli: Cli, unasked: flatout.Server, arguments: tuple[str, ...]) -> None:
    done = cli("limit", "ntp", unasked.address, *arguments)
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    assert unasked.stats()["received"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("load",),
        ("load", "smoke-signals", "x"),
        *(("serve", "ntp", "--listen", listen) for listen in ("x", "", "*", "nosuch.invalid:0", "systemd")),
        ("serve", "ntp", "--interface", "nowhere0"),
        ("serve", "dns", "--interface", "lo"),
        *(("serve", "record", "--listen", listen) for listen in ("", "*:0", "nosuch.invalid:0")),
    ],
    ids=" ".join,
)
def test_bad_commands(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.code == 2 or arguments == ("load",), done.err
    assert "Traceback" not in done.err


def test_an_unknown_host_is_3(cli: Cli) -> None:
    for verb in ("load", "limit"):
        done = cli(verb, "ntp", "nowhere.invalid")
        assert done.code == 3
        assert "nowhere.invalid" in done.err


def test_a_refused_port_is_3_and_keeps_the_result(cli: Cli) -> None:
    done = cli("load", "ntp", f"127.0.0.1:{free_port()}", "--rate", "1k", "--for", "30s", "--warmup", "0", *JSON)
    assert done.code == 3
    run = done.json
    assert run["verdict"] == "target-lost"
    assert "refuse" in run["why"]
    assert run["outcomes"]["refused"] == run["outcomes"]["sent"] > 0
    assert run["duration_s"] < 15, "it does not go on asking"


def test_limit_of_a_refused_port_is_3(cli: Cli) -> None:
    done = cli("limit", "ntp", f"127.0.0.1:{free_port()}", "--budget", "10s", *JSON)
    assert done.code == 3, done.err
    assert done.json["limit"]["stopped_by"] == "target"


def test_a_server_that_dies_is_3_and_keeps_the_result(cli: Cli) -> None:
    with FaultyServer("ntp", Faults(die_after=2000)) as server:
        done = cli(
            "load", "ntp", server.address, "--rate", "5k", "--for", "30s", "--warmup", "0", "--timeout", "300ms", *JSON
        )
    run = done.json
    assert (done.code, run["verdict"]) == (3, "target-lost"), run["why"]
    assert 0 < run["outcomes"]["answered"] <= 2000
    assert "has not answered since " in run["why"]
    assert run["duration_s"] < 15


def test_a_server_that_lies_is_3_and_named(cli: Cli) -> None:
    with FaultyServer("ntp", Faults(corrupt=0.999999)) as server:
        done = cli("load", "ntp", server.address, *SHORT, *JSON)
    run = done.json
    assert (done.code, run["verdict"]) == (3, "target-lost")
    assert run["outcomes"]["invalid"] == run["outcomes"]["sent"]
    assert "answers were wrong" in run["why"]


def test_a_server_replaced_by_a_liar_in_mid_run(cli: Cli) -> None:
    with FaultyServer("ntp", Faults()) as honest:
        address = honest.address
        load = cli.start(
            "load", "ntp", address, "--rate", "2k", "--for", "40s", "--warmup", "0", "--timeout", "200ms", *JSON
        )
        wait_until(lambda: honest.done()["received"] > 1000, message="under way")
    with FaultyServer("ntp", Faults(corrupt=0.999999), listen=address):
        done = load.end()
    run = done.json
    assert (done.code, run["verdict"]) == (3, "target-lost")
    assert run["outcomes"]["answered"] > 900
    assert run["outcomes"]["invalid"] > 1000
    assert "answers were wrong" in run["why"]


def test_requirements(cli: Cli, server: flatout.Server) -> None:
    met = until_good(
        lambda: cli("load", "ntp", server.address, *CALM, "--require", "p99<9s", "rate>1", *JSON),
        lambda done: done.code == 0,
    )
    assert met.code == 0, met.json["why"]
    assert [need["met"] for need in met.json["requirements"]] == [True, True]
    unmet = until_good(
        lambda: cli("load", "ntp", server.address, *CALM, "--require", "p99<9s", "max<1ns", *JSON),
        lambda done: done.code == 1,
    )
    assert unmet.code == 1, unmet.json["why"]
    assert [need["met"] for need in unmet.json["requirements"]] == [True, False]


def test_of_two_codes_the_targets_comes_before_the_requirements(cli: Cli) -> None:
    done = cli("load", "ntp", f"127.0.0.1:{free_port()}", *SHORT, "--require", "loss<1%", *JSON)
    assert done.code == 3
    assert done.json["requirements"][0]["met"] is False


def test_of_two_codes_the_generators_comes_before_the_requirements(cli: Cli, server: flatout.Server) -> None:
    done = cli(
        "load", "ntp", server.address, "--rate", "20M", "--for", "100ms", "--warmup", "0", "--require", "max<1ns", *JSON
    )
    assert done.code == 4


def test_limit_that_fails_at_its_minimum_is_1(cli: Cli) -> None:
    with FaultyServer("ntp", Faults(capacity_per_s=100)) as server:
        done = until_good(
            lambda: cli("limit", "ntp", server.address, "--min", "400", "--max", "900", "--budget", "8s", *JSON),
            lambda done: done.code == 1,
        )
    assert done.code == 1, done.json["sentence"]
    assert done.json["limit"]["stopped_by"] in ("min", "budget")
    assert done.json["limit"]["value"] is None


def test_limit_that_holds_its_maximum_is_0(cli: Cli, server: flatout.Server) -> None:
    done = until_good(
        lambda: cli(
            "limit",
            "ntp",
            server.address,
            "--min",
            "100",
            "--max",
            "200",
            "--loss",
            "20%",
            "--budget",
            "8s",
            "--html",
            "l.html",
            *JSON,
        ),
        lambda done: done.code == 0 and done.json["limit"]["stopped_by"] == "max",
    )
    found = done.json
    assert (done.code, found["limit"]["stopped_by"]) == (0, "max"), found["sentence"]
    assert found["rate_per_s"] == found["limit"]["value"] == pytest.approx(200, rel=0.01)
    assert (cli.folder / "l.html").stat().st_size > 10_000


# --- Where results go when there is no room ---


def test_a_full_device_costs_no_result(cli: Cli, server: flatout.Server) -> None:
    done = cli("load", "ntp", server.address, *SHORT, "--json", "/dev/full", "--html", "r.html", "--quiet")
    assert done.code in (1, 4)
    assert "/dev/full" in done.err
    rescued = Path(done.err.split("the result is in ")[1].split()[0])
    assert json.loads(rescued.read_text())["outcomes"]["planned"] == 1500
    rescued.unlink()
    assert (cli.folder / "r.html").exists(), "the other output is written all the same"


def test_a_full_device_under_html(cli: Cli, server: flatout.Server) -> None:
    done = cli("load", "ntp", server.address, *SHORT, "--html", "/dev/full", "--json", "r.json", "--quiet")
    assert done.code in (1, 4)
    assert "/dev/full" in done.err
    assert json.loads((cli.folder / "r.json").read_text())["kind"] == "load"


def test_a_full_device_under_the_log_is_told(cli: Cli, server: flatout.Server) -> None:
    done = cli(
        "load", "ntp", server.address, "--rate", "20k", "--for", "1s", "--warmup", "0", "--log", "/dev/full", *JSON
    )
    assert "log could not be written" in json.dumps(done.json)
    assert done.json["outcomes"]["planned"] == 20_000


def test_a_reader_that_goes_away_leaves_no_traceback(cli: Cli, server: flatout.Server) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "flatout", "load", "ntp", server.address, *SHORT, *JSON]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cli.folder) as load:
        assert load.stdout
        assert load.stderr
        load.stdout.close()
        err = load.stderr.read().decode()
        load.wait(30)
    assert "Traceback" not in err
