"""What the command lines of all three programs share: bad use is told in one line, and Ctrl-C needs none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from flatout import FlatoutError, UsageError, units


def run(main: Callable[[], None]) -> None:
    """Runs a program to its end, and ends the process with its exit code where that is not 0."""
    try:
        main()
    except FlatoutError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def several(text: str) -> int:
    """How many players: at least one. Errors: UsageError."""
    if units.count(text) < 1:
        raise UsageError(f"players '{text}': there must be one at least")
    return units.count(text)
