"""Zone files as keys and values: dnspython reads back what the server will say, and bad zones are named by their line.

Whether the server finds these keys is tested in crates/wire; here each value is put behind its question as it does.
"""

from __future__ import annotations

import struct
from pathlib import Path

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest

from flatout.errors import UsageError
from flatout.protocols.base import option_values
from flatout.protocols.dns import PROTOCOL, ServeOptions, serve_entries
from flatout.protocols.dns.zone import zone_entries

ZONE = """\
$ORIGIN example.com.
$TTL 300
@ IN SOA ns hostmaster 1 7200 900 1209600 60
@ IN NS ns
ns IN A 192.0.2.53
WWW IN A 192.0.2.1
    IN A 192.0.2.2
    IN AAAA 2001:db8::1
alias IN CNAME www
second IN CNAME Alias
out IN CNAME www.example.net.
left IN CNAME right
right IN CNAME left
gone IN CNAME nowhere
a.b.c IN TXT "deep"
*.wild IN A 192.0.2.99
starred IN CNAME x.wild
www.elsewhere.net. IN A 192.0.2.7
"""
HEAD = "$ORIGIN example.com.\n$TTL 60\n@ IN SOA a. b. 1 2 3 4 5\n"
SOA = "example.com. 60 IN SOA ns.example.com. hostmaster.example.com. 1 7200 900 1209600 60"


@pytest.fixture
def zone(tmp_path: Path) -> Path:
    path = tmp_path / "example.zone"
    path.write_text(ZONE, encoding="utf-8")
    return path


def said(value: bytes, name: str, kind: int) -> dns.message.Message:
    """What an asker gets: the value behind the question."""
    answers, authority, flags, code = struct.unpack("!HHBB", value[:6])
    assert flags == 1
    head = struct.pack("!HHHHHH", 1, dns.flags.QR | dns.flags.AA | code, 1, answers, authority, 0)
    wire = dns.name.from_text(name).to_wire()
    assert wire
    return dns.message.from_wire(head + wire + struct.pack("!HH", kind, 1) + value[6:])


def lines(section: list) -> list[str]:
    return sorted(line for rrset in section for line in rrset.to_text().splitlines())


def asked(entries: list[tuple[bytes, bytes]], name: str, kind: str) -> tuple[str, list[str], list[str]]:
    """Code, answers and authority; the type 0 stands in where the name has none of this type."""
    number = dns.rdatatype.from_text(kind)
    wire = dns.name.from_text(name).canonicalize().to_wire()
    assert wire
    known = dict(entries)
    value = known.get(wire + struct.pack("!H", number)) or known[wire + b"\0\0"]
    message = said(value, name, number)
    return dns.rcode.to_text(message.rcode()), lines(message.answer), lines(message.authority)


def test_records_and_names_without_data(zone: Path) -> None:
    entries = zone_entries(str(zone))
    www = ["www.example.com. 300 IN A 192.0.2.1", "www.example.com. 300 IN A 192.0.2.2"]
    assert asked(entries, "www.example.com", "A") == ("NOERROR", www, [])
    assert asked(entries, "www.example.com", "MX") == ("NOERROR", [], [SOA])
    assert asked(entries, "b.c.example.com", "A") == ("NOERROR", [], [SOA]), "there is something below"
    assert asked(entries, "a.b.c.example.com", "TXT")[1] == ['a.b.c.example.com. 300 IN TXT "deep"']
    assert asked(entries, "*.wild.example.com", "A")[1] == ["*.wild.example.com. 300 IN A 192.0.2.99"]
    assert len({key for key, _ in entries}) == len(entries)
    assert not any(b"elsewhere" in key for key, _ in entries)


def test_aliases_are_followed(zone: Path) -> None:
    entries = zone_entries(str(zone))
    alias = "alias.example.com. 300 IN CNAME www.example.com."
    second = "second.example.com. 300 IN CNAME Alias.example.com."
    there = "www.example.com. 300 IN AAAA 2001:db8::1"
    assert asked(entries, "alias.example.com", "AAAA") == ("NOERROR", [alias, there], [])
    assert asked(entries, "alias.example.com", "MX") == ("NOERROR", [alias], [SOA])
    assert asked(entries, "alias.example.com", "CNAME") == ("NOERROR", [alias], [])
    answers = asked(entries, "second.example.com", "AAAA")[1]
    assert answers[1:] == [second, there]
    assert answers[0].lower() == alias.lower()


@pytest.mark.parametrize(
    ("name", "code", "answers"),
    [("out", "NOERROR", 1), ("gone", "NXDOMAIN", 1), ("starred", "NOERROR", 1), ("left", "NOERROR", 2)],
)
def test_aliases_that_lead_nowhere(zone: Path, name: str, code: str, answers: int) -> None:
    said_code, found, authority = asked(zone_entries(str(zone)), f"{name}.example.com", "A")
    assert (said_code, len(found)) == (code, answers)
    assert authority == ([SOA] if name == "gone" else [])


