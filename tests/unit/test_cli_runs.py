"""`flatout runs` and `flatout compare` on the command line, and what `load` keeps."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import results

import flatout
from conftest import Cli
from flatout.store.open import open_store


@pytest.fixture
def kept(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line with a store of six searches: three `before`, three 20 % lower `after`."""
    monkeypatch.setenv("FLATOUT_STORE", str(tmp_path / "runs.db"))
    base = results.limit()
    value = base.limit.value or 0
    with open_store() as store:
        for label, factor in (("before", 1.0), ("after", 0.8)):
            for n in range(3):
                limit = msgspec.structs.replace(base.limit, value=value * factor * (1 + n / 500))
                store.add(msgspec.structs.replace(base, limit=limit), label)
    return cli


def test_a_regression_ends_with_1(kept: Cli) -> None:
    ran = kept("compare", "before", "after", "--json", "-")
    assert ran.code == 1
    assert ran.json["outcome"] == "worse"
    assert ran.json["changes"][0]["change"] == pytest.approx(-0.2)
    assert "worse: rate" in ran.err
    assert kept("compare", "before", "after", "--tolerance", "30%").code == 0
    assert kept("compare", "after", "before").code == 0


def test_runs_that_cannot_tell_end_with_4(kept: Cli) -> None:
    assert kept("runs", "rm", "2", "3", "5-6").code == 0
    ran = kept("compare", "1", "4")
    assert ran.code == 4
    assert "invalid" in ran.out


@pytest.mark.parametrize(
    "bad", [["--budget", "1m"], ["--again", "0"], ["--again", "x"], ["--again", "1", "--budget", "x"]]
)
def test_bad_retries_are_said(kept: Cli, bad: list[str]) -> None:
    ran = kept("compare", "before", "after", *bad)
    assert (ran.code, bad[-2] in ran.err or "number" in ran.err) == (2, True)


def test_runs_of_another_host_are_not_run_again(kept: Cli) -> None:
    ran = kept("compare", "before", "after", "--again", "2")
    assert ran.code == 2
    assert "run from bench-1" in ran.err


def test_the_list_shows_the_newest_first(kept: Cli) -> None:
    ran = kept("runs", "list", "--last", "2", "--json", "-")
    assert [run["id"] for run in ran.json["runs"]] == [6, 5]
    ran = kept("runs", "list", "--label", "before")
    assert ran.code == 0
    assert "before" in ran.out
    assert "after" not in ran.out
    assert kept("runs", "list", "--protocol", "dns").err.startswith("No run is kept")


def test_a_run_is_shown_again(kept: Cli) -> None:
    ran = kept("runs", "show", "1", "--json", "again.json")
    assert ran.code == 0
    assert flatout.read(kept.folder / "again.json").kind == "limit"
    assert kept("runs", "show", "99").code == 2
    assert kept("runs", "show", "x").code == 2


def test_runs_are_added_from_files_and_exported(kept: Cli) -> None:
    results.interrupted().save(kept.folder / "one.json")
    assert kept("runs", "add", "one.json", "--label", "file").out == "Kept as run 7\n"
    assert kept("runs", "export", "all.csv").code == 0
    assert len((kept.folder / "all.csv").read_text().splitlines()) == 8
    ran = kept("runs", "export", "all.xlsx")
    assert (ran.code, ".csv" in ran.err) == (2, True)


@pytest.mark.parametrize("bad", [[], ["7", "--label", "x"]])
def test_what_is_to_be_removed_must_be_said_once(kept: Cli, bad: list[str]) -> None:
    assert kept("runs", "rm", *bad).code == 2


def test_a_load_is_kept_under_its_label(kept: Cli, ntp_server: flatout.Server) -> None:
    asked = ("load", "ntp", ntp_server.address, "--rate", "200", "--for", "0.2s", "--warmup", "0")
    assert "Kept as run 7" in kept(*asked, "--label", "new").err
    ran = kept("runs", "list", "--label", "new", "--json", "-")
    assert ran.json["runs"][0]["target"] == ntp_server.address
    assert "Kept" not in kept(*asked, "--no-store").err
    assert kept(*asked, "--no-store", "--label", "x").code == 2


def test_a_store_that_fails_costs_no_result(
    kept: Cli, ntp_server: flatout.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("load", "ntp", ntp_server.address, "--rate", "200", "--for", "0.2s", "--warmup", "0", "--json", "-")
    monkeypatch.setenv("FLATOUT_STORE", "/proc/none/runs.db")
    ran = kept(*asked)
    assert ran.json["kind"] == "load"
    assert "not kept" in ran.err
    assert ran.code in (1, 4)
    monkeypatch.delenv("FLATOUT_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", "/proc/none")
    ran = kept(*asked)
    assert "not kept" in ran.err
    assert ran.code in (0, 4)


def test_outputs_fit_the_schema(kept: Cli) -> None:
    import jsonschema

    from flatout.schema import schema

    validator = jsonschema.Draft202012Validator(schema())
    for arguments in (("runs", "list"), ("compare", "before", "after")):
        validator.validate(json.loads(kept(*arguments, "--json", "-").out))
