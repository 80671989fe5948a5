"""The registry of protocols: one line each. Nothing else in flatout names a protocol."""

from __future__ import annotations

import importlib

from flatout.protocols.base import Protocol

# Each is a file of this folder that holds `PROTOCOL`; the command line lists them in this order.
_NAMES = [
    "ntp",
    "dns",
    "echo",
]

PROTOCOLS: dict[str, Protocol] = {name: importlib.import_module(f"{__name__}.{name}").PROTOCOL for name in _NAMES}
