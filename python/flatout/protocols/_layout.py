"""Where the fields of a fixed-size message lie, what each is for, and what goes into it; read from a line of text.

Method: text and NumPy dtypes both become a `Layout`; the engine gets it as knobs (crates/wire/src/record.rs has the
other end), Python as the dtype. NumPy itself is imported only where a dtype is made: see `_dtypes.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import struct
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from flatout.errors import UsageError

Endian = Literal["little", "big"]
DEFAULT = "id:u4 seq:u4 sent:u8 x:f4 y:f4"
# The message of a game server's test: one number of 4 bytes, the same in all.
PRESETS = {"movement": "id:i4=7"}
LONGEST = 512
# How many fields of each kind the engine takes; constants in pieces of up to 8 bytes.
_MOST = {"counter": 8, "random": 8, "constant": 64}

_NAMED = {
    **dict.fromkeys(("id", "uid", "player"), "identity"),
    **dict.fromkeys(("seq", "sequence"), "sequence"),
    **dict.fromkeys(("sent", "time", "timestamp"), "sent"),
}
_UNITS_NS = {"sent": 1, "sent_us": 1000, "sent_ms": 1_000_000, "sent_s": 1_000_000_000}
_STEPS_NS = {"ns": 1, "us": 1000, "ms": 1_000_000, "s": 1_000_000_000}
ROLES = ("identity", "sequence", *_UNITS_NS, "none")
_LONG_NAMES = {f"{kind}{8 * n}": f"{kind[0]}{n}" for kind in ("uint", "int", "float") for n in (1, 2, 4, 8)}
_LONG_NAMES = {name: code for name, code in _LONG_NAMES.items() if code != "f1"} | {"?": "b1", "bool": "b1"}
_CODE = re.compile(r"[ui][1248]|f[248]|b1|c(?:8|16)|[SVU][1-9][0-9]{0,3}|[Mm]8\[(?:ns|us|ms|s)\]")
_TYPE = re.compile(r"(?P<order>[<>])?(?P<shape>[1-9][0-9]{0,2}|\([0-9, ]+\))?(?P<code>.+)", re.DOTALL)
_TYPES = "u1 u2 u4 u8 i1 i2 i4 i8 f4 f8, or 4x for 4 bytes of padding"
_NAME = re.compile(r"[^\s,:@=()<>]+")


@dataclasses.dataclass(frozen=True)
class Random:
    """Drawn anew for each message, between two numbers; without them from the whole range, floats from 0 to 1."""

    low: int | float | None = None
    high: int | float | None = None


@dataclasses.dataclass(frozen=True)
class Counter:
    """Counts up with its sender's messages."""


Value = int | float | bytes | Random | Counter | None


@dataclasses.dataclass(frozen=True)
class Field:
    """One field: `code` is NumPy's without the byte order, `shape` that of an array in it.

    `unit_ns` is of times of sending: so many ns each; 0: seconds, as a float.
    """

    name: str
    code: str
    offset: int
    big: bool = False
    shape: tuple[int, ...] = ()
    role: Literal["identity", "sequence", "sent", "none"] = "none"
    unit_ns: int = 1
    value: Value = None

    @property
    def width(self) -> int:
        """Bytes of one element."""
        return code_width(self.code)

    @property
    def size(self) -> int:
        """Bytes."""
        return functools.reduce(int.__mul__, self.shape, self.width)

    @property
    def place(self) -> int:
        """As the engine takes it (crates/wire/src/record/field.rs)."""
        is_float = self.code in ("f4", "f8")
        return self.offset | self.width << 16 | self.big << 24 | is_float << 25

    @property
    def type_text(self) -> str:
        """Its type as text, for little endian."""
        shape = str(self.shape[0]) if len(self.shape) == 1 else str(self.shape).replace(" ", "") if self.shape else ""
        return f"{'>' if self.big else ''}{shape}{self.code}"


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
        from flatout.protocols import _dtypes

        return _dtypes.dtype_of(self)

    @functools.cached_property
    def text(self) -> str:
        """The canonical text: `layout_of` makes this layout of it."""
        words, end = [], 0
        for field in self.fields:
            words += _padding(field.offset - end)
            words.append(f"{field.name}:{field.type_text}{_told_role(field)}{_told_value(field.value)}")
            end = field.offset + field.size
        return " ".join([*words, *_padding(self.size - end)])

    def field(self, role: str) -> Field | None:
        """The field of a role."""
        return next((field for field in self.fields if field.role == role), None)

    def engine_knobs(self) -> list[tuple[str, int]]:
        """The layout as the engine takes it."""
        return [("size", self.size), *(knob for field in self.fields for knob in _field_knobs(field))]


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
    from flatout.protocols import _dtypes

    return _checked(_dtypes.read_dtype(described))


