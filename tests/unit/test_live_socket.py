"""Settings of a socket that a process holds open: those of this very process, read and set by a duplicate."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from flatout.host.tuning import live_socket
from flatout.host.tuning.live_socket import BACKLOG, KEYS, RCVBUF


def key_of(each: socket.socket, setting: str) -> str:
    made = live_socket.key(os.getpid(), os.fstat(each.fileno()).st_ino, setting)
    assert made is not None
    assert KEYS.fullmatch(made)
    return made


@pytest.fixture(autouse=True)
def _pidfd_getfd(udp: socket.socket) -> None:
    try:
        live_socket.read(key_of(udp, RCVBUF))
    except OSError as error:
        if error.errno == errno.ENOSYS:
            pytest.skip("this kernel, or a sandbox, has no pidfd_getfd")
        raise


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        yield made


def size_of(each: socket.socket) -> int:
    return each.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def test_a_receive_buffer_is_read_and_set(udp: socket.socket) -> None:
    key, before = key_of(udp, RCVBUF), size_of(udp)
    assert live_socket.read(key) == str(before)
    live_socket.write(key, str(before // 2))
    assert live_socket.read(key) == str(before // 2)
    assert size_of(udp) == before // 2
    live_socket.write(key, str(before))
    assert size_of(udp) == before


def test_an_accept_queue_is_read_and_set_and_counts_at_once() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(3)
        key = key_of(listener, BACKLOG)
        assert live_socket.read(key) == "3"
        live_socket.write(key, "7")
        assert live_socket.read(key) == "7"
        with pytest.raises(ValueError, match="invalid literal"):
            live_socket.write(key, "many")
        # The socket itself, and no copy of it, has the longer queue; connections that wait stay.
        clients = [socket.create_connection(listener.getsockname()) for _ in range(6)]
        live_socket.write(key, "3")
        for client in clients:
            client.close()
        assert listener.accept()[0].fileno() >= 0


def test_no_descriptor_is_left_open(udp: socket.socket) -> None:
    key, before = key_of(udp, RCVBUF), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        live_socket.write(key, live_socket.read(key))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("part", [1, 2, 3], ids=["process", "start", "inode"])
def test_another_socket_in_its_place_is_gone(udp: socket.socket, part: int) -> None:
    words = key_of(udp, RCVBUF).split(":")
    # No process has the number 0, none began at 0, and no socket has the inode 0.
    words[part] = "0"
    for touch in (live_socket.read, lambda key: live_socket.write(key, "4608")):
        with pytest.raises(FileNotFoundError, match="gone"):
            touch(":".join(words))
    assert size_of(udp) > 4608


def test_a_closed_socket_is_gone() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        key = key_of(made, RCVBUF)
    for touch in (live_socket.read, lambda key: live_socket.write(key, "4608")):
        with pytest.raises(FileNotFoundError, match="gone"):
            touch(key)


def test_a_process_that_has_ended_has_no_key(tmp_path: Path) -> None:
    assert live_socket.key(1, 2, RCVBUF, tmp_path) is None


@pytest.mark.parametrize(
    "key", ["socket:1:2:3:sndbuf", "socket:1:2:3:rcvbuf:", "socket:x:2:3:rcvbuf", "socket:1:2:3:rcvbuf\n", "socket:1:2"]
)
def test_what_a_journal_may_name(key: str) -> None:
    assert KEYS.fullmatch(key) is None
