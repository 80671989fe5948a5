"""`flatout serve PROTOCOL`: answer until stopped, with a line a second."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO

import msgspec
from cyclopts import Parameter

from flatout import units
from flatout.cli import output as out
from flatout.cli.flags import flattened
from flatout.errors import OutputError
from flatout.protocols.base import Protocol
from flatout.server import Server
from flatout.view.format import rate_short


@dataclass
class Serving:
    """Where and how to serve."""

    listen: Annotated[str | None, Parameter(help="Address and port; a wildcard answers from the address asked.")] = None
    threads: Annotated[int, Parameter(help="Threads that answer, each with its own socket on the address.")] = 1
    cpus: Annotated[str, Parameter(show_default=False, help="Keep the threads on these CPUs, e.g. 1 or 0-3,6.")] = ""
    for_: Annotated[str | None, Parameter(name="--for", help="Stop after this time. [until Ctrl-C]")] = None
    json: Annotated[
        str | None,
        Parameter(
            allow_leading_hyphen=True, help="One JSON object a second and a last one with totals (-: standard output)."
        ),
    ] = None
    quiet: Annotated[bool, Parameter(negative=(), show_default=False, help="Print errors only.")] = False


def command(protocol: Protocol, knobs: Any) -> Callable[..., int]:
    """The command for one protocol."""

    def serve(*, serving: Serving = Serving(), knobs: Any = knobs()) -> int:
        seconds = None if serving.for_ is None else units.duration(serving.for_)
        stop = _stop_on_signals()
        server = Server(
            protocol.name,
            serving.listen,
            threads=serving.threads,
            cpus=units.cpu_list(serving.cpus),
            **dataclasses.asdict(knobs),
        )
        with server:
            if not serving.quiet:
                threads = "1 thread" if serving.threads == 1 else f"{serving.threads} threads"
                out.say(f"{protocol.title} on {server.address}, {threads}. Ctrl-C stops it.")
            return _attend(server, serving, stop, seconds)

    serve.__doc__ = _HELP.format(protocol=protocol)
    serve.__annotations__ = {
        "serving": flattened(Serving),
        "knobs": flattened(knobs),
        "return": int,
    }
    return serve


_HELP = """Answer {protocol.summary} from this machine's clock and kernel, for tests.

**Examples**

```
flatout serve {protocol.name}
flatout serve {protocol.name} --listen '[::]:{protocol.test_port}' --threads 2 --json -
```
"""


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _attend(server: Server, serving: Serving, stop: threading.Event, seconds: float | None) -> int:
    """A line a second until somebody or the clock ends it."""
    left = seconds if seconds is not None else float("inf")
    with contextlib.ExitStack() as opened:
        lines = _Lines(_objects(serving.json, opened), people=not serving.quiet)
        before = server.stats()
        while left > 0 and server.alive and not stop.wait(min(1.0, left)):
            left -= 1.0
            now = server.stats()
            lines.second(before, now)
            before = now
        died = not server.alive
        server.stop()
        lines.last(server.stats())
    if died:
        out.say("flatout: a serving thread has ended, which is a fault of flatout")
    return out.GENERATOR if died else out.DONE


def _objects(path: str | None, opened: contextlib.ExitStack) -> BinaryIO | None:
    """Where the objects go. A file is opened before serving begins, so that a bad one costs nothing."""
    if path is None or path == "-":
        return sys.stdout.buffer if path else None
    try:
        return opened.enter_context(open(path, "wb"))
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror}") from error


class _Lines:
    """One line a second for people, one object a second for programs."""

    def __init__(self, objects: BinaryIO | None, *, people: bool) -> None:
        self.objects = objects
        self.people = people

    def second(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        span = max(now["t_s"] - before["t_s"], 1e-9)
        self._object({**_difference(before, now), "t_s": now["t_s"]})
        if self.people:
            rates = {name: rate_short((now[name] - before[name]) / span) for name in ("received", "answered")}
            lost = now["kernel_drops"] - before["kernel_drops"]
            refused = sum(now["dropped"].values()) - sum(before["dropped"].values())
            out.say(
                f"{now['t_s']:8.1f} s  received {rates['received']:>10}  answered {rates['answered']:>10}  "
                f"not answered {refused:,}  dropped by the kernel {lost:,}"
            )

    def last(self, totals: dict[str, Any]) -> None:
        self._object({**totals, "total": True})
        if self.people:
            out.say(f"in all: received {totals['received']:,}, answered {totals['answered']:,}")

    def _object(self, stats: dict[str, Any]) -> None:
        if self.objects is None:
            return
        try:
            self.objects.write(msgspec.json.encode(stats) + b"\n")
            self.objects.flush()
        except OSError as error:
            out.say(f"flatout: the JSON cannot be written any more: {error.strerror}; serving goes on")
            self.objects = None


def _difference(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The events between two looks, in the same form."""
    numbers = ("received", "answered", "kernel_drops")
    workers = [
        {name: value - was[name] for name, value in worker.items()}
        for was, worker in zip(before["workers"], now["workers"], strict=True)
    ]
    dropped = {reason: count - before["dropped"][reason] for reason, count in now["dropped"].items()}
    plain = {name: now[name] - before[name] for name in numbers}
    return {**now, **plain, "dropped": dropped, "workers": workers}
