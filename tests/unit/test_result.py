"""Results: to and from JSON, whole files or none, arrays, and a notebook view that nobody can write into."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import results

from flatout.errors import OutputError, UsageError
from flatout.result import files
from flatout.result import model as result


def plain(made: result.Result) -> Any:
    return msgspec.json.decode(made.to_json())


@pytest.mark.parametrize("made", [results.load(), results.interrupted(), results.unanswered(), results.limit()])
def test_json_round_trip(made: result.Result) -> None:
    again = files.from_json(made.to_json())
    assert plain(again) == plain(made)
    assert files.from_json(again.to_json()) == again
    assert made.to_json().endswith(b"}\n")
    assert plain(made)["schema"] == "flatout/1"


def test_fields_that_are_added_later_are_passed_over() -> None:
    data = msgspec.json.decode(results.load().to_json())
    data["from_the_future"] = data["outcomes"]["from_the_future"] = 1
    assert plain(files.from_json(msgspec.json.encode(data))) == plain(results.load())


def test_the_scenario_of_an_older_version_is_read_with_defaults_and_of_a_later_one_without_unknown_fields() -> None:
    data = msgspec.json.decode(results.load().to_json())
    kept = {name: data["scenario"][name] for name in ("protocol", "target", "profile", "require")}
    data["scenario"] = {**kept, "from_the_future": 1}
    assert files.from_json(msgspec.json.encode(data)).scenario == results.scenario()


def test_a_scenario_that_makes_no_sense_is_named() -> None:
    data = msgspec.json.decode(results.load().to_json())
    data["scenario"]["arrivals"] = "tidal"
    with pytest.raises(UsageError, match=r"tidal.*scenario\.arrivals"):
        files.from_json(msgspec.json.encode(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"schema": "flatout/1"}',
        b'{"schema": "flatout/1", "kind": "poem"}',
        b'{"kind": "load"}',
    ],
)
def test_what_is_no_result(data: bytes) -> None:
    with pytest.raises(UsageError, match="no result"):
        files.from_json(data)


def test_another_schema_is_refused_by_name() -> None:
    data = results.load().to_json().replace(b'"flatout/1"', b'"flatout/2"')
    with pytest.raises(UsageError, match=r"flatout/2.*flatout/1"):
        files.from_json(data)


def test_a_missing_field_is_named() -> None:
    data = msgspec.json.decode(results.load().to_json())
    del data["outcomes"]["lost"]
    with pytest.raises(UsageError, match="lost"):
        files.from_json(msgspec.json.encode(data))


def test_files_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    results.load().save(path)
    assert plain(files.read(path)) == plain(results.load())
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"], "nothing else is left"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            files.read(path)


def test_a_full_device_says_so() -> None:
    with pytest.raises(OutputError, match=r"'/dev/full' cannot be written.*[Nn]o space"):
        files.write("/dev/full", b"x" * 100_000)
    with pytest.raises(OutputError, match="/dev/full"):
        files.write("/dev/full", b"small enough for a buffer")


def test_a_pipe_is_written_through(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        files.write(pipe, b"through")
        assert reader.communicate(timeout=10)[0] == b"through"
    assert pipe.is_fifo()


@pytest.fixture
def small_disk(root: None, tmp_path: Path) -> Iterator[Path]:  # noqa: ARG001
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_keeps_the_older_file_and_leaves_no_half(small_disk: Path) -> None:
    path = small_disk / "result.json"
    files.write(path, b"the older result")
    with pytest.raises(OutputError, match=r"cannot be written.*[Nn]o space"):
        files.write(path, b"x" * 200_000)
    assert path.read_bytes() == b"the older result"
    assert [file.name for file in small_disk.iterdir()] == ["result.json"]


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        files.write(tmp_path / "missing" / "result.json", b"")


def test_a_link_still_leads_to_the_result(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_bytes(b"older")
    link.symlink_to(real)
    files.write(link, b"newer")
    assert link.read_bytes() == real.read_bytes() == b"newer"
    assert link.is_symlink()


def test_a_pipe_without_a_name_is_written_through() -> None:
    reader, writer = os.pipe()
    files.write(f"/dev/fd/{writer}", b"through")
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"through"


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    files.write(path, b"whole")
    assert path.read_bytes() == b"whole"


def test_intervals_as_an_array() -> None:
    run = results.unanswered()
    array = run.interval_array()
    assert array.dtype.names == result.Interval.__struct_fields__
    assert list(array["t_s"]) == [row.t_s for row in run.intervals]
    assert list(array["planned"]) == [row.planned for row in run.intervals]
    assert np.isnan(array["p99"]).all()
    assert results.load().interval_array()["p99"][0] == results.load().intervals[0].p99
    assert len(results.interrupted().interval_array()) == 0


EVIL = "<script>alert('x')</script>&\""


def test_the_notebook_view_escapes_what_comes_from_outside() -> None:
    run = results.load(why=EVIL, scenario=results.scenario(EVIL))
    search = results.limit(sentence=EVIL)
    trial = msgspec.structs.replace(search.trials[0], why=EVIL)
    for view in (run._repr_html_(), msgspec.structs.replace(search, trials=[trial])._repr_html_()):
        assert "<script" not in view
        assert view.count("&lt;script&gt;") == 2
        assert view.startswith("<table>")


def test_the_notebook_view_of_a_run_without_answers() -> None:
    assert "no answer" in results.interrupted()._repr_html_()
    assert "nothing sent" in results.interrupted()._repr_html_()
