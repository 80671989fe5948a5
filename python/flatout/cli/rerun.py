"""`flatout rerun RESULT.json`: the same scenario once more, from a stored result."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter

from flatout.cli import output as out
from flatout.cli.flags.shared import Output
from flatout.cli.keep import Keep
from flatout.cli.limit import seek
from flatout.cli.load import measure
from flatout.result.files import read
from flatout.result.model import LimitResult


def rerun(
    result: Annotated[str, Parameter(help="A result, as --json wrote it.")],
    /,
    *,
    target: Annotated[str | None, Parameter(help="Ask this target instead.")] = None,
    output: Annotated[Output, Parameter(name="*")] = Output(),
    keep: Annotated[Keep, Parameter(name="*")] = Keep(),
) -> int:
    """Run the scenario of a stored result again, with all its settings.

    **Examples**
    ```
    flatout rerun before.json --json after.json
    flatout rerun before.json --target 10.0.0.3
    ```

    """
    stored = read(result)
    scenario = stored.scenario
    if target is not None:
        scenario = msgspec.structs.replace(scenario, target=target)
    out.check_writable(output)
    keep.check()
    if isinstance(stored, LimitResult):
        return keep.delivered(seek(scenario, stored.search, quiet=output.quiet), output)
    return keep.delivered(measure(scenario, quiet=output.quiet), output)
