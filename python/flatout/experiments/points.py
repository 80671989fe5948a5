"""From an experiment to its points: the grid's product, formulas, scenarios, sizes. Nothing is started or written.

Method: everything that can be wrong with any point comes out here, before the first run.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from flatout import arguments, searching, units
from flatout.errors import ArgumentError, UsageError
from flatout.experiments import formulas
from flatout.experiments.key_lines import Key
from flatout.experiments.model import Experiment, ServerUnderTest
from flatout.experiments.programs import NONE, programs
from flatout.experiments.read import Source
from flatout.protocols import protocol as by_name
from flatout.protocols.base import ServerProgram
from flatout.result.model import Search
from flatout.scenario import profile as profiles
from flatout.scenario.build import scenario_of
from flatout.scenario.model import Scenario
from flatout.scenario.settings import DEFINITIONS, LoadOptions

_PACE = ("rate", "duration", "ramp", "profile", "profile_format")
_SEARCH = ("loss", "p99", "least", "most", "within", "budget", "search", "rate")
# These are what an experiment does by itself, or would be one file for all runs.
_NOT_HERE = ("node", "start_at", "log", "log_format")
_SEARCHED = ("count", "tick")
_SIZES = ("threads", "tcp_slots")
_OF_GRID = ("program", *_SIZES, "cpus")
_MOST_POINTS = 100_000
_COMPARED = ("transport", "server.program")
# What a server's port is until one is known.
NO_PORT = 1


class Point(NamedTuple):
    """One point of the grid: its settings as they are written, and what they mean.

    `program`: None where no server is started. `sizes`: the server's. `target` of the scenario is that of the server
    only once its port is known. `search`: None for a load.
    """

    number: int
    settings: dict[str, Any]
    server: ServerUnderTest
    program: ServerProgram | None
    sizes: dict[str, int]
    scenario: Scenario
    search: Search | None

    @property
    def label(self) -> str:
        """The values of the grid, for people and for the labels of kept runs."""
        return ",".join(f"{_short(key)}={_text(value)}" for key, value in self.settings.items()) or "all"

    @property
    def seconds(self) -> float:
        """About how long a run of it takes, in s, with a start of its server."""
        start = 0.0 if self.program is None else 1.0
        if self.search is not None:
            return start + self.search.budget_s
        return start + self.scenario.warmup_s + self.scenario.duration_s + self.scenario.timeout_s


class Plan(NamedTuple):
    """An experiment with its points. `cooling_s`: the pause between runs."""

    experiment: Experiment
    source: Source
    points: tuple[Point, ...]
    cooling_s: float

    @property
    def order(self) -> Iterator[tuple[int, Point]]:
        """Repetition and point of each run: all points once, and then again."""
        return itertools.product(range(1, self.experiment.repetitions + 1), self.points)

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return len(self.points) * self.experiment.repetitions

    @property
    def seconds(self) -> float:
        """About how long all runs take, in s."""
        return self.experiment.repetitions * sum(point.seconds for point in self.points) + self.cooling_s * (
            self.runs - 1
        )

    @property
    def compared(self) -> str | None:
        """The key of the grid whose values are compared, or None."""
        settings = self.points[0].settings
        return self.experiment.compare or next((key for key in _COMPARED if key in settings), None)


def plan(experiment: Experiment, source: Source) -> Plan:
    """All points of an experiment. Errors: UsageError, which names the key and its line."""
    with _placed(source, lambda _: ("cooling",)):
        cooling_s = units.seconds("cooling", experiment.cooling)
    with _placed(source, lambda _: ("protocol",)):
        by_name(experiment.protocol)
    _check_keys(experiment, source)
    axes = _axes(experiment, source)
    if experiment.compare is not None and experiment.compare not in axes:
        raise source.refuse(("compare",), f"'{experiment.compare}' is no key of the grid: {', '.join(axes) or 'none'}")
    values = itertools.product(*axes.values())
    points = tuple(
        _point(number, dict(zip(axes, chosen, strict=True)), experiment, source)
        for number, chosen in enumerate(values, 1)
    )
    return Plan(experiment, source, points, cooling_s)


def _load_keys(mode: str) -> set[str]:
    keys = {*LoadOptions.__annotations__, *_PACE} - set(_NOT_HERE)
    return keys if mode == "load" else keys - {*_PACE, *_SEARCHED}


def _check_keys(experiment: Experiment, source: Source) -> None:
    known = {"load": _load_keys(experiment.mode), "search": set(_SEARCH)}
    for table, keys in known.items():
        for key in getattr(experiment, table):
            if key not in keys:
                raise source.refuse((table, key), f"there is no such key; there are {', '.join(sorted(keys))}")
    if experiment.search and experiment.mode != "limit":
        raise source.refuse(("search",), "it says what is searched: write mode = 'limit'")


def _axes(experiment: Experiment, source: Source) -> dict[str, list[Any]]:
    """The values of each key of the grid, in its order."""
    tables = {"server": set(_OF_GRID), "search": set(_SEARCH) if experiment.mode == "limit" else set()}
    axes: dict[str, list[Any]] = {}
    for key, value in experiment.grid.items():
        if isinstance(value, Mapping):
            axes.update({f"{key}.{inner}": values for inner, values in value.items()})
        else:
            axes[key] = value
    for name, values in axes.items():
        table, _, inner = name.rpartition(".")
        keys = tables.get(table, set()) if table else _load_keys(experiment.mode)
        at = ("grid", *name.split("."))
        if inner not in keys:
            raise source.refuse(at, f"there is no such key; there are {', '.join(sorted(keys)) or 'none'}")
        if not isinstance(values, list) or not values:
            raise source.refuse(at, f"{values!r}: give a list of values")
        if len({str(value) for value in values}) != len(values):
            raise source.refuse(at, "a value is there twice")
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > _MOST_POINTS:
        raise source.refuse(("grid",), f"it has {count:,} points: at most {_MOST_POINTS:,} are taken")
    return axes


def _point(number: int, settings: dict[str, Any], experiment: Experiment, source: Source) -> Point:
    server = _server(settings, experiment.server, source)
    load = dict(experiment.load) | {key: value for key, value in settings.items() if "." not in key}
    search = dict(experiment.search)
    search |= {key.removeprefix("search."): value for key, value in settings.items() if key.startswith("search.")}
    names = _numbers({**search, **load})
    load = {key: _resolved(key, value, names, settings, source) for key, value in load.items()}
    load = {key: _absolute(key, value, source.folder) for key, value in load.items()}
    target = _target(server, source)

    def place(argument: str) -> Key:
        return _place(argument, settings, experiment)

    with _placed(source, place, f"point {number}: "):
        if experiment.mode == "load":
            scenario, searched = _load_scenario(experiment.protocol, target, load), None
        else:
            scenario = searching.trial_scenario(experiment.protocol, target, **load)
            goal: dict[str, Any] = {"loss": 0.001, "p99": None, "least": None, "most": None, "within": 0.02}
            goal |= {"budget": 60.0, **search}
            searched = searching.search_of(scenario, axis=goal.pop("search", "rate"), **goal)
    program = _program(server, experiment, settings, scenario, source)
    names |= {"connections": scenario.askers, "rate": scenario.peak_per_s, "duration": scenario.duration_s}
    sizes = _sizes(server, names, settings, source)
    return Point(number, settings, server, program, sizes, scenario, searched)


def _load_scenario(protocol: str, target: str, load: dict[str, Any]) -> Scenario:
    pace = {key: load.pop(key, None) for key in _PACE}
    duration = 10.0 if pace["duration"] is None else pace["duration"]
    profile = pace["profile"]
    if pace["ramp"] is not None:
        if pace["rate"] is not None or profile is not None:
            raise UsageError("rate, ramp and profile: give one of them")
        profile = profiles.ramp(arguments.text("ramp", pace["ramp"]), units.seconds("duration", duration))
    if "count" in load:
        load.setdefault("warmup", 0.0)
    how: dict[str, Any] = {"profile": profile, "profile_format": pace["profile_format"], **load}
    return scenario_of(protocol, target, rate=pace["rate"], duration=duration, **how)


def _server(settings: dict[str, Any], server: ServerUnderTest, source: Source) -> ServerUnderTest:
    """The server with the grid's values."""
    changes = {key.removeprefix("server."): value for key, value in settings.items() if key.startswith("server.")}
    try:
        return msgspec.convert({**msgspec.to_builtins(server), **changes}, ServerUnderTest)
    except msgspec.ValidationError as error:
        key = re.search(r"\$\.(\w+)", str(error))
        at = ("grid", "server", key[1]) if key else ("grid", "server")
        raise source.refuse(at, str(error).partition(" - at")[0].replace("`", "")) from error


