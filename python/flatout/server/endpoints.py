"""How a running server is asked from outside: metrics over HTTP, and commands over a Unix socket, a JSON line each."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import socketserver
import stat
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from flatout.errors import TargetError, UsageError
from flatout.plan.listen import listen_address, why_not
from flatout.server import exposition

# The longest command, and how long a client may take for it.
_LINE_MAX = 4096
_WAIT_S = 5.0
# Threads of this process, beyond which nobody else is served.
_THREADS_MOST = 64
Command = Callable[[], Any]


class Endpoint:
    """A listening socket that is served by threads until it is closed."""

    def __init__(self, server: socketserver.BaseServer, close: Callable[[], None] = lambda: None) -> None:
        self._server, self._close = server, close
        self._thread = threading.Thread(target=server.serve_forever, name="flatout-endpoint", daemon=True)
        self._thread.start()

    @property
    def address(self) -> Any:
        """Where it listens."""
        return self._server.server_address

    def close(self) -> None:
        """Serves no more."""
        self._server.shutdown()
        self._server.server_close()
        self._close()

    def __enter__(self) -> Self:
        """It is served already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it."""
        self.close()


class _Http(http.server.ThreadingHTTPServer):
    """Answers one page; nothing that a client does is logged."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Binds without asking for a name of the address: that may wait for a resolver that is not there."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serves so many at once; who comes on top is closed."""
        if threading.active_count() > _THREADS_MOST:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away."""


def metrics(listen: str, protocol: str, stats: Callable[[], Mapping[str, Any]]) -> Endpoint:
    """Serves a server's counters for Prometheus at `listen`. Errors: as `page`."""
    return page(listen, lambda: exposition.prometheus(stats(), protocol))


def page(listen: str, text: Callable[[], str]) -> Endpoint:
    """Serves metrics for Prometheus at `listen` (ADDR:PORT), path /metrics. Errors: UsageError, GeneratorError."""
    at = listen_address(listen)

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = _WAIT_S

        def do_GET(self) -> None:
            found = self.path.split("?")[0] in ("/", "/metrics")
            body = text().encode() if found else b"see /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", exposition.CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """No request makes a log line."""

    class Server(_Http):
        address_family = socket.AF_INET6 if at.address.version == 6 else socket.AF_INET

    try:
        return Endpoint(Server((str(at.address), at.port), Handler))
    except OSError as error:
        raise why_not(error, at) from error


class _Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serves so many at once; who comes on top is closed."""
        if threading.active_count() > _THREADS_MOST:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away."""


def control(path: str, commands: Mapping[str, Command]) -> Endpoint:
    """Serves commands at the Unix socket `path`, for its owner and group. Errors: UsageError.

    A client sends {"command": NAME} and gets {"result": ...} or {"error": TEXT}, each on one line.
    """

    class Handler(socketserver.StreamRequestHandler):
        timeout = _WAIT_S

        def handle(self) -> None:
            while line := self.rfile.readline(_LINE_MAX):
                self.wfile.write(json.dumps(_reply(line, commands)).encode() + b"\n")

    before = os.umask(0o117)
    try:
        _make_room(path)
        server = _Unix(path, Handler)
    except OSError as error:
        raise UsageError(f"control socket '{path}' cannot be made: {error.strerror or error}") from error
    finally:
        os.umask(before)
    return Endpoint(server, lambda: _remove(path))


def _make_room(path: str) -> None:
    """Removes the socket of a server that has ended. Errors: UsageError, OSError."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise UsageError(f"control socket '{path}': there is a file that is no socket")
        if _is_served(path):
            raise UsageError(f"control socket '{path}' is in use")
        os.unlink(path)


def _remove(path: str) -> None:
    # Who has given up privileges or its root directory may not be able to.
    with contextlib.suppress(OSError):
        os.unlink(path)


def _reply(line: bytes, commands: Mapping[str, Command]) -> dict[str, Any]:
    try:
        name = json.loads(line)["command"]
        command = commands[name]
    except (ValueError, TypeError, KeyError):
        return {"error": f'write {{"command": NAME}}, with one of {", ".join(commands)}'}
    try:
        return {"result": command()}
    except Exception as error:
        # Whatever is wrong with a command is its caller's news, and no reason to end the server.
        return {"error": str(error)}


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def ask(path: str, command: str, seconds: float = 15.0) -> Any:
    """Asks a running server over its control socket. Errors: TargetError (no server there), UsageError (its answer)."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
            asker.settimeout(seconds)
            asker.connect(path)
            with asker.makefile("rwb") as lines:
                lines.write(json.dumps({"command": command}).encode() + b"\n")
                lines.flush()
                reply = json.loads(lines.readline() or b"{}")
    except (OSError, ValueError) as error:
        raise TargetError(f"no server answers at control socket '{path}': {error}") from error
    if "result" not in reply:
        raise UsageError(f"the server at '{path}' refuses: {reply.get('error', 'it said nothing')}")
    return reply["result"]
