"""`flatout ntp VERB`: what is done with one NTP server; one file a verb."""

from __future__ import annotations

from cyclopts import App

from flatout.cli.ntp import check


def group() -> App:
    """The verbs in one group."""
    verbs = App(name="ntp", help="Check an NTP server.")
    verbs.command(check.check)
    return verbs
