"""What `apply` would do as a script for a POSIX shell, with its undo. Pure text."""

from __future__ import annotations

import shlex

from flatout.host.tuning import ethtool, netfilter
from flatout.host.tuning.check import HostCheck, Setting
from flatout.host.tuning.system import NEEDS_ROOT, System
from flatout.host.tuning.tunables import settable

_HEAD = """\
#!/bin/sh
# What `flatout host apply` would set on {host}, for a {role} over {transport} ({time}).
# As root: `sh FILE` sets it, `sh FILE undo` restores the values of now. Nothing was changed yet.
set -u
failed=0
put() {{
    printf '%s\\n' "$2" > "$1" || failed=1
}}
case "${{1:-apply}}" in
apply)
"""


def script(found: HostCheck, system: System) -> str:
    """The script. What cannot be changed here, even by root, is a comment."""
    differing = [one for one in found.settings if one.state == "differs"]
    may_change = [one for one in differing if settable(one.key) and one.blocked in ("", NEEDS_ROOT)]
    changes = [one for one in may_change if one.wanted is not None]
    head = _HEAD.format(
        host=_comment(found.host.hostname), role=found.aim.role, transport=found.aim.transport, time=found.started_at
    )
    lines = [line for one in changes for line in _lines(one, one.now or "", one.wanted or "", system)]
    back = [line for one in reversed(changes) for line in _lines(one, one.wanted or "", one.now or "", system, False)]
    unknown = [one for one in found.settings if one.state == "unknown"]
    others = [*(one for one in differing if one not in changes), *unknown]
    rest = [f"    # Not set: {one.name}: {_comment(one.blocked)}" for one in others]
    middle = "    ;;\nundo)\n"
    tail = "    ;;\n*)\n    printf 'usage: sh FILE [apply|undo]\\n' >&2\n    exit 2\n    ;;\nesac\nexit $failed\n"
    return head + _joined([*lines, *rest]) + middle + _joined(back) + tail


def _lines(one: Setting, now: str, value: str, system: System, explained: bool = True) -> list[str]:
    about = [f"    # {one.name}: {one.why}. Now {_comment(now)}."] if explained else []
    if one.key in netfilter.KEYS:
        # Unindented: a here-document ends with a line of its own.
        return [*about, *netfilter.commands(one.key, now, value)]
    if one.key.startswith("ethtool:"):
        _, interface, what = one.key.split(":")
        more = (
            ["    # It may have more queues then: print the script again for their settings."]
            if what == "channels"
            else []
        )
        line = f"    {shlex.join(ethtool.command(interface, what, value))} || failed=1"
        return [*about, *(more if explained else []), line]
    path = shlex.quote(str(system.path(one.key)))
    return [*about, f"    put {path} {shlex.quote(value)}"]


def _joined(lines: list[str]) -> str:
    # A branch of `case` may be empty in POSIX, but not for every shell.
    return "".join(f"{line}\n" for line in lines or ["    :"]) + ("" if _has_command(lines) else "    :\n")


def _has_command(lines: list[str]) -> bool:
    return not lines or any(not line.lstrip().startswith("#") for line in lines)


def _comment(text: str) -> str:
    """Text in a comment: one line, nothing unprintable."""
    return "".join(char if char.isprintable() else " " for char in text)
