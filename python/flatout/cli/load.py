"""`flatout load PROTOCOL TARGET`: one run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from flatout import units
from flatout.cli import output as out
from flatout.cli.flags import Asking, Output, flattened
from flatout.errors import Interrupted, UsageError
from flatout.options import scenario_of
from flatout.protocols.base import Protocol
from flatout.result import LoadResult
from flatout.run import run
from flatout.scenario import profile as profiles
from flatout.scenario.model import Scenario, Segment

WHAT = Group("How fast, how long", sort_key=1)


@dataclass
class Pace:
    """How fast and how long."""

    rate: Annotated[str | None, Parameter(group=WHAT, help="Requests per second over all flows, e.g. 100k. [10k]")] = (
        None
    )
    for_: Annotated[str | None, Parameter(name="--for", group=WHAT, help="How long, e.g. 500ms, 10s, 1h30m. [10s]")] = (
        None
    )
    ramp: Annotated[str | None, Parameter(group=WHAT, help="From one rate to another over --for, e.g. 10k..200k.")] = (
        None
    )
    profile: Annotated[
        str | None,
        Parameter(group=WHAT, help="Steps and slopes, e.g. '1000 8s, 2000 5s, +500/s 10s', or a file of them."),
    ] = None
    require: Annotated[
        list[str],
        Parameter(
            group=WHAT,
            consume_multiple=True,
            negative=(),
            show_default=False,
            help="Exit with 1 unless met, e.g. 'p99<5ms' 'loss<0.1%' 'rate>99k'.",
        ),
    ] = field(default_factory=list)
    log: Annotated[
        str | None, Parameter(group=WHAT, help="Write one CSV row per request: due, sent, answered, outcome, flow.")
    ] = None

    def segments(self) -> tuple[Segment, ...]:
        """The profile that the flags ask for."""
        given = [flag for flag in ("rate", "ramp", "profile") if getattr(self, flag) is not None]
        if len(given) > 1:
            raise UsageError(f"give one of --{' and --'.join(given)}, not both")
        if self.profile is not None:
            if self.for_ is not None:
                raise UsageError("a profile brings its own durations: leave --for out")
            return profiles.parse(self.profile)
        seconds = units.duration(self.for_ or "10s")
        if self.ramp is not None:
            return profiles.ramp(self.ramp, seconds)
        return profiles.steady(units.rate(self.rate or "10k"), seconds)


def command(protocol: Protocol, knobs: Any) -> Callable[..., int]:
    """The command for one protocol."""

    def load(
        target: str,
        /,
        *,
        pace: Pace = Pace(),
        asking: Asking = Asking(),
        knobs: Any = knobs(),
        output: Output = Output(),
    ) -> int:
        options = asking.options(knobs)
        options["require"] = pace.require
        options["log"] = _absolute(pace.log)
        scenario = scenario_of(
            protocol.name,
            target,
            rate=None,
            duration=0,
            profile=pace.segments(),
            **options,
        )
        out.check_writable(output)
        return out.deliver([("", measure(scenario, quiet=output.quiet))], output)

    load.__doc__ = _HELP.format(protocol=protocol)
    load.__annotations__ = {
        "target": Annotated[str, Parameter(help="Name or address, with a port where it is not the protocol's own.")],
        "pace": flattened(Pace),
        "asking": flattened(Asking),
        "knobs": flattened(knobs),
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
```
"""


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def measure(scenario: Scenario, *, quiet: bool) -> LoadResult:
    """Runs with a live view; Ctrl-C ends it with what was measured."""
    from flatout.view.live import Live

    try:
        if quiet:
            return run(scenario)
        with Live(f"{scenario.protocol} {scenario.target}") as live:
            return run(scenario, live)
    except Interrupted as interrupted:
        kept: LoadResult = interrupted.result
        return kept
