"""What an experiment would do, as text: its runs in order, how long they take, configurations, changes to the host.

Nothing is started, sent or written. The ports are words, as they are chosen when a server starts.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from flatout.experiments.points import Plan, Point, over_tls
from flatout.experiments.programs import command
from flatout.protocols.base import ServerPlace


def text(plan: Plan, folder: Path, scripts: list[str]) -> str:
    """The plan. `scripts`: what would be set on this host."""
    return "\n".join([*_head(plan, folder), "", *_order(plan), *_configurations(plan, folder), *_host(scripts), ""])


def _head(plan: Plan, folder: Path) -> Iterator[str]:
    asked = plan.experiment
    what = "a search" if asked.mode == "limit" else "a run"
    yield (
        f"{asked.name}: {len(plan.points)} points, {what} at each, {asked.repetitions} repetitions: {plan.runs} runs, "
        f"about {duration(plan.seconds)}"
    )
    yield f"Driven by {'this host' if asked.fleet is None else f'the fleet {asked.fleet}'}; files in {folder}"


def _order(plan: Plan) -> Iterator[str]:
    width = len(str(plan.runs))
    for number, (repetition, point) in enumerate(plan.order, 1):
        yield f"{number:{width}}  repetition {repetition}  {point.label}  {duration(point.seconds)}"


def _configurations(plan: Plan, folder: Path) -> Iterator[str]:
    """Each configuration once, with the points that have it."""
    alike: dict[str, list[Point]] = {}
    for point in plan.points:
        if point.program is not None:
            alike.setdefault(_files(point, folder), []).append(point)
    for shown, points in alike.items():
        numbers = ", ".join(str(point.number) for point in points)
        yield f"\n# {points[0].server.program} for point{'s' if len(points) > 1 else ''} {numbers}"
        yield shown


def _files(point: Point, folder: Path) -> str:
    program = point.program
    assert program is not None
    stem = point.server.tls_key.replace(":", "-")
    pem = (f"{folder}/certificate-{stem}.pem", f"{folder}/key-{stem}.pem") if over_tls(point) else ("", "")
    port = point.server.port
    first, second = ("PORT", "TLS_PORT") if port is None else (port, port + 1)
    place = ServerPlace("RUN_FOLDER", point.server.address, first, second, *pem, point.sizes)
    parts = [f"$ {shlex.join(command(program, place))}"]
    parts += [f"## {name}\n{body.rstrip()}" for name, body in program.files(place).items()]
    return "\n".join(parts)


def _host(scripts: list[str]) -> Iterator[str]:
    for script in scripts:
        yield f"\n# Set on this host before the first run, undone after the last:\n{script.rstrip()}"


def duration(seconds: float) -> str:
    """65.2 → "1 min 05 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
