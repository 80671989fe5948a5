"""`flatout limit PROTOCOL TARGET`: the highest rate that a server holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from flatout import searching
from flatout.cli import output as out
from flatout.cli import sweep as sweeps
from flatout.cli.exposing import Exposing, Progress, to_all
from flatout.cli.flags.settings import options_of, setting_flags
from flatout.cli.flags.shared import Output, flattened, given, help_of, shown, target_help, worded
from flatout.cli.fleeting import Fleeting
from flatout.cli.host_log import HOST_LOG, beside
from flatout.cli.keep import Keep
from flatout.errors import UsageError
from flatout.improving import Seek
from flatout.protocols.base import Protocol
from flatout.result.model import LimitResult, Search
from flatout.runner.run import RunTrial
from flatout.scenario import streams
from flatout.scenario.exchange.wording import wording_of
from flatout.scenario.model import Scenario

GOAL = Group("What to search", sort_key=1)


@dataclass
class Seeking:
    """The goal and the bounds of the search."""

    loss: Annotated[str, Parameter(group=GOAL, help="At most this share of {many} {missed}.")] = "0.1%"
    p99: Annotated[
        str | None, Parameter(group=GOAL, help="At most 1 % of the answers later than this, from when they were due.")
    ] = None
    min: Annotated[
        str | None, Parameter(group=GOAL, help="Begin at this rate, or number of connections. [1k; connections: 10]")
    ] = None
    max: Annotated[
        str | None,
        Parameter(
            group=GOAL,
            help="Never go faster, or over more connections, than this. [5M; connections: what this host can open, "
            "at most 100k]",
        ),
    ] = None
    within: Annotated[
        str, Parameter(group=GOAL, help="How close the highest load held and the lowest that failed must come.")
    ] = "2%"
    budget: Annotated[str, Parameter(group=GOAL, help="Time for the whole search.")] = "60s"

    def goal(self) -> dict[str, Any]:
        """What the flags mean, for the search."""
        return {
            "loss": self.loss,
            "p99": self.p99,
            "least": self.min,
            "most": self.max,
            "within": self.within,
            "budget": self.budget,
        }


@dataclass
class Along:
    """What the search varies, for protocols that have connections."""

    search: Annotated[
        Literal["rate", "connections"],
        Parameter(group=GOAL, help="Search the rate over a fixed number of connections, or connections at one rate."),
    ] = "rate"
    rate: Annotated[
        str | None, Parameter(group=GOAL, help="The rate that --search connections keeps, e.g. 20k. [20k]")
    ] = None


@dataclass
class Improving:
    """Whether to go on after the search."""

    improve: Annotated[
        bool,
        Parameter(
            group=GOAL,
            negative=(),
            help="Then change one setting that the findings name, search again, keep it if the limit rose, and so on; "
            "undo all at the end. Each search gets half of the budget.",
        ),
    ] = False
    keep: Annotated[
        bool, Parameter(group=GOAL, negative=(), help="With --improve: leave what raised the limit as it is then.")
    ] = False
    journal: Annotated[
        str | None,
        Parameter(
            group=GOAL,
            help="With --improve: the file that has what was there before. [/var/lib/flatout/improve.json; without "
            "root ~/.local/state/flatout/improve.json]",
        ),
    ] = None

    def check(self, fleet: str | None) -> None:
        """Errors: UsageError for what is asked without --improve, and for --improve over a fleet."""
        if self.improve and fleet is not None:
            raise UsageError("--improve changes this host and searches from it: leave --fleet out")
        if self.keep and not self.improve:
            raise UsageError("--keep says what becomes of the changes that --improve makes: add --improve")
        if self.journal is not None and not self.improve:
            raise UsageError("--journal names the file for the changes that --improve makes: add --improve")

    def made(self, scenario: Scenario, search: Search, one: Seek, *, quiet: bool) -> LimitResult:
        """Searches by `one`, and tries what the findings name."""
        journal = Path(self.journal) if self.journal is not None else None

        def say(line: str) -> None:
            if not quiet:
                out.say(f"flatout: --improve: {line}")

        return searching.raised(scenario, search, one, keep=self.keep, journal=journal, say=say)


def command(protocol: Protocol, protocol_options: Any) -> Callable[..., int]:
    """The command for one protocol."""
    wording = wording_of(one_way=protocol.one_way is not None)
    flags = setting_flags(protocol, "limit", GOAL, wording)

    def limit(
        target: str,
        /,
        *,
        seeking: Seeking = Seeking(),
        along: Along = Along(),
        improving: Improving = Improving(),
        ladder: sweeps.Ladder = sweeps.Ladder(),
        settings: Any = flags(),
        protocol_options: Any = protocol_options(),
        output: Output = Output(),
        keep: Keep = Keep(),
        exposing: Exposing = Exposing(),
        fleeting: Fleeting = Fleeting(),
        host_log: HOST_LOG = None,
    ) -> int:
        options = options_of(settings, protocol, "limit")
        options["options"] = given(protocol_options)
        scenario = searching.trial_scenario(protocol.name, target, **options)
        improving.check(fleeting.fleet)
        ladder.check(search_is_usual=(seeking, along, improving) == (Seeking(), Along(), Improving()))
        if ladder.sweep is not None:
            only_here(keep, exposing, fleeting)
            return beside(host_log, lambda: sweeps.sweep(scenario, ladder, output, keep))
        search = searching.search_of(scenario, axis=along.search, rate=along.rate, **seeking.goal())
        out.check_writable(output)
        keep.check()
        with (
            exposing.served(scenario) as takers,
            fleeting.connected() as elsewhere,
            keep.shown_live("limit", scenario) as live,
        ):
            one = partial(seek, quiet=output.quiet, takers=(*takers, *live), elsewhere=elsewhere)
            found = partial(one, scenario, search)
            if improving.improve:
                found = partial(improving.made, scenario, search, one, quiet=output.quiet)
            return beside(host_log, lambda: keep.delivered(found(), output))

    limit.__doc__ = help_of(_HELP if protocol.one_way is None else _HELP_ONE_WAY, protocol, _STREAM_EXAMPLES)
    limit.__annotations__ = {
        "target": Annotated[str, Parameter(help=target_help(protocol))],
        "seeking": flattened(worded(Seeking, wording)),
        "along": shown(Along, when=streams.has_streams(protocol)),
        "improving": flattened(Improving),
        "ladder": flattened(sweeps.Ladder),
        "settings": flattened(flags),
        "protocol_options": flattened(protocol_options),
        "output": flattened(Output),
        "keep": flattened(Keep),
        "exposing": flattened(Exposing),
        "fleeting": flattened(Fleeting),
        "host_log": HOST_LOG,
        "return": int,
    }
    return limit


def only_here(keep: Keep, exposing: Exposing, fleeting: Fleeting) -> None:
    """Errors: UsageError for what a sweep has not."""
    if keep.label is not None or exposing != Exposing() or fleeting.fleet is not None:
        raise UsageError(
            "a sweep is of this host, not kept, without metrics: leave --fleet, --label, --prometheus and --otlp out"
        )


_HELP = """Find the highest rate of {protocol.summary} that a server holds.

