"""Standard output and error that are full, closed, left by their reader, or of an encoding that lacks characters."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import results
from test_merge import nodes

from flatout.cli import _stop_by_signals, demo, execute, stdio
from flatout.cli import output as out
from flatout.cli.flags.shared import Output
from flatout.errors import FlatoutError, OutputError, UsageError
from flatout.result.files import from_json
from flatout.result.model import LimitResult


class Broken(io.RawIOBase):
    """A descriptor whose writes fail."""

    def __init__(self, number: int) -> None:
        self.number = number

    def writable(self) -> bool:
        return True

    def write(self, _: Any) -> int:
        raise OSError(self.number, os.strerror(self.number))


def broken(number: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(Broken(number)), encoding="utf-8", line_buffering=True)


def closed() -> io.TextIOWrapper:
    stream = io.TextIOWrapper(io.BytesIO())
    stream.close()
    return stream


BROKEN: dict[str, Any] = {
    "full": lambda: broken(errno.ENOSPC),
    "left": lambda: broken(errno.EPIPE),
    "bad": lambda: broken(errno.EBADF),
    "closed": closed,
    "none": lambda: None,
}


@contextlib.contextmanager
def streams(encoding: str = "utf-8") -> Iterator[tuple[Any, Any]]:
    """Standard output and error that take everything."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


def text_of(stream: Any) -> str:
    stream.flush()
    return str(stream.buffer.getvalue().decode(stream.encoding))


@pytest.fixture
def parts(tmp_path: Path) -> list[str]:
    """The results of all nodes, in files."""
    paths = [str(tmp_path / f"{number}.json") for number in range(3)]
    for path, node in zip(paths, nodes(1, 2, 3), strict=True):
        node.save(path)
    return paths


@pytest.mark.parametrize("how", BROKEN)
def test_files_are_written_whatever_becomes_of_standard_output(how: str, parts: list[str], tmp_path: Path) -> None:
    page, whole = tmp_path / "r.html", tmp_path / "r.json"
    with streams() as (_, err), contextlib.redirect_stdout(BROKEN[how]()):
        code = execute(["merge", *parts, "--json", str(whole), "--html", str(page)])
        reported = [line for line in text_of(err).splitlines() if "cannot be written" in line]
    assert from_json(whole.read_bytes()).duration_s == 1.0
    assert page.stat().st_size > 10_000
    if how == "left":
        assert (code, reported) == (0, []), "a reader that leaves has what it wanted"
    else:
        why = os.strerror(errno.ENOSPC if how == "full" else errno.EBADF)
        assert (code, reported) == (1, [f"flatout: standard output cannot be written: {why}"])


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_standard_error_costs_nothing(how: str, parts: list[str], tmp_path: Path) -> None:
    page, whole = tmp_path / "r.html", tmp_path / "r.json"
    with streams() as (shown, _), contextlib.redirect_stderr(BROKEN[how]()):
        assert execute(["merge", *parts, "--json", str(whole), "--html", str(page)]) == 0
        assert "answered" in text_of(shown)
    assert whole.exists()
    assert page.exists()


@pytest.mark.parametrize("how", BROKEN)
def test_json_for_a_broken_standard_output_is_kept_in_a_file(
    how: str, parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "kept"))
    (tmp_path / "kept").mkdir()
    with streams() as (_, err), contextlib.redirect_stdout(BROKEN[how]()):
        assert execute(["merge", *parts, "--json", "-", "--quiet"]) == 1
        reported = text_of(err)
    [kept] = (tmp_path / "kept").iterdir()
    assert from_json(kept.read_bytes()).duration_s == 1.0
    assert len(reported.splitlines()) == 1
    assert reported.startswith("flatout: the JSON cannot be written to standard output: ")
    assert reported.endswith(f"; the result is in {kept}\n")


