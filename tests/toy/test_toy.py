"""A protocol is added by touching only the places that the house names, and docs/adding-a-protocol.md says how.

`add/` holds the example's files, each where it would be placed; LINES are its lines in the two registries. The tests
put both into a copy of this repository, build the engine there, and let the new protocol do what any protocol can.
The copy and its builds stay in target/toy, so that only what has changed is built again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from conftest import ROOT, Cli, wait_until

ADDED = Path(__file__).with_name("add")
DOC = ROOT / "docs" / "adding-a-protocol.md"
CACHE = ROOT / "target" / "toy"
NAME = "knock"
# (file, the line before, the new line)
LINES = [
    ("crates/wire/src/lib.rs", "pub mod ntp;", "pub mod knock;"),
    ("crates/wire/src/lib.rs", "            $crate::ntp::Ntp,", "            $crate::knock::Knock,"),
    ("python/flatout/protocols/__init__.py", '    "ntp",', '    "knock",'),
]
# What house.md says that adding a protocol touches.
PLACES = {
    f"crates/wire/src/{NAME}.rs": "its wire file",
    "crates/wire/src/lib.rs": "the wire registry",
    f"python/flatout/protocols/{NAME}.py": "its Python file",
    "python/flatout/protocols/__init__.py": "that registry",
    f"tests/packets/{NAME}/": "golden packets",
    f"fuzz/fuzz_targets/{NAME}": "a fuzz target",
    f"docs/protocols/{NAME}.md": "a docs page",
}


def tree(folder: Path) -> dict[str, bytes]:
    """All files that git has or would take, by path; of links, where they point."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=folder,
        capture_output=True,
        check=True,
    )
    paths = (folder / name for name in sorted(set(names.stdout.decode().split("\0"))) if name)
    return {str(path.relative_to(folder)): content(path) for path in paths if path.is_symlink() or path.is_file()}


def content(path: Path) -> bytes:
    return os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()


def added() -> dict[str, bytes]:
    """The example's files by the path where they go."""
    return {str(path.relative_to(ADDED)): path.read_bytes() for path in sorted(ADDED.rglob("*")) if path.is_file()}


def with_toy(files: dict[str, bytes]) -> dict[str, bytes]:
    """A tree with the example's files and lines."""
    new = added()
    assert not set(new) & set(files), "the example takes the place of something"
    made = {**files, **new}
    for name, before, line in LINES:
        text = made[name].decode()
        assert text.count(f"{before}\n") == 1, f"{name} has no line '{before}', or several"
        made[name] = text.replace(f"{before}\n", f"{before}\n{line}\n").encode()
    return made


