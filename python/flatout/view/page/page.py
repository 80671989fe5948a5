"""A result, or several, as one self-contained HTML page.

The template escapes every text; the page's policy forbids everything that is not in the file. Needs the extra
`flatout[report]` (bokeh, which brings jinja2), imported when a page is made. Charts and texts are made elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any, NamedTuple

from flatout.errors import UsageError
from flatout.result import file_names
from flatout.result.model import LimitResult, LoadResult, Result
from flatout.view import facts
from flatout.view import ledger as account
from flatout.view.exchange import common_exchange
from flatout.view.page import tables
from flatout.view.page.tables import Table

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

    from flatout.view.page.plot import Chart

Named = tuple[str, Result]


class Part(NamedTuple):
    """What the page says of one result; `searched`: charts of all trials of a search."""

    title: str
    kind: str
    searched: Sequence[Chart]
    charts: Sequence[Chart]
    shown: str
    tables: Sequence[Table]
    details: Sequence[Table]


def render(results: Result | Sequence[Named]) -> str:
    """Make the page, for one result or for several with their titles."""
    named = [("", results)] if isinstance(results, LoadResult | LimitResult) else list(results)
    if not named:
        raise UsageError("a report needs at least one result")
    template, assets = _template(), _assets()
    return file_names.shown(str(template.render(_page(named), **assets)))


def _page(named: Sequence[Named]) -> dict[str, Any]:
    several = len(named) > 1
    return {
        "title": ", ".join(title or facts.subject(result) for title, result in named),
        "compared": facts.comparison(named),
        "sentences": [(title if several else "", facts.sentence(result)) for title, result in named],
        "knees": [(f"Knee of {title}" if several else "Knee", text) for title, one in named if (text := _knee(one))],
        "improvements": [
            line for _, one in named if isinstance(one, LimitResult) for line in facts.improvement_lines(one)
        ],
        "summary": tables.limits(named) if several else None,
        "overlays": _overlays(named),
        "parts": [_part(i, title, result) for i, (title, result) in enumerate(named)],
        "several": several,
        "subject": "" if several else facts.subject(named[0][1]),
        "started_at": named[0][1].started_at,
        "version": named[0][1].host.flatout,
        "reading": common_exchange([result for _, result in named]).reading,
    }


def _knee(result: Result) -> str:
    return account.knee_text(result) if isinstance(result, LimitResult) else ""


def _overlays(named: Sequence[Named]) -> list[Chart]:
    from flatout.view.page import chart

    limits = [(title, result) for title, result in named if isinstance(result, LimitResult)]
    return chart.limits(limits) if limits else []


def _part(number: int, title: str, result: Result) -> Part:
    from flatout.view.page import chart
    from flatout.view.page.stacked import stacked

    run = facts.shown_run(result)
    drawn = stacked(result, f"{result.kind}-{number}")
    stacks = [drawn] if drawn else []
    limit = isinstance(result, LimitResult)
    return Part(
        title=title or facts.subject(result),
        kind=result.kind,
        searched=[chart.search(result, f"search-{number}"), *stacks] if isinstance(result, LimitResult) else [],
        charts=[*([] if limit else stacks), *(chart.course(run, f"run-{number}") if run else [])],
        shown=facts.shown_run_text(run) if run and isinstance(result, LimitResult) else "",
        tables=[
            *tables.findings(result),
            *([tables.trials(result)] if isinstance(result, LimitResult) else []),
            *(tables.of_run(run) if run else []),
        ],
        details=[tables.scenario(result), tables.host(result.host, run, result.started_at, result.duration_s)],
    )


def _template() -> Template:
    _need("jinja2")
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    # Bokeh's documents refer backwards: an object must be read before it is referred to.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    return environment.from_string(_packaged("page.html"))


def _assets() -> dict[str, Markup]:
    """Load our own style and scripts, the only texts the template does not escape."""
    _need("bokeh")
    from bokeh.resources import Resources
    from markupsafe import Markup

    bokeh = Resources(mode="inline", components=["bokeh"])
    return {
        "style": Markup(_packaged("page.css")),
        "script": Markup(_packaged("page.js")),
        "library": Markup("\n".join(bokeh.js_raw)),
    }


def _need(module: str) -> None:
    try:
        import_module(module)
    except ImportError as error:
        raise UsageError("a report needs the extra: pip install 'flatout[report]'") from error


def _packaged(name: str) -> str:
    return resources.files("flatout.view.page").joinpath("templates", name).read_text(encoding="utf-8")
