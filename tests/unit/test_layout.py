"""Layouts out of text: places, roles, values, and what is said of text that is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import UsageError
from flatout.protocols import PROTOCOLS, layout_of
from flatout.protocols.record import Options, ServeOptions, engine_options, lines_of, one_way

BIG, FLOAT = 1 << 24, 2 << 24


def place(at: int, width: int) -> int:
    return at | width << 16


def roles(text: str) -> dict[str, str]:
    return {field.name: field.role for field in layout_of(text).fields}


def refused(text: object, **endian: str) -> str:
    with pytest.raises(UsageError) as reported:
        layout_of(text, **endian)  # type: ignore[arg-type]
    return str(reported.value)


def test_the_usual_layout_as_the_engine_takes_it() -> None:
    usual = [("size", 24), ("identity", place(0, 4)), ("sequence", place(4, 4)), ("sent", place(8, 8)), ("unit", 1)]
    assert layout_of().engine_options() == engine_options(Options()) == engine_options(ServeOptions()) == usual
    big = engine_options(Options(endian="big"))
    assert big == [(name, value if name in ("size", "unit") else value | BIG) for name, value in usual]
    assert layout_of().text == layout_of().text == "id:u4 seq:u4 sent:u8 x:f4 y:f4"


def test_byte_order_by_field() -> None:
    layout = layout_of("a:<u4@identity b:>u2@sequence c:u1 d:u8", endian="big")
    assert [field.big for field in layout.fields] == [False, True, False, True], "one byte has no order"
    assert layout.text == "a:u4@identity b:>u2@sequence c:u1 d:>u8", "for little endian"
    assert layout_of(layout.text) == layout


def test_values_as_the_engine_takes_them() -> None:
    protocol_options = layout_of(
        "a:u1=0x1f b:i2=-2 c:>f4=0.5 d:u8=counter e:f8=random f:i4=random(-5,5) g:f4=random(-1,1.5) "
        "h:u8=0xffffffffffffffff"
    ).engine_options()
    assert protocol_options == [
        ("size", 39),
        ("constant", place(0, 1)),
        ("value", 31),
        ("constant", place(1, 2)),
        ("value", 0xFFFE),
        ("constant", place(3, 4) | BIG | FLOAT),
        ("value", 0x3F000000),
        ("counter", place(7, 8)),
        ("random", place(15, 8) | FLOAT),
        ("random", place(23, 4)),
        ("low", -5),
        ("high", 5),
        ("random", place(27, 4) | FLOAT),
        ("low", 0xBFF0000000000000 - 2**64),
        ("high", 0x3FF8000000000000),
        ("constant", place(31, 8)),
        ("value", -1),
    ]


def test_bytes_are_constants_in_pieces() -> None:
    protocol_options = layout_of("head:V7=0x01020304050607 tail:S3=0x61").engine_options()
    assert protocol_options[1:7] == [
        ("constant", place(0, 4)),
        ("value", 0x04030201),
        ("constant", place(4, 2)),
        ("value", 0x0605),
        ("constant", place(6, 1)),
        ("value", 7),
    ]
    assert protocol_options[7:] == [("constant", place(7, 2)), ("value", 0x61), ("constant", place(9, 1)), ("value", 0)]


def test_roles_by_name() -> None:
    for name in ("id", "uid", "player", "ID"):
        assert roles(f"{name}:u2") == {name: "identity"}
    assert roles("seq:i8 time:f8") == {"seq": "sequence", "time": "sent"}
    assert roles("sequence:u1 timestamp:M8[us]") == {"sequence": "sequence", "timestamp": "sent"}
    assert roles("id:f4 seq:2u4 time:u4 sent:f4") == dict.fromkeys(("id", "seq", "time", "sent"), "none"), (
        "no such type"
    )
    assert roles("id:u4=7 seq:u4=counter") == {"id": "none", "seq": "none"}, "a value of its own"
    assert roles("player:u4 id:u4") == {"player": "identity", "id": "none"}, "the first"
    assert roles("id:u4 who:u4@identity") == {"id": "none", "who": "identity"}, "who was told"
    assert roles("id:u4@none uid:u4") == {"id": "none", "uid": "identity"}


def test_times_of_sending() -> None:
    units = {"a:u8@sent": 1, "a:i4@sent_us": 1000, "a:u4@sent_ms": 10**6, "a:u8@sent_s": 10**9, "a:f8@sent": 0}
    units |= {"a:f8@sent_s": 0, "time:f8": 0, "sent:M8[ms]": 10**6, "a:M8[s]@sent_s": 10**9}
    for text, unit_ns in units.items():
        assert layout_of(text).engine_options()[-1] == ("unit", unit_ns), text
    for text in ("a:u2@sent", "a:f4@sent", "a:f8@sent_ms", "a:M8[ms]@sent_us", "a:2u8@sent", "a:S8@sent"):
        assert "role sent" in refused(text)


def test_what_is_between_words() -> None:
    usual = layout_of("id:u4 seq:u4=random(0,10)")
    for text in ("id:u4,seq:u4=random(0,10)", " id:u4 ,\n seq:u4=random( 0 , 10 ) ", "id:uint32 seq:<u4=random(0,10)"):
        assert layout_of(text) == usual
    assert layout_of("4x a:u1 pad:3x b:(2, 3)u1 end:2x").text == "pad:4x a:u1 pad:3x b:(2,3)u1 pad:2x"
    assert layout_of("24x").size == 24
    assert layout_of("movement").engine_options() == [("size", 4), ("constant", place(0, 4)), ("value", 7)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("movment", "'movment' is neither fields"),
        ("", "empty field"),
        ("id:u4,,seq:u4", "empty field"),
        ("id:u4, ", "empty field"),
        ("id:u4 x", "field 'x': write it like"),
        ("id:u3", "field 'id:u3': 'u3' is no type; there are u1"),
        ("id:", "'' is no type"),
        ("id:u4@who", "no role 'who'; there are identity, sequence"),
        ("id:f4@identity", "needs a whole number, not f4"),
        ("id:u4@identity=7", "a role or a value, not both"),
        (
            "sent:f8@sent_ms",
            "role sent_ms: that needs a whole number of 4 or 8 bytes (f8 holds seconds, and M8 has its",
        ),
        ("sent:f4@sent", "or seconds in f8, not f4"),
        ("a:u4@sent b:u8@sent", "'a' and 'b' cannot both be @sent"),
        ("id:u4 id:u4", "two fields are called 'id'"),
        ("n:u1=256", "field 'n:u1' cannot be '256': it takes a whole number from 0 to 255"),
        ("n:i1=-129", "from -128 to 127"),
        ("n:u4=0.5", "a whole number"),
        ("n:u4=", "a whole number"),
        ("n:u4=random(5,1)", "a whole number"),
        ("n:u4=random(1)", "a whole number"),
        ("x:f4=1e39", "within the range of f4"),
        ("x:f4=nan", "within the range of f4"),
        ("x:f8=inf", "within the range of f8"),
        ("x:f4=counter", "like 0.5, random"),
        ("x:f2=random", "like 0.5"),
        ("b:b1=2", "0 or 1"),
        ("s:V2=0x010203", "up to 2 bytes as hexadecimal digits"),
        ("s:V2=7", "hexadecimal digits"),
        ("v:3f4=1", "no value here"),
        ("a:600x", "600 bytes: it needs at least 1 and at most 512"),
        ("a:(9999,9999)u8", "at most 512"),
        ("a:(0,2)u8", "holds nothing"),
        (f"a:({'1,' * 33})u1", "an array has 32 dimensions at most, and this 33"),
        (" ".join(f"f{n}:u1=random" for n in range(9)), "9 fields are random: there is room for 8"),
        (" ".join(f"f{n}:u1=1" for n in range(65)), "room for 64"),
    ],
)
def test_what_is_said_of_text_that_is_no_layout(text: str, said: str) -> None:
    assert said in refused(text)


def test_a_byte_order_that_is_none() -> None:
    assert "neither little nor big" in refused("id:u4", endian="middle")


def test_a_template_and_its_reply() -> None:
    protocol_options = Options(
        format="flags:u1=0x23 pad:39x stamp:>u8@sequence",
        reply="flags:u1=0x24 who:u2@identity pad:21x origin:>u8@sequence pad:16x",
    )
    assert not one_way(protocol_options)
    assert one_way(Options())
    assert one_way(ServeOptions())
    reply = [("reply", 48), ("echoed", place(24, 8) | BIG), ("longer", 0), ("constant", place(0, 1)), ("value", 0x24)]
    assert engine_options(protocol_options) == [
        ("size", 48),
        ("constant", place(0, 1)),
        ("value", 0x23),
        ("sequence", place(40, 8) | BIG),
        *reply,
        ("identity", place(1, 2)),
    ]
    longer = engine_options(Options(reply="seq:u2 ..."))
    assert longer[-3:] == [("reply", 2), ("echoed", place(0, 2)), ("longer", 1)]
    for broken, said in [
        (Options(format="id:u4", reply="seq:u4"), "the format needs a field with the role @sequence"),
        (Options(reply="id:u4"), "the reply needs a field with the role @sequence"),
        (Options(reply="seq:u4 x:u4=random"), "field 'x:u4=random' of the reply"),
        (Options(format="seq:u4 ..."), "field '...'"),
    ]:
        with pytest.raises(UsageError, match=said):
            engine_options(broken)


def test_no_file_no_lines() -> None:
    assert lines_of(Options()) == []


def test_options_of_python_alone_are_not_numbers_of_the_engine() -> None:
    from flatout.protocols.base import option_values

    assert option_values(Options()) == {}
    assert option_values(PROTOCOLS["record"].serve_options()) == {}


@given(st.text(st.sampled_from("idseqx:u48f@=()<>,. 12randomcounterSV[]0_…\n"), max_size=60) | st.text(max_size=30))
def test_any_text_is_a_layout_or_a_usage_error(text: str) -> None:
    for endian in ("little", "big"):
        try:
            layout = layout_of(text, endian)  # type: ignore[arg-type]
        except UsageError:
            continue
        assert layout_of(layout.text) == layout
