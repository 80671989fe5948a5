"""Where a server listens: texts to addresses, a host without IPv6, sockets handed over."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from flatout.errors import UsageError
from flatout.server import listening as module
from flatout.server.listening import listening, refusal


def texts(*listen: str) -> list[str]:
    return [str(endpoint) for endpoint in listening(listen).endpoints]


def test_several_addresses_and_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_ipv6", lambda: True)
    assert texts("127.0.0.1:123", "[::1]:123", "127.0.0.1:123") == ["127.0.0.1:123", "[::1]:123"], "each once"
    assert texts("127.0.0.1:0", "127.0.0.1:0") == ["127.0.0.1:0"] * 2, "two free ports"
    assert texts("*:123") == ["[::]:123"]


def test_a_host_without_ipv6_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    monkeypatch.setattr(module.socket, "socket", refuse)
    for listen in ("*:123", "[::]:123"):
        where = listening(listen)
        assert [str(endpoint) for endpoint in where.endpoints] == ["0.0.0.0:123"]
        assert where.notes == ["this host has no IPv6: only IPv4 is served"]
    assert listening("127.0.0.1:123").notes == []
    with pytest.raises(UsageError, match=r"\[::1\]:123: this host has no IPv6"):
        listening("[::1]:123")


def test_sockets_are_taken_over_where_they_are_meant_for_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "set_inheritable", lambda *_: None)
    monkeypatch.setenv("LISTEN_FDS", "2")
    for other in ("1", ""):
        monkeypatch.setenv("LISTEN_PID", other)
        with pytest.raises(UsageError, match="started without sockets"):
            listening("systemd")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    assert listening("systemd").descriptors == [3, 4]
    with pytest.raises(UsageError, match="give it alone"):
        listening(["systemd", "127.0.0.1:123"])


def test_the_address_at_fault_is_named() -> None:
    where = listening(["127.0.0.1:0", "192.0.2.1:123"])
    error = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    assert "192.0.2.1:123" in str(refusal(error, where))


@pytest.mark.parametrize(("listen", "interface"), [([], None), ("*", None), ("*:0", "nowhere0")])
def test_bad_use(listen: str | list[str], interface: str | None) -> None:
    with pytest.raises(UsageError):
        listening(listen, interface)


def test_an_interface_of_handed_over_sockets_is_their_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    with pytest.raises(UsageError, match="BindToDevice"):
        listening("systemd", "lo")
    with pytest.raises(UsageError, match="FreeBind"):
        listening("systemd", free_bind=True)
