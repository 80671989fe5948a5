"""Zone files as other servers write them, and files that include others: all of a zone is found, or the fault is named.

The dumps have the form of named-compilezone, named-checkzone -D, knotc zone-backup, kzonecheck -p, NSD and pdnsutil.
"""

from __future__ import annotations

import os
from pathlib import Path

import dns.name
import dns.rdatatype
import dns.zone
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flatout.errors import UsageError
from flatout.protocols.dns.zone import zone_entries
from flatout.protocols.dns.zone_file import read

BIND_RELATIVE = """\
$ORIGIN .
$TTL 300\t; 5 minutes
lab.test\t\tIN SOA\tns.lab.test. hostmaster.lab.test. (
\t\t\t\t2024010101 ; serial
\t\t\t\t7200       ; refresh (2 hours)
\t\t\t\t900        ; retry (15 minutes)
\t\t\t\t1209600    ; expire (2 weeks)
\t\t\t\t60         ; minimum (1 minute)
\t\t\t\t)
\t\t\tNS\tns.lab.test.
$ORIGIN lab.test.
ns\t\t\tA\t192.0.2.53
$ORIGIN sub.lab.test.
$TTL 60\t; 1 minute
www\t\t\tA\t192.0.2.1
"""
BIND_FULL = """\
lab.test.\t\t\t\t      300 IN SOA\tns.lab.test. hostmaster.lab.test. 2024010101 7200 900 1209600 60
lab.test.\t\t\t\t      300 IN NS\t\tns.lab.test.
ns.lab.test.\t\t\t\t      300 IN A\t\t192.0.2.53
www.sub.lab.test.\t\t\t      60 IN A\t\t192.0.2.1
"""
KNOT = """\
;; Zone dump (Knot DNS 3.2.6)
lab.test.           \t300\tSOA\tns.lab.test. hostmaster.lab.test. 2024010101 7200 900 1209600 60
lab.test.           \t300\tNS\tns.lab.test.
ns.lab.test.        \t300\tA\t192.0.2.53
www.sub.lab.test.   \t60\tA\t192.0.2.1
;; Written 4 records
;; Time 2024-01-01 00:00:00 UTC
"""
KNOT_CHECKED = """\
$ORIGIN lab.test.
$TTL 300

@\tSOA\tns hostmaster 2024010101 7200 900 1209600 60
\tNS\tns

ns\tA\t192.0.2.53
www.sub\t60\tA\t192.0.2.1
"""
NSD = """\
; zone lab.test. written by NSD 4.6.1 on Mon Jan  1 00:00:00 2024
; received update to serial 2024010101 at 2024-01-01T00:00:00 from 192.0.2.1
lab.test.\t300\tIN\tSOA\tns.lab.test. hostmaster.lab.test. 2024010101 7200 900 1209600 60
lab.test.\t300\tIN\tNS\tns.lab.test.
ns.lab.test.\t300\tIN\tA\t192.0.2.53
www.sub.lab.test.\t60\tIN\tA\t192.0.2.1
"""
POWERDNS = """\
$ORIGIN .
lab.test\t300\tIN\tNS\tns.lab.test.
lab.test\t300\tIN\tSOA\tns.lab.test hostmaster.lab.test 2024010101 7200 900 1209600 60
ns.lab.test\t300\tIN\tA\t192.0.2.53
www.sub.lab.test\t60\tIN\tA\t192.0.2.1
"""
DIG = (
    """\

; <<>> DiG 9.18.28 <<>> @192.0.2.53 lab.test AXFR
; (1 server found)
;; global options: +cmd
"""
    + BIND_FULL
    + BIND_FULL.partition("\n")[0]
    + "\n;; Query time: 0 msec\n"
)
UPPER = BIND_RELATIVE.replace("$ORIGIN lab.test.", "$origin LAB.test.").replace("SOA", "soa")
WINDOWS = BIND_RELATIVE.replace("\n", "\r\n")
UNRELATED_ORIGIN = "$ORIGIN elsewhere.example.\n" + BIND_FULL
SOA = "lab.test. 60 IN SOA a. b. 1 2 3 4 5\n"


def write(folder: Path, text: str, name: str = "zone") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def owners(path: str) -> set[str]:
    return {str(name) for name in read(path).nodes}


