"""The errors that flatout raises, each with the exit code of the command.

Errors of the data path are counted, not raised.
"""

from __future__ import annotations

from typing import Any


class FlatoutError(Exception):
    """Root of all errors raised by flatout; `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(FlatoutError):
    """Invalid settings: the caller's fault. Nothing has been sent."""

    exit_code = 2


class TargetError(FlatoutError):
    """The target cannot be reached, or refuses: the far end's fault, or the network's."""

    exit_code = 3


class GeneratorError(FlatoutError):
    """The generator cannot drive what was asked (descriptors, memory, permission)."""

    exit_code = 4


class OutputError(FlatoutError):
    """A result could not be written (full disk, no permission). What was measured is kept elsewhere."""

    exit_code = 1


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a measurement. `result` holds what was measured until then."""

    exit_code = 130

    def __init__(self, result: Any) -> None:
        super().__init__("interrupted")
        self.result = result
