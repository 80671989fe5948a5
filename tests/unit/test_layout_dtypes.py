"""Layouts and NumPy dtypes, both ways: exact offsets, roles, and what is refused."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import UsageError
from flatout.protocols import layout_of

USUAL = np.dtype([("id", "<u4"), ("seq", "<u4"), ("sent", "<u8"), ("x", "<f4"), ("y", "<f4")])


def test_text_to_dtype() -> None:
    assert layout_of().dtype == USUAL
    assert layout_of(endian="big").dtype == USUAL.newbyteorder(">")
    mixed = layout_of("a:u1 pad:3x b:>i2 c:3f4 d:(2,2)u1 e:S5 f:M8[ms] g:b1 h:U2 5x").dtype
    assert mixed.names == ("a", "b", "c", "d", "e", "f", "g", "h"), "padding has no name"
    assert [mixed.fields[name][1] for name in mixed.names] == [0, 4, 6, 18, 22, 27, 35, 36]
    assert mixed.itemsize == 49
    assert (mixed["c"].shape, mixed["d"].shape, mixed["f"].str, mixed["b"].str) == ((3,), (2, 2), "<M8[ms]", ">i2")


def test_dtype_to_text() -> None:
    assert layout_of(USUAL).text == "id:u4 seq:u4 sent:u8 x:f4 y:f4"
    assert layout_of(USUAL) == layout_of()
    aligned = np.dtype([("flag", "u1"), ("seq", "<u8"), ("tail", "<u2")], align=True)
    assert layout_of(aligned).text == "flag:u1 pad:7x seq:u8 tail:u2 pad:6x"
    big = np.dtype([("id", ">u4"), ("pos", ">f4", (3,)), ("name", "S4")])
    assert layout_of(big).text == "id:>u4 pos:3>f4 name:S4"
    scattered = np.dtype({"names": ["b", "a"], "formats": ["<u2", "<u4"], "offsets": [6, 0], "itemsize": 12})
    assert layout_of(scattered).text == "a:u4 pad:2x b:u2 pad:4x"
    assert layout_of([("id", "<u4")]).text == "id:u4"


def test_arrays_of_many_dimensions_go_both_ways() -> None:
    shape = (1, 2) * 4 + (1,) * 24
    deep = layout_of(np.dtype([("id", "<u4"), ("deep", "<u2", shape)]))
    assert layout_of(deep.text) == deep
    assert layout_of(deep.text).dtype == deep.dtype
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        with pytest.raises(UsageError, match="32 dimensions at most, and this 33"):
            layout_of(np.dtype([("deep", "<u2", (*shape, 1))]))


def test_a_dtype_stays_what_it_was() -> None:
    within = np.dtype([("id", "<u4"), ("at", [("x", "<f4"), ("y", "<f4")]), ("when", "<M8[D]")])
    layout = layout_of(within)
    assert layout.dtype is within
    assert layout.text == "id:u4 at:V8 when:V8", "as text they are so many bytes"
    titled = np.dtype([(("who it is", "id"), "<u4")])
    assert layout_of(titled).dtype.fields["who it is"] == (np.dtype("<u4"), 0, "who it is")
    assert layout_of(layout) is layout


def test_roles_and_values_in_metadata() -> None:
    reported = np.dtype(
        [
            ("number", np.dtype("<u4", metadata={"role": "sequence"})),
            ("id", np.dtype("<u4", metadata={"role": "none"})),
            ("left", np.dtype("<u4", metadata={"role": "sent_ms"})),
            ("kind", np.dtype("u1", metadata={"value": 7})),
            ("x", np.dtype("<f4", metadata={"value": "random(-1,1)"})),
        ]
    )
    text = "number:u4@sequence id:u4@none left:u4@sent_ms kind:u1=7 x:f4=random(-1.0,1.0)"
    assert layout_of(reported) == layout_of(text)
    assert layout_of(reported).text == text
    made = layout_of(text).dtype
    assert made == reported, "NumPy does not compare metadata"
    assert made["number"].metadata["role"] == "sequence"
    assert all(layout_of().dtype[name].metadata is None for name in USUAL.names), "nothing where the names say it all"


@pytest.mark.parametrize(
    ("dtype", "said"),
    [
        (np.dtype("<u4"), "has no fields: name them"),
        (np.dtype([("id", "O")]), "holds Python objects"),
        (np.dtype([("id", "<u4"), ("big", "S600")]), "604 bytes: it needs at least 1 and at most 512"),
        (np.dtype([]), "0 bytes"),
        (np.dtype({"names": ["a", "b"], "formats": ["<u4", "<u4"], "offsets": [0, 2]}), "'a' and 'b' overlap"),
        (np.dtype([("my id", "<u4")]), "field 'my id': a name has no spaces"),
        (np.dtype([("id", np.dtype("<u4", metadata={"role": "who"}))]), "no role 'who'"),
        (np.dtype([("id", np.dtype("<u4", metadata={"value": "x"}))]), "a whole number from 0 to 4294967295"),
        (5, "is no dtype"),
        ([("id", "<u4"), ("id", "<u4")], "is no dtype"),
    ],
)
def test_what_is_said_of_dtypes_that_are_no_layout(dtype: object, said: str) -> None:
    with pytest.raises(UsageError) as reported:
        layout_of(dtype)
    assert said in str(reported.value)


def test_a_dtype_says_its_own_byte_order() -> None:
    with pytest.raises(UsageError, match="newbyteorder"):
        layout_of(USUAL, endian="big")
    assert all(field.big for field in layout_of(USUAL.newbyteorder(">")).fields)


def test_text_needs_no_numpy() -> None:
    source = (
        "import sys\nfrom flatout.protocols import layout_of\nlayout_of('movement').engine_options()\n"
        "assert 'numpy' not in sys.modules\nlayout_of().dtype\nassert 'numpy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", source], check=True)


NUMBERS = st.sampled_from(["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"])
NAMES = st.sampled_from(["id", "seq", "sent", "time", "player", "x", "Y", "größe", "a-b", "sequence"])


@st.composite
def words(draw: st.DrawFn, name: str) -> str:
    """A field, of any kind."""
    order = draw(st.sampled_from(["", "<", ">"]))
    code = draw(NUMBERS)
    number = str(draw(st.integers(0, 127)))
    drawn = f"random({draw(st.integers(-128, 0)) if code[0] != 'u' else 0},{number})"
    values = [number, "random", drawn, *(["counter"] if code[0] != "f" else [])]
    kinds = [
        st.just(f"{name}:{order}{code}"),
        st.just(f"{name}:{order}{code}@none"),
        st.sampled_from(values).map(lambda value: f"{name}:{order}{code}={value}"),
        st.sampled_from(["S3", "V2", "U1", "3f4", "(2,1)>i2", "M8[us]", "m8[s]", "b1", "c8", "f2", "V2=0xff00"]).map(
            lambda kind: f"{name}:{kind}"
        ),
        st.integers(1, 9).map(lambda count: f"pad:{count}x"),
    ]
    return draw(st.one_of(kinds))


@st.composite
def formats(draw: st.DrawFn) -> str:
    chosen = draw(st.lists(NAMES, min_size=1, max_size=8, unique=True))
    roles = draw(
        st.sampled_from([[], ["p:u4@identity"], ["q:>u2@sequence", "r:f8@sent"], ["s:i4@sent_us", "p:u1@none"]])
    )
    return " ".join(draw(st.permutations([*(draw(words(name)) for name in chosen), *roles])))


@given(formats(), st.sampled_from(["little", "big"]))
def test_text_layout_dtype_and_back(text: str, endian: str) -> None:
    layout = layout_of(text, endian)  # type: ignore[arg-type]
    again = layout_of(layout.text)
    assert (again, again.text) == (layout, layout.text)
    dtype = layout.dtype
    assert layout_of(dtype) == layout
    assert dtype.itemsize == layout.size
    for field in layout.fields:
        kind, offset = dtype.fields[field.name][:2]
        assert (offset, kind.itemsize, kind.shape) == (field.offset, field.size, field.shape)
        assert kind.base.newbyteorder("<") == np.dtype(field.code).newbyteorder("<")
        assert (kind.base.str[0] == ">") == field.big
    roles = [field.role for field in layout.fields if field.role != "none"]
    assert len(roles) == len(set(roles)), "each role once"


@given(formats())
def test_constants_stand_where_numpy_has_them(text: str) -> None:
    layout = layout_of(text)
    row = np.zeros(1, layout.dtype)
    for field in layout.fields:
        if isinstance(field.value, int | float | bytes):
            row[field.name] = field.value
    record = bytearray(layout.size)
    for (name, place), (_, value) in itertools.pairwise(layout.engine_options()):
        if name == "constant":
            at, width, is_big = place & 0xFFFF, place >> 16 & 0xFF, bool(place >> 24 & 1)
            bits = value % 2 ** (8 * width)
            record[at : at + width] = bits.to_bytes(width, "big" if is_big else "little")
    assert bytes(record) == row.tobytes()
