"""Records: messages of one fixed layout, sent one way or answered alike; the layout is given as text."""

from __future__ import annotations

import dataclasses

from flatout.errors import UsageError
from flatout.protocols.base import Protocol, ReceiverLayout
from flatout.protocols.record.layout import DEFAULT, Endian, Layout, layout_of
from flatout.protocols.record.roles import Counter, Random

__all__ = ["PROTOCOL", "Knobs", "Layout", "ServeKnobs", "layout_of"]

_FORMAT_HELP = (
    "Fields as name:type (u1 u2 u4 u8 i1 i2 i4 i8 f4 f8, 4x for padding), then @identity, @sequence, @sent, or "
    "=number, =counter, =random; or 'movement'."
)
_MOST_SENDERS = 2**32 - 1
_ENDIAN_HELP = "Byte order of numbers that do not begin with < or >."


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of `load record` and `limit record`."""

    format: str = dataclasses.field(default=DEFAULT, metadata={"engine": False, "help": _FORMAT_HELP})
    endian: Endian = dataclasses.field(default="little", metadata={"engine": False, "help": _ENDIAN_HELP})
    values: str | None = dataclasses.field(
        default=None,
        metadata={
            "engine": False,
            "path": True,
            "help": "File of rows to send in turn: .npy, or CSV with the fields' names on top.",
        },
    )
    reply: str | None = dataclasses.field(
        default=None,
        metadata={
            "engine": False,
            "help": "Answers come back, in this format: their @sequence echoes the request's; "
            "... at the end: more bytes may follow.",
        },
    )


@dataclasses.dataclass(frozen=True)
class ServeOptions:
    """Settings of `serve record`."""

    format: str = dataclasses.field(default=DEFAULT, metadata={"engine": False, "help": _FORMAT_HELP})
    endian: Endian = dataclasses.field(default="little", metadata={"engine": False, "help": _ENDIAN_HELP})


def engine_options(protocol_options: Options | ServeOptions) -> list[tuple[str, int]]:
    """The layout, and the answer's if there is one, as crates/wire/src/record.rs takes them. Errors: UsageError."""
    layout = layout_of(protocol_options.format, protocol_options.endian)
    reply = getattr(protocol_options, "reply", None)
    if reply is None:
        return layout.engine_options()
    if layout.field("sequence") is None:
        raise UsageError("answers are matched by number: the format needs a field with the role @sequence")
    return [*layout.engine_options(), *_reply_options(reply, protocol_options.endian)]


def _reply_options(text: str, endian: Endian) -> list[tuple[str, int]]:
    """What the engine checks of an answer; `...` at the end: more may follow."""
    fixed = text.rstrip().removesuffix("...")
    reply = layout_of(fixed if fixed == text.rstrip() else fixed.rstrip().removesuffix(","), endian)
    echoed = reply.field("sequence")
    if echoed is None:
        raise UsageError("the reply needs a field with the role @sequence, where the request's comes back")
    drawn = [field.text for field in reply.fields if isinstance(field.value, Random | Counter)]
    if drawn:
        raise UsageError(f"field '{drawn[0]}' of the reply: answers are read, so a value there is a number, or none")
    kept = [option for option in reply.engine_options() if option[0] in ("identity", "constant", "value")]
    return [("reply", reply.size), ("echoed", echoed.place), ("longer", int(fixed != text.rstrip())), *kept]


def lines_of(protocol_options: Options) -> list[str]:
    """The rows of the file of values, as hexadecimal digits. Errors: UsageError."""
    if protocol_options.values is None:
        return []
    from flatout.protocols.record import rows

    return rows.lines(layout_of(protocol_options.format, protocol_options.endian), protocol_options.values)


def one_way(protocol_options: Options | ServeOptions) -> bool:
    """Whether nothing comes back."""
    return getattr(protocol_options, "reply", None) is None


def max_senders(protocol_options: Options | ServeOptions) -> int | None:
    """How many senders there can be: as many as an identity names; with neither identity nor sequence any number."""
    layout = layout_of(protocol_options.format, protocol_options.endian)
    identity = layout.field("identity")
    if identity is not None:
        return min(1 << 8 * identity.width, _MOST_SENDERS)
    return None if layout.field("sequence") else _MOST_SENDERS


def receiver_layout(protocol_options: Options) -> ReceiverLayout:
    """The length of a record, and the places of its identity and sequence number."""
    given = dict(engine_options(protocol_options))
    return ReceiverLayout(given["size"], int(given.get("identity", 0)) | int(given.get("sequence", 0)) << 32)


PROTOCOL = Protocol(
    name="record",
    title="Record",
    port=31234,
    test_port=31234,
    summary="small messages of one layout, sent one way",
    options=Options,
    serve_options=ServeOptions,
    words={
        "replied": "right answers, where answers come back",
        "wrong_constant": "answers that differ where they must not",
        "wrong_size": "answers of another length",
    },
    engine_options=engine_options,
    lines_of=lines_of,
    one_way=one_way,
    max_senders=max_senders,
    receiver_layout=receiver_layout,
)
