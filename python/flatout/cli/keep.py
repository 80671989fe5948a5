"""Keeping results: each run of `load` and `limit` goes into the store, unless told otherwise."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from flatout.cli import output as out
from flatout.cli.flags.shared import OUTPUT, Output
from flatout.errors import FlatoutError, UsageError
from flatout.result.model import Result
from flatout.scenario.model import Scenario
from flatout.store.live import LiveCommand, live_folder
from flatout.store.live_publisher import LivePublisher
from flatout.store.location import VARIABLE, store_url


@dataclass
class Keep:
    """Whether and under which label a result is kept."""

    label: Annotated[
        str | None,
        Parameter(group=OUTPUT, help="Keep the run under this label: `flatout compare` takes it. ['']"),
    ] = None
    store: Annotated[
        bool,
        Parameter(
            group=OUTPUT,
            negative="--no-store",
            show_default=False,
            help=f"Keep the run (`flatout runs list`); where is in {VARIABLE}. [kept]",
        ),
    ] = True

    def check(self) -> None:
        """Errors: UsageError for a label without a store."""
        if self.label is not None and (not self.store or store_url() is None):
            raise UsageError(f"--label names a run that is kept, and nothing is kept: --no-store, or {VARIABLE}=off")

    @contextlib.contextmanager
    def shown_live(self, command: LiveCommand, scenario: Scenario) -> Iterator[tuple[LivePublisher, ...]]:
        """What takes the progress for `flatout web`; nothing where nothing is kept."""
        folder = live_folder() if self.store else None
        if folder is None:
            yield ()
            return
        with LivePublisher(folder, command, scenario) as live:
            yield (live,)

    def delivered(self, result: Result, output: Output) -> int:
        """Shows, writes and keeps a result; returns the exit code."""
        code = out.deliver([("", result)], output)
        return out.worst([code, self._kept(result, quiet=output.quiet)])

    def _kept(self, result: Result, *, quiet: bool) -> int:
        """The exit code of keeping it. A store that nobody asked for may fail: that is only said."""
        url = store_url() if self.store else None
        if url is None:
            return out.DONE
        # Late: what keeps nothing need not load it.
        from flatout.store.store import Store

        try:
            with Store(url) as store:
                number = store.add(result, self.label or "")
        except FlatoutError as error:
            out.say(f"flatout: the run is not kept: {error}")
            asked = self.label is not None or os.environ.get(VARIABLE)
            return out.UNMET if asked else out.DONE
        if not quiet:
            out.say(f"Kept as run {number}")
        return out.DONE
