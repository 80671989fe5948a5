"""The settings of a load: argument, flag, help and meaning of each, defined once.

`load` and `limit` take them as keyword arguments; the command line's flags and the scenario are made from them.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypedDict, get_args, get_type_hints

import msgspec

from flatout import arguments, units
from flatout.errors import ArgumentError, UsageError
from flatout.protocols.base import Protocol
from flatout.scenario import nodes, streams
from flatout.scenario.model import Arrivals, Carrier, Io, LogFormat, Stamps, Tls, Transport, Wait

Number = float | int | str
Path = str | os.PathLike[str]
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")
Group = Literal["schedule", "queries", "senders", "sending", "connections", "nodes"]


def _count(name: str, value: int | str) -> int:
    # What it may be beside the others is checked where they meet.
    return units.whole(name, value, units.ANY_NUMBER, least=0)


def _share(name: str, value: Number) -> float:
    return arguments.share(name, value, may_be_all=True)


def _microseconds(name: str, value: Number) -> int:
    return round(units.seconds(name, value) * 1e6)


def _mac(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _MAC.fullmatch(value):
        raise ArgumentError(name, f"={value!r}: give six bytes like 02:00:00:00:00:01")
    return value.lower().replace("-", ":")


def _node(name: str, value: str | Sequence[int]) -> nodes.Node:
    if isinstance(value, str):
        return units.named(name, nodes.parse, value)
    try:
        index, of = (units.integer(name, number) for number in value)
    except (TypeError, ValueError, UsageError) as error:
        raise ArgumentError(name, f"={value!r}: give text like '2/3', or two whole numbers") from error
    return units.named(name, nodes.check, (index, of))


def _start(name: str, value: Number) -> str:
    if isinstance(value, str):
        units.named(name, streams.unix_ns, value)
        return value
    if math.isnan(number := units.real(value)):
        raise ArgumentError(name, f"={value!r}: give Unix time in seconds, or text like 2026-03-14T15:09:26Z")
    return repr(int(value)) if isinstance(value, int) else repr(number)


def _has_streams(protocol: Protocol) -> bool:
    return any(link != "udp" for link in protocol.links)


def _reopens(protocol: Protocol) -> bool:
    return protocol.reopens


def _has_one_way(protocol: Protocol) -> bool:
    return protocol.one_way is not None


def _has_queries(protocol: Protocol) -> bool:
    return bool(protocol.default_lines)


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a setting is given and what it becomes.

    `help`: its line in the flags' help, where {many} and the like are the exchange's words; `limit_help` and
    `one_way_help` replace it for `limit` and for protocols with one-way messages.
    `group`: the section of the help. `names`: the flags, where they are not the argument's name.
    `default`: the flag's default text, which the help shows; else it is the scenario's, or the flag is optional.
    `field`: the scenario's field, where it has another name. `parse`: name and value → what an argument means there;
    without it the argument's type says what it takes.
    `path`: a file, whose name the command line makes absolute. `inverted`: the flag means False.
    `usual`: a switch's default where that depends on the protocol; the flag then has a --no- form as well.
    `of`: the protocols that have it. `verbs`: the commands that have it.
    """

    help: str
    group: Group = "sending"
    names: tuple[str, ...] = ()
    default: Any = ...
    field: str | None = None
    parse: Callable[[str, Any], Any] | None = None
    path: bool = False
    inverted: bool = False
    usual: Callable[[Protocol], bool] | None = None
    of: Callable[[Protocol], bool] | None = None
    verbs: tuple[str, ...] = ("load", "limit")
    limit_help: str | None = None
    one_way_help: str | None = None

    def help_for(self, protocol: Protocol, verb: str) -> str:
        """Its line in the help of a command."""
        if verb == "limit" and self.limit_help is not None:
            return self.limit_help
        usual = "" if self.usual is None else f" [{'yes' if self.usual(protocol) else 'no'}]"
        return (self.one_way_help if protocol.one_way and self.one_way_help is not None else self.help) + usual


_LOAD = ("load",)


class TlsOptions(TypedDict, total=False):
    """Fields of `Tls`."""

    server_name: Annotated[
        str | None,
        Setting(
            "The server's name for SNI and for --tls-verify. [the target's]",
            group="connections",
            names=("--tls-name",),
        ),
    ]
    verify: Annotated[bool, Setting("Check the server's certificate.", group="connections", names=("--tls-verify",))]
    ca: Annotated[
        Path | None,
        Setting(
            "PEM file of the authorities to trust, with --tls-verify. [the system's]",
            group="connections",
            names=("--tls-ca",),
            path=True,
        ),
    ]
    resume: Annotated[
        bool,
        Setting(
            "Make each TLS handshake a full one: no resumption.",
            group="connections",
            names=("--no-tls-resume",),
            inverted=True,
        ),
    ]


