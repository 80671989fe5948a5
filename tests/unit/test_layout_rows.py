"""Rows to send, out of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flatout.errors import UsageError
from flatout.protocols import layout_of
from flatout.protocols.record import Options, lines_of


def lines(path: Path, text: str, endian: str = "little") -> list[str]:
    return lines_of(Options(format=text, endian=endian, values=str(path)))  # type: ignore[arg-type]


def refused(path: Path, text: str) -> str:
    with pytest.raises(UsageError) as reported:
        lines(path, text)
    return str(reported.value)


def test_rows_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\ufeffx, y,name\n1,0.5,ab\n\n-2,-0x0,c\n".replace("-0x0", "2"), encoding="utf-8")
    text = "id:u4 x:i2 pad:1x y:>f4 name:S3 kind:u1=9"
    assert lines(path, text) == ["000000000100003f00000061620009", "00000000feff004000000063000009"]
    assert lines(path, text, "big")[1].startswith("00000000fffe")


@pytest.mark.filterwarnings("ignore:metadata on a dtype is not saved")
def test_rows_of_an_array(tmp_path: Path) -> None:
    layout = layout_of("id:u4 x:f4 kind:u1=9 luck:u1=random pad:2x")
    rows = np.zeros((2, 2), layout.dtype)
    rows["id"], rows["x"], rows["kind"], rows["luck"] = 7, [[1, 2], [3, 4]], 1, 1
    np.save(tmp_path / "rows.npy", rows)
    expected = [f"07000000{np.float32(n).tobytes().hex()}09000000" for n in (1, 2, 3, 4)]
    assert lines(tmp_path / "rows.npy", layout.text) == expected, "what has a value of its own is not the file's"
    np.save(tmp_path / "big.npy", rows.astype(rows.dtype.newbyteorder(">")))
    assert lines(tmp_path / "big.npy", layout.text) == expected, "the format's byte order is sent"


@pytest.mark.filterwarnings("ignore:metadata on a dtype is not saved")
def test_any_type_of_an_array_is_sent_as_it_is(tmp_path: Path) -> None:
    layout = layout_of("a:M8[ms] b:(2,2)i2 c:U2 d:c8 e:b1 f:V3 g:m8[s]=5 h:M8[ns]=5")
    rows = np.frombuffer(bytes(range(layout.size - 16)) + bytes(16), layout.dtype).copy()
    rows["c"], rows["e"] = "hé", True
    np.save(tmp_path / "rows.npy", rows)
    rows["g"], rows["h"] = 5, 5
    assert lines(tmp_path / "rows.npy", layout.text) == [rows.tobytes().hex()]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "begins with nothing"),
        ("x,z\n1,2\n", "begins with 'z': its first line names fields, each once, of id, x, y, v, s"),
        ("x,x\n1,2\n", "begins with 'x'"),
        ("x\n", "holds 0 rows"),
        ("x,y\n1\n", "row 1: 1 values for 2 fields"),
        ("x\n1\n256\n", "row 2, column x: '256' is no u1"),
        ("x\n\n-1\n", "'-1' is no u1"),
        ("y\n1e39\n", "'1e39' is no f4"),
        ("y\nabc\n", "'abc' is no f4"),
        ("v\n1\n", "'1' is no 2f4"),
        ("s\nabc\n", "'abc' is no S2"),
    ],
)
def test_what_is_said_of_a_table_that_does_not_fit(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content, encoding="utf-8")
    assert said in refused(path, "id:u4 x:u1 y:f4 v:2f4 s:S2")


def test_what_is_said_of_other_files(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.csv", "x:u1")
    (tmp_path / "junk.npy").write_bytes(b"\x93NUMPY junk")
    assert "no array that NumPy can load" in refused(tmp_path / "junk.npy", "x:u1")
    (tmp_path / "latin.csv").write_bytes(b"x\n\xe9\n")
    assert "line 2: byte 0xe9 is no UTF-8" in refused(tmp_path / "latin.csv", "x:u1")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert "no array that NumPy can load" in refused(tmp_path / "objects.npy", "x:u1")
    np.save(tmp_path / "other.npy", np.zeros(3, [("x", "<u2")]))
    assert "not of the format 'x:u1'" in refused(tmp_path / "other.npy", "x:u1")
    np.save(tmp_path / "plain.npy", np.zeros(3))
    assert "not of the format 'x:u1'" in refused(tmp_path / "plain.npy", "x:u1")


def test_too_many_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((64 << 11) + 1, layout_of("x:V512").dtype))
    assert "131,073 rows" in refused(tmp_path / "rows.npy", "x:V512")
