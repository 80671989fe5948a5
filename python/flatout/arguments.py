"""Arguments of the Python API: each check names the argument, and says what it takes.

Numbers may be text as the command line takes it. Errors: ArgumentError, for empty text, too.
"""

from __future__ import annotations

import os
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from flatout import units
from flatout.errors import ArgumentError

_NO_TEXTS = (str, bytes, bytearray, Mapping)


def path(name: str, value: Any) -> str:
    """The name of a file: text, bytes or `os.PathLike`."""
    try:
        found = os.fsdecode(value)
    except TypeError as error:
        raise _refused(name, value, "give the name of a file, as str or os.PathLike") from error
    if not found or "\0" in found:
        raise _refused(name, found, "this can be no file's name")
    return found


def text(name: str, value: Any) -> str:
    """Text that is not empty, and that UTF-8 can hold."""
    if not isinstance(value, str) or _has_surrogates(value):
        raise _refused(name, value, "give text (in UTF-8)")
    if not value.strip():
        raise _refused(name, value, "empty text means nothing: leave it out, or say what you mean")
    return value


def texts(name: str, value: Any) -> tuple[str, ...]:
    """Several texts, none of them empty."""
    if isinstance(value, _NO_TEXTS) or not hasattr(type(value), "__iter__"):
        raise _refused(name, value, "give a list of texts")
    return tuple(text(f"{name}[{index}]", one) for index, one in enumerate(value))


def switch(name: str, value: Any) -> bool:
    """True or False, NumPy's too."""
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):
        raise _refused(name, value, "give True or False")
    return bool(value)


def word(name: str, value: Any, words: Sequence[Any]) -> Any:
    """One of several words, or of a few numbers."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value not in words:
        raise _refused(name, value, f"give one of {', '.join(map(str, words))}")
    return value


def mapping(name: str, value: Any, keys: Sequence[str]) -> dict[str, Any]:
    """A mapping whose keys are among `keys`."""
    if not isinstance(value, Mapping):
        raise _refused(name, value, f"give a mapping with some of {', '.join(keys)}")
    if unknown := [key for key in value if key not in keys]:
        raise ArgumentError(name, f" has no {', '.join(map(repr, unknown))}; it has {', '.join(keys) or 'nothing'}")
    return dict(value)


def cpus(name: str, value: Any) -> tuple[int, ...]:
    """CPUs by number, as numbers or text."""
    if isinstance(value, str):
        return units.named(name, units.cpu_list, value)
    if isinstance(value, _NO_TEXTS):
        raise _refused(name, value, "give numbers of CPUs like (0, 2), or text like '0-3,6'")
    try:
        return tuple(units.integer(name, number) for number in value)
    except (TypeError, ArgumentError) as error:
        raise _refused(name, value, "give numbers of CPUs like (0, 2), or text like '0-3,6'") from error


def callback(name: str, value: Any) -> Any:
    """A function."""
    if not callable(value):
        raise _refused(name, value, "give a function")
    return value


def share(name: str, value: Any, *, may_be_all: bool = False) -> float:
    """A share, as number or text."""
    if isinstance(value, str):
        return units.named(name, lambda given: units.share(given, may_be_all=may_be_all), value)
    number = units.real(value)
    if not (0 <= number < 1 or (may_be_all and number == 1)):
        raise _refused(name, value, f"give a share from 0 to {'1' if may_be_all else 'below 1'}, or text like '0.1%'")
    return number


def rate(name: str, value: Any, *, or_none: bool = False) -> float:
    """A rate per second, as number or text; 0 only where there may be none."""
    if isinstance(value, str):
        return units.named(name, units.rate_or_none if or_none else units.rate, value)
    number = units.real(value)
    if not (0 < number <= units.MOST_PER_S or (or_none and number == 0)):
        raise _refused(name, value, "give a number per second above 0, or text like '100k' (at most 200M)")
    return number


def typed(name: str, kind: Any, value: Any, *, is_path: bool = False) -> Any:
    """A value by the type that its argument is declared with."""
    if get_origin(kind) in (Union, types.UnionType):
        inner = [one for one in get_args(kind) if one is not types.NoneType]
        if value is None and len(inner) < len(get_args(kind)):
            return None
        kind = inner[0]
    if is_path:
        return path(name, value)
    if get_origin(kind) is Literal:
        return word(name, value, get_args(kind))
    check = _CHECKS.get(kind) or (texts if get_args(kind) == (str,) else None)
    return check(name, value) if check else value


_CHECKS: dict[Any, Callable[[str, Any], Any]] = {bool: switch, int: units.integer, str: text}


def _has_surrogates(value: str) -> bool:
    return not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)


def _refused(name: str, value: Any, takes: str) -> ArgumentError:
    return ArgumentError(name, f"={value!r}: {takes}")