Begins low, doubles until a trial fails, then narrows: several trials a rate (RFC 9971), one long one to confirm. A
trial that this generator could not drive is never held against the server.

**Examples**

```
flatout limit {protocol.name} 127.0.0.1:{protocol.test_port}
flatout limit {protocol.name} 10.0.0.2 --loss 0.5% --p99 5ms --budget 2m --html report.html
flatout limit {protocol.name} 127.0.0.1:{protocol.test_port} --improve
flatout limit {protocol.name} 10.0.0.2 --sweep 1k..1M --step 1.5
{streams}```
"""
_HELP_ONE_WAY = """Find the highest rate of {protocol.summary} that a receiver takes in.

The receiver is asked after each trial how many came, on the port that the messages go to; `flatout serve
{protocol.name}` and `flatout.Receiver` answer. Begins low, doubles until a trial fails, then narrows: several trials a
rate (RFC 9971), one long one to confirm. A trial that this generator could not drive is never held against the
receiver. Without answers there is no latency, and so no --p99.

**Examples**

```
flatout limit {protocol.name} 127.0.0.1:{protocol.test_port} --loss 0.1%
flatout limit {protocol.name} 10.0.0.2 --senders 10k --spread 10% --threads 2 --budget 2m --html report.html
```
"""
_STREAM_EXAMPLES = """\
flatout limit {protocol.name} 127.0.0.1:{protocol.test_port} --transport tcp --connections 2k --p99 2ms
flatout limit {protocol.name} 127.0.0.1:{protocol.test_port} --transport tcp --search connections --rate 20k
"""


def seek(
    scenario: Scenario,
    search: Search,
    *,
    quiet: bool,
    title: str | None = None,
    takers: tuple[Progress, ...] = (),
    elsewhere: RunTrial | None = None,
) -> LimitResult:
    """Searches with a live view; Ctrl-C ends it with what was measured.

    `takers` get the progress too. `elsewhere` runs the trials; default: this host.
    """
    from flatout.view.terminal.live import Live

    stop = threading.Event()
    if quiet:
        return searching.find(scenario, search, to_all(*takers), stop, elsewhere)
    with Live(title or f"limit of {scenario.protocol} {scenario.target}") as live:
        return searching.find(scenario, search, to_all(live, *takers), stop, elsewhere)