# --- Text ---


def _read_text(text: str, big: bool) -> Layout:
    fields: list[Field] = []
    explicit: set[str] = set()
    at = 0
    for word in _split(PRESETS.get(text.strip(), text)):
        padding = re.fullmatch(r"(?:[^\s,:@=()<>]+:)?([1-9][0-9]{0,3})x", word)
        if padding:
            at += int(padding[1])
            continue
        field, told = _read_word(word, at, big)
        if told:
            explicit.add(field.name)
        if any(field.name == other.name for other in fields):
            raise UsageError(f"format '{text}': two fields are called '{field.name}'")
        fields.append(field)
        at += field.size
    return Layout(with_named_roles(fields, explicit), at)


def _split(text: str) -> Iterator[str]:
    """Words between spaces or commas, but for those within parentheses."""
    for word in re.findall(r"(?:\([^()]*\)|[^\s,()]|[()])+", text):
        yield re.sub(r"\s", "", word)


def _read_word(word: str, at: int, big: bool) -> tuple[Field, bool]:
    """A field, and whether its role was told."""
    name, colon, rest = word.partition(":")
    rest, equals, value = rest.partition("=")
    kind, sign, role = rest.partition("@")
    if not colon or not _NAME.fullmatch(name):
        raise UsageError(f"field '{word}': write it like id:u4 or x:f4=random (name:type, then @role or =value)")
    order, shape, code = _read_type(word, kind)
    field = Field(name, code, at, bool(code_swaps(code)) and (big if order is None else order == ">"), shape)
    if sign and equals:
        raise UsageError(f"field '{word}': a field has a role or a value, not both")
    if sign:
        return with_role(field, role), True
    return (with_value(field, value), True) if equals else (field, False)


def _read_type(word: str, kind: str) -> tuple[str | None, tuple[int, ...], str]:
    found = _TYPE.fullmatch(kind)
    code = _LONG_NAMES.get(found["code"], found["code"]) if found else ""
    if not found or not _CODE.fullmatch(code):
        raise UsageError(f"field '{word}': '{kind}' is no type; there are {_TYPES} (< or > before it: byte order)")
    shape = tuple(int(n) for n in re.findall("[0-9]+", found["shape"] or ""))
    if 0 in shape or len(shape) > 8:
        raise UsageError(f"field '{word}': an array of {found['shape']} holds nothing that can be sent")
    return found["order"], shape, code


def code_width(code: str) -> int:
    """Bytes of a type."""
    if code[0] in "Mm":
        return 8
    return int(code[1:]) * (4 if code[0] == "U" else 1)


def code_swaps(code: str) -> bool:
    """Whether a type has a byte order."""
    return code[0] not in "SVb" and code_width(code) > 1


# --- Roles ---


def with_role(field: Field, role: str) -> Field:
    """The field with a role as text. Errors: UsageError."""
    if role not in ROLES:
        raise UsageError(f"field '{field.name}': there is no role '{role}'; there are {', '.join(ROLES)}")
    made = _suited(field, role)
    if made is None:
        wanted = (
            "a whole number" if role in ("identity", "sequence") else "a whole number of 4 or 8 bytes, or seconds in f8"
        )
        raise UsageError(
            f"field '{field.name}' cannot have the role {role}: that needs {wanted}, not {field.type_text}"
        )
    return made


def _suited(field: Field, role: str) -> Field | None:
    """The field with this role, if its type fits."""
    if role == "none":
        return field
    if role in ("identity", "sequence"):
        whole = field.code[0] in "ui" and not field.shape
        return dataclasses.replace(field, role=role) if whole else None  # type: ignore[arg-type]
    code = field.code
    if code == "f8" and role in ("sent", "sent_s"):
        unit_ns: int | None = 0
    elif code[0] == "M":
        own = _STEPS_NS[code[3:-1]]
        unit_ns = own if role == "sent" or _UNITS_NS[role] == own else None
    else:
        unit_ns = _UNITS_NS[role] if code in ("u4", "i4", "u8", "i8") else None
    return None if unit_ns is None or field.shape else dataclasses.replace(field, role="sent", unit_ns=unit_ns)


