"""`flatout control stats|clients|reload SOCKET`: asks a server that runs with `--control SOCKET`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from flatout.cli import output as out
from flatout.server.endpoints import ask

At = Annotated[str, Parameter(help="The Unix socket that the server was given by --control.")]
Json = Annotated[bool, Parameter(negative=(), show_default=False, help="Print JSON instead of a table.")]


def group() -> App:
    """The commands in one group."""
    app = App(name="control", help="Ask a running server.")
    for verb in VERBS:
        app.command(verb)
    return app


def stats(socket: At, /) -> int:
    """The server's counters since its start, as JSON."""
    return _print(ask(socket, "stats"))


def clients(socket: At, /, *, json: Json = False) -> int:
    """The clients that ask most, of those that the server's limits have to know."""
    rows = ask(socket, "clients")
    if json:
        return _print(rows)
    print(f"{'answered':>12} {'limited':>12} {'withheld':>12} {'silent':>10}  client")
    for row in rows:
        silent = f"{row['silent_s']:.1f} s"
        print(f"{row['answered']:>12,} {row['limited']:>12,} {row['withheld']:>12,} {silent:>10}  {row['address']}")
    return out.DONE


def reload(socket: At, /) -> int:
    """Read the configuration and the lists of prefixes again; nothing is lost meanwhile."""
    for line in ("reloaded", *ask(socket, "reload")):
        print(line)
    return out.DONE


VERBS = (stats, clients, reload)


def _print(value: Any) -> int:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")
    return out.DONE
