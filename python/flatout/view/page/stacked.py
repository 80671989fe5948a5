"""The stacked picture: where everything went, one stack a load. From `picture` to a `plot.Chart`."""

from __future__ import annotations

from flatout.result.model import LimitResult, LoadResult
from flatout.view import facts
from flatout.view import format as fmt
from flatout.view.page.plot import Axis, Chart, Plot
from flatout.view.picture import Picture, Stack, picture

# Parts that follow one another in a stack differ in colour and in hatch, so that neither is needed alone.
_GOOD = ("series-0", "blank")
_LOOKS = (
    ("series-4", "dot"),
    ("series-3", "horizontal_line"),
    ("series-1", "left_diagonal_line"),
    ("series-2", "cross"),
    ("series-5", "right_diagonal_line"),
    ("series-4", "vertical_line"),
    ("series-3", "criss_cross"),
    ("series-1", "blank"),
    ("series-2", "dot"),
    ("series-5", "horizontal_line"),
)
_REST = ("muted", "blank")
_RESTS = ("unexplained", "lost", "unknown")


def stacked(result: LoadResult | LimitResult, name: str) -> Chart | None:
    """The chart; None where everything came back, so that there is nothing to tell apart."""
    drawn, came = picture(result), result.wording.came
    if not [part for part in drawn.names if part != came]:
        return None
    positions = [float(n) for n in range(1, len(drawn.stacks) + 1)]
    plot = Plot(
        Axis(_axis(result), "ordinal", positions, [_label(stack) for stack in drawn.stacks]),
        Axis(f"share of {result.wording.many} planned", "share", [0.0, 100.0]),
    )
    bottoms = [0.0] * len(positions)
    for part, (colour, hatch) in looks(drawn, came).items():
        tops = [bottom + 100 * stack.share(part) for bottom, stack in zip(bottoms, drawn.stacks, strict=True)]
        plot.bars(positions, bottoms, tops, part, colour, hatch=hatch)
        bottoms = tops
    plot.course(positions, [50.0] * len(positions), _tips(drawn, result))
    return plot.chart(
        f"{name}-picture",
        f"Where {result.wording.many} went{', by load' if isinstance(result, LimitResult) else ''}",
        _reading(result, came),
        _alternative(drawn),
    )


def looks(drawn: Picture, came: str) -> dict[str, tuple[str, str]]:
    """Colour and hatch of each part; those of what came back and of what is unexplained are always the same."""
    found, number = {}, 0
    for part in drawn.names:
        if part == came:
            found[part] = _GOOD
        elif part in _RESTS:
            found[part] = _REST
        else:
            found[part] = _LOOKS[number % len(_LOOKS)]
            number += 1
    return found


def _axis(result: LoadResult | LimitResult) -> str:
    return facts.asked_axis(result.limit.axis) if isinstance(result, LimitResult) else ""


def _label(stack: Stack) -> str:
    """Without a unit where the axis has it."""
    if stack.load is None:
        return "whole run"
    return fmt.rate_short(stack.load).removesuffix("/s").rstrip()


def _reading(result: LoadResult | LimitResult, came: str) -> str:
    bar = "Each bar is a load, from low to high, with all its trials" if isinstance(result, LimitResult) else "One bar"
    return (
        f"{bar}: all {result.wording.many} planned. Its lowest part {came}, above it is what was lost, by the ledger's "
        "places, and on top what was not sent."
    )


def _alternative(drawn: Picture) -> str:
    highest = drawn.stacks[-1]
    at = "" if highest.load is None else f"at {_label(highest)}: "
    return f"{at}{', '.join(_parts(highest, drawn.names))}"


def _parts(stack: Stack, names: list[str]) -> list[str]:
    return [f"{name} {fmt.percent(stack.share(name))}" for name in names if stack.parts.get(name)]


def _tips(drawn: Picture, result: LoadResult | LimitResult) -> dict[str, list[str]]:
    stacks = drawn.stacks
    tips: dict[str, list[str]] = {}
    if isinstance(result, LimitResult):
        tips[facts.asked(result.limit.axis)] = [facts.load(stack.load, result.limit.axis) for stack in stacks]
        tips["trials"] = [str(stack.trials) for stack in stacks]
    tips["planned"] = [fmt.count(stack.planned) for stack in stacks]
    # From top to bottom, as the bar has them.
    for name in reversed(drawn.names):
        tips[name] = [f"{fmt.count(stack.parts.get(name, 0))} ({fmt.percent(stack.share(name))})" for stack in stacks]
    return tips
