"""A part of a terminal that is drawn again and again: lines over the last ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

from flatout.view.terminal import frame


class Screen:
    """Draws over its own last lines, whose number may change."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn_lines = 0
        self._colours = "NO_COLOR" not in os.environ

    @property
    def size(self) -> os.terminal_size:
        """Columns and rows now."""
        try:
            return os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return os.terminal_size((80, 24))

    def draw(self, lines: Sequence[frame.Line]) -> None:
        """As many of the lines as there is room for. Errors: OSError, ValueError."""
        columns, rows = self.size
        shown = [frame.paint(line, columns - 1, colours=self._colours) for line in lines[: max(1, rows - 1)]]
        # Synchronised update: a terminal that knows it shows no half frame, any other ignores it.
        self._write(f"\x1b[?2026h{self._to_top()}" + "".join(f"{line}\x1b[K\n" for line in shown) + "\x1b[J\x1b[?2026l")
        self._drawn_lines = len(shown)

    def close(self, *, cleared: bool) -> None:
        """The cursor goes below the lines, or they are cleared. Errors: OSError, ValueError."""
        if self._drawn_lines:
            self._write((self._to_top() if cleared else "\r") + "\x1b[J")
            self._drawn_lines = 0

    def _to_top(self) -> str:
        return f"\r\x1b[{self._drawn_lines}A" if self._drawn_lines else "\r"

    def _write(self, data: str) -> None:
        self._stream.write(data)
        self._stream.flush()


def is_terminal(stream: TextIO) -> bool:
    """Whether there is something to draw on."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
