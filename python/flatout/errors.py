"""The errors that flatout raises, each with the exit code of the command.

Errors of the data path are counted, not raised.
"""

from __future__ import annotations

import re
from typing import Any


class FlatoutError(Exception):
    """Root of all errors raised by flatout; `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(FlatoutError):
    """Invalid settings: the caller's fault. Nothing has been sent."""

    exit_code = 2


class ArgumentError(UsageError):
    """One argument has a value that it cannot have: `argument`, its name in Python; `reason`: the value, what it takes.

    The command line shows the flag in place of the argument's name.
    """

    def __init__(self, argument: str, reason: str) -> None:
        """`reason` goes on behind the name: "={value!r}: give …", or ": …"."""
        super().__init__(f"{argument}{reason}")
        self.argument = argument
        self.reason = reason


def of_engine(error: Exception) -> UsageError:
    """What the engine refuses, as an error of the caller's; "name: reason" names an argument."""
    text = plain(error)
    name, colon, reason = text.partition(":")
    return ArgumentError(name, f":{reason}") if colon and name.isidentifier() else UsageError(text)


def plain(error: Exception) -> str:
    """An error's text without the number that Rust puts behind the kernel's words."""
    return re.sub(r" \(os error [0-9]+\)", "", getattr(error, "strerror", None) or str(error))


class TargetError(FlatoutError):
    """The target cannot be reached, or refuses: the far end's fault, or the network's."""

    exit_code = 3


class GeneratorError(FlatoutError):
    """The generator cannot drive what was asked (descriptors, memory, permission)."""

    exit_code = 4


class HostLost(GeneratorError):
    """One of several hosts was lost before the load began: that says nothing of the load."""


class GeneratorLost(GeneratorError):
    """Nothing is left that could generate load: a search ends with it."""


class OutputError(FlatoutError):
    """A result could not be written (full disk, no permission). What was measured is kept elsewhere."""

    exit_code = 1


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a measurement. `result` holds what was measured until then."""

    exit_code = 130

    def __init__(self, result: Any) -> None:
        super().__init__("interrupted")
        self.result = result
