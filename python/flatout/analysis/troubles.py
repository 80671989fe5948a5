"""Whether a run had trouble at all, and the words that several causes share."""

from __future__ import annotations

from flatout.result.ledger import Ledger
from flatout.result.model import LoadResult, Trial
from flatout.result.thresholds import LATENESS_NS, just_a_few, too_many

# What requirements, and the reasons of failed trials, say of loss.
_OF_LOSS = ("loss", "lost", "refused", "late")
_LOSS = "loss "
# A window that is so many times as long as requests were sent had little else in it.
_SOON = 1.2


def run_verdict(run: LoadResult) -> str:
    """The verdict on the run itself, which of a trial is another than that on the load."""
    return run.run_verdict if isinstance(run, Trial) else run.verdict


def in_trouble(run: LoadResult) -> bool:
    """Whether it lost or could not send more than a few, was late, or failed what was asked of it."""
    outcomes = run.outcomes
    if isinstance(run, Trial) and run.verdict == "failed":
        return True
    if too_many(outcomes.unsent, outcomes.planned) or too_many(missing(run), outcomes.sent):
        return True
    failed = run.connections is not None and run.connections.failed > 0
    late = run.lateness_ns is not None and run.lateness_ns.p99 > LATENESS_NS
    return failed or late or any(not requirement.met for requirement in run.requirements)


def missing(run: LoadResult) -> int:
    """Requests without a right answer in time; messages that are known to be lost."""
    outcomes = run.outcomes
    return outcomes.lost + outcomes.late + outcomes.refused


def refused(run: LoadResult) -> tuple[int, str]:
    """How many requests were refused, or connections where there are any, if enough, else 0; and the same in words."""
    if run.connections is None:
        number = run.outcomes.refused
        return number if enough(number, run) else 0, many(run, number)
    number = run.connections.refused
    return number if enough_connections(number, run) else 0, f"{number:,} connections"


def of_server(run: LoadResult) -> int:
    """Requests that a server too slow for them may have cost: late, not read in time, or lost nobody knows where."""
    ledger, late = run.ledger, run.outcomes.late
    if ledger is None:
        return missing(run)
    return late + ledger.count("receive_buffer") + ledger.count("unread") + (ledger.unexplained or 0)


def server_in_trouble(run: LoadResult) -> bool:
    """Whether the server was too slow: by what it cost, or by latency where nothing else was wrong."""
    if too_many(of_server(run), run.outcomes.sent) or (run.ledger and run.ledger.count("target_blocked")):
        return True
    unmet = any(not requirement.met for requirement in run.requirements)
    failed = isinstance(run, Trial) and run.verdict == "failed"
    return (failed or unmet) and not too_many(missing(run) + run.outcomes.unsent, run.outcomes.planned)


def enough(number: int, run: LoadResult) -> bool:
    """Whether so many requests stopped the run: more than one may lose, or than was asked of it."""
    if number <= 0 or just_a_few(number, max(run.outcomes.sent, 1)):
        return False
    return too_many(number, run.outcomes.sent) or (_missed_by_loss(run) and 2 * number >= missing(run))


def enough_connections(number: int, run: LoadResult) -> bool:
    """The same of connections."""
    return run.connections is not None and too_many(number, run.connections.opened)


def _missed_by_loss(run: LoadResult) -> bool:
    """Whether it lost more than was asked of it, by its requirements or, of a trial, by the goal of the search."""
    unmet = any(not each.met and each.expression.startswith(_OF_LOSS) for each in run.requirements)
    return unmet or (isinstance(run, Trial) and run.verdict == "failed" and _LOSS in run.why)


def target(run: LoadResult) -> str:
    """The target's process, for texts."""
    about = run.placement.target if run.placement else None
    return about.name if about else "the target"


def many(run: LoadResult, number: int) -> str:
    """So many requests, or messages."""
    return f"{number:,} {run.wording.many}"


def stopped(ledger: Ledger, start: str = "Its") -> str:
    """Which processes of the target are stopped."""
    pids = ledger.surroundings.stopped_pids
    numbers = f" {', '.join(map(str, pids))}" if pids else ""
    return f"{start} processes{numbers} are stopped" if len(pids) > 1 else f"{start} process{numbers} is stopped"


def let_go_on(ledger: Ledger) -> str:
    """The remedy for that."""
    return f"let it go on: kill -CONT {' '.join(map(str, ledger.surroundings.stopped_pids)) or 'PID'}"


def ms(ns: float) -> str:
    """A duration in ms with two digits or more."""
    value = ns / 1e6
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.2g} ms"


def share_of_load(run: LoadResult, seconds: float) -> float:
    """CPU time as a share of the time in which requests were sent; a little after it the target has little to do.

    Where the time went on for long, it is not known in which part of it a CPU was busy.
    """
    about, sending_s = run.contention, run.duration_s
    if about and about.elapsed_s and not sending_s <= about.elapsed_s <= _SOON * sending_s:
        sending_s = about.elapsed_s
    return min(seconds / sending_s, 1.0) if sending_s > 0 else 0.0


def busiest_share(run: LoadResult) -> float | None:
    """What the target's busiest thread ran of the time in which requests were sent; None where that is unknown."""
    about = run.contention
    if about is None or about.target is None:
        return None
    return share_of_load(run, about.target.busiest_share * about.elapsed_s)


def sentence_start(text: str) -> str:
    """With a capital letter where it is a plain word, and no program's name."""
    return text[:1].upper() + text[1:] if text.startswith("the ") else text
