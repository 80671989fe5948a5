"""`flatout merge A.json B.json …`: the results of several hosts as one."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from flatout.cli import output as out
from flatout.cli.flags.shared import Output
from flatout.errors import UsageError
from flatout.result.file_names import shown
from flatout.result.files import read
from flatout.result.merge import merge as merged
from flatout.result.model import LoadResult


def merge(
    result: Annotated[list[str], Parameter(help="Results of all hosts of one load, as --json wrote them.")],
    /,
    *,
    output: Annotated[Output, Parameter(name="*")] = Output(),
) -> int:
    """Add up the results of hosts that loaded one target together.

    Every count and every histogram is added exactly. A host whose result is not there is named, and the exit code is 1,
    as it is where the hosts ran together for less than 90 % of the time. Those that did not overlap are refused.

    **Examples**
    ```
    flatout merge one.json two.json three.json --json all.json --html all.html
    ```

    """
    out.check_writable(output)
    found = [read(path) for path in result]
    for path, one in zip(result, found, strict=True):
        if not isinstance(one, LoadResult):
            raise UsageError(f"'{path}' is the result of a search: only those of loads can be merged")
    whole = merged([one for one in found if isinstance(one, LoadResult)], [shown(path) for path in result])
    return out.deliver([("", whole)], output)
