"""`flatout serve PROTOCOL` where messages go one way: receive until stopped, with a line a second."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from flatout import units
from flatout.cli import output as out
from flatout.cli.flags.shared import flattened
from flatout.cli.seconds import For, Json, Lines, Quiet, Stats, Stop, run_until_stopped
from flatout.host import topology
from flatout.protocols.base import Protocol
from flatout.view import format as fmt
from flatout.view import receiver as arrivals

if TYPE_CHECKING:
    from flatout.receiver.receiver import Receiver

HOW = Group("How to receive", sort_key=1)
QUEUE = Group("The queue to the handler", sort_key=2)


@dataclass
class Receiving:
    """Where and how to receive."""

    listen: Annotated[str | None, Parameter(group=HOW, help="Address and port.")] = None
    threads: Annotated[int, Parameter(group=HOW, help="Workers that receive.")] = 1
    shared: Annotated[
        bool,
        Parameter(
            group=HOW,
            negative=(),
            show_default=False,
            help="All workers read one socket; else each has its own, and the kernel spreads the senders over them "
            "(SO_REUSEPORT).",
        ),
    ] = False
    cpus: Annotated[
        str | None, Parameter(group=HOW, show_default=False, help="Keep the workers on these CPUs, e.g. 1 or 0-3,6.")
    ] = None
    no_gro: Annotated[
        bool,
        Parameter(
            group=HOW,
            negative=(),
            show_default=False,
            help="Take datagrams one by one, where the kernel could hand over several of one sender at once (UDP_GRO).",
        ),
    ] = False
    link: Annotated[
        Literal["socket", "xdp"],
        Parameter(
            group=HOW,
            help="By sockets, or past the kernel's stack from the queues of an interface (AF_XDP; a worker each).",
        ),
    ] = "socket"
    interface: Annotated[
        str | None, Parameter(group=HOW, show_default=False, help="The interface, with --link xdp, e.g. eth0.")
    ] = None
    stamps: Annotated[
        Literal["user", "kernel"],
        Parameter(group=HOW, help="Whose clock reading tells when a record came, for the one-way delay."),
    ] = "user"
    buffer: Annotated[
        str, Parameter(group=HOW, help="Each socket's receive buffer; the system may allow less (net.core.rmem_max).")
    ] = "4MiB"
    no_counters: Annotated[
        bool,
        Parameter(
            group=HOW,
            negative=(),
            show_default=False,
            help="Do not answer on the same port how much came: then `load` and `limit` cannot know what was lost.",
        ),
    ] = False
    queue: Annotated[str, Parameter(group=QUEUE, help="Records that may wait for the handler, over all workers.")] = (
        "65536"
    )
    full: Annotated[
        Literal["drop-oldest", "drop-newest", "wait"],
        Parameter(
            group=QUEUE,
            help="When the queue is full: drop what waits longest, drop what has just come, or let receiving wait "
            "(then the kernel drops).",
        ),
    ] = "drop-oldest"
    follow: Annotated[
        str, Parameter(group=HOW, help="Senders whose sequence numbers are followed at most; each costs memory.")
    ] = "1M"
    for_: For = None
    json: Json = None
    quiet: Quiet = False

    @property
    def cpu_list(self) -> tuple[int, ...]:
        """The CPUs by number."""
        return () if self.cpus is None else units.cpu_list(self.cpus)

    def options(self) -> dict[str, Any]:
        """As keyword arguments of the Python API."""
        return {
            "threads": self.threads,
            "shared": self.shared,
            "cpus": self.cpu_list,
            "gro": not self.no_gro,
            "stamps": self.stamps,
            "buffer": self.buffer,
            "counters": not self.no_counters,
            "queue": self.queue,
            "full": self.full,
            "follow": self.follow,
            "link": self.link,
            "interface": self.interface,
        }


def command(protocol: Protocol, protocol_options: Any) -> Callable[..., int]:
    """The command for one protocol."""

    def serve(*, receiving: Receiving = Receiving(), protocol_options: Any = protocol_options()) -> int:
        seconds = None if receiving.for_ is None else units.duration(receiving.for_)
        stop = Stop()
        # NumPy comes with it, which no other command waits for.
        from flatout.receiver.counting import drained

        options = receiving.options()
        with drained(protocol.name, receiving.listen, **options, **dataclasses.asdict(protocol_options)) as server:
            if not receiving.quiet:
                for line in _beginning(protocol, server, receiving):
                    out.say(line)
                for note in server.notes:
                    out.say(f"flatout: note: {note}")
            lines = functools.partial(_Lines, size=server.layout.size, people=not receiving.quiet)
            return run_until_stopped(server, lines, stop, seconds=seconds, json=receiving.json)

    serve.__doc__ = _HELP.format(protocol=protocol)
    serve.__annotations__ = {
        "receiving": flattened(Receiving),
        "protocol_options": flattened(protocol_options),
        "return": int,
    }
    return serve


_HELP = """Receive {protocol.summary}: parse them, hand them over to a handler that only counts, tell what came.

A line a second tells messages, bytes and bits a second, how many were parsed and handed over, and what went wrong:
malformed, lost, doubled and out of order by their sequence numbers, dropped because the queue to the handler was full,
dropped by the kernel. Senders that ask are told the same on the same port: so they know what was lost.

**Examples**

```
flatout serve {protocol.name}
flatout serve {protocol.name} --listen 0.0.0.0:{protocol.test_port} --threads 4 --cpus 0-3 --json -
flatout serve {protocol.name} --threads 2 --shared --no-gro --queue 100 --full wait
flatout serve {protocol.name} --link xdp --interface eth0
```
"""


def _beginning(protocol: Protocol, server: Receiver, asked: Receiving) -> list[str]:
    """Where what is received, by what, and on which machine."""
    threads = "1 thread" if server.threads == 1 else f"{server.threads} threads"
    sockets = " on one socket" if asked.shared and asked.threads > 1 else ""
    pins = f" on CPUs {asked.cpus}" if asked.cpus else ""
    most = f"{fmt.memory(server.memory_bound)} (with {units.count(asked.follow):,} senders)"
    lines = [
        f"{protocol.title} on {server.address}, {threads}{sockets}{pins}. Ctrl-C stops it.",
        f"Format: {fmt.plain(server.layout.text)} ({server.layout.size} bytes). "
        f"Queue: {units.count(asked.queue):,} records, {asked.full}. Memory: at most about {most}.",
    ]
    at = server.endpoint.host
    if machine := topology.sentence(at):
        lines.append(f"Machine: {machine}.")
    if far := topology.far_cpus(at, asked.cpu_list):
        lines.append(f"flatout: note: CPUs {', '.join(map(str, far))} are on another NUMA node than the network card")
    return lines


class _Lines(Lines):
    """What came, and what looks wrong about it."""

    def __init__(self, objects: Any, *, size: int, people: bool) -> None:
        super().__init__(objects, people=people)
        self.size = size

    def difference(self, before: Stats, now: Stats) -> Stats:
        return arrivals.difference(before, now)

    def of_second(self, before: Stats, now: Stats, span: float) -> list[str]:
        return arrivals.second(before, now, span)

    def of_all(self, totals: Stats) -> list[str]:
        return [*arrivals.totals(totals), *(f"flatout: hint: {hint}" for hint in arrivals.hints(totals, self.size))]
