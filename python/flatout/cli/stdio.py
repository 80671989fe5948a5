"""Standard output and standard error that may be full, closed, or unable to hold a character: nothing else is lost.

Method: while a command runs both are replaced. A write that fails is kept as an error and raises nothing; characters
that the encoding lacks are replaced. At the end one sentence on standard error says what was not written.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO

# What stands for our own characters in encodings that lack them, as wide as they are; all others become '?'.
_PLAIN = {"µ": "u", "–": "-", "…": ".", "→": ">", "·": "*", "─": "-", "━": "=", "╳": "x"}


class Stream(io.TextIOBase):
    """A text stream, whose failures are kept and not raised; only its `buffer` raises OSError."""

    def __init__(self, stream: TextIO | None) -> None:
        """`stream`: None for one that was closed when the process began."""
        self._stream = stream
        self.error: OSError | None = None
        self.reported = False
        self._used = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of what is written."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def buffer(self) -> BinaryIO:
        """For bytes: a write goes out at once or raises OSError, which is then for its caller to tell."""
        return _Bytes(self)  # type: ignore[return-value]

    def write(self, text: str) -> int:
        """Writes what can be written."""
        self._used = True
        self._attempt("write", replaced(text, self.encoding))
        return len(text)

    def flush(self) -> None:
        """Writes what waits, if that can be done."""
        # What was not used may well be closed.
        if self._used:
            self._attempt("flush")

    def write_bytes(self, data: bytes) -> None:
        """Writes all of it. Errors: OSError."""
        self.flush()
        try:
            if self._stream is None:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            self._stream.buffer.write(data)
            self._stream.buffer.flush()
        except (OSError, ValueError) as error:
            self._keep(error)
            self.reported = True
            assert self.error is not None
            raise self.error from error

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """Its descriptor. Errors: OSError where it has none."""
        if self._stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._stream.fileno()

    def writable(self) -> bool:
        """Yes."""
        return True

    def _attempt(self, what: str, *arguments: str) -> None:
        try:
            if self._stream is None:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            getattr(self._stream, what)(*arguments)
        except (OSError, ValueError) as error:
            self._keep(error)

    def _keep(self, error: OSError | ValueError) -> None:
        """Keeps the first; a ValueError is what Python makes of a closed file."""
        closed = OSError(errno.EBADF, os.strerror(errno.EBADF))
        self.error = self.error or (error if isinstance(error, OSError) else closed)


class _Bytes(io.RawIOBase):
    """The bytes below a stream."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write_bytes(bytes(data))
        return len(data)


def replaced(text: str, encoding: str) -> str:
    """The text with what the encoding lacks replaced; bytes of file names that are no text among it."""
    if text.isascii():
        return text
    try:
        text.encode(encoding)
    except LookupError:
        return text
    except UnicodeEncodeError:
        return "".join(_replaced(char, encoding) for char in text)
    return text


def _replaced(char: str, encoding: str) -> str:
    for instead in (char, _PLAIN.get(char, "\N{REPLACEMENT CHARACTER}")):
        with contextlib.suppress(UnicodeEncodeError):
            instead.encode(encoding)
            return instead
    return "?"


@contextlib.contextmanager
def replaced_streams() -> Iterator[tuple[Stream, Stream]]:
    """Replaces standard output and standard error for a while; gives both."""
    kept = sys.stdout, sys.stderr
    out, err = Stream(kept[0]), Stream(kept[1])
    sys.stdout, sys.stderr = out, err
    try:
        yield out, err
    finally:
        sys.stdout, sys.stderr = kept


def lost(out: Stream) -> str | None:
    """What to tell of output that could not be written; None also where its reader has left, which is its right."""
    out.flush()
    if out.error is None or out.reported or out.error.errno == errno.EPIPE:
        return None
    return f"standard output cannot be written: {out.error.strerror or out.error}"


def open_closed() -> None:
    """Fills descriptors 0 to 2 where they are closed, or a socket of the measurement would become standard output.

    With a file that cannot be written, so that they behave as closed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)


def discard_unwritten() -> None:
    """Lets the interpreter end without a word on what it cannot flush, and with our exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
