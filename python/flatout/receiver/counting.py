"""A receiver whose handler only counts: what `serve` is where messages go one way."""

from __future__ import annotations

import dataclasses
from typing import Any

from flatout.errors import UsageError
from flatout.protocols import protocol as by_name
from flatout.protocols.base import Protocol, checked_options
from flatout.receiver.receiver import Receiver
from flatout.server.listening import has_ipv6


def drained(protocol: str, listen: str | None = None, *, threads: int | str | None = None, **options: Any) -> Receiver:
    """A running receiver; the engine's own handler takes what it hands over, and no Python code runs for it.

    Port 0 takes a free one; default is the protocol's test port on 127.0.0.1, with `link="xdp"` on all addresses.
    `options`: those of `Receiver`, and the protocol's own. It answers senders who ask how much came, unless
    `counters=False`. Errors: UsageError, GeneratorError.
    """
    spoken = by_name(protocol)
    protocol_options = _options(spoken, options)
    at = _usual(spoken, options.get("link")) if listen is None else listen
    asked = {"counters": True, **options}
    try:
        receiver = Receiver(
            at,
            protocol_options.format,
            endian=protocol_options.endian,
            threads=1 if threads is None else threads,
            **asked,
        )
    except TypeError as error:
        raise UsageError(f"receiving {protocol} has no such option: {error}") from error
    receiver.drain()
    return receiver


def _usual(spoken: Protocol, link: Any) -> str:
    """Where to listen unless told otherwise: what comes from other hosts, by an interface, is not for loopback."""
    host = "127.0.0.1" if link != "xdp" else "[::]" if has_ipv6() else "0.0.0.0"
    return f"{host}:{spoken.test_port}"


def _options(spoken: Protocol, options: dict[str, Any]) -> Any:
    """Takes the protocol's own settings out of all options. Errors: UsageError."""
    names = {field.name for field in dataclasses.fields(spoken.serve_options)}
    own = {name: options.pop(name) for name in names & set(options)}
    return checked_options(spoken.serve_options, own, f"receiving {spoken.name}")
