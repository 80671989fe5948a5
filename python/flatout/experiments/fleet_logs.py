"""The host logs of a fleet's other hosts: begun and ended by tasks inside their workers, and brought here as text."""

from __future__ import annotations

import io
import platform
import re
from collections.abc import Callable
from typing import Any

from flatout.host.log import HostLog

_ASK_S = 10.0
# The logs that run in this worker, by name.
_RUNNING: dict[str, tuple[HostLog, io.StringIO]] = {}


def hosts(fleet: Any) -> dict[str, str]:
    """One worker's address for each host that is not this one, by the host's name."""
    found: dict[str, str] = {}
    for host in fleet.hosts if fleet is not None else ():
        name = host.capabilities.hostname
        if name != platform.node():
            found.setdefault(re.sub(r"[^\w.-]", "_", name), host.address)
    return found


def begin(fleet: Any, name: str) -> None:
    """Begins a log on each of the other hosts."""
    if others := hosts(fleet):
        _on(fleet, _begin, name, others)


def end(fleet: Any, name: str) -> dict[str, str]:
    """Ends the logs of this name; the text of each, by its host. A host that is gone has none."""
    others = hosts(fleet)
    if not others:
        return {}
    texts = _on(fleet, _end, name, others)
    return {host: texts[address] for host, address in others.items() if texts.get(address)}


def _on(fleet: Any, function: Callable[[str], Any], name: str, others: dict[str, str]) -> dict[str, Any]:
    """What it returns on each; nothing where one of them hangs: the run names that host."""
    try:
        found: dict[str, Any] = fleet.client.run(
            function, name, workers=list(others.values()), on_error="ignore", callback_timeout=_ASK_S
        )
    except TimeoutError:
        return {}
    return found


def _begin(name: str) -> None:
    text = io.StringIO()
    log = HostLog(text)
    _RUNNING[name] = (log, text)
    log.__enter__()


def _end(name: str) -> str:
    log, text = _RUNNING.pop(name)
    log.__exit__(None, None, None)
    return text.getvalue()