def touched(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    """What `git diff --stat` would list."""
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


def write(folder: Path, files: dict[str, bytes], links: set[str]) -> None:
    """Makes the folder hold these files; what is the same keeps its time stamp, so that cargo has less to build."""
    for name, data in files.items():
        path = folder / name
        if (path.is_symlink() or path.is_file()) and content(path) == data:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in links:
            path.symlink_to(os.fsdecode(data))
        else:
            path.write_bytes(data)


def clean(folder: Path, files: dict[str, bytes]) -> None:
    """Removes what does not belong there."""
    for path in sorted(folder.rglob("*"), reverse=True):
        name = str(path.relative_to(folder))
        if (path.is_symlink() or path.is_file()) and name not in files:
            path.unlink()


def run(folder: Path, *command: str, target: Path = CACHE / "build") -> str:
    """Runs a command in the copy; returns what it prints."""
    environment = os.environ | {
        "CARGO_TARGET_DIR": str(target),
        "CARGO_TERM_COLOR": "never",
        "PYO3_PYTHON": sys.executable,
        "PYTHONPATH": str(folder / "python"),
        "FUZZ_SECONDS": "1",
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def builds(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test of the copy: the first of them builds an engine from nothing."""
    marked: Callable[..., None] = pytest.mark.slow(pytest.mark.timeout(900)(test))
    return marked


class Copy(NamedTuple):
    """This repository with the new protocol: where it is, and the files that it was made of."""

    folder: Path
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def copy() -> Iterator[Copy]:
    """This repository with the new protocol, its engine built."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout: which files belong to it is not known")
    files = tree(ROOT)
    links = {name for name in files if (ROOT / name).is_symlink()}
    made = with_toy(files)
    folder = CACHE / "tree"
    folder.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        clean(folder, made)
        write(folder, made, links)
        run(folder, "cargo", "build", "--package", "flatout-py", "--locked", "--offline", "--quiet")
        shutil.copyfile(CACHE / "build" / "debug" / "lib_engine.so", folder / "python" / "flatout" / "_engine.abi3.so")
        yield Copy(folder, made)


def test_only_the_places_that_the_house_names_are_touched() -> None:
    before = tree(ROOT)
    changed = touched(before, with_toy(before))
    strangers = {name for name in changed if not name.startswith(tuple(PLACES))}
    assert not strangers
    unused = {place for place in PLACES if not any(name.startswith(place) for name in changed)}
    assert not unused, "the example leaves out a place that the house names"


def test_the_document_quotes_the_example() -> None:
    text = DOC.read_text(encoding="utf-8")
    for name, data in added().items():
        assert f"`{name}`" in text, f"{name} is not named"
        quoted = data.hex(" ", 4) if name.endswith(".bin") else data.decode()
        assert quoted in text, f"{name} is not quoted as it stands"
    for name, before, line in LINES:
        assert f"`{name}`" in text
        assert f"{before}\n{line}\n" in text, f"the line of {name} is not quoted as it stands"


@builds
def test_the_new_protocol_serves_and_loads(copy: Copy, cli: Cli, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(copy.folder / "python"))
    server = cli.start("serve", NAME, "--listen", f"127.0.0.1:{port}")
    wait_until(lambda: "Ctrl-C" in server.err.read_text(encoding="utf-8"), message="serving")
    asked = ("--rate", "2k", "--for", "300ms", "--warmup", "0", "--flows", "4", "--json", "-", "--quiet")
    load = cli.process("load", NAME, f"127.0.0.1:{port}", *asked)
    server.interrupt()
    ended = server.end()
    assert ended.code == 0, ended.err
    outcomes = load.json["outcomes"]
    assert outcomes["answered"] > 0, load.err
    assert outcomes["invalid"] == outcomes["duplicate"] == outcomes["refused"] == 0
    assert load.json["tallies"] == {"pong": outcomes["answered"] + outcomes["late"], "echo": 0}


@builds
def test_the_command_line_knows_it(copy: Copy) -> None:
    for verb in ("serve", "load", "limit"):
        assert NAME in run(copy.folder, sys.executable, "-m", "flatout", verb, "--help")


@builds
def test_its_golden_packets_hold(copy: Copy) -> None:
    said = run(copy.folder, "cargo", "test", "--package", "flatout-wire", "--locked", "--offline", "--", f"{NAME}::")
    assert "2 passed" in said


@builds
def test_its_formats_are_those_of_the_house(copy: Copy) -> None:
    files = [name for name in added() if name.endswith(".rs")]
    edition = tomllib.loads((copy.folder / "Cargo.toml").read_text())["workspace"]["package"]["edition"]
    run(copy.folder, "rustfmt", "--check", "--edition", edition, *files)


@builds
def test_its_fuzz_target_runs(copy: Copy) -> None:
    if shutil.which("c++") is None:
        pytest.skip("libFuzzer is built with a C++ compiler, and there is none")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute()
    assert f"{NAME} " in run(copy.folder, "bash", ".ci/fuzz", NAME, target=target)


@builds
def test_the_house_still_stands(copy: Copy) -> None:
    """What this repository checks about its own shape holds with the new protocol too."""
    run(
        copy.folder,
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/test_architecture.py",
        "-k",
        "protocol",
    )
    changed = {name for name, data in copy.files.items() if content(copy.folder / name) != data}
    assert not changed, "building or running has changed files"