class LoadOptions(TypedDict, total=False):
    """Keyword arguments of `load` and `limit`, with the command line's names and defaults.

    Durations are in s or text ("500ms"), rates per s or text ("20k"), numbers and shares also text ("10k", "25%").
    Files are named by str, bytes or os.PathLike. `count`: so many requests instead of a duration. `senders` and `tick`:
    the rate is `senders` x `tick`. `node`: "2/3" or (2, 3). `start_at`: Unix time in s, or RFC 3339. `options`: the
    protocol's own options by name.
    Each raises UsageError for a value that it cannot have.
    """

    count: Annotated[
        int | str | None,
        Setting(
            "How many in all, in place of --for, e.g. 10M; no warm-up unless asked.",
            "schedule",
            parse=_count,
            verbs=_LOAD,
        ),
    ]
    wait: Annotated[
        Wait,
        Setting(
            "With --arrivals ping-pong: sleep until the answer comes, or look for it again and again. [sleep]",
            "schedule",
            default=None,
            verbs=_LOAD,
        ),
    ]
    busy_poll: Annotated[
        Number,
        Setting(
            "With --arrivals ping-pong: let the kernel poll the network card so long, e.g. 50us. [0]",
            "schedule",
            field="busy_poll_us",
            parse=_microseconds,
            verbs=_LOAD,
        ),
    ]
    require: Annotated[
        Sequence[str],
        Setting(
            "Exit with 1 unless met, e.g. 'loss<0.1%' 'rate>99k', of answers 'p99<5ms', of connections 'closed<1%'.",
            "schedule",
            limit_help="What else a trial must meet to count as held, e.g. 'invalid<1', of answers 'p999<20ms', "
            "of connections 'closed<1%'.",
        ),
    ]
    log: Annotated[
        Path | None,
        Setting("Write one CSV row per {one}: its times, outcome and flow.", "schedule", path=True, verbs=_LOAD),
    ]
    log_format: Annotated[
        LogFormat, Setting("Whose CSV the log is: our own, or that of tcpclient's -R.", "schedule", verbs=_LOAD)
    ]
    queries: Annotated[
        Path | None,
        Setting(
            "A file of what to ask about, one a line, asked in turn (# and ; are comments).",
            "queries",
            path=True,
            of=_has_queries,
        ),
    ]
    senders: Annotated[
        int | str,
        Setting(
            "Senders, e.g. 10k: each has an identity and numbers its messages. [10k, or fewer where the format tells "
            "no more apart]",
            "senders",
            names=("--senders", "--players"),
            parse=_count,
            of=_has_one_way,
        ),
    ]
    spread: Annotated[
        Number,
        Setting(
            "Each sender sends once a tick (senders / rate), at moments spread over this share of it: 0% is all at "
            "once. [100%]",
            "senders",
            default=None,
            parse=_share,
            of=_has_one_way,
        ),
    ]
    tick: Annotated[
        Number | None,
        Setting(
            "Messages per second of each sender, in place of --rate, e.g. 20.",
            "senders",
            parse=arguments.rate,
            of=_has_one_way,
            verbs=_LOAD,
        ),
    ]
    flows: Annotated[int | str, Setting("Source sockets that the far end can tell apart, e.g. 1k. [64]", parse=_count)]
    sources: Annotated[Sequence[str], Setting("Addresses or networks to send from, e.g. 127.0.0.0/24 or fe80::1%eth0.")]
    arrivals: Annotated[
        Arrivals,
        Setting("Even gaps, or those of many independent users; or, for load, each when the last one is answered."),
    ]
    seed: Annotated[int, Setting("The same seed gives the same schedule.")]
    timeout: Annotated[
        Number,
        Setting(
            "An answer later than this after its request left is late. [1s; limit: 500ms]",
            field="timeout_s",
            parse=units.seconds,
            one_way_help="Where answers come back: one later than this is late. [1s; limit: 500ms]",
        ),
    ]
    warmup: Annotated[
        Number,
        Setting(
            "Ask so long before counting begins. [1s; limit: 200ms a trial]",
            field="warmup_s",
            parse=units.seconds,
            one_way_help="Where answers come back: ask so long before counting begins. [1s; limit: 200ms a trial]",
        ),
    ]
    threads: Annotated[int, Setting("Threads that send; each spins on a CPU of its own.")]
    cpus: Annotated[
        Sequence[int] | str, Setting("Keep the threads on these CPUs, e.g. 0 or 0-3,6.", parse=arguments.cpus)
    ]
    stamps: Annotated[
        Stamps,
        Setting(
            "Whose clock reading tells when an answer came; over connections always user.",
            one_way_help="Where answers come back: whose clock reading tells when.",
        ),
    ]
    gso: Annotated[
        bool,
        Setting(
            "Let the kernel cut several due {many} of one flow from one call: less work for the generator, and on "
            "loopback for the {far_end} too, so never for comparing {far_end}s."
        ),
    ]
    link: Annotated[
        Carrier,
        Setting(
            "What carries datagrams: sockets, or (xdp) frames by the network driver, past the kernel's network stack, "
            "as root."
        ),
    ]
    interface: Annotated[
        str | None, Setting("With --link xdp: the interface. [that of the route to the target]", default=None)
    ]
    gateway_mac: Annotated[
        str | None,
        Setting(
            "With --link xdp: the next hop's hardware address, e.g. 02:00:00:00:00:01. [asked for by ARP or NDP]",
            default=None,
            parse=_mac,
        ),
    ]
    allow_public: Annotated[bool, Setting("Allow a target that is not loopback, link-local or private.")]
    transport: Annotated[
        Transport | None,
        Setting("What carries the requests. [the protocol's own choice]", "connections", default=None, of=_has_streams),
    ]
    connections: Annotated[
        int | str | None,
        Setting(
            "Persistent connections, e.g. 100k; over udp the same as --flows. [100]",
            "connections",
            parse=_count,
            of=_has_streams,
        ),
    ]
    connect_rate: Annotated[
        Number,
        Setting(
            "Connections opened per second.",
            "connections",
            default="20k",
            field="connect_rate_per_s",
            parse=arguments.rate,
            of=_has_streams,
        ),
    ]
    connect_timeout: Annotated[
        Number,
        Setting(
            "Give up a connection that is not established after so long.",
            "connections",
            default="5s",
            field="connect_timeout_s",
            parse=units.seconds,
            of=_has_streams,
        ),
    ]
    churn: Annotated[
        int | str,
        Setting(
            "Replace each connection after so many requests; 0: never.",
            "connections",
            default="0",
            parse=_count,
            of=_has_streams,
        ),
    ]
    hold: Annotated[
        int | str,
        Setting(
            "Idle connections kept open beside those that carry requests.",
            "connections",
            default="0",
            parse=_count,
            of=_has_streams,
        ),
    ]
    reconnect: Annotated[
        bool | None,
        Setting(
            "Open again what the target ends or does not accept.",
            "connections",
            default=None,
            usual=_reopens,
            of=_has_streams,
        ),
    ]
    io: Annotated[
        Io,
        Setting(
            "What carries connections; auto: io_uring where it works, which takes no descriptors, else epoll.",
            "connections",
            of=_has_streams,
        ),
    ]
    tls: Annotated[TlsOptions | Mapping[str, Any], Setting("", "connections", of=_has_streams)]
    node: Annotated[
        str | Sequence[int] | None,
        Setting(
            "This is host I of N, e.g. 2/3: it takes its share of rate, connections and sources; `flatout merge` adds "
            "the results up.",
            "nodes",
            parse=_node,
            verbs=_LOAD,
        ),
    ]
    start_at: Annotated[
        Number | None,
        Setting(
            "Begin then: 2026-03-14T15:09:26Z, or Unix time in seconds. [as soon as ready]",
            "nodes",
            parse=_start,
            verbs=_LOAD,
        ),
    ]
    options: dict[str, Any]


