"""File names that are not UTF-8: every output holds them, and a stored result gives them back."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
import results
from hypothesis import given
from hypothesis import strategies as st

import flatout
from flatout.cli import execute
from flatout.result import file_names
from flatout.result.files import from_json, to_json
from flatout.result.model import Beside, LimitResult, LoadResult
from flatout.scenario.model import Scenario, Tls
from flatout.view.page.page import render

STRANGE = os.fsdecode(b"/tmp/b\xfc %25.txt")


def strange(scenario: Scenario) -> Scenario:
    return msgspec.structs.replace(
        scenario, queries=STRANGE, log=STRANGE, tls=Tls(ca=STRANGE), options={"values": STRANGE, "file": "file:///x"}
    )


def run() -> LoadResult:
    base = results.load(1000, 1)
    return msgspec.structs.replace(base, scenario=strange(base.scenario), why=f"of {STRANGE}")


def search() -> LimitResult:
    base = results.limit()
    other = msgspec.structs.replace(base, scenario=strange(base.scenario))
    trials = [msgspec.structs.replace(trial, scenario=strange(trial.scenario)) for trial in base.trials]
    return msgspec.structs.replace(other, trials=trials, beside=[Beside(title="other", result=other)])


def test_a_result_reads_back() -> None:
    data = to_json(run())
    stored = msgspec.json.decode(data)
    assert stored["scenario"]["queries"] == "file:///tmp/b%FC%20%2525.txt"
    assert stored["why"] == "of /tmp/b\N{REPLACEMENT CHARACTER} %25.txt"
    back = from_json(data)
    assert back == msgspec.structs.replace(run(), why=stored["why"])
    assert from_json(data.decode()) == back
    assert from_json(to_json(back)) == back


def test_a_search_reads_back_with_its_trials_and_those_beside_it() -> None:
    assert from_json(to_json(search())) == search()


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_every_name_reads_back(name: bytes) -> None:
    path = os.fsdecode(b"/" + name.strip(b"/."))
    scenario = {"scenario": {"queries": os.path.abspath(path)}}
    text = msgspec.json.encode(file_names.encoded(scenario))
    assert file_names.decoded(msgspec.json.decode(text)) == scenario


def test_a_relative_name_becomes_absolute_and_what_is_no_name_is_replaced() -> None:
    found = file_names.encoded({"scenario": {"queries": os.fsdecode(b"b\xfc"), "target": "\ud800"}, "b\udcfc": 1})
    assert found["scenario"]["queries"] == f"file://{os.getcwd()}/b%FC"
    assert found["scenario"]["target"] == "\N{REPLACEMENT CHARACTER}"
    assert found["b\N{REPLACEMENT CHARACTER}"] == 1


def test_the_page_shows_it() -> None:
    page = render(run())
    assert "b\N{REPLACEMENT CHARACTER} %25.txt" in page
    page.encode()


def test_all_files_of_a_load_may_have_such_names(
    tmp_path: Path, dns_server: flatout.Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    queries, log, stored, page = (os.fsdecode(b"\xfc." + end) for end in (b"txt", b"csv", b"json", b"html"))
    Path(queries).write_text("example.com A\n", encoding="ascii")
    how = ("--rate", "200", "--for", "100ms", "--warmup", "0", "--queries", queries, "--log", log, "--html", page)
    assert execute(["load", "dns", dns_server.address, *how, "--json", stored]) in (0, 4)
    assert len(Path(log).read_text(encoding="ascii").splitlines()) == 21
    assert Path(page).stat().st_size > 10_000
    assert execute(["rerun", stored, "--json", "again.json"]) in (0, 4)
    first, again = (from_json(Path(path).read_bytes()) for path in (stored, "again.json"))
    assert first.scenario == again.scenario
    assert first.scenario.queries == str(tmp_path / queries)
    assert "JSON: \N{REPLACEMENT CHARACTER}.json" in capfd.readouterr().err


def test_a_name_given_to_python_is_written(tmp_path: Path, dns_server: flatout.Server) -> None:
    queries = os.fsdecode(bytes(tmp_path) + b"/\xfc")
    Path(queries).write_text("example.com A\n", encoding="ascii")
    run = flatout.load("dns", dns_server.address, rate=200, duration=0.1, warmup=0, queries=queries)
    run.save(tmp_path / "r.json")
    back = from_json((tmp_path / "r.json").read_bytes())
    assert back == run


def test_the_authorities_may_have_such_a_name(tmp_path: Path) -> None:
    authorities = os.fsdecode(bytes(tmp_path) + b"/\xfc")
    Path(authorities).write_text("no certificate", encoding="ascii")
    tls = {"ca": authorities, "verify": True}
    with pytest.raises(flatout.UsageError, match=r"certificate|PEM"):
        flatout.load("dns", "127.0.0.1:9", transport="tls", tls=tls, connections=1, rate=10, duration=0.1)
