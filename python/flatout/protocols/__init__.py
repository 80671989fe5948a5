"""The registry of protocols: one line each. Nothing else in flatout names a protocol."""

from __future__ import annotations

import importlib

from flatout.protocols._layout import Layout, layout_of
from flatout.protocols.base import Protocol

__all__ = ["PROTOCOLS", "Layout", "Protocol", "layout_of"]

# Each is a file of this folder that holds `PROTOCOL`; the command line lists them in this order.
_NAMES = [
    "ntp",
    "dns",
    "echo",
    "record",
]

PROTOCOLS: dict[str, Protocol] = {name: importlib.import_module(f"{__name__}.{name}").PROTOCOL for name in _NAMES}
