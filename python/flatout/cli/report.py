"""`flatout report RESULT.json --html FILE`: the page again, from stored results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flatout.cli import output as out
from flatout.cli.flags.shared import Output
from flatout.result.files import read, unfold


def report(
    result: Annotated[list[str], Parameter(help="Results, as --json wrote them; several are compared on one page.")],
    /,
    *,
    html: Annotated[str | None, Parameter(help="The page to write. [the summary is printed]")] = None,
    quiet: Annotated[bool, Parameter(negative=(), help="Print errors only.")] = False,
) -> int:
    """Make the report of stored results again.

    **Examples**
    ```
    flatout report result.json --html report.html
    flatout report ours.json theirs.json --html compared.html
    ```

    """
    results = [named for path in result for named in unfold(Path(path).stem, read(path))]
    if len(results) == 1:
        results = [("", results[0][1])]
    if html is None:
        out.deliver(results, Output(quiet=quiet))
        return out.DONE
    out.check_writable(Output(html=html))
    reported: list[str] = []
    code = out.write_html(results, html, reported, quiet=quiet)
    for line in reported:
        out.say(line)
    return code
