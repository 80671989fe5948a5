"""Rules for the value of a setting: from the text that the kernel shows to the text that is wanted. Pure.

No rule lowers a limit, narrows a range, or changes a mask that somebody has chosen.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from flatout import units
from flatout.errors import UsageError


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


class OneCpu(NamedTuple):
    """One CPU of those online, where now all of them may be: a list that is shorter was chosen by somebody."""

    cpu: int
    online: tuple[int, ...]

    def reached(self, now: str) -> str:
        """The CPU, or the list as it is."""
        return str(self.cpu) if _cpus(now) >= set(self.online) else now


class Named(NamedTuple):
    """Whole numbers by name, as in "rx 2 tx 2"; those that are named here are to be this or more."""

    least: tuple[tuple[str, int], ...]

    def reached(self, now: str) -> str:
        """Each number, raised where it is too low."""
        words, least = now.split(), dict(self.least)
        pairs = zip(words[::2], map(int, words[1::2]), strict=True)
        return " ".join(f"{name} {max(number, least.get(name, 0))}" for name, number in pairs)


class Letters(NamedTuple):
    """Fields by letter, all of which are to be there."""

    wanted: str

    def reached(self, now: str) -> str:
        """The letters of now, and behind them those that are missing."""
        return now + "".join(letter for letter in self.wanted if letter not in now)


class Moderated(NamedTuple):
    """Interrupts that wait at least so many microseconds, or as long as the driver finds right."""

    least: int

    def reached(self, now: str) -> str:
        """The text of `ethtool.COALESCING`."""
        words = now.split()
        return now if words[3] == "on" or int(words[1]) >= self.least else f"rx-usecs {self.least} adaptive-rx off"


def same(key: str, one: str, other: str) -> bool:
    """Whether two texts of a setting mean the same value: the kernel has its own spaces and leading zeros."""
    read = _mask if key.endswith("_cpus") else _cpus if key.startswith("irq:") else str.split
    try:
        return read(one) == read(other)
    except ValueError:
        return one.split() == other.split()


def _cpus(text: str) -> set[int]:
    """A list as the kernel writes it, such as 0-3,6."""
    try:
        return set(units.cpu_list(text))
    except UsageError as error:
        raise ValueError(text) from error


def _mask(text: str) -> int:
    """A mask as the kernel writes it: hexadecimal words of 32 bits with commas between."""
    return int(text.replace(",", ""), 16)


def _mask_text(mask: int) -> str:
    words = [f"{mask & 0xFFFFFFFF:x}"]
    while mask := mask >> 32:
        words[0] = words[0].zfill(8)
        words.insert(0, f"{mask & 0xFFFFFFFF:x}")
    return ",".join(words)
