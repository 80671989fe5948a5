"""A process has no descriptor left: the target cannot accept, or this generator cannot open."""

from __future__ import annotations

from flatout.analysis.troubles import enough_connections, sentence_start, target
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

_NEARLY = 0.95


def find(run: LoadResult) -> Finding | None:
    """The target's descriptors at their limit, or connections that failed here with as many open."""
    ledger, connections = run.ledger, run.connections
    if ledger is None or connections is None:
        return None
    about = ledger.surroundings
    limit, held = about.target_files_limit, about.target_files
    if limit is not None and held is not None and held >= _NEARLY * limit and _unaccepted(run):
        return _finding(f"{sentence_start(target(run))} held {held:,} of the {limit:,} descriptors that it may.", "its")
    files, unopened = about.limits.get("files"), connections.local - connections.no_port
    if files is not None and enough_connections(unopened, run) and connections.peak >= _NEARLY * files:
        here = f"This process may hold {files:,} descriptors, and {connections.peak:,} connections were open"
        return _finding(f"{here}; {unopened:,} could not be opened.", "this process's")
    return None


def _unaccepted(run: LoadResult) -> bool:
    """Whether connections waited or failed, or something was lost."""
    connections = run.connections
    failed = connections is not None and connections.failed > 0
    return failed or run.outcomes.lost > 0 or bool(run.ledger and run.ledger.count("accept_queue"))


def _finding(sentence: str, whose: str) -> Finding:
    return Finding(
        name="descriptors",
        sentence=sentence,
        evidence=["/proc/PID/limits (Max open files) and /proc/PID/fd"],
        remedy=f"raise {whose} limit (ulimit -n, LimitNOFILE in systemd)",
        confidence="high",
    )
