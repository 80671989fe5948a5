"""Who may read the page, what it answers to bad questions, and that nothing is served past its token."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import results

from flatout.errors import UsageError
from flatout.store.store import Store

pytest.importorskip("starlette")
from flatout.web.access import new_token, read_token
from flatout.web.app import Pages

TOKEN = "0123456789abcdef0123"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask(app: Any, path: str, query: str = "", method: str = "GET", **headers: str) -> Answer:
    """One request, as a server would hand it over."""
    sent: list[dict[str, Any]] = []
    headers = {"host": "127.0.0.1:1", **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("127.0.0.1", 2),
        "server": ("127.0.0.1", 1),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], head, b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.fixture
def pages(tmp_path: Path) -> Any:
    with Store(f"sqlite:///{tmp_path / 'runs.db'}") as store:
        for n in range(3):
            store.add(results.interrupted(), "a" if n else "b")
        yield Pages(store, None)


PATHS = ["/", "/static/page.js", "/events", "/api/runs", "/api/runs/1", "/api/compare", "/report", "/nowhere"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_served_without_the_token(pages: Any, path: str) -> None:
    app = pages.application(TOKEN, 1)
    assert ask(app, path).status == 401
    assert ask(app, path, query="token=wrong").status == 401
    assert ask(app, path, authorization="Bearer wrong").status == 401
    assert ask(app, path, cookie="flatout-1=wrong").status == 401
    assert ask(app, path, cookie="flatout-1=\xff;;=").status == 401


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_served_under_a_foreign_name_without_one(pages: Any, path: str) -> None:
    app = pages.application(None, 1)
    for host in ("evil.example", "evil.example:1", "127.0.0.1.evil.example", "", "192.0.2.1", "[::2]:1"):
        assert ask(app, path, host=host).status == 403
    for host in ("localhost:1", "LOCALHOST.", "127.0.0.1", "127.0.0.2:8", "[::1]:1", "[::1]"):
        assert ask(app, "/", host=host).status == 200


def test_the_token_becomes_a_cookie_and_leaves_the_address(pages: Any) -> None:
    app = pages.application(TOKEN, 8053)
    first = ask(app, "/", query=f"a=1&token={TOKEN}")
    assert (first.status, first.headers["location"]) == (303, "/?a=1")
    assert ask(app, "//evil.example/", query=f"token={TOKEN}").headers["location"] == "/evil.example/"
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert ask(app, "/api/runs", cookie=cookie.split(";")[0]).status == 200
    assert ask(app, "/api/runs", authorization=f"Bearer {TOKEN}").status == 200


def test_every_answer_says_what_a_browser_may_do_with_it(pages: Any) -> None:
    app = pages.application(None, 1)
    for path in ("/", "/nowhere", "/api/runs"):
        headers = ask(app, path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
    pytest.importorskip("bokeh")
    report = ask(app, "/report", query="runs=1")
    assert report.status == 200
    assert report.headers["content-security-policy"].startswith("sandbox")


def test_runs_are_listed_and_filtered(pages: Any) -> None:
    app = pages.application(None, 1)
    listed = json.loads(ask(app, "/api/runs", query="last=2&label=").body)["runs"]
    assert [run["id"] for run in listed] == [3, 2]
    assert [run["id"] for run in json.loads(ask(app, "/api/runs", query="label=b").body)["runs"]] == [1]
    assert json.loads(ask(app, "/api/runs/1").body)["kind"] == "load"


BAD = [
    ("/api/runs", "last=0", 400),
    ("/api/runs", "last=x", 400),
    ("/api/runs", "last=%C2%B2", 400),
    ("/api/runs", "last=999999999999", 400),
    ("/api/runs/99", "", 400),
    ("/api/runs/99999999999999999999999", "", 400),
    (f"/api/runs/{'9' * 5000}", "", 400),
    ("/api/runs/1-2", "", 400),
    ("/api/compare", "", 400),
    ("/api/compare", f"a=1&b={'9' * 5000}", 400),
    ("/api/compare", "a=1&b=99999999999999999999", 400),
    ("/api/compare", "a=1&b=1", 400),
    ("/api/compare", "a=1&b=nowhere", 400),
    ("/api/compare", "a=1&b=2&tolerance=x", 400),
    ("/report", "", 400),
    ("/report", "runs=1-9999", 400),
    ("/report", "runs=<b>", 400),
    ("/static/..", "", 404),
    ("/static/../app.py", "", 404),
    ("/api/nowhere", "", 404),
]


@pytest.mark.parametrize(("path", "query", "status"), BAD)
def test_bad_questions_get_a_sentence(pages: Any, path: str, query: str, status: int) -> None:
    answer = ask(pages.application(None, 1), path, query=query)
    assert answer.status == status
    assert answer.body
    if path.startswith("/api/"):
        assert json.loads(answer.body)["error"]
    else:
        assert answer.headers["content-type"].startswith("text/plain")


def test_nothing_can_be_changed(pages: Any) -> None:
    app = pages.application(None, 1)
    for path in ("/", "/api/runs", "/api/runs/1", "/report"):
        for method in ("POST", "DELETE", "PUT"):
            assert ask(app, path, method=method).status == 405


def test_a_token_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert read_token(str(path)) == TOKEN
    for text in ("", "short", "two words of a token", "é" * 20, "x" * 600):
        path.write_text(text)
        with pytest.raises(UsageError, match="token file"):
            read_token(str(path))
    with pytest.raises(UsageError, match="No such file"):
        read_token(str(tmp_path / "nowhere"))
    assert len(new_token()) >= 32
    assert new_token() != new_token()
