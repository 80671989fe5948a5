"""`flatout runs list|show|add|rm|export`: the results that are kept."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from flatout import units
from flatout.cli import output as out
from flatout.cli.flags.shared import Output
from flatout.errors import UsageError
from flatout.result.files import read, unfold
from flatout.store.location import VARIABLE

if TYPE_CHECKING:
    from flatout.store.rows import StoredRun
    from flatout.store.store import Store, Wanted

_Run = Annotated[str, Parameter(help="Its number, from `flatout runs list`.")]
_Label = Annotated[str | None, Parameter(help="Only runs of this label.")]
_Protocol = Annotated[str | None, Parameter(help="Only runs of this protocol.")]
_Target = Annotated[str | None, Parameter(help="Only runs against this target, as it was written.")]
_Kind = Annotated[Literal["load", "limit"] | None, Parameter(help="Only loads, or only searches.")]
_Within = Annotated[str | None, Parameter(name="--within", help="Only runs that began within this time, such as 7d.")]
_Quiet = Annotated[bool, Parameter(negative=(), show_default=False, help="Print errors only.")]


def open_store() -> Store:
    """The store of the environment. Errors: as `flatout.open_store`."""
    # Late: commands that keep nothing need not load SQLAlchemy.
    from flatout.store.open import open_store

    return open_store()


def group() -> App:
    """The verbs in one group."""
    verbs = App(name="runs", help=f"List, show, export and remove kept results. {VARIABLE} says where they are.")
    for verb, name in ((list_, "list"), (show, "show"), (add, "add"), (rm, "rm"), (export, "export")):
        verbs.command(verb, name=name)
    return verbs


def _wanted(
    label: str | None, protocol: str | None, target: str | None, kind: str | None, within: str | None
) -> Wanted:
    from flatout.store.store import Wanted

    since = None if within is None else time.time() - units.duration(within)
    return Wanted(label=label, protocol=protocol, target=target, kind=kind, since=since)


def list_(
    *,
    label: _Label = None,
    protocol: _Protocol = None,
    target: _Target = None,
    kind: _Kind = None,
    within: _Within = None,
    last: Annotated[str, Parameter(help="At most so many, the newest first.")] = "20",
    json: Annotated[
        str | None, Parameter(allow_leading_hyphen=True, help="Write the rows as JSON to a file (-: standard output).")
    ] = None,
) -> int:
    """List kept runs, the newest first.

    **Examples**
    ```
    flatout runs list
    flatout runs list --label before --json -
    flatout runs list --protocol ntp --kind limit --within 7d --last 100
    ```

    """
    wanted, most = _wanted(label, protocol, target, kind, within), units.count(last)
    with open_store() as store:
        runs = store.runs(wanted, most)
    if json is not None:
        return _rows_as_json(runs, json)
    if not runs:
        out.say("No run is kept that fits. `flatout load` and `flatout limit` keep theirs.")
        return out.DONE
    from rich.console import Console

    from flatout.view.terminal.runs import show_runs

    show_runs(runs, Console(highlight=False))
    return out.DONE


def _rows_as_json(runs: list[StoredRun], path: str) -> int:
    from flatout.store.rows import RunList

    reported: list[str] = []
    code = out.write_json(RunList(runs=runs), Output(json=path), reported)
    for line in reported:
        out.say(line)
    return code


def show(run: _Run, /, *, output: Annotated[Output, Parameter(name="*")] = Output()) -> int:
    """Show a kept run again: its summary, its JSON, its report.

    **Examples**
    ```
    flatout runs show 7
    flatout runs show 7 --html report.html --json result.json
    ```

    """
    out.check_writable(output)
    with open_store() as store:
        result = store.result(_number(run))
    out.deliver(unfold("", result), output, result)
    return out.DONE


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise UsageError(f"run '{text}': give its number, from `flatout runs list`")
    return int(text)


def add(
    result: Annotated[list[str], Parameter(help="Results, as --json wrote them.")],
    /,
    *,
    label: Annotated[str, Parameter(help="Keep them under this label.")] = "",
    quiet: _Quiet = False,
) -> int:
    """Keep results from files.

    **Examples**
    ```
    flatout runs add before-1.json before-2.json --label before
    ```

    """
    found = [read(path) for path in result]
    with open_store() as store:
        for one in found:
            number = store.add(one, label)
            if not quiet:
                print(f"Kept as run {number}")
    return out.DONE


def rm(
    run: Annotated[list[str] | None, Parameter(help="Numbers of runs: 7, 7,9 or 7-12.")] = None,
    /,
    *,
    label: _Label = None,
    older_than: Annotated[str | None, Parameter(help="Runs that began longer ago than this, such as 90d.")] = None,
    quiet: _Quiet = False,
) -> int:
    """Remove kept runs for good.

    **Examples**
    ```
    flatout runs rm 7 9-12
    flatout runs rm --label try
    flatout runs rm --older-than 90d
    ```

    """
    from flatout.store.choose import numbers
    from flatout.store.store import Wanted

    by_rule = label is not None or older_than is not None
    if bool(run) == by_rule:
        raise UsageError("say which: numbers of runs, or --label and --older-than")
    before = None if older_than is None else time.time() - units.duration(older_than)
    with open_store() as store:
        if by_rule:
            chosen = [one.id for one in store.runs(Wanted(label=label, before=before))]
        else:
            chosen = [one.id for one in store.numbered([number for text in run or [] for number in numbers(text)])]
        removed = store.remove(chosen)
    if not quiet:
        print(f"Removed {removed} run{'' if removed == 1 else 's'}")
    return out.DONE


def export(
    file: Annotated[str, Parameter(help="The file to write: its name ends in .csv or .parquet.")],
    /,
    *,
    label: _Label = None,
    protocol: _Protocol = None,
    target: _Target = None,
    kind: _Kind = None,
    within: _Within = None,
    quiet: _Quiet = False,
) -> int:
    """Write the rows of kept runs to a file for other programs, the oldest first.

    **Examples**
    ```
    flatout runs export runs.csv --within 30d
    flatout runs export limits.parquet --kind limit
    ```

    """
    from flatout.store.export import encoded
    from flatout.store.export import export as write

    encoded([], file)
    with open_store() as store:
        runs = store.runs(_wanted(label, protocol, target, kind, within))[::-1]
    write(runs, file)
    if not quiet:
        print(f"{len(runs)} run{'' if len(runs) == 1 else 's'}: {file}", file=sys.stderr)
    return out.DONE
