"""One result of all hosts of a fleet: merged, with one ledger, and what is the generators' own by host."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import msgspec

from flatout import analysis
from flatout.errors import FlatoutError, GeneratorLost
from flatout.fleet import worker
from flatout.plan.resolve import AsTrial, make
from flatout.result.files import from_json
from flatout.result.machine import Contention, Subintervals
from flatout.result.model import LoadResult
from flatout.runner import ledger_of_hosts
from flatout.runner.counters import BEFORE_S, CounterSampler, Sampled
from flatout.runner.ledger_of_hosts import HostPart
from flatout.runner.progress import RunProgress
from flatout.scenario.model import Scenario


class Observer:
    """Samples the counters of the target's host where the command runs, if they can be seen from there.

    No load leaves from here.
    """

    def __init__(self, scenario: Scenario, as_trial: AsTrial | None, hosts: int) -> None:
        """What hinders it leaves the ledger without these counters, and does not end the run."""
        self._sampler: CounterSampler | None = None
        self._timer: threading.Timer | None = None
        with contextlib.suppress(FlatoutError, OSError):
            # One host's share needs no more room than this host has.
            plan = make(msgspec.structs.replace(scenario, node=(1, max(hosts, 1))), as_trial=as_trial)
            self._placement = plan.placement
            sampler = CounterSampler(plan)
            if sampler.sees_target:
                self._sampler = sampler
            else:
                sampler.close()

    def __call__(self, progress: RunProgress) -> None:
        """Takes the hosts' progress: counting begins when their warm-up ends."""
        if self._sampler is None or self._timer is not None or progress.phase not in ("warm-up", "running"):
            return
        self._timer = threading.Timer(max(-progress.t_s - BEFORE_S, 0.0), self._sampler.tick, (0.0,))
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> Sampled | None:
        """What happened since counting began; None where it cannot be seen from here."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._sampler is None:
            return None
        sampler, self._sampler = self._sampler, None
        try:
            return sampler.end(self._placement)
        except (OSError, ValueError):
            # Files of an unknown kernel must not cost a run.
            return None
        finally:
            sampler.close()


class Watched:
    """Takes the progress of a run and passes it on. `sampled`: of the target's host, once the run has ended."""

    def __init__(self, observer: Observer, progress: Callable[[RunProgress], None]) -> None:
        self.sampled: Sampled | None = None
        self._observer, self._progress = observer, progress
        self._last: RunProgress | None = None

    def __call__(self, progress: RunProgress) -> None:
        """Takes one event."""
        self._last = progress
        self._observer(progress)
        self._progress(progress)

    @property
    def text(self) -> str:
        """How far it was, in words."""
        last = self._last
        if last is None or not last.planned:
            return "nothing had been sent"
        came = last.received if last.one_way else last.answered
        answered = f", {came:,} {'received' if last.one_way else 'answered'}" if came is not None else ""
        return f"until then {last.sent:,} were sent{answered}; what the hosts measured is lost with it"


@contextlib.contextmanager
def watched(
    scenario: Scenario, as_trial: AsTrial | None, hosts: int, progress: Callable[[RunProgress], None]
) -> Iterator[Watched]:
    """Around a run of so many hosts. Errors: GeneratorLost, with how far it was."""
    observer = Observer(scenario, as_trial, hosts)
    watching = Watched(observer, progress)
    try:
        yield watching
    except GeneratorLost as error:
        raise GeneratorLost(f"{error}; {watching.text}") from error
    finally:
        watching.sampled = observer.end()


def part(name: str, data: bytes) -> HostPart:
    """A host's part from what its worker returned."""
    measured = msgspec.json.decode(data, type=worker.Measured)
    result = from_json(bytes(measured.result))
    assert isinstance(result, LoadResult)
    return HostPart(name, measured.machine, result, measured.sampled)


def with_findings(parts: Sequence[HostPart]) -> list[HostPart]:
    """Each host with what is to be said of its own generator; other workers of its machine are no other programs."""
    return [one._replace(result=analysis.explained(_without_fellows(one, parts))) for one in parts]


def _without_fellows(one: HostPart, parts: Sequence[HostPart]) -> LoadResult:
    about = one.result.contention
    if about is None or about.others_s is None:
        return one.result
    boot = one.machine.boot
    fellows_s = sum(each.result.cpu_s.get("workers", 0.0) for each in parts if each.machine.boot == boot)
    fellows_s -= one.result.cpu_s.get("workers", 0.0)
    others_s = max(about.others_s - fellows_s, 0.0)
    return msgspec.structs.replace(one.result, contention=msgspec.structs.replace(about, others_s=others_s))


def explained(merged: LoadResult, parts: Sequence[HostPart], observed: Sampled | None) -> LoadResult:
    """The merged result with one ledger, and what a trial is judged by: its times, and who else took CPUs."""
    return msgspec.structs.replace(
        merged,
        ledger=ledger_of_hosts.close(merged, parts, observed),
        contention=_most_disturbed([part.result for part in parts]),
        subintervals=_subintervals([part.result.subintervals for part in parts]),
    )


def _most_disturbed(runs: Sequence[LoadResult]) -> Contention | None:
    """Of the host where others took most CPU time, without what only a host by itself can be asked."""
    known = [run.contention for run in runs if run.contention is not None]
    if not known:
        return None
    most = max(known, key=lambda about: ((about.others_s or 0.0) + (about.steal_s or 0.0)) / max(about.elapsed_s, 1e-3))
    return msgspec.structs.replace(most, softirq_s={}, busy_s={}, backlog_drops=None, target=None)


def _subintervals(parts: Sequence[Subintervals | None]) -> Subintervals | None:
    """The same times of all hosts: counts are added, the latest host is the lateness; None where they do not match."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts) or len({(part.length_s, len(part.sent)) for part in known}) > 1:
        return None
    waited = [part.target_waited_ns for part in known if part.target_waited_ns]
    return Subintervals(
        length_s=known[0].length_s,
        **{
            name: [sum(numbers) for numbers in zip(*(getattr(part, name) for part in known), strict=True)]
            for name in ("sent", "unsent", "answered", "slow")
        },
        lateness_max_ns=[max(ns) for ns in zip(*(part.lateness_max_ns for part in known), strict=True)],
        target_waited_ns=[max(ns) for ns in zip(*waited, strict=True)] if waited else [],
    )