def test_aliases_are_followed_so_far(tmp_path: Path) -> None:
    path = tmp_path / "z"
    chain = "".join(f"a{n} IN CNAME a{n + 1}\n" for n in range(1000))
    path.write_text(f"{HEAD}{chain}circle IN CNAME circle\n", encoding="utf-8")
    known = dict(zone_entries(str(path)))
    answers = {name: value[1] for name, value in known.items() if name.endswith(b"\0\0\0")}
    assert answers[b"\x02a0\x07example\x03com\0\0\0"] == 16
    assert answers[b"\x06circle\x07example\x03com\0\0\0"] == 1


def test_the_top_and_what_does_not_exist(zone: Path) -> None:
    known = dict(zone_entries(str(zone)))
    assert known[b"\xfd"] == b""
    message = said(known[b"\xfe\x07example\x03com\0"], "no.example.com", 1)
    assert (message.rcode(), lines(message.authority)) == (dns.rcode.NXDOMAIN, [SOA])


def test_a_zone_may_name_itself_by_its_soa(tmp_path: Path) -> None:
    path = tmp_path / "z"
    path.write_text("; mine\nexample.org. 60 IN SOA a. b. 1 2 3 4 5\nexample.org. 60 IN NS a.\n", encoding="utf-8")
    assert b"\xfe\x07example\x03org\0" in dict(zone_entries(str(path)))
    path.write_text("$TTL 60\n. IN SOA a. b. 1 2 3 4 5\na.b IN A 192.0.2.1\n", encoding="utf-8")
    known = dict(zone_entries(str(path)))
    assert {b"\xfe\0", b"\x01a\x01b\0\0\x01", b"\x01b\0\0\0"} <= known.keys(), "the root"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (HEAD + "www IN A 1.2.3.444\nx IN A 192.0.2.1\n", ", line 4: "),
        (HEAD + "www IN A 1.2.3.444", ", line 4: "),
        (HEAD + "www IN NOSUCH x\n\n\n", ", line 4: unknown rdatatype 'NOSUCH'"),
        (HEAD + "a IN CNAME b\na IN A 192.0.2.1\n\n", ", line 5: "),
        (HEAD + "\n$INCLUDE /etc/passwd\n", ", line 5: $INCLUDE /etc/passwd is not in the zone's own folder"),
        (HEAD + "a..b IN A 192.0.2.1\n", ", line 4: "),
        ("$ORIGIN e..com.\n", ", line 1: "),
        ("$ORIGIN example.com.\nwww 60 IN A 192.0.2.1\n", ": no SOA record"),
        ("www A 192.0.2.1\n", ": no SOA record"),
        ("@ SOA a. b. 1 2 3 4 5\n", ": it does not say whose names these are"),
        ("", ": no SOA record"),
        (HEAD + "big IN TXT " + "x" * 200 + "\nbig IN TXT ".join(f'"{n:0200}"' for n in range(400)), "do not fit"),
    ],
)
def test_a_bad_zone_is_said(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "bad.zone"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        zone_entries(str(path))
    assert str(raised.value).startswith(f"zone {path}")
    assert error in str(raised.value)


def test_a_file_that_is_no_zone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        zone_entries(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="Is a directory"):
        zone_entries(str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="this is UTF-16"):
        zone_entries(str(tmp_path / "binary"))
    (tmp_path / "binary").write_bytes(b"\x80\xfe\x00")
    with pytest.raises(UsageError, match="binary, line 1: byte 0x80 is no UTF-8"):
        zone_entries(str(tmp_path / "binary"))


def test_one_answer_for_any_name() -> None:
    known = dict(serve_entries(ServeOptions()))
    assert lines(said(known[b"\xff\0\1"], "x.", 1).answer) == ["x. 3600 IN A 192.0.2.1"]
    assert lines(said(known[b"\xff\0\x1c"], "x.", 28).answer) == ["x. 3600 IN AAAA 2001:db8::1"]
    assert said(known[b"\xff\0\0"], "x.", 16).rcode() == dns.rcode.NOERROR
    only = dict(serve_entries(ServeOptions(answer="2001:db8::7")))
    assert only.keys() == {b"\xff\0\0", b"\xff\0\x1c"}
    with pytest.raises(UsageError, match=r"answer '192\.0\.2': give an IPv4 or IPv6 address"):
        serve_entries(ServeOptions(answer="192.0.2"))


def test_a_zone_alone_answers_nothing_else(zone: Path) -> None:
    known = dict(serve_entries(ServeOptions(zone=str(zone))))
    assert not any(key.startswith(b"\xff") for key in known)
    both = dict(serve_entries(ServeOptions(zone=str(zone), answer="192.0.2.5")))
    assert both.keys() == known.keys() | {b"\xff\0\0", b"\xff\0\1"}


def test_only_numbers_go_to_the_engine() -> None:
    assert option_values(ServeOptions(zone="file", answer="192.0.2.1")) == {"udp_size": 1232}
    assert option_values(PROTOCOL.options()) == {
        "edns": 0,
        "dnssec_ok": 0,
        "udp_size": 1232,
        "recursion": 1,
        "any_code": 0,
        "echo": 0,
    }
