"""What a search found, in one line for people.

Method: one phrase per reason for which a search stops. Pure text: nothing here measures or decides.
"""

from __future__ import annotations

from flatout.limits.words import ms, percent, whole
from flatout.result import Goal, Limit, Search


def sentence(limit: Limit, search: Search, because: str | None = None, *, confirmed: bool = True) -> str:
    """`because` says in words what went wrong at the upper bound, or with the target or the generator."""
    said = _say(limit, search, because)
    return said if confirmed or limit.value is None else f"{said} No long run has confirmed it."


def _say(limit: Limit, search: Search, because: str | None) -> str:
    if limit.stopped_by == "found" and limit.value is not None:
        return _holds(limit) + _fails(limit, because) + "."
    return _UNUSUAL[limit.stopped_by](limit, search, because)


def _holds(limit: Limit) -> str:
    return f"Holds {whole(limit.value or 0.0)} {limit.unit} ({criteria(limit.goal)})"


def criteria(goal: Goal) -> str:
    """Word a goal: loss <= 0.1 %, p99 <= 5 ms."""
    loss = f"loss <= {percent(goal.loss)}"
    return loss if goal.p99_ns is None else f"{loss}, p99 <= {ms(goal.p99_ns)}"


def _fails(limit: Limit, because: str | None) -> str:
    if limit.upper is None:
        return ""
    return f"; fails at {whole(limit.upper)}{_per(limit.unit)}{_reason(because)}"


def _per(unit: str) -> str:
    """`/s` of `requests/s`; ` connections` in full."""
    _, slash, per = unit.partition("/")
    return f"/{per}" if slash else f" {unit}"


def _reason(because: str | None) -> str:
    return f": {because}" if because else ""


def _max(limit: Limit, search: Search, _because: str | None) -> str:
    top = f"{whole(search.max_per_s)}{_per(limit.unit)}"
    held = f"{whole(limit.value or 0.0)} {limit.unit} held ({criteria(limit.goal)})"
    return f"No limit found up to {top}: {held}."


def _min(limit: Limit, search: Search, because: str | None) -> str:
    low = f"{whole(limit.upper or search.min_per_s)} {limit.unit}"
    return f"Fails already at the minimum of {low} ({criteria(limit.goal)}){_reason(because)}."


def _generator(limit: Limit, search: Search, because: str | None) -> str:
    if limit.value is None:
        low = f"{whole(search.min_per_s)} {limit.unit}"
        return f"Nothing is known of the server: this generator cannot drive even {low}{_reason(because)}."
    more = f"At least {whole(limit.value)}{_per(limit.unit)} ({criteria(limit.goal)}): this generator cannot drive more"
    if limit.upper is not None:
        return f"{more} dependably, and the server fails at {whole(limit.upper)}{_per(limit.unit)}{_reason(because)}."
    return f"{more}, so the server's limit is not known."


def _so_far(limit: Limit, because: str | None) -> str:
    if limit.value is not None:
        return _holds(limit) + _fails(limit, because)
    if limit.upper is not None:
        return f"Nothing held{_fails(limit, because)}"
    return "Nothing was measured that held or failed"


def _budget(limit: Limit, search: Search, because: str | None) -> str:
    ended = f"the budget of {whole(search.budget_s)} s ended before this was settled within {percent(search.within)}"
    return f"{_so_far(limit, because)}; {ended}."


def _target(limit: Limit, _search: Search, because: str | None) -> str:
    return f"The target stopped answering{_reason(because)}. Until then: {_lower_first(_so_far(limit, None))}."


def _interrupted(limit: Limit, _search: Search, because: str | None) -> str:
    return f"Interrupted. So far: {_lower_first(_so_far(limit, because))}."


def _lower_first(text: str) -> str:
    return text[0].lower() + text[1:]


_UNUSUAL = {
    "found": _budget,
    "max": _max,
    "min": _min,
    "generator": _generator,
    "budget": _budget,
    "target": _target,
    "interrupted": _interrupted,
}
