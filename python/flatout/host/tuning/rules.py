"""Rules for the value of a setting: from the text that the kernel shows to the text that is wanted. Pure.

No rule lowers a limit, narrows a range, or changes a mask that somebody has chosen.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Rule(Protocol):
    """What is wanted of a setting."""

    def reached(self, now: str) -> str:
        """The text that is wanted; the same as now where that is right. Errors: ValueError for a text of no sense."""
        ...


class AtLeast(NamedTuple):
    """Whole numbers, each of which is to be this or more."""

    values: tuple[int, ...]

    def reached(self, now: str) -> str:
        """Each number, raised where it is too low."""
        pairs = zip(now.split(), self.values, strict=True)
        return "\t".join(str(max(int(word), least)) for word, least in pairs)


class Spanning(NamedTuple):
    """A range, two whole numbers, which is to hold this one, or to have `enough` numbers."""

    low: int
    high: int
    enough: int | None = None

    def reached(self, now: str) -> str:
        """The range that holds both, unless the one of now is long enough."""
        low, high = map(int, now.split())
        if self.enough is not None and high - low + 1 >= self.enough:
            return now
        return f"{min(low, self.low)}\t{max(high, self.high)}"


class OneOf(NamedTuple):
    """A mode: one of these texts. The first is set where it is another one."""

    accepted: tuple[str, ...]

    def reached(self, now: str) -> str:
        """The mode as it is, or the first of the accepted ones."""
        return now if now in self.accepted else self.accepted[0]


class CpuMask(NamedTuple):
    """A set of CPUs by number, set where none is."""

    cpus: tuple[int, ...]

    def reached(self, now: str) -> str:
        """The mask as it is unless it is empty."""
        return now if _mask(now) else _mask_text(sum(1 << cpu for cpu in self.cpus))


def same(key: str, one: str, other: str) -> bool:
    """Whether two texts of a setting mean the same value: the kernel has its own spaces and leading zeros."""
    if key.endswith("_cpus"):
        try:
            return _mask(one) == _mask(other)
        except ValueError:
            return False
    return one.split() == other.split()


def _mask(text: str) -> int:
    """A mask as the kernel writes it: hexadecimal words of 32 bits with commas between."""
    return int(text.replace(",", ""), 16)


def _mask_text(mask: int) -> str:
    words = [f"{mask & 0xFFFFFFFF:x}"]
    while mask := mask >> 32:
        words[0] = words[0].zfill(8)
        words.insert(0, f"{mask & 0xFFFFFFFF:x}")
    return ",".join(words)