@pytest.mark.parametrize(
    "text",
    [
        BIND_RELATIVE,
        BIND_FULL,
        KNOT,
        KNOT_CHECKED,
        NSD,
        POWERDNS,
        DIG,
        UPPER,
        WINDOWS,
        UNRELATED_ORIGIN,
    ],
    ids=["relative", "full", "knotc", "kzonecheck", "nsd", "pdnsutil", "dig", "upper", "crlf", "unrelated"],
)
def test_a_dump_is_the_same_zone(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    expected = dns.zone.from_text(BIND_FULL, origin="lab.test.", relativize=False)
    found = read(path)
    assert found.origin == dns.name.from_text("lab.test.")
    assert found == expected
    ttls = {kind: found.find_rdataset("www.sub.lab.test.", kind).ttl for kind in ("A",)}
    assert ttls == {"A": 60}
    assert b"\xfe\x03lab\x04test\0" in dict(zone_entries(path))


def test_names_before_any_origin_are_relative_to_the_zone(tmp_path: Path) -> None:
    path = write(tmp_path, f"{SOA}www 60 IN A 192.0.2.1\n")
    assert owners(path) == {"lab.test.", "www.lab.test."}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("@ 60 IN SOA a. b. 1 2 3 4 5\n", "its SOA record stands at '@'; begin with $ORIGIN"),
        ("@ 60 IN SOA a. b. 1 2 3 4 5\n$ORIGIN sub.lab.test.\nwww 60 A 192.0.2.1\n", "stands at '@'"),
        ("$ORIGIN lab.test\n@ 60 IN SOA a. b. 1 2 3 4 5\n", "its SOA record stands at 'lab.test'"),
        (f"{SOA}sub.{SOA}", "line 2: a second SOA record"),
        ("$ORIGIN lab.test.\nwww 60 IN A 192.0.2.1\n", ": no SOA record"),
    ],
)
def test_a_zone_without_a_name_says_so(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(write(tmp_path, text))
    assert error in str(raised.value)


# --- $INCLUDE ---


def test_files_of_its_own_folder_are_included(tmp_path: Path) -> None:
    write(tmp_path, "a 60 A 192.0.2.1\n$TTL 77\n$ORIGIN away.test.\n", "hosts")
    write(tmp_path, 'b A 192.0.2.2\n$include "sub/c d" deep.lab.test. ; nested\nb2 A 192.0.2.2\n', "sub/b")
    write(tmp_path, "c A 192.0.2.3\n", "sub/c d")
    write(tmp_path, "soa 60 SOA a. b. 1 2 3 4 5\n", "head")
    path = write(
        tmp_path,
        "$INCLUDE head lab.test.\n$ORIGIN soa.lab.test.\nx 60 A 192.0.2.4\n$INCLUDE hosts\n  A 192.0.2.5\n"
        f"$INCLUDE sub/b one\ny A 192.0.2.6\n$INCLUDE {tmp_path}/hosts two",
    )
    zone = read(path)
    assert zone.origin == dns.name.from_text("soa.lab.test.")
    # The included file's origin ends with it, as its owner does; its TTL stays, as in BIND and NSD.
    expected = {"soa.lab.test.", *(f"{name}.soa.lab.test." for name in ("x", "a", "b.one", "b2.one", "y", "a.two"))}
    assert {str(name) for name in zone.nodes} == expected
    rdataset = zone.find_rdataset("x.soa.lab.test.", "A")
    assert {str(rdata) for rdata in rdataset} == {"192.0.2.4", "192.0.2.5"}
    assert zone.find_rdataset("y.soa.lab.test.", "A").ttl == 77


def test_an_include_may_give_an_origin_inside_the_zone(tmp_path: Path) -> None:
    write(tmp_path, "c A 192.0.2.3\n", "c")
    path = write(tmp_path, f"$TTL 60\n{SOA}$INCLUDE c deep.lab.test.\n$INCLUDE c deeper\n")
    assert owners(path) == {"lab.test.", "c.deep.lab.test.", "c.deeper.lab.test."}


def test_an_included_file_elsewhere_is_refused(tmp_path: Path) -> None:
    outside = write(tmp_path, "www 60 A 192.0.2.1\n", "outside")
    folder = tmp_path / "zones"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "down").mkdir()
    os.mkfifo(folder / "pipe")
    cases = {
        outside: "is not in the zone's own folder",
        "../outside": "is not in the zone's own folder",
        "down/../../outside": "is not in the zone's own folder",
        "link": f"leads to {outside}, which is not in the zone's own folder",
        "/etc/passwd": "is not in the zone's own folder",
        "/dev/zero": "is not in the zone's own folder",
        "none": f"there is no such file in {folder}",
        "down": "this is no file",
        "pipe": "this is no file",
        "x" * 300: "File name too long",
        "": "$INCLUDE names no file",
        '""': "$INCLUDE names no file",
        "a b c": "write it like $INCLUDE",
        "a b..c": "write it like $INCLUDE",
    }
    for name, why in cases.items():
        path = write(folder, f"{SOA}\n$INCLUDE {name}\n", "zone")
        with pytest.raises(UsageError) as raised:
            read(path)
        assert str(raised.value).startswith(f"zone {path}, line 3: "), name
        assert why in str(raised.value), name


