"""An engine that sends nothing: what `LoadRun` would say, tick by tick. No socket, no clock."""

from __future__ import annotations

from typing import Any

from flatout._engine import Histogram
from flatout.plan.load_plan import LoadPlan

WORDS = ("planned", "sent", "unsent", "answered", "late", "lost", "refused", "invalid", "duplicate", "reordered")
BESIDE = ("unmatched", "own_drops", "cpu_ns")


def histogram(*samples_ns: int) -> Histogram:
    made = Histogram()
    for sample in samples_ns:
        made.record(sample)
    return made


class FakeRun:
    """One run: `ticks` are (elapsed ns or None, connections) in order; the last stays. All planned is answered."""

    def __init__(self, ticks: list[tuple[int | None, dict[str, int]]], **counts: int) -> None:
        self.ticks = ticks
        self.at = 0
        self.stopped = False
        self.plan: LoadPlan | None = None
        self._counts = dict.fromkeys((*WORDS, *BESIDE), 0) | counts

    def __call__(self, plan: LoadPlan) -> FakeRun:
        """Stands for the class: takes the engine's argument."""
        self.plan = plan
        return self

    def wait(self, _seconds: float) -> bool:
        self.at = min(self.at + 1, len(self.ticks))
        return self.stopped or self.at == len(self.ticks)

    def stop(self) -> None:
        self.stopped = True

    def share_cpus(self) -> None:
        self.shared = True

    def counts(self) -> dict[str, int]:
        return self._counts

    def unsent_because(self) -> dict[str, int]:
        return {"not_connected": self._counts["unsent"]}

    def tallies(self) -> dict[str, int]:
        return {}

    def intervals(self, _first: int) -> list[Any]:
        return []

    def latency_bands(self, _first: int) -> list[list[tuple[int, int]]]:
        return []

    def distributions(self) -> tuple[Histogram, Histogram, Histogram, Histogram, Histogram]:
        answered = [20_000] * min(self._counts["answered"], 100)
        established = [300_000] * min(self.connections().get("established", 0), 100)
        return (
            histogram(*answered),
            histogram(*answered),
            histogram(*[500] * len(answered)),
            histogram(),
            histogram(*established),
        )

    def server_times(self) -> tuple[Histogram, Histogram, Histogram]:
        return histogram(), histogram(), histogram()

    def contention(self) -> tuple[int | None, int]:
        return 0, 0

    def subintervals(self) -> tuple[int, list[tuple[int, int, int, int, int, int]]]:
        return 1 << 26, []

    def connections(self) -> dict[str, int]:
        return self.ticks[min(self.at, len(self.ticks) - 1)][1]

    backend = "io_uring"
    started_unix_ns = 1_773_500_966_000_000_000
    slot_bytes = 25_600

    @property
    def elapsed_ns(self) -> int | None:
        return self.ticks[min(self.at, len(self.ticks) - 1)][0]

    @property
    def standing(self) -> bool:
        connections = self.connections()
        return connections.get("live") == connections.get("opened")

    gave_up: str | None = None

    @property
    def failures(self) -> list[str]:
        return []
