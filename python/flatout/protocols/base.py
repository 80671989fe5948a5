"""What a protocol tells the rest: its name, its port, its options and its words. The registry is in `__init__`."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_type_hints

from flatout import arguments
from flatout.errors import UsageError


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """For protocols, or ends of protocols, without settings of their own."""


class ReceiverLayout(NamedTuple):
    """What a receiver of one-way messages says of them, for comparison.

    `size`: bytes of a message. `places`: where messages have the sender's identity (low half) and number (high half).
    """

    size: int
    places: int


class TrafficKind(NamedTuple):
    """What is counted of a protocol's packets on their way through the kernel, beside ports and addresses.

    `number`: its headers, as bpf/watch.bpf.c numbers them. `shares`: the counters that are shares of the requests, in
    their order there, with the words for them.
    """

    number: int
    shares: Mapping[str, str]


class ServerPlace(NamedTuple):
    """Where a server under test is to be: its folder and address, its ports, its certificate and key (PEM files).

    `sizes`: whole numbers by name: `threads`, and `tcp_slots`, how many connections there is room for in each thread.
    The ports are words where a configuration is only shown.
    """

    folder: str
    address: str
    port: int | str
    tls_port: int | str
    certificate: str
    key: str
    sizes: Mapping[str, int]


class ServerProgram(NamedTuple):
    """A server of others' that an experiment starts: in the foreground, with files made for it, logging to stderr.

    `command`: the program and its arguments, with {folder}; `version`: the arguments that print its version.
    `links`: over which transports it answers with these files, which `files` gives by name.
    """

    command: tuple[str, ...]
    version: tuple[str, ...]
    links: tuple[str, ...]
    files: Callable[[ServerPlace], dict[str, str]]


class StateSource(abc.ABC):
    """Where a running server learns the state that it answers from.

    `interval_s`: how often it is asked; None: once.
    """

    interval_s: float | None = 1.0

    @abc.abstractmethod
    def poll(self) -> list[int]:
        """Asks once, for a second at most; returns the words for the engine. Errors: OSError, ValueError."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """What was learnt last, for statistics."""

    def close(self) -> None:  # noqa: B027 - most have nothing open
        """Gives back what it holds."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One protocol as users meet it. This module imports no CLI library, so `import flatout` stays fast.

    `options`, `serve_options`: dataclasses whose fields become CLI flags and TOML keys of `load`/`limit` and of `serve`
    (help text in the fields' metadata). The engine takes their values as whole numbers, except fields whose metadata
    says `"engine": False`: those are used in Python only. `"path": True` there says that it is the name of a file.
    `words`: one line on each tally.
    `links`: the transports, the preferred one first. `tls_port`: the port over TLS, where it differs.
    `kisses`: whether its server has a packet that asks a client to be slower (kiss-o'-death).
    `driver`: whether it can be answered in the network driver (XDP).
    `reopens`: whether its clients open a connection again that the server ends; else that has to be asked for.
    `default_lines`: the queries without a query file; empty for a protocol without query files.
    `codes`: tallies that are answer codes, as other tools write them; with any, the summary of a load also has the
    labels that scripts look for.
    `printed`: the types that its own verbs print as JSON, as `module:name`.
    `right_tallies`: the kinds of right answers that a sweep shows apart.
    `serve_entries`: `serve_options` → the entries that a server answers from.
    `engine_options`: `options` or `serve_options` → the engine's options, where these are more than numbers.
    `state_source`: `serve_options` → where a server learns the state that it answers from; None: it has none.
    `lines_of`: `options` → the lines that replace a query file, where messages are made of rows.
    `one_way`: whether messages with these options are one-way; such a protocol is served by a receiver.
    `receiver_layout`: `options` → what the receiver has to know of one-way messages.
    `programs`: the servers of others that an experiment can start, by name, as `module:name`; empty: none.
    `traffic`: what the kernel can count of its packets; None: nothing of its own.
    `max_senders`: how many senders a receiver can distinguish; None: by their addresses only.
    """

    name: str
    title: str
    port: int
    test_port: int
    summary: str
    options: type[Any] = NoOptions
    serve_options: type[Any] = NoOptions
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    links: tuple[str, ...] = ("udp",)
    tls_port: int | None = None
    kisses: bool = False
    driver: bool = False
    reopens: bool = False
    default_lines: tuple[str, ...] = ()
    codes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    printed: tuple[str, ...] = ()
    right_tallies: tuple[str, ...] = ()
    serve_entries: Callable[[Any], list[tuple[bytes, bytes]]] | None = None
    engine_options: Callable[[Any], list[tuple[str, int]]] | None = None
    state_source: Callable[[Any], StateSource | None] | None = None
    lines_of: Callable[[Any], list[str]] | None = None
    one_way: Callable[[Any], bool] | None = None
    max_senders: Callable[[Any], int | None] | None = None
    receiver_layout: Callable[[Any], ReceiverLayout] | None = None
    programs: str = ""
    traffic: TrafficKind | None = None

    def port_over(self, link: str) -> int:
        """The port that servers listen on for it."""
        return self.tls_port or self.port if link == "tls" else self.port

    def filled(self, given: Mapping[str, Any]) -> Any:
        """The protocol's options from their names and values. Errors: UsageError for an unknown name."""
        try:
            return self.options(**given)
        except TypeError as error:
            raise UsageError(f"{self.name} has no such option: {error}") from error

    def for_engine(self, protocol_options: Any) -> list[tuple[str, int]]:
        """The options as the engine takes them: names and whole numbers. Errors: UsageError."""
        if self.engine_options is not None:
            return self.engine_options(protocol_options)
        return list(option_values(protocol_options).items())


def checked_options(options: type[Any], given: Mapping[str, Any], of: str, named: str = "{}") -> Any:
    """A dataclass of options from names and values; `of` is what has them, `named` makes an argument of a name.

    Errors: UsageError for an unknown name, ArgumentError for a value of another type.
    """
    fields, hints = {field.name: field for field in dataclasses.fields(options)}, get_type_hints(options)
    if unknown := [str(name) for name in given if name not in fields]:
        raise UsageError(
            f"{of} has no option {', '.join(sorted(unknown))} (it has: {', '.join(sorted(fields)) or 'none'})"
        )
    return options(
        **{
            name: arguments.typed(
                named.format(name), hints[name], value, is_path=fields[name].metadata.get("path", False)
            )
            for name, value in given.items()
        }
    )


def option_values(protocol_options: Any) -> dict[str, int]:
    """The options of a filled-in dataclass, for the engine."""
    fields = (field for field in dataclasses.fields(protocol_options) if field.metadata.get("engine", True))
    return {field.name: int(getattr(protocol_options, field.name)) for field in fields}
