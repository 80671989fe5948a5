"""The sentence that says what a search found: one form for each reason to stop. Pure text."""

from __future__ import annotations

from flatout.limit_search.numbers import ms, percent, whole
from flatout.result.model import Goal, Limit, Search


def sentence(limit: Limit, search: Search, because: str | None = None) -> str:
    """The sentence for a limit. `because`: what failed at the upper bound, or at the target or the generator."""
    text = _sentence(limit, search, because)
    return text if limit.confirmed or limit.value is None else f"{text} No long run has confirmed it."


def _sentence(limit: Limit, search: Search, because: str | None) -> str:
    if limit.stopped_by == "found" and limit.value is not None:
        return _holds(limit, search) + _between(limit) + _fails(limit, because) + "."
    return _UNUSUAL[limit.stopped_by](limit, search, because)


def _holds(limit: Limit, search: Search) -> str:
    value = f"{whole(limit.value or 0.0)} {limit.unit}{_kept(search)} ({criteria(limit.goal)})"
    if not limit.confirmed:
        return f"Held {value} in short trials"
    if limit.holds:
        return f"Holds {value}"
    return (
        f"Held {value} in half of the trials, but over all time at and below it lost {percent(limit.loss_below or 0)}"
    )


def _between(limit: Limit) -> str:
    """The interval of the limit."""
    if limit.interval is None:
        return ""
    low, high = limit.interval
    return f"; the limit is {whole(low)} to {whole(high)}{_per(limit.unit)} (90 % interval)"


def _kept(search: Search) -> str:
    """The rate at which connections are searched."""
    return f" at {whole(search.min_per_s)}/s" if search.axis == "connections" else ""


def criteria(goal: Goal) -> str:
    """A goal in words: loss <= 0.1 %, p99 <= 5 ms."""
    loss = f"loss <= {percent(goal.loss)}"
    return loss if goal.p99_ns is None else f"{loss}, p99 <= {ms(goal.p99_ns)}"


def _fails(limit: Limit, because: str | None) -> str:
    if limit.upper is None:
        return ""
    return f"; fails at {whole(limit.upper)}{_per(limit.unit)}{_reason(because)}"


def _per(unit: str) -> str:
    """`/s` of a rate; ` connections` in full."""
    _, slash, per = unit.partition("/")
    return f"/{per}" if slash else f" {unit}"


def _reason(because: str | None) -> str:
    return f": {because}" if because else ""


def _max(limit: Limit, search: Search, _because: str | None) -> str:
    top = f"{whole(search.bounds[1])}{_per(limit.unit)}"
    held = f"{whole(limit.value or 0.0)} {limit.unit}{_kept(search)} held ({criteria(limit.goal)})"
    lost = "" if limit.holds else f", but over all time {percent(limit.loss_below or 0)} was lost"
    return f"No limit found up to {top}: {held}{lost if limit.confirmed else ''}."


def _min(limit: Limit, search: Search, because: str | None) -> str:
    low = f"{whole(limit.upper or search.bounds[0])} {limit.unit}{_kept(search)}"
    return f"Fails already at the minimum of {low} ({criteria(limit.goal)}){_reason(because)}."


def _help(far_end: str) -> str:
    """What lets a generator go further."""
    cpus = f"Give it CPUs that the {far_end} does not use, or a second host"
    return f"{cpus}; a plain rate test over UDP goes faster with --gso"


def _generator(limit: Limit, search: Search, because: str | None) -> str:
    far_end, reason = search.wording.far_end, _reason(because)
    if limit.value is None:
        low = f"{whole(search.bounds[0])} {limit.unit}{_kept(search)}"
        return f"The {far_end}'s limit is unknown: this generator cannot drive even {low}{reason}."
    held = f"{whole(limit.value)}{_per(limit.unit)}{_kept(search)} ({criteria(limit.goal)})"
    more = f"At least {held}; the generator could not go further{reason}"
    return f"{more}. The {far_end}'s limit is unknown. {_help(far_end)}."


def _so_far(limit: Limit, search: Search, because: str | None) -> str:
    if limit.value is not None:
        return _holds(limit, search) + _fails(limit, because)
    if limit.upper is not None:
        return f"Nothing held{_fails(limit, because)}"
    return "Nothing was measured that held or failed"


def _budget(limit: Limit, search: Search, because: str | None) -> str:
    ended = f"the budget of {whole(search.budget_s)} s ended before this was settled within {percent(search.within)}"
    return f"{_so_far(limit, search, because)}{_between(limit)}; {ended}."


def _target(limit: Limit, search: Search, because: str | None) -> str:
    until_then = _lower_first(_so_far(limit, search, None))
    return f"{search.wording.silent}{_reason(because)}. Until then: {until_then}."


def _interrupted(limit: Limit, search: Search, because: str | None) -> str:
    return f"Interrupted. So far: {_lower_first(_so_far(limit, search, because))}."


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
