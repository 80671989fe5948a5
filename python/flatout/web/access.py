"""Who may read the page: on loopback this host's programs, elsewhere who has the token.

Pure ASGI around the application, so that nothing is served past it. All requests read: none changes anything.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flatout.errors import UsageError

# Characters of a token: fewer can be guessed.
_SHORTEST, _LONGEST = 16, 512
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Nothing but our own files; a report brings its own policy (view/page).
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def new_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(24)


def read_token(path: str) -> str:
    """The token in a file. Errors: UsageError."""
    try:
        with Path(path).open(encoding="ascii") as file:
            text = file.read(_LONGEST + 2).strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise UsageError(f"token file '{path}' cannot be read: {reason}") from error
    if not (_SHORTEST <= len(text) <= _LONGEST and text.isprintable() and " " not in text):
        raise UsageError(f"token file '{path}': put one token of {_SHORTEST} to {_LONGEST} characters into it")
    return text


class Access:
    """The application behind its token, or without one on loopback for requests that name this host."""

    def __init__(self, app: ASGIApp, token: str | None, port: int) -> None:
        """`token` None: none is asked for. `port`: cookies are one jar for all ports of a host."""
        self._app, self._token, self._cookie = app, token, f"flatout-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = Headers(raw=message["headers"])
                added = {**_HEADERS, "Content-Security-Policy": POLICY}
                new = [(key.lower().encode(), value.encode()) for key, value in added.items() if key not in given]
                message = {**message, "headers": [*message["headers"], *new]}
            await send(message)

        refused = self._refusal(scope)
        await (refused or self._app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """What a request gets instead of a page; None: it may have one."""
        headers = Headers(scope=scope)
        if self._token is None:
            # A page from elsewhere whose name was made to lead here must not read this one (DNS rebinding).
            return None if _names_this_host(headers.get("host", "")) else PlainTextResponse("unknown host\n", 403)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        if given and self._is_token(given[0]):
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            where = quote("/" + scope["path"].lstrip("/\\"))
            clean = RedirectResponse(f"{where}?{rest}" if rest else where, 303)
            clean.set_cookie(self._cookie, given[0], max_age=30 * 86400, httponly=True, samesite="lax")
            return clean
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if self._is_token(self._from_cookie(headers)) or (kind.lower() == "bearer" and self._is_token(bearer.strip())):
            return None
        return PlainTextResponse("the address needs its token: open it as `flatout web` printed it\n", 401)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode("utf-8", "surrogateescape"), (self._token or "").encode())

    def _from_cookie(self, headers: Headers) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return found.value if found else ""


def _names_this_host(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