def _by_name(field: Field) -> Field:
    """The field with the role that its name implies, if its type suits; a time in fewer than 8 bytes must be told."""
    role = _NAMED.get(field.name.lower(), "none")
    if field.value is not None or (role == "sent" and field.width < 8):
        return field
    return _suited(field, role) or field


def with_named_roles(fields: list[Field], explicit: set[str]) -> tuple[Field, ...]:
    """Roles by name, to the first of each, where no other field was told to have it. Errors: UsageError."""
    taken: dict[str, str] = {}
    for field in fields:
        if field.name in explicit and field.role != "none":
            if field.role in taken:
                raise UsageError(f"fields '{taken[field.role]}' and '{field.name}' cannot both be the {field.role}")
            taken[field.role] = field.name
    found = []
    for field in fields:
        named = field if field.name in explicit else _by_name(field)
        if named.role != "none" and taken.setdefault(named.role, named.name) != named.name:
            named = field
        found.append(named)
    return tuple(found)


def told_role(field: Field) -> str:
    """The role's word where the field's name does not imply it."""
    bare = dataclasses.replace(field, role="none", unit_ns=1)
    if _by_name(bare) == field or field.value is not None:
        return ""
    if field.role != "sent":
        return field.role
    return next((word for word in _UNITS_NS if _suited(bare, word) == field), "sent")


def _told_role(field: Field) -> str:
    role = told_role(field)
    return f"@{role}" if role else ""


# --- Values ---


def with_value(field: Field, text: str) -> Field:
    """The field with a value as text. Errors: UsageError."""
    value = _read_value(field, text)
    if value is None:
        raise UsageError(
            f"field '{field.name}:{field.type_text}' cannot be '{text}': a value is a number within the type's range "
            "(7, -1, 0x1f, 0.5), counter, random or random(0,1000); bytes are written 0x00ff"
        )
    return dataclasses.replace(field, value=value)


def _read_value(field: Field, text: str) -> Value:
    kind = field.code[0]
    if field.shape or kind in "cU":
        return None
    if kind in "SV":
        digits = re.fullmatch(r"0x((?:[0-9a-fA-F]{2})+)", text)
        return (
            bytes.fromhex(digits[1]).ljust(field.size, b"\0") if digits and len(digits[1]) <= 2 * field.size else None
        )
    if text == "counter":
        return Counter() if kind in "uiMm" else None
    bounds = re.fullmatch(r"random(?:\(([^,()]+),([^,()]+)\))?", text)
    if bounds:
        return _read_random(field, bounds[1], bounds[2])
    return _read_number(field, text)


def _read_random(field: Field, low: str | None, high: str | None) -> Random | None:
    if field.code == "f2":
        return None
    if low is None or high is None:
        return Random()
    least, most = _read_number(field, low), _read_number(field, high)
    return Random(least, most) if least is not None and most is not None and least <= most else None


def _read_number(field: Field, text: str) -> int | float | None:
    try:
        number = float(text) if field.code[0] == "f" else int(text, 16 if "x" in text.lower() else 10)
        number_bits(field.code, number)
    except (ValueError, OverflowError, struct.error):
        return None
    return number if math.isfinite(number) else None


def number_bits(code: str, number: int | float) -> int:
    """The bits of a number of a type. Errors: struct.error, OverflowError."""
    kind = {"f2": "e", "f4": "f", "f8": "d", "b1": "?"}.get(code)
    kind = kind or {1: "b", 2: "h", 4: "i", 8: "q"}[code_width(code)]
    if code == "b1" and number not in (0, 1):
        raise OverflowError
    packed = struct.pack(f"<{kind.upper() if code[0] == 'u' else kind}", number)
    return int.from_bytes(packed, "little")


def told_value(value: Value) -> str:
    """A value as text; nothing for none."""
    match value:
        case None:
            return ""
        case Counter():
            return "counter"
        case Random(None, None):
            return "random"
        case Random(low, high):
            return f"random({low!r},{high!r})"
        case bytes():
            return f"0x{value.hex()}"
        case _:
            return repr(value)


def _told_value(value: Value) -> str:
    return "" if value is None else f"={told_value(value)}"


def _padding(count: int) -> list[str]:
    return [f"pad:{count}x"] if count else []


# --- The engine's ---


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >> 63 else bits


def _field_knobs(field: Field) -> list[tuple[str, int]]:
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
            found = [knob for piece in _pieces(field, data) for knob in piece]
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
    counted = [name for name, _ in layout.engine_knobs()]
    for kind, most in _MOST.items():
        if counted.count(kind) > most:
            raise UsageError(f"{counted.count(kind)} fields are {kind}: there is room for {most}")
    return layout
