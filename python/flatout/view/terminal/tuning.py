"""The settings of a host as text for a terminal: a check as a table, and what was changed or undone. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

from flatout.host.tuning.apply import Change, Undone
from flatout.host.tuning.check import HostCheck, Setting
from flatout.view import format as fmt

_MARKS = {"ok": "ok     ", "differs": "DIFFERS", "advice": "advice ", "absent": "absent ", "unknown": "unknown"}
_WIDTH = 100
_INDENT = " " * 8
# From so many queues or CPUs on, only the first is shown.
_MANY = 3


def check(found: HostCheck) -> str:
    """The table: one line a setting, and below it why it is wanted, the risk, and what hinders."""
    name = max(len(_named(group)) for group in _groups(found.settings))
    now = max(len(_value(one.now)) for one in found.settings)
    lines = [headline(found), "", f"{'':7} {'setting':<{name}}  {'now':<{now}}  wanted"]
    for group in _groups(found.settings):
        one = group[0]
        wanted = "" if one.state in ("absent", "unknown") else _value(one.wanted)
        lines.append(f"{_MARKS[one.state]} {_named(group):<{name}}  {_value(one.now):<{now}}  {wanted}".rstrip())
        lines += [*_folded("why: ", one.why), *_folded("risk: ", one.risk)]
        lines += _folded("cannot be changed here: " if one.state == "differs" else "", one.blocked)
    return "\n".join([*lines, "", _conclusion(found)])


def headline(found: HostCheck) -> str:
    """The aim in a line."""
    aim = found.aim
    parts = [f"{aim.role} over {aim.transport.upper()}"]
    if aim.ports:
        parts.append(f"port{'s' if len(aim.ports) > 1 else ''} {', '.join(map(str, aim.ports))}")
    if aim.connections:
        parts.append(f"{aim.connections:,} {'connections' if aim.transport == 'tcp' else 'flows'}")
    if aim.rate_per_s:
        parts.append(fmt.rate(aim.rate_per_s))
    return f"{fmt.plain(found.host.hostname)} (Linux {fmt.plain(found.host.kernel)}) as a {', '.join(parts)}"


def changes(done: Sequence[Change]) -> list[str]:
    """What apply has changed, and what it could not."""
    lines = [f"set      {_where(one.name, one.key)}: {_value(one.before)} -> {_value(one.after)}" for one in _set(done)]
    for one in done:
        if one.failed:
            stays = f"stays {_value(one.after)}: " if one.after else ""
            lines.append(f"NOT SET  {_where(one.name, one.key)}: {stays}{fmt.plain(one.failed)}")
    return lines


def undone(done: Sequence[Undone]) -> list[str]:
    """What undo has restored, and what it left."""
    return [f"{_UNDONE[one.how]} {_where(one.name, one.key)}: {_reported(one)}" for one in done]


_UNDONE = {
    "restored": "restored ",
    "as before": "as before",
    "gone": "gone     ",
    "reset": "reset    ",
    "left": "LEFT     ",
    "failed": "FAILED   ",
}


def _reported(one: Undone) -> str:
    match one.how:
        case "restored":
            return f"{_value(one.now)} -> {_value(one.before)}"
        case "as before":
            return f"{_value(one.now)} already, by a reboot or by hand"
        case "gone":
            return "no longer there, so nothing to restore"
        case "reset":
            return f"{_value(one.now)} since the host was started again, {_value(one.before)} before"
        case "left":
            return f"{_value(one.now)} stays: {_value(one.reason)}; --force restores {_value(one.before)}"
        case _:
            return f"{_value(one.now)} stays instead of {_value(one.before)}: {fmt.plain(one.reason)}"


def _set(done: Sequence[Change]) -> list[Change]:
    return [one for one in done if not one.failed]


def _groups(settings: Sequence[Setting]) -> list[list[Setting]]:
    """Settings of many queues or CPUs that stand alike, as one."""
    groups: list[list[Setting]] = []
    for _, alike in groupby(settings, key=lambda one: (one.name, one.state, one.blocked)):
        found = list(alike)
        groups += [found] if len(found) > _MANY else [[one] for one in found]
    return groups


def _named(group: Sequence[Setting]) -> str:
    one = group[0]
    return _where(one.name, one.key) + (f" and {len(group) - 1} more" if len(group) > 1 else "")


def _where(name: str, key: str) -> str:
    """The name, with its interface and queue, or its CPU, where there are several."""
    parts = key.split("/")
    if key.startswith("/sys/class/net/"):
        return fmt.plain(f"{name} ({' '.join((parts[4], *parts[6:-1]))})")
    if key.startswith(("irq:", "ethtool:", "xdp:")):
        _, first, last = key.split(":", 2)
        return fmt.plain(f"{name} ({first} {last})" if key.startswith("irq:") else f"{name} ({first})")
    if key.startswith("/sys/devices/system/cpu/"):
        return fmt.plain(f"{name} ({parts[-2]})")
    return name


def _value(text: str | None) -> str:
    return fmt.NOTHING if text is None else fmt.plain(" ".join(text.split())) or "empty"


def _folded(label: str, text: str) -> list[str]:
    if not text:
        return []
    below = _INDENT + " " * len("risk: ")
    return textwrap.wrap(label + fmt.plain(text), _WIDTH, initial_indent=_INDENT, subsequent_indent=below)


def _conclusion(found: HostCheck) -> str:
    count = sum(one.state == "differs" for one in found.settings)
    unknown = sum(one.state == "unknown" for one in found.settings)
    if found.passed:
        return "All is as wanted."
    parts = [f"{count} of {len(found.settings)} settings differ" if count else ""]
    parts.append(f"{unknown} cannot be read" if unknown else "")
    hint = " `flatout host apply` with the same flags sets them; --dry-run prints a script." if count else ""
    return " and ".join(part for part in parts if part) + "." + hint
