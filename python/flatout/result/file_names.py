"""File names that are not UTF-8, in JSON: as `file:` URIs (RFC 8089), which read back as the same bytes.

Python keeps such bytes as lone surrogates (PEP 383), which JSON cannot hold. A name in a scenario that has some becomes
an absolute URI with its bytes percent-encoded, `file:///tmp/b%FC.txt`; in texts for people they are replaced.
"""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import quote, unquote_to_bytes

_SURROGATES = re.compile("[\ud800-\udfff]")
_SCHEME = "file://"


def shown(text: str) -> str:
    """The text for people: what is not UTF-8 is replaced."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def encoded(value: Any, *, named: bool = False) -> Any:
    """A result in builtins with all texts as JSON can hold them; `named`: it is a scenario, or in one."""
    if isinstance(value, str):
        return _uri(value) if named and _SURROGATES.search(value) else shown(value)
    if isinstance(value, dict):
        return {shown(key): encoded(inner, named=named or key == "scenario") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [encoded(inner, named=named) for inner in value]
    return value


def decoded(value: Any, *, named: bool = False) -> Any:
    """What `encoded` was given, but for texts for people."""
    if isinstance(value, str):
        return _name(value) if named else value
    if isinstance(value, dict):
        return {key: decoded(inner, named=named or key == "scenario") for key, inner in value.items()}
    if isinstance(value, list):
        return [decoded(inner, named=named) for inner in value]
    return value


def may_have_uris(data: bytes | str) -> bool:
    """Whether there may be a name to decode."""
    return (_SCHEME.encode() if isinstance(data, bytes) else _SCHEME) in data  # type: ignore[operator]


def _uri(name: str) -> str:
    try:
        return _SCHEME + quote(os.fsencode(os.path.abspath(name)))
    except UnicodeEncodeError:
        return shown(name)  # no name of a file


def _name(text: str) -> str:
    """A URI is a name only where its bytes are not UTF-8: all others were given as they stand."""
    if not text.startswith(f"{_SCHEME}/"):
        return text
    name = unquote_to_bytes(text.removeprefix(_SCHEME))
    try:
        name.decode()
    except UnicodeDecodeError:
        return os.fsdecode(name)
    return text
