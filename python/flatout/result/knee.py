"""The types of a knee: the first resource that saturated as the load rose, and how each measure grew."""

from __future__ import annotations

from typing import Literal

import msgspec

from flatout.result.finding import Confidence

Resource = Literal[
    "generator",
    "steal",
    "CPU quota",
    "soft interrupts",
    "single thread",
    "CPU",
    "ephemeral ports",
    "own queue",
    "queue (qdisc)",
    "device",
    "softnet backlog",
    "conntrack",
    "socket memory",
    "SYN queue",
    "accept queue",
    "receive buffer",
    "application",
]


class KneePoint(msgspec.Struct, frozen=True, kw_only=True):
    """One load, and how full the resource was there: the median of its trials, in the unit of `Knee.measure`."""

    load: float
    level: float
    saturated: bool


class CpuPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One load: what came back per second, and the CPU time in seconds that the target's threads used per second."""

    load: float
    good_per_s: float
    cpu_s_per_s: float


class Knee(msgspec.Struct, frozen=True, kw_only=True):
    """What saturated first along the loads of a search, and where.

    `resource` is null where none is known to have saturated, and `sentence` says so. `load` is the lowest load, on the
    axis of the search, from which it stayed saturated. `measure` says what the levels of `course` are, in ascending
    order of load. `cpu` is the target's CPU time against what came back, and `cpu_sentence` says where it is not
    proportional. `unknown` are resources of which nothing was measured: one of them may have saturated before.
    """

    resource: Resource | None
    sentence: str
    load: float | None = None
    measure: str = ""
    evidence: list[str] = []
    confidence: Confidence = "low"
    course: list[KneePoint] = []
    cpu: list[CpuPoint] = []
    cpu_sentence: str = ""
    unknown: list[str] = []
