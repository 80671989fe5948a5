"""Drawing with bokeh: axes in our units, series that carry a colour's name instead of a colour, mandatory captions.

The page colours what it finds: every renderer is tagged with the name of a CSS colour (`held`, `series-0`), so light,
dark and print are the style sheet's. `chart` says what a chart means; no result type is known here.
The one module that imports bokeh.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from bokeh.embed import json_item
from bokeh.models import Axis as BokehAxis
from bokeh.models import (
    BasicTicker,
    BoxZoomTool,
    FixedTicker,
    HoverTool,
    NumeralTickFormatter,
    PanTool,
    Range1d,
    ResetTool,
    SaveTool,
    SingleIntervalTicker,
)
from bokeh.models.annotations import Span
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from flatout.view import format as fmt

Scale = Literal["rate", "rate-log", "count-log", "duration-log", "time", "ordinal", "count", "share"]
Dash = Literal["solid", "dashed", "dotted", "dotdash", "dashdot"]
Shape = Literal["circle", "x", "diamond", "triangle", "square"]
Values = Sequence[float | None]

_LOG = ("rate-log", "count-log", "duration-log")
_HEIGHT = 320
_MARGIN = 1.6
_UPRIGHT = 9  # More names than this have no room side by side on a phone.
_FEW = 60  # Seconds of a course that are worth a dot each; of a single one there is no line to see.


class Axis(NamedTuple):
    """What an axis shows and which values must fit on it."""

    label: str
    scale: Scale
    values: Values
    names: Sequence[str] = ()

    @property
    def known(self) -> list[float]:
        """The values there are; a log axis has no zero."""
        values = [v for v in self.values if v is not None and math.isfinite(v)]
        return [v for v in values if v > 0] if self.scale in _LOG else values


class Key(NamedTuple):
    """One entry of the legend; `shape` is a dash, a marker or a hatch, so that colour is never the only mark.

    One that `switches` shows and hides the series of that label.
    """

    label: str
    colour: str
    shape: str
    switches: bool = True


class Chart(NamedTuple):
    """A drawn chart with everything a page says around it; `item` is null where there was nothing to draw."""

    name: str
    title: str
    reading: str
    alternative: str
    keys: list[Key]
    item: dict[str, Any] | None


class Plot:
    """One chart being drawn. A series' label is its name: drawing twice under one label makes one legend entry."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self._dotted = x.scale == "time"
        self._empty = not (x.known and y.known)
        self._keys: dict[str, Key] = {}
        self._lowest = min(y.known, default=1.0) / _MARGIN if y.scale in _LOG else None
        self._figure = figure(
            height=_HEIGHT,
            sizing_mode="stretch_width",
            x_range=_range(x),
            y_range=_range(y),
            x_axis_type="log" if x.scale in _LOG else "linear",
            y_axis_type="log" if y.scale in _LOG else "linear",
            tools=[BoxZoomTool(), PanTool(), ResetTool(), SaveTool()],
            active_drag=None,
            active_scroll=None,
            toolbar_location="above",
            output_backend="canvas",
            min_border_right=16,
            background_fill_color=None,
            border_fill_color=None,
            outline_line_color=None,
        )
        self._figure.toolbar.logo = None
        self._figure.toolbar.stylesheets = [".bk-divider { visibility: hidden; }"]
        _dress(self._figure.xaxis[0], x)
        _dress(self._figure.yaxis[0], y)

    def line(self, xs: Values, ys: Values, label: str, colour: str, dash: Dash = "solid", *, width: float = 2) -> None:
        """Draw a line through the points in the order given."""
        drawn = self._figure.line(_numbers(xs), self._heights(ys), line_dash=dash, line_width=width)
        self._named(drawn, label, colour, dash)
        if self._dotted and len(xs) <= _FEW:
            self._named(self._figure.scatter(_numbers(xs), self._heights(ys), size=5), label, colour, "circle")

    def steps(self, xs: Values, ys: Values, label: str, colour: str, dash: Dash = "solid") -> None:
        """Draw a line that keeps a value until the next."""
        drawn = self._figure.step(_numbers(xs), self._heights(ys), mode="after", line_dash=dash, line_width=2)
        self._named(drawn, label, colour, dash)

    def marks(
        self, xs: Values, ys: Values, label: str, colour: str, *, shape: Shape, tips: Mapping[str, Sequence[str]]
    ) -> None:
        """Markers; `tips` are what hovering says, each a name and a text for every point."""
        if not xs:
            return
        columns = {f"tip{i}": list(texts) for i, texts in enumerate(tips.values())}
        drawn = self._figure.scatter(
            "x",
            "y",
            source={"x": _numbers(xs), "y": self._heights(ys), **columns},
            marker=shape,
            size=11 if shape in ("x", "diamond", "triangle") else 9,
            line_width=3 if shape == "x" else 2,
            fill_alpha=0.0 if shape in ("x", "diamond") else 0.85,
        )
        self._named(drawn, label, colour, shape)
        self._hover(drawn, list(tips), "mouse")

    def course(self, xs: Values, ys: Values, tips: Mapping[str, Sequence[str]]) -> None:
        """Say `tips` when hovering anywhere above a point of a course over time."""
        columns = {f"tip{i}": list(texts) for i, texts in enumerate(tips.values())}
        drawn = self._figure.scatter(
            "x", "y", source={"x": _numbers(xs), "y": self._heights(ys), **columns}, size=8, alpha=0.0
        )
        drawn.tags = ["none"]
        self._hover(drawn, list(tips), "vline")

    def bars(self, xs: Values, bottoms: Values, tops: Values, label: str, colour: str, *, hatch: str) -> None:
        """Draw bars from bottom to top, distinguished by their hatch."""
        drawn = self._figure.vbar(
            x=_numbers(xs),
            bottom=_numbers(bottoms),
            top=_numbers(tops),
            width=0.8,
            hatch_pattern=hatch,
            hatch_alpha=0.6,
            hatch_weight=1,
            hatch_scale=8,
        )
        self._named(drawn, label, colour, f"hatch-{hatch}")

    def level(self, at: float | None, label: str, colour: str, *, upright: bool = False, dash: Dash = "dashed") -> None:
        """Draw a straight line across the chart, if there is a value."""
        if at is None:
            return
        self._figure.add_layout(
            Span(
                location=at,
                dimension="height" if upright else "width",
                line_dash=dash,
                line_width=2,
                tags=[colour],
                name=label,
            )
        )
        self._keys.setdefault(label, Key(label, colour, dash, switches=False))

    def explain(self, label: str, shape: Shape) -> None:
        """Add a legend entry for a shape that several series share."""
        self._keys.setdefault(label, Key(label, "ink", shape, switches=False))

    def chart(self, name: str, title: str, reading: str, alternative: str) -> Chart:
        """Finish the chart; `reading` says how to read it, `alternative` what it shows to those who cannot see it."""
        item = None if self._empty else dict(json_item(self._figure))
        return Chart(name, title, reading, alternative, list(self._keys.values()), item)

    def _heights(self, values: Values) -> list[float]:
        """Lift what a log axis has no place for, zero first of all, to its least value."""
        lowest = self._lowest
        return [v if lowest is None or math.isnan(v) else max(v, lowest) for v in _numbers(values)]

    def _named(self, drawn: GlyphRenderer[Any], label: str, colour: str, shape: str) -> None:
        drawn.name = label
        drawn.tags = [colour]
        self._keys.setdefault(label, Key(label, colour, shape))

    def _hover(self, drawn: GlyphRenderer[Any], names: Sequence[str], mode: Literal["mouse", "vline"]) -> None:
        tips = [(name, f"@tip{i}") for i, name in enumerate(names)]
        self._figure.add_tools(HoverTool(renderers=[drawn], tooltips=tips, mode=mode, visible=False))


