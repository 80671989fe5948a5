"""The registry of protocols: one line each. Nothing else in flatout names a protocol."""

from __future__ import annotations

from flatout.protocols import ntp
from flatout.protocols.base import Protocol

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in (ntp.PROTOCOL,)}