def _target(server: ServerUnderTest, source: Source) -> str:
    if server.program == NONE:
        if server.target is None:
            raise source.refuse(("server", "program"), "'none' starts no server: say which is asked, with target")
        return server.target
    if server.target is not None:
        raise source.refuse(
            ("server", "target"), "it goes with program = 'none': what is started is asked at its address"
        )
    if server.namespace is not None and server.address.startswith("127."):
        raise source.refuse(("server", "namespace"), "a server in a namespace needs its address there: give address")
    if server.port is not None and not 1 <= server.port <= 65_534:
        raise source.refuse(("server", "port"), f"{server.port}: give 1 to 65534")
    if server.cpus is not None:
        with _placed(source, lambda _: ("server", "cpus")):
            units.cpu_list(server.cpus)
    with _placed(source, lambda _: ("server", "start_timeout")):
        units.seconds("start_timeout", server.start_timeout, 0.1, 3600)
    return target_of(server, server.port or NO_PORT)


def over_tls(point: Point) -> bool:
    """Whether its server needs a certificate."""
    return point.scenario.transport == "tls"


def target_of(server: ServerUnderTest, port: int) -> str:
    """What is asked of a server at its port."""
    return f"[{server.address}]:{port}" if ":" in server.address else f"{server.address}:{port}"


