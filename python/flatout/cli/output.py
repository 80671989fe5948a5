"""The output of a command: JSON, HTML, summary, exit code. A result that cannot be written is kept elsewhere.

Files come first, then the JSON on standard output, then all that is for people.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from flatout.cli.flags.shared import Output
from flatout.errors import OutputError, UsageError
from flatout.result.exit_codes import BAD_USE, DONE, GENERATOR, INTERRUPTED, TARGET, UNMET, exit_code, worst
from flatout.result.files import to_json, write
from flatout.result.model import LimitResult, LoadResult, Result

__all__ = ["BAD_USE", "DONE", "GENERATOR", "INTERRUPTED", "TARGET", "UNMET", "exit_code", "worst"]


def say(text: str) -> None:
    """Prints a line on standard error, apart from what programs read."""
    print(text, file=sys.stderr)


def check_writable(output: Output) -> None:
    """Checks before a measurement that its result can be written. Errors: OutputError."""
    for path in (output.json, output.html, output.junit):
        if path and path != "-":
            _check_path(Path(path))
    if output.html and not importlib.util.find_spec("bokeh"):
        raise UsageError("a report needs the extra: pip install 'flatout[report]'")


def _check_path(path: Path) -> None:
    try:
        if not path.parent.is_dir():
            raise OutputError(f"'{path}' cannot be written: there is no folder '{path.parent}'")
        if path.is_dir():
            raise OutputError(f"'{path}' cannot be written: it is a folder")
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror}") from error


def deliver(results: Sequence[tuple[str, Result]], output: Output, stored: Result | None = None) -> int:
    """Shows and writes results; returns the exit code so far. A file that cannot be written costs no other output.

    `stored` goes into the JSON file, by default the first result.
    """
    codes = [exit_code(result) for _, result in results]
    reported: list[str] = []
    codes.append(write_json(stored or results[0][1], output, reported))
    try:
        if output.junit is not None:
            codes.append(_write_junit(results, output.junit, reported, quiet=output.quiet))
        if output.html is not None:
            codes.append(write_html(results, output.html, reported, quiet=output.quiet))
    finally:
        # Also where the page could not be made, for whatever reason.
        _show(results, output, reported)
    return worst(codes)


def _show(results: Sequence[tuple[str, Result]], output: Output, reported: Sequence[str]) -> None:
    """All that is for people; `reported`: what there is to say of the files."""
    _remarks(results, quiet=output.quiet)
    if output.quiet:
        _complaints(results)
    else:
        _summaries(results, to_stderr=output.json == "-")
    for line in reported:
        say(line)


def _remarks(results: Sequence[tuple[str, Result]], *, quiet: bool) -> None:
    for _, result in results:
        for warning in result.warnings if isinstance(result, LoadResult) else ():
            say(f"flatout: warning: {warning}")
        for note in result.notes if isinstance(result, LoadResult) and not quiet else ():
            say(f"flatout: note: {note}")


def _complaints(results: Sequence[tuple[str, Result]]) -> None:
    """What `--quiet` still prints: why a result is not valid."""
    for _, result in results:
        if exit_code(result) in (TARGET, GENERATOR):
            say(f"flatout: {result.sentence if isinstance(result, LimitResult) else result.why}")


def _summaries(results: Sequence[tuple[str, Result]], *, to_stderr: bool) -> None:
    from rich.console import Console

    from flatout.view.terminal.summary import show

    console = Console(stderr=to_stderr, highlight=False)
    for title, result in results:
        if title:
            console.print(f"\n[bold]{title}[/bold]")
        show(result, console)


def write_json(result: msgspec.Struct, output: Output, reported: list[str]) -> int:
    """Writes the JSON; returns the exit code of that. What is to be said of it is added to `reported`."""
    if output.json is None:
        return DONE
    data = to_json(result)
    try:
        if output.json == "-":
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return DONE
        write(output.json, data)
    except KeyboardInterrupt:
        reported.append(f"flatout: '{output.json}' was not written: interrupted{_rescue(data)}")
        return INTERRUPTED
    except OutputError as error:
        reported.append(f"flatout: {error}{_rescue(data)}")
        return UNMET
    except OSError as error:
        reported.append(f"flatout: the JSON cannot be written to standard output: {error.strerror}{_rescue(data)}")
        return UNMET
    if not output.quiet:
        reported.append(f"JSON: {output.json}")
    return DONE


def _rescue(data: bytes) -> str:
    """Keeps a result elsewhere when its file cannot be written: nothing measured is lost."""
    # Another Ctrl-C would lose it, and this takes no time.
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        for folder in (os.environ.get("TMPDIR") or "/tmp", "/var/tmp", "/dev/shm"):
            if path := _kept_in(folder, data):
                return f"; the result is in {path}"
        return _on_stderr(data)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _kept_in(folder: str, data: bytes) -> str | None:
    """The name of a new file with the data, or None where it cannot be written."""
    with contextlib.suppress(OSError):
        handle, path = tempfile.mkstemp(dir=folder, prefix="flatout-", suffix=".json")
        try:
            with open(handle, "wb") as file:
                file.write(data)
        except OSError:
            os.unlink(path)
            raise
        return path
    return None


def _on_stderr(data: bytes) -> str:
    try:
        sys.stderr.buffer.write(data)
        sys.stderr.buffer.flush()
    except OSError:
        return ", nor anywhere else"
    return "; the result stands above"


def write_html(results: Sequence[tuple[str, Result]], path: str, reported: list[str], *, quiet: bool) -> int:
    """Writes the report; returns the exit code of that. What is to be said of it is added to `reported`."""
    try:
        from flatout.view.page.page import render

        single = len(results) == 1
        write(path, render(results[0][1] if single else list(results)).encode())
    except KeyboardInterrupt:
        reported.append(f"flatout: '{path}' was not written: interrupted")
        return INTERRUPTED
    except OutputError as error:
        reported.append(f"flatout: {error}")
        return UNMET
    if not quiet:
        reported.append(f"Report: {path}")
    return DONE


def _write_junit(results: Sequence[tuple[str, Result]], path: str, reported: list[str], *, quiet: bool) -> int:
    """Writes JUnit XML; returns the exit code of that. What is to be said of it is added to `reported`."""
    from flatout.result.junit import to_junit

    try:
        write(path, to_junit(results))
    except OutputError as error:
        reported.append(f"flatout: {error}")
        return UNMET
    if not quiet:
        reported.append(f"JUnit: {path}")
    return DONE
