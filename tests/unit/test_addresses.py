"""Addresses with their zones: printed whole, read back as they were, or refused with the interfaces to choose from."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import flatout
from flatout.errors import UsageError
from flatout.host import topology
from flatout.host.target import is_local
from flatout.plan import addresses, listen, targets
from flatout.plan.resolve import make
from flatout.protocols.dns.zone import answer_entries
from flatout.scenario.build import scenario_of

LO = socket.if_nametoindex("lo")
TABLE = """\
00000000000000000000000000000001 01 80 10 80       lo
fe80000000000000000000000000000a 02 40 20 80     eth0
fe80000000000000000000000000000a 03 40 20 80     eth1
fe80000000000000000000000000000b 04 40 20 80     eth2
fd00009900000000000000000000000a 02 40 00 80     eth0
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The addresses of a host with three interfaces."""
    path = tmp_path / "if_inet6"
    path.write_text(TABLE, encoding="utf-8")
    monkeypatch.setattr(addresses, "_IF_INET6", path)
    return path


@pytest.mark.parametrize("text", ["[fe80::1%lo]:5", "[::1]:5", "[fd00::1]:5", "127.0.0.1:5"])
def test_what_is_printed_reads_back(text: str) -> None:
    found = targets.resolve(text, 1)
    assert str(found) == text
    assert targets.resolve(str(found), 1) == found
    assert listen.listen_address(str(found)) == found


def test_a_zone_is_a_name_or_a_number() -> None:
    for text in ("fe80::1%lo", f"fe80::1%{LO}", "[fe80::1%lo]"):
        assert targets.resolve(text, 5) == (ipaddress.ip_address("fe80::1"), 5, LO)
        assert targets.resolve(text, 5).host == "fe80::1%lo"
    assert listen.listen_address("[ff02::1%lo]:5") == (ipaddress.ip_address("ff02::1"), 5, LO)
    assert str(addresses.Endpoint(ipaddress.ip_address("fe80::1"), 5, 2**30)) == f"[fe80::1%{2**30}]:5", "it has gone"


@pytest.mark.parametrize("name", ["a,b", "a]b", "a:1", "a%b"])
def test_a_name_that_would_not_read_back_is_a_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "if_indextoname", lambda _: name)
    assert str(addresses.Endpoint(ipaddress.ip_address("fe80::1"), 5, 7)) == "[fe80::1%7]:5"


def test_sources_have_their_zone() -> None:
    (found,) = targets.sources(("fe80::a%lo",), 5)
    assert (found.host, found.port, found.scope) == ("fe80::a%lo", 0, LO)
    assert [each.host for each in targets.sources(("fe80::%lo/64",), 2)] == ["fe80::1%lo", "fe80::2%lo"]
    assert [each.scope for each in targets.sources(("127.0.0.0/29", "fd00::/64"), 9)] == [0] * 9


TAKES: list[tuple[str, Callable[[str], object]]] = [
    ("target", lambda host: targets.resolve(f"[{host}]:5", 1)),
    ("listen address", lambda host: listen.listen_address(f"[{host}]:5")),
    ("sources", lambda host: targets.sources((host,), 1)),
]


@pytest.mark.parametrize(("what", "read"), TAKES, ids=[what for what, _ in TAKES])
@pytest.mark.usefixtures("table")
def test_a_missing_zone_names_the_interfaces(what: str, read: Callable[[str], object]) -> None:
    with pytest.raises(UsageError) as raised:
        read("fe80::a")
    assert str(raised.value) == (
        f"{what} 'fe80::a' is link-local: say which interface, as in fe80::a%eth0 (those that have it: eth0, eth1)"
    )


@pytest.mark.usefixtures("table")
def test_an_address_that_no_interface_has() -> None:
    with pytest.raises(
        UsageError, match=r"as in fe80::c%eth0 \(those that have a link-local address: eth0, eth1, eth2"
    ):
        targets.resolve("fe80::c", 1)
    for _, read in TAKES[1:]:
        with pytest.raises(
            UsageError, match=r"no interface of this host has it; .*: fe80::a%eth0, fe80::a%eth1, fe80::b"
        ):
            read("fe80::c")
    with pytest.raises(UsageError, match=r"sources 'fe80::/64' is link-local: say which interface.*eth0, eth1, eth2"):
        targets.sources(("fe80::/64",), 1)


def test_without_any_link_local_address(table: Path) -> None:
    table.unlink()
    with pytest.raises(UsageError, match=r"say which interface, as in fe80::c%eth0 .*: none\)"):
        targets.resolve("fe80::c", 1)


@pytest.mark.parametrize(("what", "read"), TAKES, ids=[what for what, _ in TAKES])
def test_zones_that_cannot_be(what: str, read: Callable[[str], object]) -> None:
    cases = {
        "fe80::1%nosuch0": "this host has no interface 'nosuch0'; it has ",
        "fe80::1%": "this host has no interface ''; it has ",
        "fe80::1%99999999": "this host has no interface '99999999'; it has ",
        "fe80::1%0": "this host has no interface '0'; it has ",
        "::1%lo": "only link-local addresses",
        "fd00::1%lo": "only link-local addresses",
    }
    for host, why in cases.items():
        with pytest.raises(UsageError) as raised:
            read(host)
        assert str(raised.value).startswith(f"{what} '{host}': {why}")


def test_a_port_without_brackets() -> None:
    with pytest.raises(UsageError, match=r"write a port behind brackets, as in \[fe80::1%eth0\]:53"):
        targets.resolve("fe80::1%lo:53", 1)
    with pytest.raises(UsageError, match=r"target 'fe80::x' is no IPv6 address"):
        targets.resolve("fe80::x", 1)


def test_a_network_is_no_host() -> None:
    for text in ("127.0.0.1/8", "a/b:5"):
        with pytest.raises(UsageError, match="name one host, not a network"):
            targets.resolve(text, 1)


def test_a_name_of_a_link_local_address(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [("fe80::1", 5, 0, 0), ("fd00::1", 5, 0, 0)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", address) for address in found])
    assert [str(each) for each in targets.addresses("router:5", 1)] == ["[fd00::1]:5"]
    found.pop()
    with pytest.raises(UsageError, match=r"target 'router \(fe80::1\)' is link-local: say which interface"):
        targets.addresses("router:5", 1)
    found[0] = ("fe80::1%lo", 5, 0, LO)
    assert str(targets.addresses("router:5", 1)[0]) == "[fe80::1%lo]:5"


def test_sources_that_cannot_reach_the_target() -> None:
    source, other = (addresses.Endpoint(ipaddress.ip_address("fe80::1"), 0, scope) for scope in (1, 2))
    targets.check_sources([source], [source])
    targets.check_sources([source], [targets.resolve("fd00::1", 5)])
    with pytest.raises(UsageError, match=r"sources fe80::1%lo and target fe80::1%\S+ must be of one interface"):
        targets.check_sources([source], [source, other])
    with pytest.raises(UsageError, match="must both be IPv4 or both IPv6"):
        targets.check_sources([source], [targets.resolve("127.0.0.1", 5)])
    with pytest.raises(UsageError, match="must both be IPv4 or both IPv6"):
        flatout.Sender("127.0.0.1:5", "id:u4", sources=["::1"])


def test_tls_is_told_the_name_without_its_zone() -> None:
    asked = scenario_of("dns", "fe80::1%lo", rate=1, duration=1, profile=None, transport="tls")
    assert make(asked).engine.policy.tls.name == "fe80::1"


def test_an_answer_of_dns_has_no_zone() -> None:
    with pytest.raises(UsageError, match="an address in DNS has no interface, so leave out %lo"):
        answer_entries("fe80::1%lo")


def test_the_host_is_looked_at_through_the_zone() -> None:
    assert not is_local(ipaddress.ip_address("fe80::1"), LO)
    assert is_local(ipaddress.ip_address("::1"))
    assert topology.interfaces("fe80::1%lo") == []
