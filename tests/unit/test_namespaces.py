"""Sysctls of another network namespace: which one a key means, and what a journal may name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flatout.host import netlink
from flatout.host.tuning import namespaces
from flatout.host.tuning.system import System
from flatout.host.tuning.tunables import of_the_host, settable

FILE = "/proc/sys/net/core/somaxconn"
HERE = os.stat("/proc/self/ns/net").st_ino


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """The files of the namespaces that were entered: none really is."""
    found: list[Path | None] = []

    def enter(namespace: Path | None, work: object) -> object:
        found.append(namespace)
        return work() if callable(work) else None

    monkeypatch.setattr(netlink, "in_namespace", enter)
    return found


def test_the_key_is_of_the_namespace_and_not_of_the_process() -> None:
    assert namespaces.key(os.getpid(), FILE) == namespaces.key(os.getppid(), FILE) == f"netns:{HERE}:{FILE}"


def test_a_process_that_has_ended_has_no_key(tmp_path: Path) -> None:
    assert namespaces.key(1, FILE, tmp_path) is None


def test_a_namespace_is_found_by_a_process_or_by_its_name(tmp_path: Path, entered: list[Path | None]) -> None:
    key = f"netns:{HERE}:{FILE}"
    with pytest.raises(FileNotFoundError, match="gone: no process and no name is left"):
        namespaces.inside(key, tmp_path, lambda: 1)
    named = tmp_path / "run" / "netns"
    named.mkdir(parents=True)
    (named / "blue").symlink_to("/proc/self/ns/net")
    assert namespaces.inside(key, tmp_path, lambda: 1) == 1
    (named / "blue").unlink()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "812").symlink_to("/proc/self")
    assert namespaces.inside(key, tmp_path, lambda: 2) == 2
    assert entered == [named / "blue", tmp_path / "proc" / "812" / "ns" / "net"]


def test_a_plain_file_with_the_number_of_a_namespace_is_none(tmp_path: Path) -> None:
    """A name without its mount is such a file."""
    named = tmp_path / "run" / "netns"
    named.mkdir(parents=True)
    (named / "blue").touch()
    with pytest.raises(FileNotFoundError, match="gone"):
        namespaces.inside(f"netns:{os.stat(named / 'blue').st_ino}:{FILE}", tmp_path, lambda: 1)


def test_values_are_read_and_set_inside(tmp_path: Path, entered: list[Path | None]) -> None:
    file = tmp_path / FILE.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_text("4096\n")
    (tmp_path / "proc" / "812").symlink_to("/proc/self")
    host, key = System(tmp_path), f"netns:{HERE}:{FILE}"
    assert host.read(key) == "4096"
    host.write(key, "8192")
    assert file.read_text() == "8192\n"
    assert host.blocked(key) == ""
    file.chmod(0o444)
    assert host.blocked(key).startswith("read-only here")
    assert len(entered) == 4


@pytest.mark.parametrize(
    ("key", "good"),
    [
        (f"netns:4026531840:{FILE}", True),
        # Not one that flatout sets, not below net, not a path, no number.
        ("netns:4026531840:/proc/sys/net/ipv4/ip_forward", False),
        ("netns:4026531840:/proc/sys/kernel/core_pattern", False),
        (f"netns:4026531840:{FILE}/../../../kernel/core_pattern", False),
        (f"netns:0:{FILE}", False),
        (f"netns:x:{FILE}", False),
        ("files:812:4711", True),
        ("files:812:4711:9", False),
    ],
)
def test_what_a_journal_may_name(key: str, good: bool) -> None:
    assert settable(key) == good
    assert not good or of_the_host(key)
