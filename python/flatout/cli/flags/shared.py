"""The flags for results and for a protocol's own options, and how flags take the exchange's words."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from cyclopts import Group, Parameter

from flatout.protocols.base import Protocol
from flatout.scenario.exchange.wording import Wording
from flatout.scenario.streams import has_streams

OUTPUT = Group("Output", sort_key=6)


@dataclass
class Output:
    """Where results go."""

    json: Annotated[
        str | None,
        Parameter(
            group=OUTPUT, allow_leading_hyphen=True, help="Write the result as JSON to a file (-: standard output)."
        ),
    ] = None
    html: Annotated[str | None, Parameter(group=OUTPUT, help="Write a self-contained HTML report.")] = None
    junit: Annotated[
        str | None,
        Parameter(group=OUTPUT, help="Write JUnit XML for CI: a case for the run and for each --require."),
    ] = None
    quiet: Annotated[bool, Parameter(group=OUTPUT, negative=(), show_default=False, help="Print errors only.")] = False


def option_flags(protocol: Protocol, protocol_options: type[Any]) -> Any:
    """A protocol's options as flags: the same dataclass with help for the command line."""
    hints = get_type_hints(protocol_options)
    group = Group(f"{protocol.title} options", sort_key=4)
    fields = []
    for option in dataclasses.fields(protocol_options):
        reported = Parameter(
            group=group,
            help=option.metadata.get("help", ""),
            name=option.metadata.get("flag"),
            allow_leading_hyphen=option.metadata.get("hyphen", False),
        )
        made_field = field(default=option.default, metadata=option.metadata)
        fields.append((option.name, Annotated[hints[option.name], reported], made_field))
    made = dataclasses.make_dataclass(f"{protocol.name.title()}Flags", fields)
    # The parser takes classes of the standard library's own modules, where make_dataclass puts it, for plain values.
    made.__module__ = __name__
    return made


def given(protocol_options: Any) -> dict[str, Any]:
    """A protocol's options by name; names of files are made absolute."""
    options = dataclasses.asdict(protocol_options)
    paths = [one.name for one in dataclasses.fields(protocol_options) if one.metadata.get("path")]
    return options | {name: str(Path(options[name]).absolute()) for name in paths if options[name] is not None}


def worded(flags: type[Any], reported: Wording) -> Any:
    """The same flags; where their help names one of the terms, it has the protocol's word."""
    hints = get_type_hints(flags, include_extras=True)
    fields = []
    for flag in dataclasses.fields(flags):
        text = Parameter.combine(*get_args(hints[flag.name])[1:]).help or ""
        again = Parameter(help=text.format_map(reported._asdict()))
        usual = field(default=flag.default, default_factory=flag.default_factory)
        fields.append((flag.name, Annotated[hints[flag.name], again], usual))
    made = dataclasses.make_dataclass(flags.__name__, fields, bases=(flags,))
    made.__module__ = __name__
    return made


def flattened(flags: Any) -> Any:
    """The annotation that makes each field of `flags` a flag of its own."""
    return Annotated[flags, Parameter(name="*", parse=None if dataclasses.fields(flags) else False)]


def shown(flags: Any, *, when: bool) -> Any:
    """The annotation that makes each field a flag of its own, or none of them."""
    return Annotated[flags, Parameter(name="*", parse=None if when else False)]


def help_of(text: str, protocol: Protocol, examples: str) -> str:
    """The help of a command; `examples` join it where the protocol has connections."""
    more = examples.format(protocol=protocol) if has_streams(protocol) else ""
    return text.format(protocol=protocol, streams=more)


def target_help(protocol: Protocol) -> str:
    """What a target is."""
    several = "" if protocol.one_way is None else "; several, of one receiver or more, with commas between"
    v6 = f"IPv6 like [2001:db8::1]:{protocol.port}, or [fe80::1%eth0]:{protocol.port}"
    return f"Name or address, with a port where it is not the protocol's own{several}. {v6}."