@pytest.mark.parametrize("asked", ["--help", "--version", "load"])
@pytest.mark.parametrize("how", BROKEN)
def test_help_and_version_end_without_a_traceback(how: str, asked: str) -> None:
    with streams() as (_, err), contextlib.redirect_stdout(BROKEN[how]()):
        assert execute([asked]) == (0 if how == "left" else 1)
        reported = text_of(err)
    assert reported.count("\n") == (0 if how == "left" else 1), reported


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-16", "utf-8"])
def test_characters_that_an_encoding_lacks_are_replaced(encoding: str, parts: list[str]) -> None:
    with streams(encoding) as (shown, _):
        assert execute(["merge", *parts]) == 0
        text = text_of(shown)
    assert ("1.00 µs" if encoding != "ascii" else "1.00 us") in text


def test_replacements_are_legible_and_file_names_are_shown() -> None:
    assert stdio.replaced("12 µs … 3", "ascii") == "12 us . 3"
    assert stdio.replaced("b\udcfc.txt – µ", "utf-8") == "b\N{REPLACEMENT CHARACTER}.txt – µ"
    assert stdio.replaced("b\udcfc\u4e2d µ", "latin-1") == "b?? µ"


def test_a_full_disk_everywhere_leaves_standard_error(parts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out, "_kept_in", lambda *_: None)
    with streams() as (_, err):
        assert execute(["merge", *parts, "--json", "/dev/full", "--quiet"]) == 1
        reported = text_of(err)
    assert json.loads(reported[: reported.rindex("}") + 1])["duration_s"] == 1.0
    assert reported.endswith("; the result stands above\n")


def test_a_rescue_file_that_does_not_fit_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.open", lambda *_: Broken(errno.ENOSPC))
    assert out._kept_in(str(tmp_path), b"{}") is None
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_files_are_written_loses_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(out, "write", interrupted)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with streams() as (shown, err):
        code = out.deliver([("", results.load(1000, 1))], Output(json="r.json", html="r.html"))
        assert "answered" in text_of(shown)
        assert "'r.html' was not written: interrupted" in text_of(err)
    [kept] = tmp_path.iterdir()
    assert code == 130
    assert from_json(kept.read_bytes()) == results.load(1000, 1)


def test_a_page_that_cannot_be_made_costs_no_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: object) -> str:
        raise MemoryError

    monkeypatch.setattr("flatout.view.page.page.render", failing)
    with streams() as (shown, _):
        with pytest.raises(MemoryError):
            out.deliver([("", results.load(1000, 1))], Output(html="r.html"))
        assert "answered" in text_of(shown)


def test_an_output_that_cannot_be_is_found_before_a_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for output, why in (
        (Output(json=str(tmp_path)), "a folder"),
        (Output(html=str(tmp_path / "a" / "b")), "no folder"),
    ):
        with pytest.raises(OutputError, match=why):
            out.check_writable(output)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"flatout\[report\]"):
        out.check_writable(Output(html=str(tmp_path / "r.html")))


@pytest.mark.parametrize("nohup", [False, True])
def test_a_hang_up_is_ctrl_c_unless_it_is_ignored(*, nohup: bool) -> None:
    numbers = (signal.SIGHUP, signal.SIGTERM)
    kept = {number: signal.getsignal(number) for number in numbers}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
        _stop_by_signals()
        handlers = [signal.getsignal(number) for number in numbers]
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    ctrl_c = signal.default_int_handler
    assert handlers == [signal.SIG_IGN if nohup else ctrl_c, ctrl_c]


@pytest.mark.parametrize(
    ("error", "code"), [(FlatoutError("chronyd ended"), 1), (KeyboardInterrupt(), 130), (OSError(1, "no"), 1)]
)
def test_the_demo_keeps_its_first_search(
    error: BaseException, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = results.limit()

    def search(title: str, *_: Any, **__: Any) -> LimitResult:
        if title == "chronyd":
            raise error
        return found

    monkeypatch.setattr(demo, "_search", search)
    monkeypatch.setattr(demo, "_chronyd", lambda _: contextlib.nullcontext("127.0.0.1:1"))
    kept = tmp_path / "d.json"
    with streams():
        assert demo.demo(json=str(kept), html=str(tmp_path / "d.html"), quiet=True) == code
    stored = from_json(kept.read_bytes())
    assert isinstance(stored, LimitResult)
    assert stored.trials == found.trials
