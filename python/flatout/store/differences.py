"""In which settings, and in which facts of the host, two results differ. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from flatout.result.model import LimitResult, Result
from flatout.store.compare import Difference

# Where a log was written says nothing of the run.
_UNTOLD = ("log",)


def differences(a: Result, b: Result) -> list[Difference]:
    """The settings of the scenario and the search, and the facts of the host, that are not the same in both."""
    found = []
    for what, one, other in (
        ("", a.scenario, b.scenario),
        ("search ", a.search if isinstance(a, LimitResult) else None, b.search if isinstance(b, LimitResult) else None),
        ("host ", a.host, b.host),
    ):
        found += _between(what, msgspec.to_builtins(one) or {}, msgspec.to_builtins(other) or {})
    return found


def _between(what: str, a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    names = [name for name in dict.fromkeys([*a, *b]) if name not in _UNTOLD and a.get(name) != b.get(name)]
    return [Difference(what=f"{what}{name}", a=_text(a.get(name)), b=_text(b.get(name))) for name in names]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
