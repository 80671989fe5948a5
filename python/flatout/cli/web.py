"""`flatout web`: the page to watch."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from flatout.cli import output as out


def web(
    *,
    listen: Annotated[str, Parameter(help="Where to serve it, ADDR:PORT. Other than loopback it needs a token.")] = (
        "127.0.0.1:8053"
    ),
    token_file: Annotated[
        str | None,
        Parameter(help="Ask for the token in this file. [loopback: none; elsewhere a new one, which is printed]"),
    ] = None,
) -> int:
    """Serve a page of what runs now, the kept runs, their reports and comparisons, until Ctrl-C.

    It shows runs of this user with the same store (FLATOUT_STORE). It only shows: nothing can be started or removed.

    **Examples**
    ```
    flatout web
    flatout web --listen 0.0.0.0:8053 --token-file token
    ```

    """
    from flatout.web.serve import serve

    serve(listen, token_file, lambda address: print(f"Open {address}", flush=True))
    return out.DONE
