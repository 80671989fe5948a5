"""JUnit XML of results, for CI systems: a suite a result, a case for the run and for each requirement. Pure.

As Jenkins' schema has it (junit-10.xsd): `failure` is what the target missed, `error` what this host could not measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from flatout.result.model import LimitResult, LoadResult, Result


def to_junit(results: Sequence[tuple[str, Result]]) -> bytes:
    """The XML of results, each with its title ("": none)."""
    root = ElementTree.Element("testsuites")
    for title, result in results:
        _suite(root, title, result)
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data + b"\n"


def _suite(root: ElementTree.Element, title: str, result: Result) -> None:
    scenario = result.scenario
    name = f"flatout {result.kind} {scenario.protocol} {scenario.target}{f' ({title})' if title else ''}"
    suite = ElementTree.SubElement(root, "testsuite", name=_text(name), timestamp=result.started_at[:19])
    suite.set("hostname", _text(result.host.hostname))
    suite.set("time", f"{result.duration_s:.3f}")
    if isinstance(result, LimitResult):
        _limit_case(suite, result)
    else:
        _load_cases(suite, result)
    suite.set("tests", str(len(suite)))
    for kind in ("failure", "error"):
        suite.set(f"{kind}s", str(len(suite.findall(f"testcase/{kind}"))))


def _case(suite: ElementTree.Element, name: str, seconds: float = 0.0) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname="flatout", name=_text(name), time=f"{seconds:.3f}")


def _missed(case: ElementTree.Element, kind: str, message: str) -> None:
    ElementTree.SubElement(case, kind, message=_text(message), type=kind)


def _load_cases(suite: ElementTree.Element, result: LoadResult) -> None:
    case = _case(suite, "the run is valid", result.duration_s)
    if result.verdict != "ok":
        _missed(case, "failure" if result.verdict == "target-lost" else "error", f"{result.verdict}: {result.why}")
    for requirement in result.requirements:
        case = _case(suite, requirement.expression)
        if not requirement.met:
            value = "no sample" if requirement.value is None else f"{requirement.value:g}"
            _missed(case, "failure", f"{requirement.expression} is not met: {value}")


def _limit_case(suite: ElementTree.Element, result: LimitResult) -> None:
    case, limit = _case(suite, "a limit is found", result.duration_s), result.limit
    if limit.stopped_by in ("generator", "interrupted"):
        _missed(case, "error", result.sentence)
    elif not limit.value or not limit.holds or limit.stopped_by in ("min", "target"):
        _missed(case, "failure", result.sentence)


def _text(text: str) -> str:
    """Without the characters that XML 1.0 cannot have (section 2.2)."""
    return "".join(
        c if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff" else "�" for c in text
    )
