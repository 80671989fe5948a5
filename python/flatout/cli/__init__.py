"""The command line: one file per verb, one page of wiring.

Nothing of weight is imported here: until `main` runs, Ctrl-C still ends in a traceback.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Sequence

from flatout.cli import stdio
from flatout.errors import ArgumentError, FlatoutError, OutputError, UsageError

# Characters of an error.
_LONGEST = 1000


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and ends the process with its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    stdio.open_closed()
    code = execute(sys.argv[1:] if arguments is None else list(arguments))
    stdio.discard_unwritten()
    sys.exit(code)


def _leave(*_: object) -> None:
    """Ctrl-C while modules are imported: an exception there may come out of anything, and nothing has begun."""
    os.write(2, b"flatout: interrupted\n")
    os._exit(130)


def execute(arguments: Sequence[str]) -> int:
    """Runs a command; returns its exit code, 1 instead of 0 where standard output could not be written."""
    with stdio.replaced_streams() as (out, _):
        code = _run(arguments)
        text = stdio.lost(out)
        if text is not None:
            print(f"flatout: {text}", file=sys.stderr)
        return code or (OutputError.exit_code if text else 0)


def _run(arguments: Sequence[str]) -> int:
    from cyclopts import CycloptsError

    from flatout.cli.app import build

    try:
        _refuse_empty(arguments)
        app = build()
        _stop_by_signals()
        code = app(arguments, exit_on_error=False, result_action="return_value")
        return int(code or 0)
    except CycloptsError:
        return 2
    except OutputError as error:
        _complain(str(error))
        return 2
    except ArgumentError as error:
        from flatout.cli.flags.settings import flag_of

        _complain(f"{flag_of(error.argument)}{error.reason}")
        return error.exit_code
    except FlatoutError as error:
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        print("flatout: interrupted", file=sys.stderr)
        return 130


def _complain(text: str) -> None:
    """Prints an error in one line, with marks and control characters escaped; of a very long one both ends."""
    text = re.sub("[\\x00-\\x1f\\x7f-\\x9f\\ufeff]", lambda found: repr(found[0])[1:-1], text)
    line = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    print(f"flatout: {line}", file=sys.stderr)


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Errors: UsageError for an empty value: a variable of a script that is not set must not start a load."""
    flag = ""
    for argument in arguments:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            empty = bool(equals and not value)
        else:
            empty = not argument
        if empty:
            where = f" behind {flag}" if flag else " in place of a target, a file or a command"
            raise UsageError(f"empty value{where} (a variable that is not set?): give one, or leave it out")


def _stop_by_signals() -> None:
    """A service manager's stop and the end of a terminal are as good as Ctrl-C: what was measured is written."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Under nohup a hang-up is ignored, and stays so.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
