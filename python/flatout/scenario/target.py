"""Targets as text: host and port, one target or several."""

from __future__ import annotations

import re

from flatout.errors import UsageError


def split(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of `name`, `name:port`, `192.0.2.1:123`, `[2001:db8::1]:123` or a bare IPv6 address."""
    bracketed = re.fullmatch(r"\[([^\]]+)\](?::(\d{1,5}))?", text)
    plain = re.fullmatch(r"([^:\[\]]+)(?::(\d{1,5}))?", text)
    found = bracketed or plain
    if not found and text.count(":") > 1 and "[" not in text:
        return text, default_port
    if not found:
        raise UsageError(f"target '{text}': write it like host, host:port, 192.0.2.1:123 or [2001:db8::1]:123")
    port = int(found[2]) if found[2] else default_port
    if not 0 < port < 65536:
        raise UsageError(f"target '{text}': a port is a number from 1 to 65535")
    return found[1], port


def split_targets(text: str) -> list[str]:
    """The targets that a text with commas names: at least one."""
    if not isinstance(text, str):
        raise UsageError(f"target {text!r}: give text, like 192.0.2.1:123")
    if not text.strip():
        raise UsageError("target '': there is none: write it like host, host:port or 192.0.2.1:123")
    found = [one.strip() for one in text.split(",")]
    if not all(found):
        raise UsageError(f"target '{text}': write several like 192.0.2.1:123,192.0.2.2:123")
    return found
