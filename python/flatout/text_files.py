"""The text of files that users name: UTF-8, with or without a byte order mark; other encodings are named.

Method: the first bytes tell the encoding, by a byte order mark (Unicode, section 23.8) or, without one, by where the
zeros of two ASCII characters are (RFC 4627, section 3). `crates/engine/src/text_file.rs` does the same for the files
that the engine reads.
"""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

from flatout.errors import UsageError

# UTF-32 comes first: its mark in little endian begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_ZEROS = (
    (re.compile(rb"[^\0]\0\0\0|\0\0\0[^\0]"), "UTF-32"),
    (re.compile(rb"[^\0]\0(?:[^\0]\0|\Z)|\0[^\0](?:\0[^\0]|\Z)"), "UTF-16"),
)
MARK = "\ufeff"


def read(path: str | os.PathLike[str], what: str) -> str:
    """The text of a file; `what` names it in errors. Errors: UsageError where it cannot be read, or is no UTF-8."""
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f"{what}: {getattr(error, 'strerror', None) or error}") from error
    return decode(data, what)


def decode(data: bytes, what: str) -> str:
    """The text of a file's bytes. Errors: UsageError, which names the encoding, or the first line that is no UTF-8."""
    data = unmarked(data, what)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{what}, line {line}: byte 0x{data[error.start]:02x} is no UTF-8: convert the file, for instance with "
            "'iconv -f LATIN1 -t UTF-8'"
        ) from error


def unmarked(data: bytes, what: str) -> bytes:
    """The bytes without the mark of UTF-8. Errors: UsageError for UTF-16 and UTF-32."""
    encoding = _encoding(data[:4])
    if encoding:
        raise UsageError(
            f"{what}: this is {encoding}, and flatout reads UTF-8: convert it with 'iconv -f {encoding} -t UTF-8'"
        )
    return data.removeprefix(codecs.BOM_UTF8)


def _encoding(head: bytes) -> str | None:
    marked = (name for mark, name in _MARKS if head.startswith(mark))
    return next(marked, None) or next((name for zeros, name in _ZEROS if zeros.fullmatch(head)), None)
