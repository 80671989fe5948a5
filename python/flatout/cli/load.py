"""`flatout load PROTOCOL TARGET`: one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from cyclopts import Group, Parameter

from flatout import units
from flatout.cli import output as out
from flatout.cli.flags.connections import Connecting, Querying, Sharing, absolute, help_of, shown
from flatout.cli.flags.one_way import Casting, Ticking, load_flags, target_help
from flatout.cli.flags.shared import Asking, Output, flattened, worded
from flatout.errors import Interrupted, UsageError
from flatout.protocols.base import Protocol
from flatout.result.model import LoadResult
from flatout.runner.run import run
from flatout.scenario import profile as profiles
from flatout.scenario import streams
from flatout.scenario.build import LoadOptions, scenario_of
from flatout.scenario.exchange.wording import wording_of
from flatout.scenario.model import LogFormat, Scenario, Wait

WHAT = Group("How fast, how long", sort_key=1)


@dataclass
class Pace:
    """How fast and how long."""

    rate: Annotated[
        str | None, Parameter(group=WHAT, help="How many {many} per second over all flows, e.g. 100k. [10k]")
    ] = None
    for_: Annotated[str | None, Parameter(name="--for", group=WHAT, help="How long, e.g. 500ms, 10s, 1h30m. [10s]")] = (
        None
    )
    count: Annotated[
        str | None, Parameter(group=WHAT, help="How many in all, in place of --for, e.g. 10M; no warm-up unless asked.")
    ] = None
    ramp: Annotated[str | None, Parameter(group=WHAT, help="From one rate to another over --for, e.g. 10k..200k.")] = (
        None
    )
    profile: Annotated[
        str | None,
        Parameter(
            group=WHAT,
            allow_leading_hyphen=True,
            help="Steps and slopes, e.g. '1000 8s, 2000 5s, +500/s 10s', or a file of them (-: standard input).",
        ),
    ] = None
    profile_format: Annotated[
        profiles.Format | None,
        Parameter(
            group=WHAT,
            help="Read the profile as slopes alone ('700 8s, -400 5s', from --rate on), or as a file of tcpclient's "
            "--stdin (tcpscaler-steps) or --stdin-rateslope (tcpscaler-slopes, from --rate on).",
        ),
    ] = None
    wait: Annotated[
        Wait | None,
        Parameter(
            group=WHAT,
            help="With --arrivals ping-pong: sleep until the answer comes, or look for it again and again. [sleep]",
        ),
    ] = None
    busy_poll: Annotated[
        str | None,
        Parameter(
            group=WHAT, help="With --arrivals ping-pong: let the kernel poll the network card so long, e.g. 50us. [0]"
        ),
    ] = None
    require: Annotated[
        list[str],
        Parameter(
            group=WHAT,
            consume_multiple=True,
            negative=(),
            show_default=False,
            help="Exit with 1 unless met, e.g. 'loss<0.1%' 'rate>99k', and of answers 'p99<5ms'.",
        ),
    ] = field(default_factory=list)
    log: Annotated[
        str | None, Parameter(group=WHAT, help="Write one CSV row per {one}: its times, outcome and flow.")
    ] = None
    log_format: Annotated[
        LogFormat, Parameter(group=WHAT, help="Whose CSV the log is: our own, or that of tcpclient's -R.")
    ] = "flatout"

    def options(self) -> LoadOptions:
        """As keyword arguments of the Python API, those about the rate left out."""
        given: LoadOptions = {"require": self.require, "log": absolute(self.log), "log_format": self.log_format}
        if self.count is not None:
            given["count"] = self.count
        if self.wait is not None:
            given["wait"] = self.wait
        if self.busy_poll is not None:
            given["busy_poll"] = self.busy_poll
        return given

    def schedule(self, *, tick: bool, ping_pong: bool) -> dict[str, Any]:
        """The rate and the time, or the profile, that the flags ask for; `tick`: senders at a tick set the rate.

        `ping_pong`: there is no rate but that of the answers.
        """
        given = [flag for flag in ("rate", "ramp", "profile") if getattr(self, flag) is not None]
        given += ["tick"] if tick else []
        if len(given) > 1 and given != ["rate", "profile"]:
            raise UsageError(f"give one of --{' and --'.join(given)}, not both")
        if self.profile is not None:
            if self.for_ is not None or self.count is not None:
                raise UsageError("a profile brings its own durations: leave --for and --count out")
            start_per_s = None if self.rate is None else units.rate(self.rate)
            return {"profile": profiles.parse(self.profile, self.profile_format, start_per_s)}
        if self.profile_format is not None:
            raise UsageError("--profile-format says how --profile is to be read: name one")
        if self.count is not None and self.for_ is not None:
            raise UsageError("--count says how long it lasts: leave --for out")
        seconds = units.duration(self.for_ or "10s")
        if self.ramp is not None:
            return {"profile": profiles.ramp(self.ramp, seconds)}
        return {"rate": self.rate if tick or ping_pong else self.rate or "10k", "duration": seconds}


def command(protocol: Protocol, protocol_options: Any) -> Callable[..., int]:
    """The command for one protocol."""

    def load(
        target: str,
        /,
        *,
        pace: Pace = Pace(),
        casting: Casting = Casting(),
        ticking: Ticking = Ticking(),
        asking: Asking = Asking(),
        connecting: Connecting = Connecting(),
        querying: Querying = Querying(),
        sharing: Sharing = Sharing(),
        protocol_options: Any = protocol_options(),
        output: Output = Output(),
    ) -> int:
        options = asking.options(protocol_options)
        options.update(pace.options())
        options.update(sharing.options())
        if streams.has_streams(protocol):
            options.update(connecting.options())
        if protocol.default_lines:
            options.update(querying.options())
        if protocol.one_way is not None:
            options.update(casting.options())
            options.update(ticking.options())
        if pace.count is not None:
            # So many are to leave, and no more.
            options.setdefault("warmup", 0.0)
        schedule: dict[str, Any] = {"rate": None, "duration": 0, "profile": None}
        schedule.update(pace.schedule(tick="tick" in options, ping_pong=asking.arrivals == "ping-pong"))
        scenario = scenario_of(protocol.name, target, **schedule, **options)
        out.check_writable(output)
        return out.deliver([("", measure(scenario, quiet=output.quiet))], output)

    reported = wording_of(one_way=protocol.one_way is not None)
    load.__doc__ = help_of(_HELP if protocol.one_way is None else _HELP_ONE_WAY, protocol, _STREAM_EXAMPLES)
    load.__annotations__ = {
        "target": Annotated[str, Parameter(help=target_help(protocol))],
        "pace": flattened(worded(Pace, reported)),
        "casting": shown(Casting, when=protocol.one_way is not None),
        "ticking": shown(Ticking, when=protocol.one_way is not None),
        "asking": flattened(worded(load_flags(protocol), reported)),
        "connecting": shown(Connecting, when=streams.has_streams(protocol)),
        "querying": shown(Querying, when=bool(protocol.default_lines)),
        "sharing": flattened(Sharing),
        "protocol_options": flattened(protocol_options),
        "output": flattened(Output),
        "return": int,
    }
    return load


_HELP = """Send {protocol.summary} at a set rate and say where every request went.

