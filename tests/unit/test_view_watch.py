"""The lines of `flatout watch` for people."""

from __future__ import annotations

import pytest
from watched import NOON, FakeTraffic, Watched, even

from flatout.server.quota import Quota
from flatout.server.usage import Usage
from flatout.view.terminal import watch as view
from flatout.view.terminal.frame import paint
from flatout.watch.model import WatchedCpu
from flatout.watch.quota import QuotaMeter
from flatout.watch.source import Prefix


def frame(columns: int = 80, rows: int = 30, *ports: str, busy: bool = True) -> list[str]:
    """The frame after 12 seconds, of which the last has a spike."""
    traffic = FakeTraffic(*ports)
    watched = Watched(traffic, QuotaMeter(Quota.parse("4TB/month"), "out", Usage(None)))
    memory = view.Memory("flatout watch udp/123")
    for _ in range(11):
        line = watched.second(even(640))
        memory.note(line)
    if busy:
        bins = even(640)
        bins[5:8] = [0, 1, 5000]
        loud = [Prefix("192.0.2.0/24", 5000, 380_000)]
        reading = traffic.reading(bins, prefixes=loud, v6=0.5, sntp=0.123, reasons={"NETFILTER_DROP": 4})
        line = watched.second(reading=reading, Udp__RcvbufErrors=3, drops=3)
        memory.note(line)
    return [paint(one, columns - 1, colours=False).rstrip() for one in view.lines(line, memory, columns, rows)]


def test_the_frame() -> None:
    shown = frame()
    assert shown[0] == "flatout watch udp/123  12:00:12 UTC, for 12 s"
    assert shown[1].startswith("udp/123   in  5.61 k/s 3.41 Mbit/s  out  5.61 k/s 3.41 Mbit/s")
    assert shown[2] == "          IPv6 50.0 %  answered 100 %  SNTP 12.3 %  version 4 100 %"
    assert shown[3] == "          socket drops 3  buffer 25 % full  chronyd (812)"
    assert "digit x" in shown[4]
    # 10 packets: 3; 0: a blank; 1: 0; 5000: 12, which is c.
    assert f"00:11│33333 0c{'3' * 56}│5.61 k/s" in shown
    text = "\n".join(shown)
    assert "NETFILTER_DROP 4 of 4" in text
    assert "receive buffer 3 of 3" in text
    assert "talkers   192.0.2.0/24 44.0 %" in text
    assert "12:00:11.109 in 15.6 ms, peak 320 k/s, usual 640 /s, 3 dropped" in text
    assert "of 4 TB/month, projected" in text


@pytest.mark.parametrize("columns", [40, 80, 140, 250])
@pytest.mark.parametrize("rows", [5, 12, 24, 60])
def test_it_fits(columns: int, rows: int) -> None:
    shown = frame(columns, rows)
    assert all(len(one) < columns for one in shown)
    if rows >= 24:
        assert len(shown) < rows, "all of it"


def test_it_fits_for_several_ports() -> None:
    shown = frame(80, 30, "udp/123", "tcp/53", "udp/53")
    assert len(shown) < 30
    assert sum("│" in one for one in shown) >= 3, "a burst row for each"


def test_at_eighty_columns_nothing_that_matters_is_cut() -> None:
    whole = frame(400)
    for narrow in frame(80):
        if narrow not in whole:
            assert any(word in narrow for word in ("talkers", "CPU", "dropped", "spikes")), narrow


def test_nothing_dropped_is_told_in_a_word() -> None:
    assert "dropped   nothing" in frame(busy=False)


def test_hundreds_of_cpus_take_two_lines() -> None:
    cpus = {str(n): WatchedCpu(busy=n / 300, softirq=0.0, steal=0.0, packets=1) for n in range(256)}
    shown = view._cpus(cpus, 80)
    assert len(shown) == 3
    assert "252 more are less busy" in shown[-1][0][1]
    assert any("255: " in text for _, text in shown[-2])


@pytest.mark.parametrize(
    ("packets", "digit"), [(0, " "), (1, "0"), (2, "1"), (3, "1"), (1023, "9"), (1024, "a"), (2**40, "z")]
)
def test_digits(packets: int, digit: str) -> None:
    assert view.digit(packets) == digit


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (4 * 10**12, "4 TB"), (1_234_567, "1.23 MB"), (10**16, "10,000 TB")]
)
def test_sizes(value: int, text: str) -> None:
    assert view.size(value) == text


def test_plain_lines_and_totals() -> None:
    watched = Watched()
    line = watched.second(even(640), Udp__RcvbufErrors=3)
    [text] = view.plain(line)
    assert text.startswith("     1.0 s  udp/123  in    640 /s  389 kbit/s  out")
    assert text.endswith("peak 640 /s  dropped: receive buffer 3")
    total = view.totals(watched.monitor.total(NOON))
    assert total[0] == "in 1 s: udp/123 in 640 (48.6 kB), out 640 (48.6 kB), dropped at its sockets 0"
    assert "receive buffer 3" in total[-1]


def test_what_comes_from_outside_obeys_nothing() -> None:
    watched = Watched()
    watched.traffic.notes.append("a note\x1b[2J\nof two lines")
    memory = view.Memory("title\x1b[0m")
    line = watched.second(even(10))
    memory.note(line)
    shown = [paint(one, 79, colours=False) for one in view.lines(line, memory, 80, 24)]
    assert not any("\x1b" in one or "\n" in one for one in shown)
