"""`flatout serve PROTOCOL`: answer until stopped, with a line a second."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from cyclopts import Parameter

from flatout import units
from flatout.cli import output as out
from flatout.cli.flags.shared import flattened
from flatout.cli.seconds import For, Json, Lines, Quiet, Stats, Stop, events, run_until_stopped
from flatout.protocols.base import Protocol
from flatout.scenario.model import Io
from flatout.server.answering import CONNECTIONS, ENDS, Answerer
from flatout.view.format import memory, rate_short


@dataclass
class Serving:
    """Where and how to serve."""

    listen: Annotated[str | None, Parameter(help="Address and port; a wildcard answers from the address asked.")] = None
    transport: Annotated[
        list[str],
        Parameter(negative=(), show_default=False, help="udp or tcp; may be given twice. [all that the protocol has]"),
    ] = field(default_factory=list)
    threads: Annotated[
        int | None, Parameter(help="Workers that answer, each with its own sockets on the address. [one per CPU]")
    ] = None
    cpus: Annotated[
        str | None, Parameter(show_default=False, help="Keep the threads on these CPUs, e.g. 1 or 0-3,6.")
    ] = None
    io: Annotated[Io, Parameter(help="What carries connections; auto: io_uring where it works.")] = "auto"
    connections: Annotated[str, Parameter(help="Connections at once, e.g. 100k.")] = f"{CONNECTIONS / 1e6:g}M"
    idle_timeout: Annotated[
        str | None, Parameter(help="Close connections on which nothing came for so long, e.g. 30s. [they stay]")
    ] = None
    for_: For = None
    json: Json = None
    quiet: Quiet = False


def command(protocol: Protocol, protocol_options: Any) -> Callable[..., int]:
    """The command for one protocol."""

    def serve(*, serving: Serving = Serving(), protocol_options: Any = protocol_options()) -> int:
        seconds = None if serving.for_ is None else units.duration(serving.for_)
        stop = Stop()
        server = Answerer(
            protocol.name,
            serving.listen,
            threads=serving.threads,
            cpus=() if serving.cpus is None else serving.cpus,
            transports=serving.transport or None,
            io=serving.io,
            connections=serving.connections,
            idle_timeout=serving.idle_timeout,
            **dataclasses.asdict(protocol_options),
        )
        with server:
            if not serving.quiet:
                for line in _beginning(protocol, server):
                    out.say(line)
                for note in server.notes:
                    out.say(f"flatout: note: {note}")
            lines = functools.partial(_Lines, people=not serving.quiet)
            return run_until_stopped(server, lines, stop, seconds=seconds, json=serving.json)

    links = [link for link in protocol.links if link != "tls"]
    reported = _HELP_STREAMS if "tcp" in links else ""
    serve.__doc__ = _HELP.format(protocol=protocol, links=" and ".join(map(str.upper, links)), streams=reported)
    serve.__annotations__ = {
        "serving": flattened(Serving),
        "protocol_options": flattened(protocol_options),
        "return": int,
    }
    return serve


_HELP_STREAMS = """
A line a second tells what came and went. With connections it ends with the kernel's memory on the whole host: TCP's
buffers, and by how much its small objects (sockets among them) have grown since the start.
"""
_HELP = """Answer {protocol.title} over {links}, for tests.
{streams}
**Examples**

```
flatout serve {protocol.name}
flatout serve {protocol.name} --listen '[::]:{protocol.test_port}' --threads 2 --json -
```
"""


def _beginning(protocol: Protocol, server: Answerer) -> list[str]:
    """What is served, where, by what."""
    threads = "1 thread" if server.threads == 1 else f"{server.threads} threads"
    if not server.streams:
        return [f"{protocol.title} on {server.address}, {threads}. Ctrl-C stops it."]
    transports = " and ".join(server.transports)
    return [
        f"{protocol.title} on {server.address} over {transports}, {threads}. Ctrl-C stops it.",
        f"Up to {server.most_connections:,} connections, carried by {server.carrier}.",
    ]


class _Lines(Lines):
    """What came and went, with and without connections."""

    def of_second(self, before: Stats, now: Stats, span: float) -> list[str]:
        line = _of_datagrams if now["connections"] is None else _of_streams
        return [f"{now['t_s']:8.1f} s  {line(before, now, span)}"]

    def of_all(self, totals: Stats) -> list[str]:
        return [f"in all: received {totals['received']:,}, answered {totals['answered']:,}{_of_life(totals)}"]

    def difference(self, before: Stats, now: Stats) -> Stats:
        return _difference(before, now)


def _of_datagrams(before: dict[str, Any], now: dict[str, Any], span: float) -> str:
    rates = {name: rate_short((now[name] - before[name]) / span) for name in ("received", "answered")}
    lost = now["kernel_drops"] - before["kernel_drops"]
    refused = sum(now["dropped"].values()) - sum(before["dropped"].values())
    return (
        f"received {rates['received']:>10}  answered {rates['answered']:>10}  "
        f"not answered {refused:,}  dropped by the kernel {lost:,}"
    )


def _of_streams(before: dict[str, Any], now: dict[str, Any], span: float) -> str:
    rates = {name: rate_short((now[name] - before[name]) / span) for name in ("received", "answered")}
    accepted = rate_short((now["connections"]["accepted"] - before["connections"]["accepted"]) / span)
    moved = {way: memory(round((now["bytes"][way] - before["bytes"][way]) / span)) for way in ("in", "out")}
    kernel = now["kernel_memory"]
    return (
        f"connections {now['connections']['now']:>9,}  accepted {accepted:>10}  "
        f"received {rates['received']:>10}  answered {rates['answered']:>10}  "
        f"in {moved['in']}/s  out {moved['out']}/s  "
        f"kernel {memory(kernel['tcp_bytes'])} + {memory(max(kernel['slab_growth_bytes'], 0))}"
    )


def _of_life(totals: dict[str, Any]) -> str:
    """What became of the connections, where there were any."""
    connections = totals["connections"]
    if connections is None:
        return ""
    reported = ", ".join(f"{word.replace('_', ' ')} {connections[word]:,}" for word in (*ENDS, "errors"))
    return f"; connections: accepted {connections['accepted']:,}, {reported}"


# What a worker holds now: no events, so there is nothing to subtract.
_HELD = frozenset({"connections", "memory_bytes"})


def _difference(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The events between two looks, in the same form; what is held stays as it is now."""
    numbers = ("received", "answered", "kernel_drops")
    workers = [events(was, worker, _HELD) for was, worker in zip(before["workers"], now["workers"], strict=True)]
    plain = {name: now[name] - before[name] for name in numbers}
    changed = {**now, **plain, "dropped": events(before["dropped"], now["dropped"]), "workers": workers}
    if now["connections"] is not None:
        changed["connections"] = events(before["connections"], now["connections"], frozenset({"now"}))
        changed["bytes"] = events(before["bytes"], now["bytes"])
    return changed
