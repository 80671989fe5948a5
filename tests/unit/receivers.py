"""A receiver's counters made by hand, and one that tells them."""

from __future__ import annotations

from flatout.plan.targets import Endpoint
from flatout.result.model import CounterSamples

# Sender and number of the usual format: 4 bytes at 0, 4 bytes at 4.
USUAL = 0x0004_0000 | 0x0004_0004 << 32
WORDS = (
    *("received", "parsed", "malformed", "duplicate", "reordered", "missing", "restarts", "untracked"),
    *("kernel_drops", "arrivals", "handed_over", "dropped", "queued", "senders", "bytes", "cpu_ns"),
)


def counters(parsed: int = 0, malformed: int = 0, **more: int) -> dict[str, int]:
    """Those of a receiver that has got so many right messages and handed all of them over."""
    reported = dict.fromkeys(WORDS, 0) | {"workers": 1, "size": 24, "sequence_bits": 32, "instance": 7, "places": USUAL}
    came = parsed + malformed
    reported |= {"parsed": parsed, "malformed": malformed, "received": came, "arrivals": came, "handed_over": parsed}
    return reported | more


def reading(target: str = "127.0.0.1:5", before: dict[str, int] | None = None, **after: int) -> CounterSamples:
    return CounterSamples(target=target, before=before or counters(), after=counters(**after))


class Teller:
    """Stands for the question: tells its answers in turn, then the last one again. An exception is raised."""

    def __init__(self, *answers: dict[str, int] | Exception | None) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, bool]] = []

    def __call__(
        self, endpoint: Endpoint, reset_sequences: bool = False, timeout_s: float = 0.0
    ) -> dict[str, int] | None:
        assert timeout_s >= 0
        self.asked.append((str(endpoint), reset_sequences))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer
