"""The target's program has requests that it did not answer: unread when the run ended, or read without an answer."""

from __future__ import annotations

from flatout.analysis.troubles import enough, let_go_on, many, sentence_start, stopped, target
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Requests that lay unread, or that were read and not answered."""
    ledger = run.ledger
    if ledger is None:
        return None
    unread, ignored = ledger.count("unread"), ledger.count("application")
    if not enough(unread + ignored, run):
        return None
    is_stopped = ledger.surroundings.target_stopped
    parts = [
        *([f"{many(run, unread)} still lay unread in its receive buffer at the end"] if unread else []),
        *([f"{many(run, ignored)} were read and not answered"] if ignored else []),
    ]
    end = f"; {stopped(ledger, start='its')} by a signal" if is_stopped else ""
    return Finding(
        name="application",
        sentence=f"{sentence_start(target(run))}: {' and '.join(parts)}{end}.",
        evidence=[
            f"{line.where}: {line.count:,} ({line.source})"
            for line in ledger.lines
            if line.place in ("unread", "application") and line.count
        ],
        remedy=let_go_on(ledger) if is_stopped else "look at the program's own log and its rate limits",
        confidence="high" if unread >= ignored else "medium",
        explains=unread + ignored,
    )
