"""`flatout serve PROTOCOL`: answer until stopped, with a line a second."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, BinaryIO

from flatout import units
from flatout.cli import output as out
from flatout.cli.flags.serving import LimitFlags, Operation, Serving
from flatout.cli.flags.shared import flattened
from flatout.cli.operating import Groups, Operator
from flatout.cli.seconds import Lines, Stats, Stop, events, run_until_stopped
from flatout.protocols.base import Protocol
from flatout.server.answering import ENDS, Answerer
from flatout.server.listening import INHERITED, handed_over
from flatout.view.format import memory, rate_short


def command(protocol: Protocol, protocol_options: Any) -> Callable[..., int]:
    """The command for one protocol."""

    def serve(
        *,
        serving: Serving = Serving(),
        limits: LimitFlags = LimitFlags(),
        operation: Operation = Operation(),
        protocol_options: Any = protocol_options(),
    ) -> int:
        stop = Stop()
        operator = Operator((serving, limits, operation, protocol_options))
        serving, limits, operation, protocol_options = operator.flags
        seconds = None if serving.for_ is None else units.duration(serving.for_)
        with _server(protocol, operator.flags) as server, operator.around(server):
            if not serving.quiet:
                for line in _beginning(protocol, server):
                    out.say(line)
                for note in server.notes:
                    out.say(f"flatout: note: {note}")
            lines = functools.partial(_Lines, people=not serving.quiet, alive=operator.notifier.alive)
            return run_until_stopped(server, lines, stop, seconds=seconds, json=serving.json)

    links = [link for link in protocol.links if link != "tls"]
    reported = _HELP_STREAMS if "tcp" in links else ""
    serve.__doc__ = _HELP.format(protocol=protocol, links=" and ".join(map(str.upper, links)), streams=reported)
    serve.__annotations__ = {
        "serving": flattened(Serving),
        "limits": flattened(LimitFlags),
        "operation": flattened(Operation),
        "protocol_options": flattened(protocol_options),
        "return": int,
    }
    return serve


def _server(protocol: Protocol, flags: Groups) -> Answerer:
    """The server that the flags ask for. Errors: UsageError, GeneratorError."""
    serving, limits, operation, protocol_options = flags
    return Answerer(
        protocol.name,
        serving.listen or (INHERITED if handed_over() else None),
        interface=serving.interface,
        free_bind=serving.free_bind,
        balance=serving.balance,
        threads=serving.threads,
        cpus=() if serving.cpus is None else serving.cpus,
        transports=serving.transport or None,
        io=serving.io,
        connections=serving.connections,
        idle_timeout=serving.idle_timeout,
        limits=limits.limits(),
        usage_file=operation.usage_file,
        xdp=serving.xdp,
        xdp_replace=serving.xdp_replace,
        **dataclasses.asdict(protocol_options),
    )


_HELP_STREAMS = """
A line a second tells what came and went. With connections it ends with the kernel's memory on the whole host: TCP's
buffers, and by how much its small objects (sockets among them) have grown since the start.
"""
_HELP = """Answer {protocol.title} over {links}, for tests.
{streams}
**Examples**

```
flatout serve {protocol.name}
flatout serve {protocol.name} --listen '*:{protocol.test_port}' --threads 2 --json -
```
"""


def _beginning(protocol: Protocol, server: Answerer) -> list[str]:
    """What is served, where, by what."""
    threads = "1 thread" if server.threads == 1 else f"{server.threads} threads"
    where = ", ".join(server.addresses)
    if not server.streams:
        return [f"{protocol.title} on {where}, {threads}. Ctrl-C stops it."]
    transports = " and ".join(server.transports)
    return [
        f"{protocol.title} on {where} over {transports}, {threads}. Ctrl-C stops it.",
        f"Up to {server.most_connections:,} connections, carried by {server.carrier}.",
    ]


class _Lines(Lines):
    """What came and went, with and without connections; `alive` is called each second while all workers work."""

    def __init__(self, objects: BinaryIO | None, *, people: bool, alive: Callable[[], None]) -> None:
        super().__init__(objects, people=people)
        self._alive = alive

    def second(self, before: Stats, now: Stats) -> None:
        super().second(before, now)
        self._alive()

    def of_second(self, before: Stats, now: Stats, span: float) -> list[str]:
        line = _of_datagrams if now["connections"] is None else _of_streams
        return [f"{now['t_s']:8.1f} s  {line(before, now, span)}", *_of_replaced(before, now), *_of_driver(before, now)]

    def of_all(self, totals: Stats) -> list[str]:
        driver = f", by XDP {totals['xdp']['answered']:,}" if "xdp" in totals else ""
        return [f"in all: received {totals['received']:,}, answered {totals['answered']:,}{driver}{_of_life(totals)}"]

    def difference(self, before: Stats, now: Stats) -> Stats:
        return _difference(before, now)


def _of_datagrams(before: dict[str, Any], now: dict[str, Any], span: float) -> str:
    rates = {name: rate_short((now[name] - before[name]) / span) for name in ("received", "answered")}
    lost = now["kernel_drops"] - before["kernel_drops"]
    refused = {reason: count for reason, count in events(before["dropped"], now["dropped"]).items() if count}
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(refused.items(), key=lambda one: -one[1]))
    driver = "" if "xdp" not in now else f"by XDP {rate_short(_by_driver(before, now) / span):>10}  "
    return (
        f"received {rates['received']:>10}  answered {rates['answered']:>10}  {driver}"
        f"not answered {sum(refused.values()):,}{f' ({reasons})' if reasons else ''}  dropped by the kernel {lost:,}"
    )


def _by_driver(before: Stats, now: Stats) -> int:
    return int(now["xdp"]["answered"] - before["xdp"]["answered"])


def _of_driver(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What has changed about the driver's program since, such as an interface that is gone."""
    changed = [note for note in now["notes"] if note.startswith("xdp:") and note not in before["notes"]]
    return [f"flatout: note: {note}" for note in changed]


def _of_replaced(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What happened to workers, in one line however many were replaced."""
    count = now["replaced"]["count"] - before["replaced"]["count"]
    return [f"flatout: {count} of the workers replaced: {now['replaced']['last']}"] if count else []


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
    numbers = ("received", "answered", "kernel_drops", "kissed", "sent_bytes", "clients_forgotten")
    workers = [events(was, worker, _HELD) for was, worker in zip(before["workers"], now["workers"], strict=True)]
    plain: Stats = {name: now[name] - before[name] for name in numbers}
    replaced = {**now["replaced"], "count": now["replaced"]["count"] - before["replaced"]["count"]}
    plain["replaced"] = replaced
    changed = {**now, **plain, "dropped": events(before["dropped"], now["dropped"]), "workers": workers}
    if "stamps" in now:
        changed["stamps"] = {**events(before["stamps"], now["stamps"], frozenset({"tx_early_ns"}))}
    if "xdp" in now:
        was, xdp = before["xdp"], now["xdp"]
        sums = ("answered", "kissed", "sent_bytes", "clients_forgotten")
        reasons = {name: events(was[name], xdp[name]) for name in ("dropped", "passed")}
        changed["xdp"] = {**xdp, **{name: xdp[name] - was[name] for name in sums}, **reasons}
    if now["connections"] is not None:
        changed["connections"] = events(before["connections"], now["connections"], frozenset({"now"}))
        changed["bytes"] = events(before["bytes"], now["bytes"])
    return changed
