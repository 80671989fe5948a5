"""The output of a command: summary, JSON, HTML, exit code. A result that cannot be written is kept elsewhere."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flatout.cli.flags.shared import Output
from flatout.errors import FlatoutError, GeneratorError, Interrupted, OutputError, TargetError, UsageError
from flatout.result.files import to_json, write
from flatout.result.model import LimitResult, LoadResult, Result

DONE, UNMET = 0, FlatoutError.exit_code
BAD_USE, TARGET, GENERATOR = UsageError.exit_code, TargetError.exit_code, GeneratorError.exit_code
INTERRUPTED = Interrupted.exit_code
# Where several hold the first of these is the command's code.
_PRECEDENCE = (BAD_USE, INTERRUPTED, TARGET, GENERATOR, UNMET)


def say(text: str) -> None:
    """Prints a line on standard error, apart from what programs read."""
    print(text, file=sys.stderr)


def check_writable(output: Output) -> None:
    """Checks before a measurement that its result can be written. Errors: OutputError."""
    for path in (output.json, output.html):
        if path and path != "-" and not Path(path).parent.is_dir():
            raise OutputError(f"'{path}' cannot be written: there is no folder '{Path(path).parent}'")


def deliver(results: Sequence[tuple[str, Result]], output: Output, stored: Result | None = None) -> int:
    """Shows and writes results; returns the exit code so far. A file that cannot be written costs no other output.

    `stored` goes into the JSON file, by default the first result.
    """
    codes = [exit_code(result) for _, result in results]
    for _, result in results:
        for warning in result.warnings if isinstance(result, LoadResult) else ():
            say(f"flatout: warning: {warning}")
        for note in result.notes if isinstance(result, LoadResult) and not output.quiet else ():
            say(f"flatout: note: {note}")
    if output.quiet:
        _complaints(results)
    else:
        _summaries(results, to_stderr=output.json == "-")
    codes.append(_write_json(stored or results[0][1], output))
    codes.append(_write_html(results, output))
    return worst(codes)


def worst(codes: Sequence[int]) -> int:
    """One code for several, by the contract's precedence."""
    return next((code for code in _PRECEDENCE if code in codes), DONE)


def exit_code(result: Result) -> int:
    """A result's exit code, by the contract."""
    return _limit_code(result) if isinstance(result, LimitResult) else _load_code(result)


def _load_code(result: LoadResult) -> int:
    codes = {"ok": DONE, "generator-limited": GENERATOR, "target-lost": TARGET, "interrupted": INTERRUPTED}
    unmet = any(not requirement.met for requirement in result.requirements)
    return worst([codes[result.verdict], UNMET if unmet or result.warnings else DONE])


def _limit_code(result: LimitResult) -> int:
    # A value that no long run confirmed, or that lost more than the goal over all, is no limit.
    held = DONE if result.limit.value and result.limit.holds else UNMET
    codes = {
        "found": held,
        "max": held,
        "min": UNMET,
        "budget": held,
        "generator": GENERATOR,
        "target": TARGET,
        "interrupted": INTERRUPTED,
    }
    return codes[result.limit.stopped_by]


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


def _write_json(result: Result, output: Output) -> int:
    if output.json is None:
        return DONE
    data = to_json(result)
    if output.json == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return DONE
    try:
        write(output.json, data)
    except OutputError as error:
        say(f"flatout: {error}{_rescue(data)}")
        return UNMET
    if not output.quiet:
        say(f"JSON: {output.json}")
    return DONE


def _rescue(data: bytes) -> str:
    """Keeps a result elsewhere when its file cannot be written: nothing measured is lost."""
    for folder in (tempfile.gettempdir(), "/dev/shm"):
        try:
            with tempfile.NamedTemporaryFile(dir=folder, prefix="flatout-", suffix=".json", delete=False) as file:
                file.write(data)
            return f"; the result is in {file.name}"
        except OSError:
            continue
    sys.stderr.buffer.write(data)
    return "; the result stands above"


def _write_html(results: Sequence[tuple[str, Result]], output: Output) -> int:
    if output.html is None:
        return DONE
    from flatout.view.page.page import render

    try:
        single = len(results) == 1
        write(output.html, render(results[0][1] if single else list(results)).encode())
    except OutputError as error:
        say(f"flatout: {error}")
        return UNMET
    if not output.quiet:
        say(f"Report: {output.html}")
    return DONE
