"""`flatout ntp VERB`: what is done with one NTP server: from outside, and by its control socket."""

from __future__ import annotations

from cyclopts import App

from flatout.cli import control
from flatout.cli.ntp import check


def group() -> App:
    """The verbs in one group."""
    verbs = App(name="ntp", help="Check an NTP server, or ask one that runs on this host.")
    verbs.command(check.check)
    for verb in control.VERBS:
        verbs.command(verb)
    return verbs
