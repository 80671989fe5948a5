"""`flatout experiment run|show FILE`: a server under test over a grid of settings, repeated in turn."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from flatout.cli import output as out
from flatout.cli.flags.shared import Output
from flatout.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from flatout.experiments.points import Plan, Point
    from flatout.result.experiment import ExperimentResult, ExperimentRun

_File = Annotated[str, Parameter(help="The experiment, a TOML file.")]
_DryRun = Annotated[
    bool,
    Parameter(negative=(), show_default=False, help="Print the plan and the configurations; start and write nothing."),
]
_Restart = Annotated[
    bool,
    Parameter(
        negative=(), show_default=False, help="Begin anew; the runs so far are moved into a folder beside theirs."
    ),
]
_Again = Annotated[
    bool,
    Parameter(negative=(), show_default=False, help="Make those runs again, too, that failed or are not valid."),
]
_Store = Annotated[
    bool, Parameter(negative="--no-store", show_default=False, help="Keep the runs (`flatout runs list`). [kept]")
]
_Folder = Annotated[str | None, Parameter(help="The folder of its runs. [FILE.runs]")]
_Json = Annotated[
    str | None, Parameter(allow_leading_hyphen=True, help="Write the result as JSON to a file (-: standard output).")
]
_Html = Annotated[str | None, Parameter(help="Write an HTML report of one run of each point, that of the median.")]
_Quiet = Annotated[bool, Parameter(negative=(), show_default=False, help="Print errors only.")]


def group() -> App:
    """The verbs in one group."""
    verbs = App(name="experiment", help="Measure a server over a grid of settings, from one file.")
    for verb in (run, show):
        verbs.command(verb)
    return verbs


def run(
    file: _File,
    /,
    *,
    dry_run: _DryRun = False,
    restart: _Restart = False,
    again: _Again = False,
    store: _Store = True,
    folder: _Folder = None,
    json: _Json = None,
    html: _Html = None,
    quiet: _Quiet = False,
) -> int:
    """Run an experiment, or go on with it: what has ended is not made again.

    The file says which server is started and how it is configured, what loads it, a grid of settings, and how often
    all of it is repeated. A point that cannot be measured is recorded, and the rest goes on.

    **Examples**
    ```
    flatout experiment run transports.toml --dry-run
    flatout experiment run transports.toml --html report.html
    ```

    """
    from flatout.experiments import drive, host_settings, show_plan

    output = Output(json=json, html=html, quiet=quiet)
    planned, at = _planned(file, folder)
    if dry_run:
        drive.check_points(planned)
        print(show_plan.text(planned, at.absolute(), host_settings.scripts(planned)), end="")
        return out.DONE
    out.check_writable(output)
    watching = _Printed(planned, quiet=quiet, to_stderr=json == "-")
    try:
        result = drive.conduct(planned, at, restart=restart, again=again, keep=store, watching=watching)
    except Interrupted as interrupted:
        result = interrupted.result
        code = _delivered(result, output)
        out.say("flatout: interrupted; the same command goes on")
        return out.worst([code, out.INTERRUPTED])
    return _delivered(result, output)


def show(
    file: _File, /, *, folder: _Folder = None, json: _Json = None, html: _Html = None, quiet: _Quiet = False
) -> int:
    """Show what an experiment has found so far; nothing is run.

    **Examples**
    ```
    flatout experiment show transports.toml
    flatout experiment show transports.toml --json result.json --html report.html
    ```

    """
    from flatout.experiments import folder as folders
    from flatout.experiments.summary import result_of

    output = Output(json=json, html=html, quiet=quiet)
    out.check_writable(output)
    planned, at = _planned(file, folder)
    _delivered(result_of(planned, folders.found(at.absolute())), output)
    return out.DONE


def _planned(file: str, folder: str | None) -> tuple[Plan, Path]:
    from flatout.experiments.drive import default_folder
    from flatout.experiments.points import plan
    from flatout.experiments.read import read

    made, source = read(file)
    if folder is not None and not folder:
        raise UsageError("--folder '': give the name of a folder")
    return plan(made, source), default_folder(file, made) if folder is None else Path(folder)


class _Printed:
    """Prints how an experiment goes."""

    def __init__(self, planned: Plan, *, quiet: bool, to_stderr: bool) -> None:
        self._plan, self._quiet = planned, quiet
        self._stream = sys.stderr if to_stderr else sys.stdout
        self._live: Any = None

    def say(self, text: str) -> None:
        out.say(f"flatout: {text}")

    def ended(self, run: ExperimentRun, point: Point, number: int) -> None:
        from flatout.view.terminal.experiment import line

        if self._quiet:
            if run.status == "failed":
                out.say(f"flatout: {point.label}, repetition {run.repetition}: {run.why}")
            return
        print(line(run, point.label, number, self._plan.runs), file=self._stream, flush=True)

    @contextlib.contextmanager
    def progress(self, point: Point, repetition: int) -> Any:
        """Draws a run on a terminal, and nothing elsewhere: lines of seconds would stand between the runs."""
        from flatout.runner.run import quiet as no_progress
        from flatout.view.terminal.live import Live

        if self._quiet or not sys.stderr.isatty():
            yield no_progress
            return
        with Live(f"{point.label}, repetition {repetition}") as live:
            try:
                yield live
            finally:
                live.clear()


def _delivered(result: ExperimentResult, output: Output) -> int:
    """Shows and writes a result; returns the exit code."""
    from flatout.experiments.summary import typical

    reported: list[str] = []
    codes = [run.exit_code for run in result.runs]
    codes.append(out.write_json(result, output, reported))
    shown = typical(result) if output.html is not None else []
    if output.html is not None and shown:
        codes.append(out.write_html(shown, output.html, reported, quiet=output.quiet))
    if not output.quiet:
        from rich.console import Console

        from flatout.view.terminal.experiment import show as show_table

        show_table(result, Console(stderr=output.json == "-", highlight=False))
    for line in reported:
        out.say(line)
    return out.worst(codes)
