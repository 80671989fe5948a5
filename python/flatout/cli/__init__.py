"""The command line: one file per verb, one page of wiring.

Nothing of weight is imported here: until `main` runs, Ctrl-C still ends in a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from flatout.errors import FlatoutError, OutputError


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and ends the process with its exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    sys.exit(execute(sys.argv[1:] if arguments is None else list(arguments)))


def _leave(*_: object) -> None:
    """Ctrl-C while modules are imported: an exception there may come out of anything, and nothing has begun."""
    os.write(2, b"flatout: interrupted\n")
    os._exit(130)


def execute(arguments: Sequence[str]) -> int:
    """Runs a command; returns its exit code."""
    from cyclopts import CycloptsError

    from flatout.cli.app import build

    try:
        app = build()
        # A service manager's stop is as good as Ctrl-C: what was measured is written.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if signal.getsignal(signal.SIGINT) is _leave:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = app(arguments, exit_on_error=False, result_action="return_value")
        return int(code or 0)
    except CycloptsError:
        return 2
    except OutputError as error:
        print(f"flatout: {error}", file=sys.stderr)
        return 2
    except FlatoutError as error:
        print(f"flatout: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        print("flatout: interrupted", file=sys.stderr)
        return 130
