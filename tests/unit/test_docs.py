"""The docs are true as far as a machine can tell: commands parse, Python compiles and runs, what they name exists."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import pytest
import results
from cyclopts import CycloptsError

import flatout
from conftest import ROOT
from flatout.cli.app import build
from flatout.protocols import PROTOCOLS

_PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL
)
_SHELL = {"sh", "bash", "shell", "console"}
_LINK = re.compile(
    r"!?\[[^\]]*\]\(\s*([^)\s]+)[^)]*\)|<img[^>]*\bsrc=[\"']([^\"']+)|<source[^>]*\bsrcset=[\"']([^\"']+)"
)
_VERB = re.compile(r"`flatout ([a-z]+)\b[^`]*`")
# The walk-through adds a protocol that does not exist here.
_WITH_A_TOY = "adding-a-protocol.md"


class Block(NamedTuple):
    """A fenced block: its page, the line it begins on, its language, its text."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start("body")) + 1
        yield Block(page, line, found["language"], textwrap.dedent(found["body"]))


def prose(page: Path) -> str:
    """A page without its blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def arguments(line: str) -> list[str] | None:
    """What follows `flatout` in a line of a shell, or None where the line does not run it."""
    line = re.sub(r"^\$ ", "", line.strip())
    if not re.match(r"(\S+=\S* )*(sudo )?(\S*/)?flatout( |$)", line):
        return None
    words = shlex.split(line, comments=True)
    first = next(n for n, word in enumerate(words) if word.rpartition("/")[2] == "flatout")
    end = next((n for n, word in enumerate(words) if word in {"|", "&", "&&", ";", ">", "2>", "||"}), len(words))
    return words[first + 1 : end]


def commands() -> list[tuple[str, list[str]]]:
    """Every command line of ours in a shell block, with its place."""
    found = []
    for page in _PAGES:
        for block in blocks(page):
            if block.language in _SHELL:
                joined = block.text.replace("\\\n", " ")
                parsed = ((line, arguments(line)) for line in joined.splitlines())
                found += [(f"{block.place} {line.strip()}", words) for line, words in parsed if words is not None]
    return found


def known(words: list[str]) -> bool:
    """Whether the command speaks a protocol that this flatout has, or none."""
    return len(words) < 2 or words[0] not in {"load", "limit", "serve"} or words[1] in PROTOCOLS


# The toy's own commands need its engine: tests/toy runs them.
_PARSED = [(place, words) for place, words in commands() if known(words) or _WITH_A_TOY not in place]


@pytest.mark.parametrize(("place", "words"), _PARSED, ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_line_parses(place: str, words: list[str]) -> None:
    try:
        build().parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        pytest.fail(f"{place}: {error}")


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_every_verb_in_the_text_exists(page: Path) -> None:
    verbs = set(build()) | {"--help", "--version"}
    assert {verb for verb in _VERB.findall(prose(page)) if verb not in verbs} == set()


def compiled(block: Block) -> CodeType:
    return compile(block.text, block.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_every_python_block_compiles(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compiled(block)


def test_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(ROOT / "docs" / "python.md"):
        if block.language != "python":
            continue
        code = compiled(block)
        if code.co_flags & inspect.CO_COROUTINE:
            asyncio.run(eval(code, names))
        else:
            exec(code, names)
    assert {"result", "found", "both", "spoiled"} <= set(names)


def test_the_python_of_kept_runs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a search that was made before, in place of a minute's."""
    monkeypatch.setenv("FLATOUT_STORE", str(tmp_path / "runs.db"))
    monkeypatch.setattr(flatout, "limit", lambda *_: results.limit())
    with flatout.open_store() as store:
        for _ in range(3):
            store.add(results.limit(), "before")
    (block,) = [block for block in blocks(ROOT / "docs" / "runs.md") if block.language == "python"]
    names: dict[str, Any] = {"__name__": "page"}
    exec(compiled(block), names)
    assert names["found"].outcome == "same"
    assert names["table"].height == 4


def test_the_receiver_of_the_page_runs() -> None:
    """On a free port, and with less patience for traffic that a reader would send."""
    page = ROOT / "docs" / "receiving.md"
    found = [block.text for block in blocks(page) if block.language == "python" and "Receiver(" in block.text]
    text = found[0].replace("127.0.0.1:31234", "127.0.0.1:0").replace("idle=5", "idle=0.1")
    assert "127.0.0.1:0" in text
    names: dict[str, object] = {"__name__": "page"}
    exec(text, names)
    receiver = names.get("receiver") or names["rx"]
    assert isinstance(receiver, flatout.Receiver)
    assert receiver.stats()["received"] == 0


def anchors(page: Path) -> set[str]:
    """The names under which a page's headings can be linked."""
    heads = re.findall(r"^#+ +(.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_every_link_and_picture_leads_somewhere(page: Path) -> None:
    missing = []
    for link in filter(None, (part for found in _LINK.findall(prose(page)) for part in found)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        there = page.parent / path if path else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            missing.append(link)
    assert missing == []


def test_the_readme_is_short_and_begins_with_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    assert [line.split("#")[0].strip() for line in next(blocks(ROOT / "README.md")).text.splitlines()] == [
        "make demo",
        "make test",
    ]