def test_a_zone_behind_a_link_includes_from_the_folder_it_leads_to(tmp_path: Path) -> None:
    real = write(tmp_path, f"{SOA}$INCLUDE hosts\n", "real/zone")
    write(tmp_path, "www 60 A 192.0.2.1\n", "real/hosts")
    (tmp_path / "link").symlink_to(real)
    assert owners(str(tmp_path / "link")) == {"lab.test.", "www.lab.test."}


def test_circles_and_depth_are_said(tmp_path: Path) -> None:
    write(tmp_path, "$INCLUDE b\n", "a")
    write(tmp_path, "$INCLUDE a\n", "b")
    with pytest.raises(UsageError, match=r"file .*/b, line 1: \$INCLUDE a closes a circle: a includes b includes a$"):
        read(write(tmp_path, f"{SOA}$INCLUDE a\n"))
    with pytest.raises(UsageError, match=r"line 2: \$INCLUDE zone closes a circle: zone includes zone$"):
        read(write(tmp_path, f"{SOA}$INCLUDE zone\n"))
    for n in range(11):
        write(tmp_path, f"$INCLUDE d{n + 1}\n" if n < 10 else "", f"d{n}")
    assert owners(write(tmp_path, f"{SOA}$INCLUDE d1\n")) == {"lab.test."}
    with pytest.raises(UsageError, match=r"file .*/d9, line 1: \$INCLUDE d10: files are included at most 10 deep"):
        read(write(tmp_path, f"{SOA}$INCLUDE d0\n"))
    with pytest.raises(UsageError, match=r"line 1002: \$INCLUDE d10: at most 1,000 files are included"):
        read(write(tmp_path, SOA + "$INCLUDE d10\n" * 1001))


@pytest.mark.parametrize("numbers", ["0-1000000", f"1-{'9' * 30}", "0-4294967295/4294"])
def test_numbers_without_end_are_refused(tmp_path: Path, numbers: str) -> None:
    with pytest.raises(UsageError, match=r"zone, line 3: \$GENERATE makes at most 1,000,000 records"):
        read(write(tmp_path, f"{SOA}\n$GENERATE {numbers} a$ 60 A 192.0.2.1\n"))
    few = write(tmp_path, f"{SOA}$GENERATE 0-4294967295/2147483647 a$ 60 A 192.0.2.1\n")
    assert owners(few) == {"lab.test.", "a0.lab.test.", "a2147483647.lab.test.", "a4294967294.lab.test."}


def test_a_fault_in_an_included_file_names_it(tmp_path: Path) -> None:
    write(tmp_path, "\nwww 60 A 192.0.2.444\n", "hosts")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"zone .*/zone, file .*/hosts, line 2: "):
        read(write(tmp_path, f"{SOA}$INCLUDE hosts\n"))
    with pytest.raises(UsageError, match=r"zone .*/zone, file .*/binary: "):
        read(write(tmp_path, f"{SOA}$INCLUDE binary\n"))
    with pytest.raises(UsageError, match=r"zone .*/zone, line 4: unknown rdatatype"):
        read(write(tmp_path, f"{SOA}; one\n$INCLUDE d\nwww 60 NOSUCH x\n".replace("$INCLUDE d", "")))


# --- Any text at all ---

PIECES = [
    *("lab.test.", "lab.test", "@", "www", "*", "\\000", "a..b", "x" * 70, "$ORIGIN", "$TTL", "$INCLUDE", "$GENERATE"),
    *("1-3", "zone", "none", "60", "1w2d", "IN", "CH", "SOA", "A", "AAAA", "TXT", "CNAME", "MX", "RRSIG", "TYPE999"),
    *("192.0.2.1", "2001:db8::1", "a. b. 1 2 3 4 5", '"text"', '"', "(", ")", ";", "\\# 2 abcd", "\\# x", "9" * 11),
    *("\n", "\n\n", " ", "\t", "\r\n", "\0", "é", "$", "${0,3,d}"),
]
texts = st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join) | st.text(max_size=60)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(texts)
@example("@ SOA a. b. 1 2 3 4 5 (")
@example("$GENERATE 1-3 ${0,999,d} A 192.0.2.1")
@example("$INCLUDE zone")
def test_any_text_is_a_zone_or_refused(tmp_path: Path, text: str) -> None:
    for head in ("", SOA):
        path = write(tmp_path, head + text.replace(" \n ", "\n"))
        said = ""
        try:
            zone_entries(path)
        except UsageError as refused:
            said = str(refused)
        assert said == "" or said.startswith(f"zone {path}")
        assert "\n" not in said
        assert "<class" not in said