def _numbers(values: Values) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]


def _range(axis: Axis) -> Range1d:
    known = axis.known or [1.0]
    low, high = min(known), max(known)
    if axis.scale in _LOG:
        return Range1d(start=low / _MARGIN, end=high * _MARGIN)
    if axis.scale == "ordinal":
        return Range1d(start=0.4, end=high + 0.6)
    if axis.scale == "time":
        return Range1d(start=0, end=max(high * 1.02, high + 0.6))
    return Range1d(start=0, end=high * (1.0 if axis.scale == "share" else 1.08) or 1.0)


def _dress(axis: BokehAxis, data: Axis) -> None:
    axis.axis_label = data.label
    axis.axis_label_text_font_style = "normal"
    axis.minor_tick_line_color = None
    if data.scale == "duration-log":
        _durations(axis, data)
    elif data.names:
        axis.ticker = FixedTicker(ticks=list(range(1, len(data.names) + 1)))
        axis.major_label_overrides = dict(enumerate(data.names, 1))
        if len(data.names) > _UPRIGHT:
            axis.major_label_orientation = "vertical"
    elif data.scale == "ordinal":
        axis.ticker = SingleIntervalTicker(interval=max(1, round(len(data.values) / 12)), num_minor_ticks=0)
    elif data.scale in _LOG:
        _log_loads(axis, data)
    elif data.scale == "share":
        axis.ticker = FixedTicker(ticks=list(range(0, 101, 20)))
        axis.major_label_overrides = {tick: f"{tick} %" for tick in range(0, 101, 20)}
    else:
        axis.ticker = BasicTicker(desired_num_ticks=5)
        axis.formatter = NumeralTickFormatter(format="0,0[.]0" if data.scale == "time" else "0.[00] a")
        axis.major_label_overrides = dict(_millions(data))


def _millions(data: Axis) -> Iterator[tuple[float, str]]:
    """The library's own letter for a million is m; these are the ticks that it may set."""
    high = max(data.known or [0.0]) * 1.08
    if data.scale == "time" or high < 1e6:
        return
    step = 10 ** (math.floor(math.log10(high)) - 1)
    ticks = (step * n for n in range(1, int(high / step) + 1))
    yield from ((tick, f"{tick / 1e6:g} M") for tick in ticks if tick >= 1e6)


def _durations(axis: BokehAxis, data: Axis) -> None:
    ticks = _log_ticks(data)
    axis.ticker = FixedTicker(ticks=ticks)
    axis.major_label_overrides = {tick: _round_duration(tick) for tick in ticks}


def _log_loads(axis: BokehAxis, data: Axis) -> None:
    ticks = _log_ticks(data)
    axis.ticker = FixedTicker(ticks=ticks)
    axis.major_label_overrides = {tick: _round_load(tick, data.scale) for tick in ticks}


def _round_load(load: int, scale: Scale) -> str:
    text = fmt.rate_short(load).replace(".00 ", " ").replace(".0 ", " ")
    return text if scale == "rate-log" else text.removesuffix("/s").rstrip()


def _log_ticks(data: Axis) -> list[int]:
    """Decades, and 2 and 5 between them where the axis is short enough to label them."""
    known = data.known or [1.0]
    low, high = min(known) / _MARGIN, max(known) * _MARGIN
    steps = (1, 2, 5) if math.log10(high / low) < 3 else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10**decade for decade in decades if decade >= 0 for step in steps]


def _round_duration(ns: int) -> str:
    return fmt.duration(ns).replace(".00 ", " ").replace(".0 ", " ")