**Examples**

```
flatout load {protocol.name} 127.0.0.1:{protocol.test_port} --rate 100k --for 10s
flatout load {protocol.name} 10.0.0.2 --ramp 10k..200k --for 1m --require 'p99<5ms' 'loss<0.1%'
flatout load {protocol.name} [::1]:{protocol.test_port} --profile '1000 8s, 2000 5s' --json - --quiet
flatout load {protocol.name} 10.0.0.2 --arrivals ping-pong --wait spin --for 5s
{streams}```
"""
_STREAM_EXAMPLES = """\
flatout load {protocol.name} 127.0.0.1:{protocol.test_port} --transport tcp --connections 100k --rate 20k
flatout load {protocol.name} 10.0.0.2 --transport tcp --connections 30k --hold 10k --churn 1k --arrivals poisson
flatout load {protocol.name} 10.0.0.2 --transport tcp --connections 90k --node 1/3 --start-at 2026-03-14T15:09:26Z
"""


_HELP_ONE_WAY = """Send {protocol.summary}, at a set rate, and ask the receiver how many came.

`flatout serve {protocol.name}` and `flatout.Receiver` answer that question, on the port that the messages go to; of
another receiver's losses nothing is known. Without answers there is no latency: what can be required is loss and rate.

**Examples**

Eight senders, 100,000 messages of 4 bytes a second each, ten million in all:

```
flatout load {protocol.name} 127.0.0.1:{protocol.test_port} --format movement \\
    --players 8 --rate 800k --count 10M --gso
```

Ten thousand players that move 20 times a second, all at the beginning of each tick; at most 0.1 % lost:

```
flatout load {protocol.name} 10.0.0.2 --players 10k --tick 20 --spread 0% --for 1m --require 'loss<0.1%'
flatout load {protocol.name} 10.0.0.2:{protocol.test_port},10.0.0.3:{protocol.test_port} --rate 1M --gso
```
"""


def measure(scenario: Scenario, *, quiet: bool) -> LoadResult:
    """Runs with a live view; Ctrl-C ends it with what was measured."""
    from flatout.view.terminal.live import Live

    try:
        if quiet:
            return run(scenario)
        with Live(f"{scenario.protocol} {scenario.target}") as live:
            return run(scenario, live)
    except Interrupted as interrupted:
        kept: LoadResult = interrupted.result
        return kept
