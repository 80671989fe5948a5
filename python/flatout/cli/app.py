"""All commands in one tree; the protocols' own come from the registry."""

from __future__ import annotations

import importlib
import importlib.util

from cyclopts import App

from flatout.cli import (
    compare,
    control,
    demo,
    experiment,
    host,
    limit,
    load,
    merge,
    receive,
    report,
    rerun,
    runs,
    serve,
    watch,
    web,
)
from flatout.cli.flags import shared as flags
from flatout.host.describe import VERSION
from flatout.protocols import PROTOCOLS

_VERBS = (
    (load, "options", "Send requests, or messages that go one way, at a set rate and say where each one went."),
    (limit, "options", "Find the highest load that a server or a receiver holds."),
    (serve, "serve_options", "Answer requests, or receive messages that go one way, for tests."),
)


def build() -> App:
    """The command line."""
    app = App(
        name="flatout",
        help="Find how fast a small-message network server can go, and what stops it.",
        version=VERSION,
        help_format="markdown",
    )
    for module, protocol_options, summary in _VERBS:
        verb = App(name=module.__name__.rpartition(".")[2], help=summary)
        for protocol in PROTOCOLS.values():
            own = flags.option_flags(protocol, getattr(protocol, protocol_options))
            # Who gets no answers is served by receiving.
            chosen = receive if module is serve and protocol.one_way is not None else module
            verb.command(chosen.command(protocol, own), name=protocol.name)
        app.command(verb)
    for name in PROTOCOLS:
        # A protocol with verbs of its own has a folder here.
        if importlib.util.find_spec(f"flatout.cli.{name}"):
            app.command(importlib.import_module(f"flatout.cli.{name}").group())
    app.command(control.group())
    app.command(host.group())
    app.command(merge.merge)
    app.command(report.report)
    app.command(rerun.rerun)
    app.command(runs.group())
    app.command(compare.compare)
    app.command(experiment.group())
    app.command(watch.watch)
    app.command(web.web)
    app.command(demo.demo)
    app.register_install_completion_command(name="--install-completion")
    return app
