"""Runs an experiment: its points in order, again and again, each with a server of its own, and keeps what comes out.

A point that cannot be measured is recorded as failed, and the rest goes on. What has ended is in the folder, so that
the same call goes on after Ctrl-C or a crash.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from flatout import arguments, searching, units
from flatout.errors import FlatoutError, GeneratorError, Interrupted, TargetError, UsageError
from flatout.experiments import fleet_logs, host_settings
from flatout.experiments import folder as folders
from flatout.experiments.certificate import certificate
from flatout.experiments.conditions import conditions
from flatout.experiments.folder import RESULT, Folder
from flatout.experiments.keeping import Keeping
from flatout.experiments.model import Experiment
from flatout.experiments.points import Plan, Point, over_tls, plan, target_of
from flatout.experiments.programs import command
from flatout.experiments.read import checked, read
from flatout.experiments.server_process import ServerProcess, end_left, free_port, tail, version
from flatout.experiments.summary import result_of
from flatout.host.log import HostLog
from flatout.plan.resolve import make
from flatout.protocols.base import ServerPlace
from flatout.result import files
from flatout.result.exit_codes import exit_code
from flatout.result.experiment import ExperimentResult, ExperimentRun
from flatout.result.model import LimitResult, Result
from flatout.runner.run import RunTrial, quiet
from flatout.store.rows import row_of

OnProgress = Callable[[Any], None]


class Started(NamedTuple):
    """A server that answers. `ended`: its exit code once it has ended by itself, else None."""

    target: str
    version: str
    command: list[str]
    ended: Callable[[], int | None]


class Watching(Protocol):
    """What is told of an experiment: lines of text, each finished run, and the progress of one."""

    def say(self, text: str) -> None: ...  # noqa: D102
    def ended(self, run: ExperimentRun, point: Point, number: int) -> None: ...  # noqa: D102
    def progress(self, point: Point, repetition: int) -> contextlib.AbstractContextManager[OnProgress]: ...  # noqa: D102


class Nobody:
    """Nobody is told."""

    def say(self, text: str) -> None:
        """Says nothing."""

    def ended(self, run: ExperimentRun, point: Point, number: int) -> None:
        """Nothing."""

    def progress(self, point: Point, repetition: int) -> contextlib.AbstractContextManager[OnProgress]:  # noqa: ARG002
        """Nothing."""
        return contextlib.nullcontext(quiet)


class Environment(NamedTuple):
    """The world: starts the server of a point in a folder, measures a point at a target, rests for so many seconds."""

    start: Callable[[Point, Path, Folder], contextlib.AbstractContextManager[Started]]
    measure: Callable[[Point, str, OnProgress], Result]
    rest: Callable[[float], object]


def experiment(
    what: Experiment | str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    restart: bool = False,
    again: bool = False,
    keep: bool = True,
    watching: Watching | None = None,
) -> ExperimentResult:
    """Runs an experiment to its end, going on with what its folder has.

    `what`: an `Experiment`, or the name of a TOML file. `folder`: where its files go; default: the file's name with
    .runs behind it, for an `Experiment` its name. `restart`: begin anew; what is there is moved aside. `again`: make
    again, too, the runs that failed or are not valid. `keep`: in the store of runs, too. `watching`: is
    told how it goes; default: nobody.

    Errors: UsageError for what is wrong with it, before anything is started; TargetError for a fleet without scheduler;
    OutputError for a folder that cannot be written; Interrupted, with the result so far, on Ctrl-C.
    """
    made, source = checked(what) if isinstance(what, Experiment) else read(what)
    planned = plan(made, source)
    at = default_folder(what, made) if folder is None else Path(arguments.path("folder", folder))
    return conduct(planned, at, restart=restart, again=again, keep=keep, watching=watching or Nobody())


def default_folder(what: Experiment | str | os.PathLike[str], made: Experiment) -> Path:
    """Where the files of an experiment go."""
    return Path(f"{made.name if isinstance(what, Experiment) else arguments.path('what', what)}.runs")


def conduct(
    planned: Plan,
    at: Path,
    *,
    restart: bool = False,
    again: bool = False,
    keep: bool = True,
    watching: Watching,
    environment: Environment | None = None,
) -> ExperimentResult:
    """Runs what is left of an experiment; see `experiment`. `environment`: default: servers and engine of this host."""
    check_points(planned)
    at = at.absolute()
    with folders.opened(at, planned.experiment, restart=restart) as folder:
        if left := end_left(at):
            watching.say(f"{left} processes of a server that a crash had left were ended")
        host_settings.undo_left(at, watching.say)
        keeping = Keeping(planned, folder, keep=keep, say=watching.say)
        try:
            with host_settings.applied(planned, at, watching.say), _fleet(planned) as fleet:
                world = environment or Environment(_started, _measurer(fleet), time.sleep)
                _Conductor(planned, folder, watching, world, keeping, fleet, again).run()
        except KeyboardInterrupt:
            raise Interrupted(result_of(planned, folder)) from None
        return result_of(planned, folder)


def check_points(planned: Plan) -> None:
    """Errors: UsageError for a point that this host would refuse. Nothing is sent."""
    if planned.experiment.fleet is not None:
        return
    for point in planned.points:
        try:
            make(point.scenario)
        except (TargetError, GeneratorError):
            # That is recorded with its run: the others go on.
            continue
        except UsageError as error:
            raise planned.source.refuse((), f"point {point.number} ({point.label}): {error}") from error


@dataclasses.dataclass(frozen=True)
class _Conductor:
    """The runs of an experiment, one after the other."""

    plan: Plan
    folder: Folder
    watching: Watching
    world: Environment
    keeping: Keeping
    fleet: Any
    again: bool

    def run(self) -> None:
        ended = {(run.point, run.repetition) for run in self.keeping.made_up() if run.valid or not self.again}
        if left := self.plan.runs - len(ended):
            if ended:
                self.watching.say(f"{len(ended)} of {self.plan.runs} runs are there already: {left} are left")
        else:
            self.watching.say(f"all {self.plan.runs} runs are there already")
        rested = True
        for number, (repetition, point) in enumerate(self.plan.order, 1):
            if (point.number, repetition) in ended:
                continue
            if not rested:
                self.world.rest(self.plan.cooling_s)
            rested = False
            run, result = self._one(point, repetition)
            self.folder.write(run)
            run = self.keeping.kept(run, result)
            self.watching.ended(run, point, number)

    def _one(self, point: Point, repetition: int) -> tuple[ExperimentRun, Result | None]:
        at = self.folder.fresh(point.number, repetition)
        made: dict[str, Any] = {"point": point.number, "repetition": repetition, "folder": at.name}
        began, made["started_at"] = time.monotonic(), _now()
        result: Result | None = None
        try:
            with self.world.start(point, at, self.folder) as server:
                made["server_version"] = server.version
                result = self._measured(point, repetition, server, at, made)
                made["server_exit"] = server.ended()
        except FlatoutError as error:
            made |= {"status": "failed", "why": str(error), "exit_code": error.exit_code}
        else:
            made |= summed_up(result, made["server_exit"])
        if made["status"] == "failed":
            made["log_tail"] = tail(at / "server.log")
        return ExperimentRun(duration_s=round(time.monotonic() - began, 3), **made), result

    def _measured(self, point: Point, repetition: int, server: Started, at: Path, made: dict[str, Any]) -> Result:
        """The result, which is in the folder then. Errors: FlatoutError; Interrupted, its result kept beside."""
        found = conditions(
            point.scenario, (self.folder.identity.id, point.number, repetition), server.version, server.command
        )
        files.write(at / "conditions.json", files.to_json(found))
        log = HostLog(str(at / "host.csv"))
        fleet_logs.begin(self.fleet, at.name)
        try:
            with log, self.watching.progress(point, repetition) as progress:
                result = self.world.measure(point, server.target, progress)
        except Interrupted as interrupted:
            if isinstance(interrupted.result, msgspec.Struct):
                files.write(at / "interrupted.json", files.to_json(interrupted.result))
            raise
        finally:
            others = fleet_logs.end(self.fleet, at.name)
        made["host_logs"] = ["host.csv", *(f"host-{name}.csv" for name in others)]
        for name, text in others.items():
            files.write(at / f"host-{name}.csv", text.encode("ascii", "replace"))
        if log.failed:
            made["notes"] = [f"the host log ends after {log.rows:,} rows: {log.failed}"]
        files.write(at / RESULT, files.to_json(result))
        made["result"] = RESULT
        return result


def summed_up(result: Result, server_exit: int | None) -> dict[str, Any]:
    """What a result says, flat; one of a server that ended by itself is none of the server's capacity."""
    row = row_of(result)
    found = {name: row[name] for name in ("verdict", "valid", "value", "unit", "loss", "p50_ns", "p99_ns")}
    why = result.sentence if isinstance(result, LimitResult) else result.why
    if server_exit is not None:
        ended = {"status": "failed", "why": f"the server ended by itself, with code {server_exit}: {why}"}
        return {**found, **ended, "valid": False, "exit_code": TargetError.exit_code}
    return {**found, "status": "done", "why": why, "exit_code": exit_code(result)}


