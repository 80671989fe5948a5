"""Serves the page until it is stopped."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable

from flatout.errors import UsageError
from flatout.plan.listen import listen_address, why_not
from flatout.store.live import live_folder
from flatout.store.open import open_store

# Connections at once, and how long an open page may hold up the end, s.
_CONNECTIONS, _ENDING_S = 256, 2


def serve(listen: str, token_file: str | None, ready: Callable[[str], None]) -> None:
    """Serves the page at `listen` (ADDR:PORT; port 0: a free one) until Ctrl-C.

    `token_file`: the token is in it; None: on loopback none is needed, elsewhere a new one is made. `ready` is called
    with the address to open. Errors: UsageError for an address, a token or a store that cannot be had, and without the
    extra; GeneratorError where the kernel refuses.
    """
    try:
        import uvicorn

        from flatout.web import access
        from flatout.web.app import Pages
    except ImportError as error:
        raise UsageError("the page needs the extra: pip install 'flatout[web]'") from error
    at = listen_address(listen)
    token = access.read_token(token_file) if token_file is not None else None
    if token is None and not at.address.is_loopback:
        token = access.new_token()
    family = socket.AF_INET6 if at.address.version == 6 else socket.AF_INET
    with open_store() as store:
        try:
            listening = socket.create_server((str(at.address), at.port), family=family)
        except OSError as error:
            raise why_not(error, at) from error
        with listening:
            port = listening.getsockname()[1]
            pages = Pages(store, live_folder(os.environ))
            config = uvicorn.Config(
                pages.application(token, port),
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                limit_concurrency=_CONNECTIONS,
                timeout_graceful_shutdown=_ENDING_S,
            )
            name = socket.gethostname() if at.address.is_unspecified else str(at.address)
            shown = f"[{name}]" if ":" in name else name
            ready(f"http://{shown}:{port}/" + (f"?token={token}" if token else ""))

            class Server(uvicorn.Server):
                async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                    """Ends the feeds first: a page that is open would hold up the end."""
                    pages.feed.end()
                    await super().shutdown(sockets)

            # It passes the signal that ended it on.
            with contextlib.suppress(KeyboardInterrupt):
                Server(config).run(sockets=[listening])
