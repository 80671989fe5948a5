"""One field of a fixed-size message: its type, what it is for and what goes into it, as text and back.

Method: `name:type`, then `@role` or `=value`. What the whole message looks like is in `_layout.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import struct
from typing import Literal

from flatout.errors import UsageError

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
_TYPE = re.compile(r"(?P<order>[<>])?(?P<shape>[1-9][0-9]{0,2}|\([0-9,]+\))?(?P<after>[<>])?(?P<code>.+)", re.DOTALL)
_TYPES = "u1 u2 u4 u8 i1 i2 i4 i8 f4 f8, or 4x for 4 bytes of padding"
_MOST_DIMENSIONS = 32
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
        return f"{shape}{'>' if self.big else ''}{self.code}"

    @property
    def text(self) -> str:
        """The field as text, for little endian; `read_field` makes it of that."""
        role, value = role_text(self), value_text(self.value)
        return f"{self.name}:{self.type_text}{role and f'@{role}'}{value and f'={value}'}"


# --- Text and types ---


def read_field(word: str, at: int, big: bool) -> tuple[Field, bool]:
    """A field at an offset, and whether it was told what it is for. Errors: UsageError."""
    name, colon, rest = word.partition(":")
    rest, equals, value = rest.partition("=")
    kind, sign, role = rest.partition("@")
    if not colon or not is_name(name):
        raise UsageError(f"field '{word}': write it like id:u4 or x:f4=random (name:type, then @role or =value)")
    order, shape, code = _read_type(word, kind)
    field = Field(name, code, at, code_swaps(code) and (big if order is None else order == ">"), shape)
    if sign and equals:
        raise UsageError(f"field '{word}': a field has a role or a value, not both")
    if sign:
        return with_role(field, role), True
    return (with_value(field, value), True) if equals else (field, False)


def _read_type(word: str, kind: str) -> tuple[str | None, tuple[int, ...], str]:
    found = _TYPE.fullmatch(kind)
    code = _LONG_NAMES.get(found["code"], found["code"]) if found else ""
    if not found or not is_code(code):
        raise UsageError(f"field '{word}': '{kind}' is no type; there are {_TYPES} (< or > before it: byte order)")
    shape = tuple(int(n) for n in re.findall("[0-9]+", found["shape"] or ""))
    if 0 in shape:
        raise UsageError(f"field '{word}': an array of {found['shape']} holds nothing that can be sent")
    check_shape(word, shape)
    return found["after"] or found["order"], shape, code


def check_shape(name: str, shape: tuple[int, ...]) -> None:
    """Errors: UsageError for more dimensions than every NumPy has."""
    if len(shape) > _MOST_DIMENSIONS:
        raise UsageError(f"field '{name}': an array has {_MOST_DIMENSIONS} dimensions at most, and this {len(shape)}")


def is_code(code: str) -> bool:
    """Whether it is a type that text can say."""
    return _CODE.fullmatch(code) is not None


def is_name(name: str) -> bool:
    """Whether it is a name that text can say."""
    return _NAME.fullmatch(name) is not None


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
        raise UsageError(
            f"field '{field.name}' cannot have the role {role}: that needs {_wanted(role)}, not {field.type_text}"
        )
    return made


def _wanted(role: str) -> str:
    """What type a role needs."""
    if role in ("identity", "sequence"):
        return "a whole number"
    if role in ("sent", "sent_s"):
        return "a whole number of 4 or 8 bytes, or seconds in f8"
    return "a whole number of 4 or 8 bytes (f8 holds seconds, and M8 has its own unit: they are @sent)"


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


def by_name(field: Field) -> Field:
    """The field with the role that its name implies, if its type suits; a time in fewer than 8 bytes must be told."""
    role = _NAMED.get(field.name.lower(), "none")
    if field.value is not None or (role == "sent" and field.width < 8):
        return field
    return _suited(field, role) or field


def role_text(field: Field) -> str:
    """The role's word where the field's name does not imply it."""
    bare = dataclasses.replace(field, role="none", unit_ns=1)
    if by_name(bare) == field or field.value is not None:
        return ""
    if field.role != "sent":
        return field.role
    return next((word for word in _UNITS_NS if _suited(bare, word) == field), "sent")


# --- Values ---


def with_value(field: Field, text: str) -> Field:
    """The field with a value as text. Errors: UsageError."""
    value = _read_value(field, text)
    if value is None:
        raise UsageError(f"field '{field.name}:{field.type_text}' cannot be '{text}': it takes {_allowed(field)}")
    return dataclasses.replace(field, value=value)


def _allowed(field: Field) -> str:
    """What `_read_value` takes."""
    match field.code[0]:
        case _ if field.shape or field.code[0] in "cU":
            return "no value here, but zero or those of a file"
        case "S" | "V":
            return f"up to {field.size} bytes as hexadecimal digits, like 0x00ff"
        case "b":
            return "0 or 1"
        case "f":
            drawn = "" if field.code == "f2" else ", random or random(-1,1)"
            return f"a number within the range of {field.code}, like 0.5{drawn}"
    bits = 8 * field.width
    low, high = (0, 2**bits - 1) if field.code[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return f"a whole number from {low} to {high}, counter, random or random({low},{high})"


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
    return read_number(field, text)


def _read_random(field: Field, low: str | None, high: str | None) -> Random | None:
    if field.code in ("f2", "b1"):
        return None
    if low is None or high is None:
        return Random()
    least, most = read_number(field, low), read_number(field, high)
    return Random(least, most) if least is not None and most is not None and least <= most else None


def read_number(field: Field, text: str) -> int | float | None:
    """A number of the field's type; nothing where the text is none, or out of range."""
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


def value_text(value: Value) -> str:
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
