"""The registry of protocols: one line each. Nothing else in flatout names a protocol."""

from __future__ import annotations

import importlib

from flatout.errors import UsageError
from flatout.protocols.base import Protocol
from flatout.protocols.record.layout import Layout, layout_of

__all__ = ["PROTOCOLS", "Layout", "Protocol", "layout_of", "protocol"]

# Each is a file of this folder that holds `PROTOCOL`; the command line lists them in this order.
_NAMES = [
    "ntp",
    "dns",
    "echo",
    "record",
]

PROTOCOLS: dict[str, Protocol] = {name: importlib.import_module(f"{__name__}.{name}").PROTOCOL for name in _NAMES}


def protocol(name: str) -> Protocol:
    """A protocol by name, or UsageError."""
    if not isinstance(name, str) or name not in PROTOCOLS:
        raise UsageError(f"protocol '{name}' is not one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
