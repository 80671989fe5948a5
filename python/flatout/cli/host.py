"""`flatout host check|apply|undo|log`: the kernel's settings for a server or a client of small messages."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from flatout import units
from flatout.cli import output as out
from flatout.cli.flags.shared import Output
from flatout.cli.host_log import log
from flatout.errors import ArgumentError, UsageError
from flatout.host.tuning import apply as tuning
from flatout.host.tuning import journal as journals
from flatout.host.tuning.aim import Aim, Role, Transport
from flatout.host.tuning.check import check as checked
from flatout.host.tuning.script import script
from flatout.host.tuning.steps import journal_path
from flatout.host.tuning.system import System
from flatout.view.terminal import tuning as view

_Role = Annotated[Role, Parameter(help="What this host does.")]
_For = Annotated[Transport, Parameter(name="--for", help="What carries the messages.")]
_Connections = Annotated[
    str | None,
    Parameter(help="Connections, such as 1M; over UDP clients or flows. Without it, what depends on it is left out."),
]
_Rate = Annotated[str | None, Parameter(help="Messages a second, such as 500k. [100k]")]
_Ports = Annotated[
    list[int] | None,
    Parameter(name="--port", negative=(), help="Ports of the service, whose packets need not be tracked (NOTRACK)."),
]
_Interface = Annotated[
    str | None,
    Parameter(help="The network device that carries the messages. [that of the default route, else all with a link]"),
]
_Journal = Annotated[str, Parameter(help="The file that has what was there before.")]
_AnyJournal = Annotated[
    str | None,
    Parameter(
        help="The file that has what was there before. [those of `limit --improve` and of `host apply` that are there]"
    ),
]
_Quiet = Annotated[bool, Parameter(negative=(), show_default=False, help="Print errors only.")]


def group() -> App:
    """The verbs in one group."""
    verbs = App(
        name="host", help="Check the kernel's settings of this host for an aim, set them, undo that; log its load."
    )
    for verb in (check, apply, undo, log):
        verbs.command(verb)
    return verbs


def check(
    *,
    role: _Role,
    for_: _For,
    connections: _Connections = None,
    rate: _Rate = None,
    port: _Ports = None,
    interface: _Interface = None,
    json: Annotated[
        str | None,
        Parameter(allow_leading_hyphen=True, help="Write what was found as JSON to a file (-: standard output)."),
    ] = None,
    quiet: _Quiet = False,
) -> int:
    """Compare the kernel's settings of this host with what an aim needs: value now, value wanted, why, and the risk.

    Changes nothing. Ends with 0 where all is as wanted, and 1 where a setting differs or cannot be read. What this
    kernel, device or network namespace does not have ("absent"), and what is left to you ("advice"), count as neither.

    **Examples**
    ```
    flatout host check --role server --for udp --rate 500k --port 123
    flatout host check --role client --for tcp --connections 1M --json -
    ```

    """
    output = Output(json=json, quiet=quiet)
    out.check_writable(output)
    found = checked(_aim(role, for_, connections=connections, rate=rate, ports=port, interface=interface), System())
    reported: list[str] = []
    code = out.write_json(found, output, reported)
    if not quiet:
        print(view.check(found), file=sys.stderr if json == "-" else sys.stdout)
    for line in reported:
        out.say(line)
    return out.worst([code, out.DONE if found.passed else out.UNMET])


def apply(
    *,
    role: _Role,
    for_: _For,
    connections: _Connections = None,
    rate: _Rate = None,
    port: _Ports = None,
    interface: _Interface = None,
    dry_run: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Print a shell script instead; change nothing.")
    ] = False,
    journal: _Journal = journals.DEFAULT,
    quiet: _Quiet = False,
) -> int:
    """Set what differs from the needs of an aim; `flatout host undo` restores what was there.

    Channels and rings of a network device are set too: its link may be down for a second. No limit is lowered, no mask
    of CPUs that somebody has chosen is changed, and no file below /etc is written: a reboot undoes all of it. What was
    there is in a journal on the disk before the first change. A second apply adds to it and keeps the first values.

    Ends with 0 where all is as wanted then, 1 where something could not be set, 2 where nothing was changed for want of
    a journal.

    **Examples**
    ```
    flatout host apply --role server --for udp --rate 500k --port 123
    flatout host apply --role client --for tcp --connections 1M --dry-run
    ```

    """
    system = System()
    aim = _aim(role, for_, connections=connections, rate=rate, ports=port, interface=interface)
    if dry_run:
        print(script(checked(aim, system), system), end="")
        return out.DONE
    done = tuning.apply(aim, system, _path(journal))
    changed = [one for one in done if not one.failed]
    failed = [one for one in done if one.failed]
    for line in view.changes(changed) if not quiet else ():
        print(line)
    for line in view.changes(failed):
        out.say(line)
    if not quiet:
        kept = "" if journal == journals.DEFAULT else f" --journal {shlex.quote(journal)}"
        print(f"`flatout host undo{kept}` restores what was there." if changed else "Nothing was changed.")
    return out.UNMET if failed else out.DONE


def undo(
    *,
    force: Annotated[
        bool,
        Parameter(negative=(), show_default=False, help="Also restore what somebody else has changed since."),
    ] = False,
    journal: _AnyJournal = None,
    quiet: _Quiet = False,
) -> int:
    """Restore what `flatout host apply` or `flatout limit --improve` has changed, also after a crash of it.

    A reboot has restored it already. An --improve that is still at work is left alone: it undoes its changes itself.

    What somebody else has changed since is left as it is, and named; it stays in the journal.

    Ends with 0 where all is as before, 1 where something was left or could not be restored, 2 without a valid journal.
    """
    # The later changes first.
    there = [at for at in (journal_path(), Path(journals.DEFAULT)) if os.path.exists(at)]
    places = [_path(journal)] if journal is not None else there or [Path(journals.DEFAULT)]
    return out.worst([_undo(at, force=force, quiet=quiet) for at in places])


def _undo(at: Path, *, force: bool, quiet: bool) -> int:
    with journals.owned(at, make=False):
        done = tuning.undo(System(), at, force=force)
    kept = [one for one in done if one.how in ("left", "failed")]
    if not quiet:
        for line in view.undone([one for one in done if one not in kept]):
            print(line)
    for line in view.undone(kept):
        out.say(line)
    return out.UNMET if kept else out.DONE


def _path(journal: str) -> Path:
    if not journal:
        raise ArgumentError("journal", "='': give the name of a file")
    return Path(journal)


def _aim(
    role: Role,
    transport: Transport,
    *,
    connections: str | None,
    rate: str | None,
    ports: list[int] | None,
    interface: str | None,
) -> Aim:
    for port in ports or ():
        if not 1 <= port <= 65_535:
            raise UsageError(f"--port {port}: give 1 to 65535")
    return Aim(
        role=role,
        transport=transport,
        connections=_positive(connections),
        rate_per_s=None if rate is None else units.named("rate", units.rate, rate),
        ports=sorted(set(ports or ())),
        interface=interface,
    )


def _positive(connections: str | None) -> int | None:
    if connections is None:
        return None
    count = units.named("connections", units.count, connections)
    if count < 1:
        raise ArgumentError("connections", f"={connections!r}: give 1 or more")
    return count
