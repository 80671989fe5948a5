"""What a list or a comparison needs of a run: a flat row, made of its result."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any, Literal

import msgspec

from flatout.result.model import SCHEMA, LimitResult, Result

# Where, when and by whom it was asked, and what it was called: runs that differ in nothing else are alike.
_NOT_THE_EXCHANGE = ("target", "seed", "log", "log_format", "allow_public", "start_at", "require", "cpus")


class StoredRun(msgspec.Struct, frozen=True, kw_only=True):
    """One kept run.

    `started_at` is Unix time in s; `value` is what a search found or the answers per second (messages that arrived, one
    way), in `unit`; null where nothing is known. `valid`: the generator drove it and it ended by itself, so it says
    something of the target. `exchange` is the same for runs that ask alike, whatever their target.
    """

    id: int
    kind: str
    label: str
    protocol: str
    transport: str
    target: str
    exchange: str
    hostname: str
    version: str
    started_at: float
    duration_s: float
    verdict: str
    valid: bool
    value: float | None
    unit: str
    loss: float | None
    p50_ns: int | None
    p99_ns: int | None


class RunList(msgspec.Struct, frozen=True, kw_only=True):
    """Kept runs, the newest first."""

    schema: str = SCHEMA
    kind: Literal["runs"] = "runs"
    runs: list[StoredRun]


def row_of(result: Result, label: str = "") -> dict[str, Any]:
    """The columns of a run, without its number."""
    scenario = result.scenario
    own = _of_limit(result) if isinstance(result, LimitResult) else _of_load(result)
    return {
        "kind": result.kind,
        "label": label,
        "protocol": scenario.protocol,
        "transport": scenario.transport,
        "target": scenario.target,
        "exchange": exchange_key(result),
        "hostname": result.host.hostname,
        "version": result.host.flatout,
        "started_at": datetime.datetime.fromisoformat(result.started_at).timestamp(),
        "duration_s": result.duration_s,
        **own,
    }


def _of_limit(result: LimitResult) -> dict[str, Any]:
    limit = result.limit
    held = [trial for trial in result.trials if limit.value and trial.verdict == "held" and trial.load <= limit.value]
    # Where the budget ended before anything failed, what held is a bound, and a ratio of it would mislead.
    bound = limit.stopped_by == "budget" and limit.upper is None
    nearest = max(held, key=lambda trial: (trial.load, trial.duration_s), default=None)
    due = nearest.latency_ns.from_due if nearest else None
    return {
        "verdict": limit.stopped_by,
        "valid": limit.value is not None
        and limit.holds
        and limit.stopped_by in ("found", "max", "budget")
        and not bound,
        "value": limit.value,
        "unit": limit.unit,
        "loss": limit.loss_below,
        "p50_ns": due.p50 if due else None,
        "p99_ns": due.p99 if due else None,
    }


def _of_load(result: Any) -> dict[str, Any]:
    due = result.latency_ns.from_due
    return {
        "verdict": result.verdict,
        "valid": result.verdict == "ok",
        "value": result.good_per_s,
        "unit": f"{result.wording.many}/s",
        "loss": result.loss,
        "p50_ns": due.p50 if due else None,
        "p99_ns": due.p99 if due else None,
    }


def exchange_key(result: Result) -> str:
    """A key of what was asked, without the target: 16 hexadecimal digits.

    What has its default is left out, so a setting that a later version adds changes no key.
    """
    scenario = result.scenario
    usual = {field.name: field.default for field in msgspec.structs.fields(scenario)}
    asked = {
        name: value
        for name, value in msgspec.to_builtins(scenario).items()
        if name not in _NOT_THE_EXCHANGE and getattr(scenario, name) != usual[name]
    }
    search = msgspec.to_builtins(result.search) if isinstance(result, LimitResult) else None
    data = msgspec.json.encode([result.kind, asked, search], order="sorted")
    return hashlib.sha256(data).hexdigest()[:16]