def _program(
    server: ServerUnderTest, experiment: Experiment, settings: dict[str, Any], scenario: Scenario, source: Source
) -> ServerProgram | None:
    if server.program == NONE:
        return None
    known = programs(by_name(experiment.protocol))
    at = ("grid", "server", "program") if "server.program" in settings else ("server", "program")
    if server.program not in known:
        names = ", ".join([*known, NONE])
        raise source.refuse(at, f"'{server.program}' is no server for {experiment.protocol}; there are {names}")
    program = known[server.program]
    if scenario.transport not in program.links:
        at = ("grid", "transport") if "transport" in settings else at
        raise source.refuse(at, f"{server.program} answers over {', '.join(program.links)}, not {scenario.transport}")
    return program


def _sizes(
    server: ServerUnderTest, names: dict[str, float], settings: dict[str, Any], source: Source
) -> dict[str, int]:
    """The server's sizes; each may use those before it, and `threads` are the server's."""
    names, sizes = {key: value for key, value in names.items() if key not in _SIZES}, dict[str, int]()
    for name in _SIZES:
        value = getattr(server, name)
        at = ("grid", "server", name) if f"server.{name}" in settings else ("server", name)
        with _placed(source, lambda _, at=at: at):
            sizes[name] = value if isinstance(value, int) else formulas.whole(value, names)
        if not (name == "tcp_slots" or sizes[name] >= 1) or not 0 <= sizes[name] <= units.MOST_THINGS:
            raise source.refuse(at, f"{sizes[name]:,}: give {'0' if name == 'tcp_slots' else '1'} to 100 M")
        names[name] = float(sizes[name])
    return sizes


def _numbers(given: Mapping[str, Any]) -> dict[str, float]:
    """What formulas may use: all values that are numbers, or text for one."""
    found: dict[str, float] = {}
    for key, value in given.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[key] = float(value)
        elif isinstance(value, str) and not value.lstrip().startswith("="):
            for parse in (units.duration,) if key in ("duration", "warmup", "timeout") else (units.rate, units.count):
                with contextlib.suppress(UsageError):
                    found[key] = float(parse(value))
                    break
    return found


def _resolved(key: str, value: Any, names: dict[str, float], settings: dict[str, Any], source: Source) -> Any:
    """A setting's value; a text that begins with = is a formula. Later ones may use it."""
    if not (isinstance(value, str) and value.lstrip().startswith("=")):
        return value
    with _placed(source, lambda _: ("grid" if key in settings else "load", key)):
        number = formulas.evaluate(value.lstrip()[1:], names)
    names[key] = number
    return int(number) if number == int(number) else number


_PATHS = {(one.name, one.part) for one in DEFINITIONS if one.setting.path}


def _absolute(key: str, value: Any, folder: Path) -> Any:
    """Files are named from the experiment file's folder."""
    if (key, None) in _PATHS and isinstance(value, str):
        return str(folder / value)
    if isinstance(value, Mapping):
        return {part: _absolute_part(key, part, inner, folder) for part, inner in value.items()}
    return value


def _absolute_part(key: str, part: str, value: Any, folder: Path) -> Any:
    return str(folder / value) if (key, part) in _PATHS and isinstance(value, str) else value


def _place(argument: str, settings: Mapping[str, Any], experiment: Experiment) -> Key:
    """Where an argument of the Python API is in the experiment, or () where it is nowhere."""
    found = re.match(r"(\w+)(?:\['?(\w+))?", argument)
    name = found[1] if found else argument
    if name in settings:
        return ("grid", name)
    if f"search.{name}" in settings:
        return ("grid", "search", name)
    for table in ("search", "load"):
        values = getattr(experiment, table)
        if name in values:
            inner = found[2] if found else None
            return (table, name, inner) if inner and isinstance(values[name], Mapping) else (table, name)
    return ()


@contextlib.contextmanager
def _placed(source: Source, place: Any, what: str = "") -> Iterator[None]:
    """Turns an error of an argument into one of a key and its line; `place` finds the key of an argument's name."""
    try:
        yield
    except ArgumentError as error:
        raise source.refuse(place(error.argument), error.reason.lstrip(":= ")) from error
    except UsageError as error:
        first = re.match(r"\w+", str(error))
        key = place("options" if " has no option " in str(error) else first[0] if first else "")
        raise source.refuse(key, str(error) if key else f"{what}{error}") from error


def _short(key: str) -> str:
    return key.removeprefix("server.")


def _text(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
