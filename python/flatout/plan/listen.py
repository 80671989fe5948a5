"""Where to listen, as text, and why that may not be had."""

from __future__ import annotations

import errno
import re

from flatout.errors import FlatoutError, GeneratorError, TargetError, UsageError
from flatout.plan import targets

_ADDRESS = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def listen_address(text: str) -> targets.Endpoint:
    """`ADDR:PORT` to listen on; the port may be 0, the address a wildcard. Errors: UsageError."""
    form = f"listen address {text!r}: write it like 127.0.0.1:1123, or for all addresses 0.0.0.0:1123 or [::]:1123"
    host, _, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    # A resolver takes an asterisk for this host alone; who writes it means all addresses.
    if not re.fullmatch(r"[^*:\[\]]+|\[[^*\]]+\]", host) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise UsageError(form)
    try:
        found = targets.named(host.strip("[]"), int(port), what="listen address", own=True)
    except TargetError as error:
        raise UsageError(f"listen address {text!r}: this host does not know '{host}'") from error
    return found[0]


def why_not(error: OSError, at: targets.Endpoint) -> FlatoutError:
    """What the kernel's error in binding there means."""
    text = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return UsageError(
            f"listening on {at} is not permitted: ports below 1024 need root, CAP_NET_BIND_SERVICE, or a "
            "socket unit of systemd (--listen systemd)"
        )
    if error.errno in _ADDRESS:
        return UsageError(f"cannot listen on {at}: {text}")
    return GeneratorError(f"cannot listen on {at}: {text}")
