"""`flatout host log`, and `--host-log` of a load or a search: what the host did meanwhile, as CSV."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Annotated

from cyclopts import Parameter

from flatout import units
from flatout.cli import output as out
from flatout.cli.flags.shared import OUTPUT
from flatout.errors import ArgumentError
from flatout.host.log import INTERVAL_S, HostLog

# More often the log would be a load itself, and /proc/stat has no finer ticks.
_LEAST_S = 0.01
HOST_LOG = Annotated[
    str | None,
    Parameter(
        group=OUTPUT,
        help="Write CPUs, network devices, memory, sockets and open files of this host as CSV, each 100 ms.",
    ),
]


def log(
    file: Annotated[str, Parameter(help="The CSV file; -: standard output.", allow_leading_hyphen=True)],
    /,
    *,
    every: Annotated[str, Parameter(help="The interval, 10ms or more.")] = "100ms",
    for_: Annotated[str | None, Parameter(name="--for", help="How long, e.g. 60s. [until Ctrl-C]")] = None,
) -> int:
    """Log CPUs, network devices, memory, sockets and open files of this host as CSV, a row each 100 ms.

    For the hosts of a measurement on which flatout measures nothing itself, such as that of the server. Rows of several
    hosts are joined by `unix_ns`, as far as their clocks agree.

    **Examples**
    ```
    flatout host log server.csv --for 60s
    flatout host log - --every 1s
    ```

    """
    interval_s = units.seconds("every", every)
    if interval_s < _LEAST_S:
        raise ArgumentError("every", f"={every!r}: give 10ms or more")
    seconds = None if for_ is None else units.seconds("for", for_)
    logger = HostLog(sys.stdout if file == "-" else _named("file", file), interval_s)
    with logger, contextlib.suppress(KeyboardInterrupt):
        logger.wait(seconds)
    return _ended(logger)


def beside(path: str | None, act: Callable[[], int]) -> int:
    """Does what is measured with a log beside it; the exit code is 1 where the log could not be written to its end."""
    if path is None:
        return act()
    with HostLog(_named("host-log", path), INTERVAL_S) as logger:
        code = act()
    return out.worst([code, _ended(logger)])


def _named(flag: str, path: str) -> str:
    if not path:
        raise ArgumentError(flag, "='': give the name of a file")
    return path


def _ended(logger: HostLog) -> int:
    if logger.failed:
        out.say(f"flatout: the host log ends after {logger.rows:,} rows: {logger.failed}")
    return out.UNMET if logger.failed else out.DONE
