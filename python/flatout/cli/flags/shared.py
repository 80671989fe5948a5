"""What may be typed: the flags of `load` and `limit`, as text, with their help. What they mean is in scenario.

A protocol's own options join them from its own file; no protocol is named here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_type_hints

from cyclopts import Group, Parameter

from flatout import units
from flatout.protocols.base import Protocol
from flatout.scenario.build import LoadOptions
from flatout.scenario.exchange.wording import Wording

HOW = Group("How to send", sort_key=2)
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
    quiet: Annotated[bool, Parameter(group=OUTPUT, negative=(), show_default=False, help="Print errors only.")] = False


@dataclass
class Asking:
    """How to send, for `load` and `limit` alike."""

    flows: Annotated[
        str | None, Parameter(group=HOW, help="Source sockets that the far end can tell apart, e.g. 1k. [64]")
    ] = None
    sources: Annotated[
        list[str],
        Parameter(
            group=HOW,
            consume_multiple=True,
            negative=(),
            show_default=False,
            help="Addresses or networks to send from, e.g. 127.0.0.0/24.",
        ),
    ] = field(default_factory=list)
    arrivals: Annotated[
        Literal["constant", "poisson", "ping-pong"],
        Parameter(
            group=HOW,
            help="Even gaps, or those of many independent users; or, for load, each when the last one is answered.",
        ),
    ] = "constant"
    seed: Annotated[int, Parameter(group=HOW, help="The same seed gives the same schedule.")] = 42
    timeout: Annotated[
        str | None,
        Parameter(group=HOW, help="An answer later than this after its request left is late. [1s; limit: 500ms]"),
    ] = None
    warmup: Annotated[
        str | None, Parameter(group=HOW, help="Ask so long before counting begins. [1s; limit: 200ms a trial]")
    ] = None
    threads: Annotated[int, Parameter(group=HOW, help="Threads that send; each spins on a CPU of its own.")] = 1
    cpus: Annotated[
        str, Parameter(group=HOW, show_default=False, help="Keep the threads on these CPUs, e.g. 0 or 0-3,6.")
    ] = ""
    stamps: Annotated[
        Literal["kernel", "user"],
        Parameter(group=HOW, help="Whose clock reading tells when an answer came; over connections always user."),
    ] = "kernel"
    gso: Annotated[
        bool,
        Parameter(
            group=HOW,
            negative=(),
            show_default=False,
            help="Let the kernel cut several due {many} of one flow from one call: less work for the generator, and "
            "on loopback for the {far_end} too, so never for comparing {far_end}s.",
        ),
    ] = False
    allow_public: Annotated[
        bool,
        Parameter(
            group=HOW,
            negative=(),
            show_default=False,
            help="Allow a target that is not loopback, link-local or private.",
        ),
    ] = False

    def options(self, protocol_options: Any) -> LoadOptions:
        """As keyword arguments of the Python API."""
        given: LoadOptions = {
            "sources": self.sources,
            "arrivals": self.arrivals,
            "seed": self.seed,
            "threads": self.threads,
            "cpus": units.cpu_list(self.cpus),
            "stamps": self.stamps,
            "gso": self.gso,
            "allow_public": self.allow_public,
            "options": dataclasses.asdict(protocol_options),
        }
        if self.flows is not None:
            given["flows"] = self.flows
        if self.timeout is not None:
            given["timeout"] = self.timeout
        if self.warmup is not None:
            given["warmup"] = self.warmup
        return given


def option_flags(protocol: Protocol, protocol_options: type[Any]) -> Any:
    """A protocol's knobs as flags: the same dataclass with help for the command line."""
    hints = get_type_hints(protocol_options)
    group = Group(f"{protocol.title} options", sort_key=4)
    fields = []
    for option in dataclasses.fields(protocol_options):
        reported = Parameter(group=group, help=option.metadata.get("help", ""), name=option.metadata.get("flag"))
        fields.append((option.name, Annotated[hints[option.name], reported], field(default=option.default)))
    made = dataclasses.make_dataclass(f"{protocol.name.title()}Flags", fields)
    # The parser takes classes of the standard library's own modules, where make_dataclass puts it, for plain values.
    made.__module__ = __name__
    return made


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
