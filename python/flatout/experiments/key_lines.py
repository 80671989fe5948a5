"""On which line of a TOML file each key stands, for errors: the parser of the standard library does not tell. Pure.

The text has been parsed already, so it is valid TOML 1.0: what is left is to pass over the values.
"""

from __future__ import annotations

import re

Key = tuple[str, ...]

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
_PARTS = re.compile(_PART)
_KEY = re.compile(rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*")
_BLANK = re.compile(r"(?:[ \t\r\n]|\#[^\n]*)*")
_HEADER = re.compile(rf"\[\[?[ \t]*({_KEY.pattern})[ \t]*\]\]?")
# What a value consists of: strings of four kinds, comments, brackets, and all else.
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""+|'
    + r"'''.*?'''+|"
    + r"""\"(?:\\.|[^"\\\n])*\"|'[^'\n]*'|\#[^\n]*|[\[\]{}\n]|[^"'\#\[\]{}\n]+""",
    re.DOTALL,
)


def key_lines(text: str) -> dict[Key, int]:
    """The line of each key outside of inline tables, counted from 1, by its whole name."""
    found: dict[Key, int] = {}
    at, table = _skip_blank(text, 0), Key()
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        if header := _HEADER.match(text, at):
            table = _names(header[1])
            found.setdefault(table, line)
            at = _skip_blank(text, header.end())
            continue
        key = _KEY.match(text, at)
        if key is None:
            break
        name = table + _names(key[0])
        # A dotted key names tables too.
        for length in range(len(table) + 1, len(name) + 1):
            found.setdefault(name[:length], line)
        at = _skip_blank(text, _after_value(text, key.end()))
    return found


def line_of(lines: dict[Key, int], key: Key) -> int | None:
    """The line of a key, or that of the table or inline table that it is in."""
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key)


def _names(dotted: str) -> Key:
    return tuple(part.strip("\"'") for part in _PARTS.findall(dotted))


def _skip_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _after_value(text: str, at: int) -> int:
    """Where the value behind a key ends: at the end of a line, outside of strings and brackets."""
    depth = 0
    while at < len(text) and (token := _TOKEN.match(text, at)):
        at = token.end()
        if token[0] in ("[", "{"):
            depth += 1
        elif token[0] in ("]", "}"):
            depth -= 1
        elif token[0] == "\n" and depth <= 0:
            break
    return at
