"""Where to listen, as text, and why that may not be had."""

from __future__ import annotations

import errno
import re

from flatout.errors import FlatoutError, GeneratorError, UsageError
from flatout.scenario import target

_ADDRESS = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def listen_address(text: str) -> target.Endpoint:
    """`ADDR:PORT` to listen on; the port may be 0, the address a wildcard."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise UsageError(f"listen address '{text}': write it like 127.0.0.1:1123, 0.0.0.0:123 or [::]:123")
    endpoint = target.resolve(f"{host}:1", 1)
    return endpoint._replace(port=int(port))


def why_not(error: OSError, at: target.Endpoint) -> FlatoutError:
    """What the kernel's error in binding there means."""
    text = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return UsageError(f"listening on {at} is not permitted: ports below 1024 need root or CAP_NET_BIND_SERVICE")
    if error.errno in _ADDRESS:
        return UsageError(f"cannot listen on {at}: {text}")
    return GeneratorError(f"cannot listen on {at}: {text}")
