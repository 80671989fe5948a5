"""JUnit XML: what the target missed is a failure, what this host could not measure is an error."""

from __future__ import annotations

from xml.etree import ElementTree

import msgspec
import pytest
import results

from conftest import Cli
from flatout.result.junit import to_junit
from flatout.result.model import LoadResult, Requirement


def parsed(result: object, title: str = "") -> ElementTree.Element:
    suite = ElementTree.fromstring(to_junit([(title, result)])).find("testsuite")  # type: ignore[list-item]
    assert suite is not None
    return suite


def kinds(suite: ElementTree.Element) -> list[tuple[str, list[str]]]:
    return [(case.get("name", ""), [child.tag for child in case]) for case in suite.findall("testcase")]


def a_load(**changes: object) -> LoadResult:
    base = results.interrupted()
    usual = {"verdict": "ok", "requirements": [], "why": "all well"}
    return msgspec.structs.replace(base, **{**usual, **changes})


def test_each_requirement_is_a_case() -> None:
    met = Requirement(expression="loss<1%", value=0.0, met=True)
    unmet = Requirement(expression="p99<5ms", value=7.5e6, met=False)
    unknown = Requirement(expression="p50<1ms", value=None, met=False)
    suite = parsed(a_load(requirements=[met, unmet, unknown]))
    assert kinds(suite) == [
        ("the run is valid", []),
        ("loss<1%", []),
        ("p99<5ms", ["failure"]),
        ("p50<1ms", ["failure"]),
    ]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "2", "0")
    assert "no sample" in ElementTree.tostring(suite, encoding="unicode")


@pytest.mark.parametrize(
    ("verdict", "kind"), [("generator-limited", "error"), ("interrupted", "error"), ("target-lost", "failure")]
)
def test_a_run_without_meaning_is_no_failure_of_the_target(verdict: str, kind: str) -> None:
    assert kinds(parsed(a_load(verdict=verdict))) == [("the run is valid", [kind])]


def test_searches() -> None:
    found = results.limit()
    assert kinds(parsed(found)) == [("a limit is found", [])]
    assert kinds(parsed(results.limit_interrupted())) == [("a limit is found", ["error"])]
    unconfirmed = msgspec.structs.replace(found, limit=msgspec.structs.replace(found.limit, confirmed=False))
    assert kinds(parsed(unconfirmed)) == [("a limit is found", ["failure"])]


def test_any_text_is_well_formed() -> None:
    suite = parsed(a_load(why="\x00\x1b<&>\ud800 é", verdict="target-lost"), title='a "b" <c>')
    assert 'a "b" <c>' in (suite.get("name") or "")
    assert "<&>" in (suite.find("testcase/failure").get("message") or "")  # type: ignore[union-attr]


def test_the_command_writes_it_beside_the_rest(cli: Cli) -> None:
    results.limit().save(cli.folder / "one.json")
    assert cli("report", "one.json").code == 0
    ran = cli("load", "ntp", "127.0.0.1:9", "--junit", "no/such/folder.xml")
    assert ran.code in (1, 2)
    assert "folder" in ran.err
    ran = cli("load", "ntp", "127.0.0.1:9", "--rate", "100", "--for", "0.1s", "--warmup", "0", "--junit", "x.xml")
    assert ran.code == 3
    assert ElementTree.parse(cli.folder / "x.xml").getroot().find("testsuite/testcase/failure") is not None