@contextlib.contextmanager
def _fleet(planned: Plan) -> Iterator[Any]:
    if planned.experiment.fleet is None:
        yield None
        return
    from flatout.fleet.cluster import connected

    with connected(planned.experiment.fleet) as fleet:
        yield fleet


def _measurer(fleet: Any) -> Callable[[Point, str, OnProgress], Result]:
    """What measures a point: here, or over a fleet."""
    elsewhere: RunTrial | None = None
    if fleet is not None:
        from flatout.fleet.drive import FleetRun

        elsewhere = FleetRun(fleet)

    def measure(point: Point, target: str, progress: OnProgress) -> Result:
        scenario, stop = msgspec.structs.replace(point.scenario, target=target), threading.Event()
        result: Result
        if point.search is not None:
            result = searching.find(scenario, point.search, progress, stop, elsewhere)
            interrupted = result.limit.stopped_by == "interrupted"
        else:
            result = searching.run_explained(scenario, progress, stop, elsewhere)
            interrupted = result.verdict == "interrupted"
        if interrupted:
            raise Interrupted(result)
        return result

    return measure


@contextlib.contextmanager
def _started(point: Point, at: Path, folder: Folder) -> Iterator[Started]:
    """The server of a point, in its folder, once it answers. Errors: ServerFailed."""
    server = point.server
    if point.program is None:
        yield Started(point.scenario.target, "", [], lambda: None)
        return
    place = place_of(point, at, folder.path)
    for name, text in point.program.files(place).items():
        files.write(at / name, text.encode())
    line = command(point.program, place)
    port = int(place.tls_port if over_tls(point) else place.port)
    target = target_of(server, port)
    with ServerProcess(line, server, at, folder.path) as process:
        asked = msgspec.structs.replace(point.scenario, target=target)
        process.wait_until_ready(asked, units.seconds("start_timeout", server.start_timeout))
        yield Started(target, version((line[0], *point.program.version)), line, process.ended)


def place_of(point: Point, at: Path, shared: Path) -> ServerPlace:
    """Where the server of a point is to be, with ports that are free. Errors: ServerFailed."""
    server = point.server
    # In a namespace every port is as good as another one.
    own = free_port(server.address, 2) if server.namespace is None else 10_053
    port = own if server.port is None else server.port
    pem, key = certificate(shared, server.tls_key, server.address) if over_tls(point) else ("", "")
    return ServerPlace(str(at), server.address, port, port + 1, pem, key, point.sizes)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
