"""Generates the table of causes in docs/findings.md from the tests that provoke each.

`make causes-table` writes it again; tests/test_causes_table.py fails while it is out of date. What a cause says, its
place, remedy and confidence are of the recorded case in tests/unit/test_findings.py; how it is provoked is what the
marker `provokes` of tests in tests/netns names.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "findings.md"
BEGIN, END = "<!-- causes: generated, make causes-table -->\n", "<!-- causes: end -->\n"
# The rest, with the reason. Their recorded case stands for them.
NOT_PROVOKED = {
    "steal": "only a hypervisor can take time",
    "CPU": "needs all CPUs of the machine",
    "soft interrupts": "needs a CPU of the machine",
    "other programs": "needs all CPUs of the machine",
    "softnet backlog": "needs a CPU that receives more slowly than another sends",
    "generator": "needs a machine that is too slow",
    "generator's receive buffer": "needs a machine that is too slow",
    "conntrack full": "the limit is the whole host's",
    "conntrack": "the drops of the kernel's trackers cannot be provoked at will",
    "socket memory": "the limit is the whole host's",
    "unanswered frames": "needs a network that swallows frames",
    "full slots": "needs more requests than the generator has slots for",
}
Provoking = dict[str, list[tuple[str, str]]]


def provoking() -> Provoking:
    """The tests that provoke each cause: file and name."""
    found: Provoking = {}
    for path in sorted((ROOT / "tests" / "netns").glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for cause in _causes(node):
                assert isinstance(node, ast.FunctionDef)
                found.setdefault(cause, []).append((path.name, node.name))
    return found


def _causes(node: ast.stmt) -> list[str]:
    """The arguments of the markers `provokes` of a test."""
    found = []
    for decorator in getattr(node, "decorator_list", []):
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.provokes":
            found.append(ast.literal_eval(decorator.args[0]))
    return found


def recorded() -> Any:
    """The module with the recorded cases."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "unit")]
    try:
        return importlib.import_module("test_findings")
    finally:
        del sys.path[:2]


def render() -> str:
    """The table."""
    cases, tests = recorded(), provoking()
    rows = []
    for name, (case, _) in sorted(cases.CASES.items(), key=lambda pair: pair[0].lower()):
        finding = cases.found(case)[0]
        ledger = cases.closed(*case).ledger
        places = sorted({f"`{line.place}`" for line in ledger.lines if line.count})
        how = "<br>".join(f"{_words(test)} (`{file}`)" for file, test in tests.get(name, []))
        if not how:
            how = f"by recorded counters: {NOT_PROVOKED[name]}"
        cells = (name, finding.sentence, ", ".join(places) or "the machine", finding.remedy, finding.confidence, how)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    heading = "| cause | what it says, with recorded numbers | place | what helps | confidence | provoked by |"
    return "\n".join([heading, "| --- | --- | --- | --- | --- | --- |", *rows]) + "\n"


def _words(test: str) -> str:
    return test.removeprefix("test_").replace("_", " ")


def split(text: str) -> tuple[str, str, str]:
    """The page up to the table, the table, and the page after it."""
    before, rest = text.split(BEGIN, 1)
    table, after = rest.split(END, 1)
    return before + BEGIN, table, END + after


def main() -> None:
    """Writes the table again."""
    before, _, after = split(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(before + render() + after, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
