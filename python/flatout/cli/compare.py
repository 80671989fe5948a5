"""`flatout compare A B`: whether B is worse than A."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from flatout import units
from flatout.cli import output as out
from flatout.cli.flags.shared import Output
from flatout.cli.runs import open_store
from flatout.errors import UsageError

if TYPE_CHECKING:
    from flatout.result.model import Result
    from flatout.scenario.model import Scenario
    from flatout.store.again import Limits, Shell
    from flatout.store.compare import Comparison

_Side = Annotated[str, Parameter(help="A label, or numbers of kept runs: 7, 7,9 or 7-12.")]
_CODES = {"better": out.DONE, "same": out.DONE, "worse": out.UNMET, "invalid": out.GENERATOR}
_MOST_TIMES = 100


def compare(
    a: _Side,
    b: _Side,
    /,
    *,
    tolerance: Annotated[str, Parameter(help="By how much B may be worse.")] = "5%",
    again: Annotated[
        str | None,
        Parameter(help="Where B is worse, or it cannot be told, run B again, and A in turn, up to so many times. [0]"),
    ] = None,
    budget: Annotated[
        str | None, Parameter(help="Time for the runs of --again: none begins that would end later. [30m]")
    ] = None,
    json: Annotated[
        str | None,
        Parameter(allow_leading_hyphen=True, help="Write the comparison as JSON to a file (-: standard output)."),
    ] = None,
    quiet: Annotated[bool, Parameter(negative=(), show_default=False, help="Print errors only.")] = False,
) -> int:
    """Compare two kept runs, or two groups of them: two commits, two servers, two settings.

    A change counts if it is larger than the tolerance and than what runs that ask alike differ by. The latter is known
    from repeated runs: of both sides, and earlier ones of the same host, target and label. Ends with 0 (better or the
    same), 1 (worse), or 4: the runs cannot tell, because they are not valid, too few or too noisy.

    **Examples**
    ```
    flatout limit ntp 10.0.0.2 --label before      # three times or more
    flatout limit ntp 10.0.0.2 --label after
    flatout compare before after --tolerance 3%
    flatout compare before after --again 3 --budget 10m
    flatout compare 7 8,9,10 --json -
    ```

    """
    share = units.share(tolerance)
    limits = _limits(again, budget)
    output = Output(json=json, quiet=quiet)
    out.check_writable(output)
    found = _found(a, b, share, limits, quiet=quiet)
    reported: list[str] = []
    code = out.write_json(found, output, reported)
    if not quiet:
        from rich.console import Console

        from flatout.view.terminal.runs import show_comparison

        show_comparison(found, Console(stderr=json == "-", highlight=False))
    for line in reported:
        out.say(line)
    return out.worst([code, _CODES[found.outcome], out.INTERRUPTED if found.interrupted else out.DONE])


def _limits(again: str | None, budget: str | None) -> Limits | None:
    from flatout.store.again import Limits

    if again is None:
        if budget is not None:
            raise UsageError("--budget is the time for the runs of --again: add --again")
        return None
    times = units.count(again)
    if not 1 <= times <= _MOST_TIMES:
        raise UsageError(f"--again {again}: give 1 to {_MOST_TIMES}")
    return Limits(times=times, budget_s=units.seconds("budget", "30m" if budget is None else budget))


def _found(a: str, b: str, share: float, limits: Limits | None, *, quiet: bool) -> Comparison:
    from flatout.store.again import compare_again
    from flatout.store.choose import compare as compared

    with open_store() as store:
        if limits is None:
            return compared(store, a, b, share)
        return compare_again(store, (a, b), share, limits, _shell(quiet=quiet))


def _shell(*, quiet: bool) -> Shell:
    from flatout.host.describe import describe
    from flatout.store.again import Shell

    def say(line: str) -> None:
        if not quiet:
            out.say(f"flatout: {line}")

    run = partial(_run, quiet=quiet)
    return Shell(run=run, endpoints=_endpoints, clock=time.monotonic, hostname=describe().hostname, say=say)


def _run(stored: Result, *, quiet: bool) -> Result:
    """The scenario of a stored result once more; a log of then is not written over."""
    from flatout.cli.limit import seek
    from flatout.cli.load import measure
    from flatout.result.model import LimitResult

    scenario = msgspec.structs.replace(stored.scenario, log=None)
    if isinstance(stored, LimitResult):
        return seek(scenario, stored.search, quiet=quiet)
    return measure(scenario, quiet=quiet)


def _endpoints(scenario: Scenario) -> frozenset[str]:
    from flatout.plan import targets
    from flatout.protocols import protocol
    from flatout.scenario.target import split_targets

    port = protocol(scenario.protocol).port_over(scenario.transport)
    each = (targets.addresses(text, port) for text in split_targets(scenario.target))
    return frozenset(str(endpoint) for found in each for endpoint in found)
