"""`flatout load PROTOCOL TARGET`: one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from cyclopts import Group, Parameter

from flatout import arguments, units
from flatout.cli import output as out
from flatout.cli.exposing import Exposing, Progress, to_all
from flatout.cli.flags.settings import options_of, setting_flags
from flatout.cli.flags.shared import Output, flattened, given, help_of, target_help, worded
from flatout.cli.fleeting import Fleeting
from flatout.cli.host_log import HOST_LOG, beside
from flatout.cli.keep import Keep
from flatout.errors import Interrupted, UsageError
from flatout.protocols.base import Protocol
from flatout.result.model import LoadResult
from flatout.runner.run import RunTrial
from flatout.scenario import profile as profiles
from flatout.scenario.build import scenario_of
from flatout.scenario.exchange.wording import wording_of
from flatout.scenario.model import Scenario
from flatout.scenario.settings import LoadOptions
from flatout.searching import run_explained

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
    ramp: Annotated[str | None, Parameter(group=WHAT, help="From one rate to another over --for, e.g. 10k..200k.")] = (
        None
    )
    profile: Annotated[
        str | None,
        Parameter(
            group=WHAT,
            allow_leading_hyphen=True,
            help="Steps, ramps and slopes, e.g. '1000 8s, 2k..5k 5s, -500/s 10s', or a file of them (-: standard "
            "input). With a slope first, --rate says where it begins (0: from nothing).",
        ),
    ] = None
    profile_format: Annotated[
        profiles.Format | None,
        Parameter(
            group=WHAT,
            help="Read the profile as slopes alone ('700 8s, -400 5s', from --rate on), or as a file of tcpclient's "
            "--stdin (tcpscaler-steps) or --stdin-rateslope (tcpscaler-slopes, from --rate on). [rates]",
        ),
    ] = None

    def schedule(self, options: LoadOptions) -> dict[str, Any]:
        """The rate and the time, or the profile, that the flags ask for beside these options."""
        counted, tick = "count" in options, "tick" in options
        given = [flag for flag in ("rate", "ramp", "profile") if getattr(self, flag) is not None]
        given += ["tick"] if tick else []
        if len(given) > 1 and given != ["rate", "profile"]:
            raise UsageError(f"give one of --{' and --'.join(given)}, not both")
        if self.profile is not None:
            if self.for_ is not None or counted:
                raise UsageError("a profile brings its own durations: leave --for and --count out")
            # Slopes may begin at nothing.
            start_per_s = None if self.rate is None else arguments.rate("rate", self.rate, or_none=True)
            return {"profile": profiles.parse(self.profile, self.profile_format, start_per_s)}
        if self.profile_format is not None:
            raise UsageError("--profile-format says how --profile is to be read: name one")
        if counted and self.for_ is not None:
            raise UsageError("--count says how long it lasts: leave --for out")
        seconds = units.seconds("duration", "10s" if self.for_ is None else self.for_)
        if self.ramp is not None:
            return {"profile": profiles.ramp(self.ramp, seconds)}
        paced = tick or options.get("arrivals") == "ping-pong"
        return {"rate": "10k" if self.rate is None and not paced else self.rate, "duration": seconds}


def command(protocol: Protocol, protocol_options: Any) -> Callable[..., int]:
    """The command for one protocol."""
    wording = wording_of(one_way=protocol.one_way is not None)
    flags = setting_flags(protocol, "load", WHAT, wording)

    def load(
        target: str,
        /,
        *,
        pace: Pace = Pace(),
        settings: Any = flags(),
        protocol_options: Any = protocol_options(),
        output: Output = Output(),
        keep: Keep = Keep(),
        exposing: Exposing = Exposing(),
        fleeting: Fleeting = Fleeting(),
        host_log: HOST_LOG = None,
    ) -> int:
        options = options_of(settings, protocol, "load")
        options["options"] = given(protocol_options)
        if "count" in options:
            # So many are to leave, and no more.
            options.setdefault("warmup", 0.0)
        schedule: dict[str, Any] = {"rate": None, "duration": 0, "profile": None, **pace.schedule(options)}
        scenario = scenario_of(protocol.name, target, **schedule, **options)
        out.check_writable(output)
        keep.check()
        with (
            exposing.served(scenario) as takers,
            fleeting.connected() as elsewhere,
            keep.shown_live("load", scenario) as live,
        ):
            one = partial(measure, scenario, quiet=output.quiet, takers=(*takers, *live), elsewhere=elsewhere)
            return beside(host_log, lambda: keep.delivered(one(), output))

    load.__doc__ = help_of(_HELP if protocol.one_way is None else _HELP_ONE_WAY, protocol, _STREAM_EXAMPLES)
    load.__annotations__ = {
        "target": Annotated[str, Parameter(help=target_help(protocol))],
        "pace": flattened(worded(Pace, wording)),
        "settings": flattened(flags),
        "protocol_options": flattened(protocol_options),
        "output": flattened(Output),
        "keep": flattened(Keep),
        "exposing": flattened(Exposing),
        "fleeting": flattened(Fleeting),
        "host_log": HOST_LOG,
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
    --senders 8 --rate 800k --count 10M --gso
```

Ten thousand senders with 20 messages a second each, all at the beginning of each tick; at most 0.1 % lost:

```
flatout load {protocol.name} 10.0.0.2 --senders 10k --tick 20 --spread 0% --for 1m --require 'loss<0.1%'
flatout load {protocol.name} 10.0.0.2:{protocol.test_port},10.0.0.3:{protocol.test_port} --rate 1M --gso
```
"""


def measure(
    scenario: Scenario, *, quiet: bool, takers: tuple[Progress, ...] = (), elsewhere: RunTrial | None = None
) -> LoadResult:
    """Runs with a live view; Ctrl-C ends it with what was measured.

    `takers` get the progress too. `elsewhere` runs it; default: this host.
    """
    from flatout.view.terminal.live import Live

    one = partial(run_explained, scenario, elsewhere=elsewhere)
    try:
        if quiet:
            return one(to_all(*takers))
        with Live(f"{scenario.protocol} {scenario.target}") as live:
            return one(to_all(live, *takers))
    except Interrupted as interrupted:
        kept: LoadResult = interrupted.result
        return kept
