"""Changes settings step by step, with a journal of its own, and undoes them: for `limit --improve`."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from flatout.errors import UsageError
from flatout.host import target as find_target
from flatout.host.tuning import apply as tuning
from flatout.host.tuning import journal as journals
from flatout.host.tuning.remedies import At, Context, Remedy, most_bytes, remedy
from flatout.host.tuning.system import NEEDS_ROOT, System
from flatout.result.model import LimitResult, Trial

_NAME = "flatout/improve.json"
_ANY = "/proc/sys/net/core/somaxconn"


def journal_path() -> Path:
    """Where the values before are kept: for root /var/lib, for others their own state folder."""
    if os.geteuid() == 0:
        return Path("/var/lib", _NAME)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state", _NAME)


class Steps:
    """The settings of this host, of the target's network namespace, its processes and their sockets.

    A context manager: inside nobody else uses the journal. Errors: UsageError where it cannot be used.
    """

    def __init__(self, targets: Sequence[At], at: Path | None = None, system: System | None = None) -> None:
        """`targets`: addresses and ports of the target; `at`: the journal's file."""
        self.at = at or journal_path()
        self.how_to_undo = f"flatout host undo --journal {shlex.quote(str(self.at))}"
        self._targets = targets
        self._system = system or System()
        self._owning = contextlib.ExitStack()
        self._check_unused()

    def _check_unused(self) -> None:
        with journals.locked(self.at, make=True):
            if journals.load(self.at) is not None:
                raise UsageError(
                    f"an earlier --improve kept its changes, or did not live to undo them: `{self.how_to_undo}` does, "
                    "and then this can begin"
                )

    def __enter__(self) -> Steps:
        with contextlib.ExitStack() as owning:
            owning.enter_context(journals.owned(self.at, make=True))
            # Another one may have kept its changes since the first look.
            self._check_unused()
            self._owning = owning.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owning.close()

    def outlook(self, *, stream: bool) -> list[str]:
        """What cannot be changed from here, as far as that is known before anything is measured."""
        lines = []
        where = {find_target.find(address, port, stream=stream).where for address, port in self._targets}
        ports = "".join(f" --port {port}" for port in dict.fromkeys(port for _, port in self._targets))
        if "elsewhere" in where:
            what = f"flatout host check --role server --for {'tcp' if stream else 'udp'}{ports}"
            lines.append(f"the target is on another host, which is left alone: run there `{what}`")
        if where & {"hidden", "nobody"}:
            lines.append("the process of the target cannot be seen, so its sockets and limits cannot be changed")
        if blocked := self._system.blocked(_ANY):
            lines.append(f"settings of the kernel cannot be changed: {blocked}")
            if blocked == NEEDS_ROOT:
                size = f"{most_bytes(self._system):,} bytes"
                lines.append(f"sockets of this user's own processes can: receive buffers up to {size}, accept queues")
        return lines

    def steps(self, result: LimitResult) -> list[Remedy]:
        """The steps that the findings of a search ask for, the first cause first; what is left to people has none."""
        run = _run_of(result)
        if run is None:
            return []
        context = Context(run, self._targets, self._system)
        return [
            remedy(one, context) or Remedy(one.name, "", unmet=f"the remedy is yours: {one.remedy}")
            for one in result.findings
        ]

    def change(self, step: Remedy) -> str:
        """Changes the settings of a step, all or none; returns why not, or an empty text."""
        try:
            changes = tuning.set_all(step.settings, self._system, self.at)
        except UsageError as error:
            return str(error)
        failed = [f"{one.name}: {one.failed}" for one in changes if one.failed]
        if failed:
            keys = {one.key for one in step.settings}
            failed += self._restore(lambda key: key in keys)
        return "; ".join(failed)

    def undo(self, but: Collection[str] = ()) -> list[str]:
        """Restores all settings but these; returns what could not be restored, in words."""
        with _undisturbed():
            return self._restore(lambda key: key not in but)

    def _restore(self, asked: Callable[[str], bool]) -> list[str]:
        try:
            journal = journals.load(self.at)
            if journal is None:
                return []
            only = [one.key for one in journal.entries if asked(one.key)]
            done = tuning.undo(self._system, self.at, only=only)
        except UsageError as error:
            return [str(error)]
        return [
            f"{one.name} could not be restored to {one.before}: {one.reason}; `{self.how_to_undo}`"
            for one in done
            if one.how in ("left", "failed")
        ]


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Without Ctrl-C and its like for a moment: a second one must not stop what the first one has begun."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _run_of(result: LimitResult) -> Trial | None:
    """The trial whose findings are those of the search."""
    found = [trial for trial in result.trials if trial.findings and trial.findings == result.findings]
    return min(found, key=lambda trial: trial.load, default=None)
