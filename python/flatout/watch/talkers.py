"""The prefixes that most packets came from in the last seconds, in bounded memory. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from flatout.watch.model import TalkingPrefix
from flatout.watch.source import Prefix

WINDOW_S = 10


class TalkerWindow:
    """Sums the last seconds; each has as many prefixes as its source gives at most."""

    def __init__(self, seconds: int = WINDOW_S) -> None:
        self._seconds: deque[tuple[Sequence[Prefix], int]] = deque(maxlen=seconds)

    def add(self, prefixes: Sequence[Prefix], packets: int) -> None:
        """A second's prefixes, and all packets in of it."""
        self._seconds.append((prefixes, packets))

    def top(self, most: int) -> list[TalkingPrefix]:
        """The prefixes with the most packets."""
        return top((one for prefixes, _ in self._seconds for one in prefixes), self.packets, most)

    @property
    def packets(self) -> int:
        """All packets in of these seconds."""
        return sum(packets for _, packets in self._seconds)


def top(prefixes: Iterable[Prefix], packets: int, most: int) -> list[TalkingPrefix]:
    """The prefixes with the most of `packets`, joined by name."""
    sums: dict[str, tuple[int, int]] = {}
    for one in prefixes:
        count, size = sums.get(one.text, (0, 0))
        sums[one.text] = (count + one.packets, size + one.bytes)
    first = sorted(sums.items(), key=lambda item: (-item[1][0], item[0]))[:most]
    return [
        # A sample may estimate a little more than there were.
        TalkingPrefix(prefix=text, packets=count, bytes=size, share=min(count / packets, 1.0) if packets else 0.0)
        for text, (count, size) in first
    ]
