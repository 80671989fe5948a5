"""The application: the page's files, the list of kept runs, comparisons, reports, and the feed of what runs now."""

from __future__ import annotations

import threading
from importlib import resources
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from flatout import units
from flatout.errors import FlatoutError, OutputError, UsageError
from flatout.result.files import to_json, unfold
from flatout.result.model import Result
from flatout.store.choose import compare, numbers
from flatout.store.rows import RunList
from flatout.store.store import Store, Wanted
from flatout.web.access import Access
from flatout.web.feed import Feed

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Runs of a list, and reports in one page, at most.
_LISTED, _REPORTED = 1000, 8
_FILTERS = ("kind", "label", "protocol", "target", "hostname")


class Pages:
    """What is served of a store."""

    def __init__(self, store: Store, folder: Path | None) -> None:
        self._store, self.feed = store, Feed(store, folder)
        # A report takes a second of a CPU that may be measuring: one at a time.
        self._reporting = threading.Lock()

    def application(self, token: str | None, port: int) -> ASGIApp:
        """All of it as ASGI, behind its token."""
        static = {path.name: path.read_bytes() for path in resources.files(__package__).joinpath("static").iterdir()}

        def file(request: Request) -> Response:
            name = request.path_params.get("name", "index.html")
            if name not in static:
                raise HTTPException(404)
            return Response(static[name], media_type=_TYPES[Path(name).suffix])

        routes = [
            Route("/", file, methods=["GET"]),
            Route("/static/{name}", file, methods=["GET"]),
            Route("/events", self.events, methods=["GET"]),
            Route("/api/runs", self.runs, methods=["GET"]),
            Route("/api/runs/{number}", self.result, methods=["GET"]),
            Route("/api/compare", self.comparison, methods=["GET"]),
            Route("/report", self.report, methods=["GET"]),
        ]
        app = Starlette(routes=routes, exception_handlers={FlatoutError: _failed, HTTPException: _not_served})
        return Access(app, token, port)

    async def events(self, _request: Request) -> Response:
        """What runs now, as server-sent events."""
        if self.feed.full:
            raise HTTPException(503, "too many pages are open")
        return StreamingResponse(self.feed.events(), media_type="text/event-stream")

    def runs(self, request: Request) -> Response:
        """The kept runs, the newest first: `kind`, `label`, `protocol`, `target`, `hostname`, `last`."""
        query = request.query_params
        wanted = msgspec.convert({name: query[name] for name in _FILTERS if query.get(name)}, Wanted)
        last = _number(query, "last", 50, _LISTED)
        return _json(msgspec.json.encode(RunList(runs=self._store.runs(wanted, last))))

    def result(self, request: Request) -> Response:
        """A whole result."""
        chosen = numbers(request.path_params["number"])
        if len(chosen) > 1:
            raise UsageError("give the number of one run")
        return _json(to_json(self._store.result(chosen[0])))

    def comparison(self, request: Request) -> Response:
        """Two runs or groups of them compared: `a`, `b`, `tolerance`."""
        query = request.query_params
        a, b = query.get("a", "").strip(), query.get("b", "").strip()
        if not a or not b:
            raise UsageError("give both sides: numbers of runs, or labels")
        return _json(msgspec.json.encode(compare(self._store, a, b, units.share(query.get("tolerance") or "5%"))))

    def report(self, request: Request) -> Response:
        """The report of one run, or of several in one page: `runs`, such as 7 or 7,9."""
        # Late: the report's library is an extra of its own, and slow to load.
        from flatout.view.page.page import render

        chosen = numbers(request.query_params.get("runs", ""))
        if len(chosen) > _REPORTED:
            raise UsageError(f"at most {_REPORTED} runs in one report")
        rows = self._store.numbered(chosen)
        named: list[tuple[str, Result]] = []
        for row in rows:
            title = f"run {row.id}{f' ({row.label})' if row.label else ''}"
            named += unfold(title if len(rows) > 1 else "", self._store.result(row.id))
        with self._reporting:
            html = render(named)
        # Its own scripts are in it: it may run them, but not as a page of this address.
        return HTMLResponse(html, headers={"Content-Security-Policy": "sandbox allow-scripts allow-downloads"})


def _number(query: QueryParams, name: str, usual: int, most: int) -> int:
    text = query.get(name) or str(usual)
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= most):
        raise UsageError(f"{name}={text}: give a number from 1 to {most}")
    return int(text)


def _json(data: bytes) -> Response:
    return Response(data, media_type="application/json")


def _failed(request: Request, error: Exception) -> Response:
    """What a user asked wrongly, or the store cannot do."""
    return _said(request, str(error), 503 if isinstance(error, OutputError) else 400)


def _not_served(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _said(request, error.detail, error.status_code)


def _said(request: Request, text: str, status: int) -> Response:
    if request.url.path.startswith("/api/"):
        return Response(msgspec.json.encode({"error": text}), status, media_type="application/json")
    return PlainTextResponse(f"{text}\n", status)
