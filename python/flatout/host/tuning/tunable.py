"""One setting as data: where it is, what is wanted of it, why, and what that risks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from flatout.host.tuning.aim import Aim, Machine
from flatout.host.tuning.rules import Rule
from flatout.host.tuning.system import System

BOTH = ("server", "client")
ANY = ("udp", "tcp")

Wanted = Callable[[Aim, Machine, str], Rule | None]


class Tunable(NamedTuple):
    """One setting, or one of each device, queue or CPU.

    `rule`: what is wanted, by aim, machine and key; None where it does not matter. `parse`: from the file's text to the
    value. `remedy`: for what cannot be changed from outside, who can; `advice`: for what is left to people, and why.
    `short`: what the device cannot do, by machine and key; empty where that is nothing.
    """

    name: str
    keys: Callable[[System, Machine], Sequence[str]]
    rule: Wanted
    why: str
    risk: str
    roles: Sequence[str] = BOTH
    transports: Sequence[str] = ANY
    parse: Callable[[str], str] = str.strip
    remedy: str = ""
    advice: str = ""
    short: Callable[[Machine, str], str] = lambda *_: ""

    def matters(self, aim: Aim) -> bool:
        """Whether hosts with this aim need it at all."""
        return aim.role in self.roles and aim.transport in self.transports


def sysctl(name: str) -> Callable[[System, Machine], Sequence[str]]:
    """The key of a sysctl, whether it is there or not."""
    return lambda *_: ["/proc/sys/" + name.replace(".", "/")]


def power_of_two(least: float) -> int:
    """The next one."""
    return 1 << max(int(least) - 1, 0).bit_length()


def between(value: int, least: int, most: int) -> int:
    """The value, or the bound that it is beyond."""
    return min(max(value, least), most)