class Definition(NamedTuple):
    """A setting with its argument's name, or that of its part of one, and the argument's type."""

    name: str
    part: str | None
    type: Any
    setting: Setting


def _definitions() -> list[Definition]:
    found = []
    parts = {"tls": get_type_hints(TlsOptions, include_extras=True)}
    for name, hint in get_type_hints(LoadOptions, include_extras=True).items():
        if not hasattr(hint, "__metadata__"):
            continue
        argument, setting = get_args(hint)[0], hint.__metadata__[0]
        found += [
            Definition(name, part, get_args(inner)[0], dataclasses.replace(inner.__metadata__[0], of=setting.of))
            for part, inner in parts.get(name, {}).items()
        ] or [Definition(name, None, argument, setting)]
    return found


DEFINITIONS = _definitions()


_TLS = {definition.part or "": definition for definition in DEFINITIONS if definition.name == "tls"}


def parsed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with the scenario's names and values; what `build` uses up keeps its own. Errors: ArgumentError."""
    meant = dict(given)
    for name, part, kind, setting in DEFINITIONS:
        if part is None and name in meant:
            meant[setting.field or name] = _value(name, kind, setting, meant.pop(name))
    if "tls" in meant:
        meant["tls"] = _tls(meant["tls"])
    return meant


def _value(name: str, kind: Any, setting: Setting, value: Any) -> Any:
    """What a value means; None where that stands for no value."""
    if value is None and types.NoneType in get_args(kind):
        return None
    if setting.parse is not None:
        return setting.parse(name, arguments.text(name, value) if isinstance(value, str) else value)
    return arguments.typed(name, kind, value, is_path=setting.path)


def _tls(given: Any) -> Tls:
    if isinstance(given, Tls):
        given = msgspec.structs.asdict(given)
    parts = arguments.mapping("tls", given, list(_TLS))
    return Tls(**{part: _value(f"tls[{part!r}]", *_TLS[part][2:], value) for part, value in parts.items()})
