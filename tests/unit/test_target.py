"""Whom to ask: the forms of a target, and the guard that keeps load away from strangers."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from flatout.errors import TargetError, UsageError
from flatout.plan import listen, targets
from flatout.scenario.target import split


def endpoint(text: str) -> targets.Endpoint:
    return targets.Endpoint(ipaddress.ip_address(text), 123, 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("time.example", ("time.example", 123)),
        ("time.example:1123", ("time.example", 1123)),
        ("192.0.2.1", ("192.0.2.1", 123)),
        ("192.0.2.1:65535", ("192.0.2.1", 65535)),
        ("::1", ("::1", 123)),
        ("2001:db8::1", ("2001:db8::1", 123)),
        ("[2001:db8::1]", ("2001:db8::1", 123)),
        ("[2001:db8::1]:1", ("2001:db8::1", 1)),
        ("fe80::1%lo", ("fe80::1%lo", 123)),
        ("[fe80::1%lo]:5", ("fe80::1%lo", 5)),
    ],
)
def test_forms(text: str, expected: tuple[str, int]) -> None:
    assert split(text, 123) == expected


@pytest.mark.parametrize(
    "text", ["", ":", "host:", "host:0", "host:65536", "host:99999999999", "host:ntp", "[::1", "[]:5", "[::1]5"]
)
def test_forms_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        split(text, 123)


def test_addresses_are_resolved_with_their_port() -> None:
    assert targets.resolve("127.0.0.1:5", 123) == targets.Endpoint(ipaddress.ip_address("127.0.0.1"), 5, 0)
    assert targets.resolve("[::1]:5", 123) == targets.Endpoint(ipaddress.ip_address("::1"), 5, 0)
    assert targets.resolve("::1", 123).port == 123


def test_localhost_is_its_v4_address() -> None:
    assert str(targets.resolve("localhost:5", 123)) == "127.0.0.1:5"


def test_a_link_local_address_keeps_its_interface() -> None:
    assert targets.resolve("[fe80::1%lo]:5", 123).scope == 1


def test_an_unknown_name_is_the_targets_fault() -> None:
    with pytest.raises(TargetError, match=r"nowhere\.invalid"):
        targets.resolve("nowhere.invalid", 123)


@pytest.mark.parametrize("text", ["a" * 64 + ".example", "..", "-"])
def test_names_that_cannot_be(text: str) -> None:
    with pytest.raises((TargetError, UsageError)):
        targets.resolve(text, 123)


def test_v6_is_written_with_brackets() -> None:
    assert str(endpoint("::1")) == "[::1]:123"
    assert str(endpoint("10.0.0.1")) == "10.0.0.1:123"


OWN = [
    *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1", "169.254.1.1"),
    *("::1", "fe80::1", "fc00::1", "fd12:3456::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:192.168.0.1"),
]
PUBLIC = [
    *("8.8.8.8", "1.1.1.1", "128.0.0.1", "9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.0.1"),
    *("100.64.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.1", "169.253.0.1"),
    *(
        "2001:4860:4860::8888",
        "2001:db8::1",
        "::ffff:8.8.8.8",
        "::ffff:808:808",
        "fec0::1",
        "64:ff9b::808:808",
        "::8.8.8.8",
    ),
]


@pytest.mark.parametrize("text", OWN)
def test_ones_own_addresses_are_loaded(text: str) -> None:
    targets.guard(endpoint(text), allow_public=False)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_ask_for_permission_and_say_why(text: str) -> None:
    with pytest.raises(UsageError, match=r"harm somebody.*--allow-public"):
        targets.guard(endpoint(text), allow_public=False)
    targets.guard(endpoint(text), allow_public=True)


@pytest.mark.parametrize(
    "text", ["0.0.0.0", "::", "224.0.1.1", "ff02::1", "::ffff:224.0.1.1", "::ffff:0.0.0.0", "255.255.255.255"]
)
def test_what_is_no_single_host_is_never_loaded(text: str) -> None:
    for allowed in (False, True):
        with pytest.raises(UsageError, match="no single host"):
            targets.guard(endpoint(text), allow_public=allowed)


def test_sources_are_the_hosts_of_networks_in_order() -> None:
    found = targets.sources(("127.0.0.0/30", "127.0.1.7"), flows=10)
    assert [source.host for source in found] == ["127.0.0.1", "127.0.0.2", "127.0.1.7"]


def test_no_more_sources_than_flows() -> None:
    assert len(targets.sources(("10.0.0.0/8",), flows=64)) == 64
    assert len(targets.sources(("fd00::/64",), flows=5)) == 5


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.0/33", "name.example"])
def test_sources_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="sources"):
        targets.sources((text,), flows=1)


# --- Where to listen ---


def test_where_to_listen() -> None:
    for text in ("127.0.0.1:0", "0.0.0.0:123", "[::]:0", "[::1]:65535"):
        assert str(listen.listen_address(text)) == text
    assert str(listen.listen_address("localhost:5").address) == "127.0.0.1"


@pytest.mark.parametrize(
    "text", ["", ":", ":0", "*:0", "[*]:0", "[]:0", "::1:0", "[::1:0", "nowhere", "127.0.0.1", 5, None]
)
def test_what_is_no_listen_address(text: Any) -> None:
    with pytest.raises(UsageError, match=r"^listen address .*: write it like 127\.0\.0\.1:1123, or for all addresses"):
        listen.listen_address(text)


def test_a_name_to_listen_on_that_nobody_knows_is_bad_use() -> None:
    with pytest.raises(UsageError, match=r"^listen address 'nosuch\.invalid:0': this host does not know"):
        listen.listen_address("nosuch.invalid:0")
