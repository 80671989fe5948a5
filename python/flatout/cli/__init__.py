"""The command line: one file per verb, one page of wiring."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from flatout.errors import FlatoutError, OutputError


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and ends the process with its exit code."""
    sys.exit(execute(sys.argv[1:] if arguments is None else list(arguments)))


def execute(arguments: Sequence[str]) -> int:
    """Runs a command; returns its exit code."""
    from cyclopts import CycloptsError

    from flatout.cli.app import build

    # A service manager's stop is as good as Ctrl-C: what was measured is written.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = build()(arguments, exit_on_error=False, result_action="return_value")
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
