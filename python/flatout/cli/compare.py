"""`flatout compare A B`: whether B is worse than A."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from flatout import units
from flatout.cli import output as out
from flatout.cli.flags.shared import Output
from flatout.cli.runs import open_store

_Side = Annotated[str, Parameter(help="A label, or numbers of kept runs: 7, 7,9 or 7-12.")]
_CODES = {"better": out.DONE, "same": out.DONE, "worse": out.UNMET, "invalid": out.GENERATOR}


def compare(
    a: _Side,
    b: _Side,
    /,
    *,
    tolerance: Annotated[str, Parameter(help="By how much B may be worse.")] = "5%",
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
    flatout compare 7 8,9,10 --json -
    ```

    """
    share = units.share(tolerance)
    output = Output(json=json, quiet=quiet)
    out.check_writable(output)
    from flatout.store.choose import compare as compared

    with open_store() as store:
        found = compared(store, a, b, share)
    reported: list[str] = []
    code = out.write_json(found, output, reported)
    if not quiet:
        from rich.console import Console

        from flatout.view.terminal.runs import show_comparison

        show_comparison(found, Console(stderr=json == "-", highlight=False))
    for line in reported:
        out.say(line)
    return out.worst([code, _CODES[found.outcome]])
