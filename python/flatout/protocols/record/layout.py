"""Where the fields of a fixed-size message lie and what each is for: layouts, read from a line of text.

Method: text and NumPy dtypes both become a `Layout`; the engine gets it as options (crates/wire/src/record.rs has the
other end), Python as the dtype. NumPy itself is imported only where a dtype is made: see `dtype.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from flatout import text_files
from flatout.errors import UsageError
from flatout.protocols.record.roles import Counter, Field, Random, by_name, is_name, number_bits, read_field

Endian = Literal["little", "big"]
DEFAULT = "id:u4 seq:u4 sent:u8 x:f4 y:f4"
# The message of a game server's test: one number of 4 bytes, the same in all.
PRESETS = {"movement": "id:i4=7"}
LONGEST = 512
_PADDING = re.compile(r"(?:[^\s,:@=()<>]+:)?([1-9][0-9]{0,3})x")
# How many fields of each kind the engine takes; constants in pieces of up to 8 bytes.
_MOST = {"counter": 8, "random": 8, "constant": 64}


@dataclasses.dataclass(frozen=True)
class Layout:
    """A message's fields in the order of their places, and its size in bytes. What is in no field is padding."""

    protocol: ClassVar[str] = "record"

    fields: tuple[Field, ...]
    size: int
    # A dtype that it was made of says more than the fields do: titles, structures within.
    given: Any = dataclasses.field(default=None, compare=False, repr=False)

    @functools.cached_property
    def dtype(self) -> Any:
        """The NumPy dtype, with exactly these offsets."""
        if self.given is not None:
            return self.given
        from flatout.protocols.record.dtype import dtype_of

        return dtype_of(self.fields, self.size)

    @functools.cached_property
    def text(self) -> str:
        """The canonical text: `layout_of` makes this layout of it."""
        words, end = [], 0
        for field in self.fields:
            words += _padding(field.offset - end)
            words.append(field.text)
            end = field.offset + field.size
        return " ".join([*words, *_padding(self.size - end)])

    def field(self, role: str) -> Field | None:
        """The field of a role."""
        return next((field for field in self.fields if field.role == role), None)

    def engine_options(self) -> list[tuple[str, int]]:
        """The layout as the engine takes it."""
        return [("size", self.size), *(option for field in self.fields for option in _field_options(field))]


def layout_of(described: Any = None, endian: Endian = "little") -> Layout:
    """A layout of text, a NumPy dtype or nothing (the usual one). Errors: UsageError.

    `endian` is the byte order of the numbers in text that do not say theirs.
    """
    if endian not in ("little", "big"):
        raise UsageError(f"byte order '{endian}' is neither little nor big")
    if isinstance(described, Layout):
        return described
    if described is None or isinstance(described, str):
        return _checked(_read_text(DEFAULT if described is None else described, endian == "big"))
    if endian == "big":
        raise UsageError("a dtype says its own byte order: give dtype.newbyteorder('>') instead of endian")
    from flatout.protocols.record.dtype import read_dtype

    fields, explicit, dtype = read_dtype(described)
    return _checked(Layout(with_named_roles(fields, explicit), dtype.itemsize, given=dtype))


# --- Text ---


def _read_text(text: str, big: bool) -> Layout:
    text = text.removeprefix(text_files.MARK)
    if re.search(r"(?:\A|,)\s*(?:,|\Z)", text):
        raise UsageError(f"format '{text}': there is an empty field: write it like '{DEFAULT}'")
    words = list(_split(PRESETS.get(text.strip(), text)))
    if len(words) == 1 and is_name(words[0]) and not _PADDING.fullmatch(words[0]):
        raise UsageError(f"format '{text}' is neither fields, like '{DEFAULT}', nor one of {', '.join(PRESETS)}")
    fields: dict[str, Field] = {}
    explicit: set[str] = set()
    at = 0
    for word in words:
        padding = _PADDING.fullmatch(word)
        if padding:
            at += int(padding[1])
            continue
        field, reported = read_field(word, at, big)
        if field.name in fields:
            raise UsageError(f"format '{text}': two fields are called '{field.name}'")
        if reported:
            explicit.add(field.name)
        fields[field.name] = field
        at += field.size
    return Layout(with_named_roles(list(fields.values()), explicit), at)


def _split(text: str) -> Iterator[str]:
    """Words between spaces or commas, but for those within parentheses."""
    for word in re.findall(r"(?:\([^()]*\)|[^\s,()]|[()])+", text):
        yield re.sub(r"\s", "", word)


# --- Roles ---


def with_named_roles(fields: list[Field], explicit: set[str]) -> tuple[Field, ...]:
    """Roles by name, to the first of each, where no other field was told to have it. Errors: UsageError."""
    taken: dict[str, str] = {}
    for field in fields:
        if field.name in explicit and field.role != "none":
            if field.role in taken:
                raise UsageError(f"fields '{taken[field.role]}' and '{field.name}' cannot both be @{field.role}")
            taken[field.role] = field.name
    found = []
    for field in fields:
        named = field if field.name in explicit else by_name(field)
        if named.role != "none" and taken.setdefault(named.role, named.name) != named.name:
            named = field
        found.append(named)
    return tuple(found)


def _padding(count: int) -> list[str]:
    return [f"pad:{count}x"] if count else []


# --- The engine's ---


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


def _field_options(field: Field) -> list[tuple[str, int]]:
    if field.role != "none":
        unit = [("unit", field.unit_ns)] if field.role == "sent" else []
        return [(field.role, field.place), *unit]
    place = field.place
    match field.value:
        case None:
            found = []
        case Counter():
            found = [("counter", place)]
        case Random(None, None):
            found = [("random", place)]
        case Random(low, high):
            found = [("random", place), ("low", _bound(field, low)), ("high", _bound(field, high))]
        case bytes(data):
            found = [option for piece in _pieces(field, data) for option in piece]
        case number:
            found = [("constant", place), ("value", _signed(number_bits(field.code, number)))]
    return found


def _bound(field: Field, number: int | float | None) -> int:
    """A whole number as it is, else the bits of a float of 8 bytes."""
    if field.code[0] == "f":
        return _signed(number_bits("f8", number or 0.0))
    return _signed(int(number or 0) % (1 << 64))


def _pieces(field: Field, data: bytes) -> Iterator[list[tuple[str, int]]]:
    at = 0
    while at < len(data):
        width = next(width for width in (8, 4, 2, 1) if width <= len(data) - at)
        bits = int.from_bytes(data[at : at + width], "little")
        yield [("constant", field.offset + at | width << 16), ("value", _signed(bits))]
        at += width


def _checked(layout: Layout) -> Layout:
    """The layout, if the engine can take it. Errors: UsageError."""
    if not 1 <= layout.size <= LONGEST:
        raise UsageError(f"a message of {layout.size} bytes: it needs at least 1 and at most {LONGEST}")
    counted = [name for name, _ in layout.engine_options()]
    for kind, most in _MOST.items():
        if counted.count(kind) > most:
            raise UsageError(f"{counted.count(kind)} fields are {kind}: there is room for {most}")
    return layout
