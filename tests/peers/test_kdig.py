"""kdig, and dnspython, as clients of `serve dns`: real parsers read what our server says, byte for byte."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

import flatout

pytestmark = pytest.mark.peer

ZONE = """$ORIGIN example.com.
$TTL 300
@ IN SOA ns host 1 3600 600 86400 60
@ IN NS ns
@ IN MX 10 mail
@ IN A 192.0.2.1
ns IN A 192.0.2.53
www IN A 192.0.2.2
www IN AAAA 2001:db8::2
many IN A 192.0.2.10
many IN A 192.0.2.11
many IN A 192.0.2.12
alias IN CNAME www
chain IN CNAME alias
away IN CNAME elsewhere.test.
nowhere IN CNAME none
*.wild IN A 192.0.2.9
a.b.deep IN TXT "down here"
"""


def text_record(name: str, strings: int, length: int) -> str:
    """A TXT record of so many strings."""
    return f"{name} IN TXT " + " ".join(f'"{"x" * length}"' for _ in range(strings))


# Beyond every UDP size in use; and as long as a message over TCP can be, but for some bytes.
BIG, HUGE = 20, 254


@pytest.fixture(params=["io_uring", "epoll"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[flatout.Server]:
    zone = tmp_path / "zone"
    zone.write_text(
        ZONE + text_record("big", BIG, 200) + "\n" + text_record("huge", HUGE, 255) + "\n", encoding="ascii"
    )
    with flatout.serve("dns", "127.0.0.1:0", io=request.param, zone=str(zone)) as running:
        yield running


Dig = Callable[..., str]


@pytest.fixture
def kdig(server: flatout.Server, peer: Callable[[str], str]) -> Dig:
    program = peer("kdig")

    def ask(*words: str) -> str:
        command = [program, "@127.0.0.1", "-p", str(server.endpoint.port), "+retry=0", "+timeout=10", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "WARNING" not in done.stderr.replace("WARNING: truncated reply", ""), done.stderr
        return done.stdout

    return ask


def flags_of(reported: str) -> list[str]:
    found = re.search(r"^;; Flags: ([a-z ]*);", reported, re.MULTILINE)
    assert found, reported
    return found[1].split()


def squeezed(reported: str) -> str:
    """Without columns."""
    return re.sub(r"[ \t]+", " ", reported)


# A question, its answer's code, and words of its lines in this order.
ANSWERS: list[tuple[str, str, list[str]]] = [
    ("www.example.com A", "NOERROR", ["www.example.com. 300 IN A 192.0.2.2"]),
    ("WwW.eXample.com AAAA", "NOERROR", ["300 IN AAAA 2001:db8::2"]),
    ("none.example.com A", "NXDOMAIN", ["example.com. 60 IN SOA ns.example.com."]),
    ("www.example.com MX", "NOERROR", ["example.com. 60 IN SOA ns.example.com."]),
    ("b.deep.example.com TXT", "NOERROR", ["example.com. 60 IN SOA ns.example.com."]),
    ("chain.example.com A", "NOERROR", ["IN CNAME alias", "IN CNAME www", "www.example.com. 300 IN A"]),
    ("away.example.com A", "NOERROR", ["IN CNAME elsewhere.test."]),
    ("nowhere.example.com A", "NXDOMAIN", ["IN CNAME none.example.com.", "IN SOA"]),
    ("any.thing.wild.example.com A", "NOERROR", ["any.thing.wild.example.com. 300 IN A 192.0.2.9"]),
    ("elsewhere.test A", "REFUSED", []),
]


@pytest.mark.parametrize("how", ["+notcp", "+tcp"])
@pytest.mark.parametrize("edns", ["+noedns", "+edns", "+dnssec"])
def test_kdig_reads_every_kind_of_answer(kdig: Dig, how: str, edns: str) -> None:
    for question, status, lines in ANSWERS:
        reported = squeezed(kdig(how, edns, *question.split()))
        assert f"status: {status};" in reported
        assert f"({'TCP' if how == '+tcp' else 'UDP'})" in reported
        answer = reported.lower()
        for line in lines:
            _, found, answer = answer.partition(line.lower())
            assert found, f"{line} in {reported}"
        assert ("aa" in flags_of(reported)) == (status != "REFUSED"), reported
        assert "tc" not in flags_of(reported)
        assert ("EDNS PSEUDOSECTION" in reported) == (edns != "+noedns"), reported
        if edns == "+dnssec":
            assert re.search(r"Version: 0; flags: do;", reported), reported


def test_what_is_too_long_for_udp_is_truncated_and_comes_whole_over_tcp(kdig: Dig) -> None:
    for edns in ("+noedns", "+bufsize=512", "+bufsize=4096"):
        cut = kdig("+notcp", "+ignore", edns, "big.example.com", "TXT")
        assert "tc" in flags_of(cut), edns
        assert "ANSWER: 0" in cut
    # kdig asks again over TCP by itself.
    whole = kdig("big.example.com", "TXT")
    assert "(TCP)" in whole
    assert whole.count('"' + "x" * 200 + '"') == BIG
    huge = kdig("+tcp", "huge.example.com", "TXT")
    assert huge.count('"' + "x" * 255 + '"') == HUGE
    assert "Received 65" in huge, "nearly 64 KiB"


def test_many_questions_over_one_connection(kdig: Dig) -> None:
    reported = kdig("+tcp", "+keepopen", "www.example.com", "A", "many.example.com", "A", "none.example.com", "A")
    assert reported.count("status: NOERROR") == 2
    assert reported.count("status: NXDOMAIN") == 1
    assert reported.count("192.0.2.1") == 3


# --- dnspython ---


QUESTIONS = [
    (name, kind)
    for name in ("", "www.", "many.", "alias.", "chain.", "away.", "nowhere.", "x.wild.", "none.", "deep.", "big.")
    for kind in ("A", "AAAA", "MX", "NS", "SOA", "TXT", "CNAME", "ANY", "TYPE65280")
]


@pytest.mark.parametrize("transport", [dns.query.udp, dns.query.tcp])
def test_dnspython_reads_all_answers_byte_for_byte(server: flatout.Server, transport: Callable[..., object]) -> None:
    """It raises on bytes that are left over, and packs what it has read into as many bytes again."""
    for number, (name, kind) in enumerate(QUESTIONS):
        edns: dict[str, object] = {"use_edns": number % 3 > 0, "want_dnssec": number % 3 == 2}
        query = dns.message.make_query(f"{name}example.com.", kind, **edns)  # type: ignore[arg-type]
        how = {"port": server.endpoint.port, "timeout": 10, "ignore_trailing": False, "one_rr_per_rrset": True}
        answer = transport(query, "127.0.0.1", **how)
        assert isinstance(answer, dns.message.Message)
        assert query.is_response(answer)
        assert (answer.edns, bool(answer.ednsflags & dns.flags.DO)) == (
            0 if edns["use_edns"] or edns["want_dnssec"] else -1,
            bool(edns["want_dnssec"]),
        )
        known = not answer.flags & dns.flags.TC
        assert answer.rcode() in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
        if known and not answer.answer:
            (soa,) = answer.authority
            assert soa.rdtype == dns.rdatatype.SOA
        again = dns.message.from_wire(answer.to_wire(), one_rr_per_rrset=True)
        assert again == answer


def test_types_that_dnspython_knows_come_back_as_the_zone_has_them(server: flatout.Server) -> None:
    def records(name: str, kind: str) -> set[str]:
        query = dns.message.make_query(f"{name}example.com.", kind)
        answer = dns.query.tcp(query, "127.0.0.1", port=server.endpoint.port, timeout=10)
        return {record.to_text() for rrset in answer.answer for record in rrset}

    assert records("many.", "A") == {"192.0.2.10", "192.0.2.11", "192.0.2.12"}
    assert records("", "MX") == {"10 mail.example.com."}
    assert records("", "NS") == {"ns.example.com."}
    assert records("", "SOA") == {"ns.example.com. host.example.com. 1 3600 600 86400 60"}
    assert records("a.b.deep.", "TXT") == {'"down here"'}
    assert records("chain.", "AAAA") == {"alias.example.com.", "www.example.com.", "2001:db8::2"}
