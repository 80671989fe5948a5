"""Row 63: a log of CPUs, devices, memory and open files, from /proc as it is and as it may be."""

from __future__ import annotations

from pathlib import Path

import hosts
import pytest

from flatout.errors import OutputError
from flatout.host.log import HostLog, Reading, columns, read, row

STAT = """\
cpu  30 0 30 300 0 0 0 0 0 0
cpu0 {0} 0 10 100 0 0 {1} 5 0 0
cpu1 10 5 20 {2} 7 0 0 0 0 0
intr 1 2 3
"""
DEV = """\
Inter-|   Receive                                        |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
  eth0: {0} {1}    0    {2}    0     0          0         0 4000 40 0 1 0 0 0 0
    lo:  1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0
"""
SOCKETS = "sockets: used 9\nTCP: inuse 22 orphan 0 tw 2 alloc 22 mem 3\nUDP: inuse 4 mem 120\n"
MEMORY = "MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable: 50 kB\nSlab: 7 kB\n"


def host(root: Path, stat: str, dev: str) -> Reading:
    """What there is of a host."""
    files = {"stat": stat, "net/dev": dev, "net/sockstat": SOCKETS, "meminfo": MEMORY, "sys/fs/file-nr": "1034 0 99"}
    for name, text in files.items():
        hosts.put(root, name, text)
    return read(root)


def pairs(before: Reading, after: Reading) -> dict[str, str]:
    """The row that is half a second long."""
    later = after._replace(monotonic_s=before.monotonic_s + 0.5)
    return dict(zip(columns(before), row(before, later, 17, before), strict=True))


def test_a_row_has_shares_and_rates(tmp_path: Path) -> None:
    before = host(tmp_path, STAT.format(10, 20, 100), DEV.format(1000, 10, 0))
    found = pairs(before, host(tmp_path, STAT.format(14, 26, 108), DEV.format(2000, 30, 5)))
    assert (found["unix_ns"], found["elapsed_s"]) == ("17", "0.5000")
    assert (found["cpu0_user_percent"], found["cpu0_softirq_percent"], found["cpu0_idle_percent"]) == (
        "40.0",
        "60.0",
        "0.0",
    )
    assert found["cpu1_idle_percent"] == "100.0"
    assert (found["eth0_rx_bytes_per_s"], found["eth0_rx_packets_per_s"], found["eth0_rx_drops_per_s"]) == (
        "2000",
        "40",
        "10",
    )
    assert found["eth0_tx_bytes_per_s"] == found["lo_rx_packets_per_s"] == "0"
    assert (found["memory_free_bytes"], found["slab_bytes"]) == ("10240", "7168")
    assert (found["tcp_in_use"], found["tcp_time_wait"], found["tcp_mem_pages"]) == ("22", "2", "3")
    assert (found["udp_in_use"], found["udp_mem_pages"], found["open_files"]) == ("4", "120", "1034")


def test_what_is_gone_is_empty(tmp_path: Path) -> None:
    """A CPU that goes offline, a device that is removed, counters that begin again at 0."""
    before = host(tmp_path, STAT.format(10, 20, 100), DEV.format(1000, 10, 0))
    without = "\n".join(line for line in STAT.format(14, 26, 108).splitlines() if not line.startswith("cpu1"))
    found = pairs(before, host(tmp_path, without, DEV.format(5, 10, 0).replace("lo:", "l1:")))
    assert found["cpu1_idle_percent"] == found["lo_rx_bytes_per_s"] == found["eth0_rx_bytes_per_s"] == ""
    assert found["eth0_rx_packets_per_s"] == "0"
    assert found["cpu0_user_percent"] == "40.0"


def test_a_host_that_shows_nothing_has_a_log_of_nothing(tmp_path: Path) -> None:
    before = read(tmp_path)
    found = pairs(before, read(tmp_path))
    assert set(found.values()) == {"17", "0.5000", ""}


def test_idle_time_that_goes_back_is_no_negative_share(tmp_path: Path) -> None:
    before = host(tmp_path, STAT.format(10, 20, 100), DEV.format(0, 0, 0))
    found = pairs(before, host(tmp_path, STAT.format(14, 26, 99), DEV.format(0, 0, 0)))
    assert found["cpu1_idle_percent"] in ("", "0.0")


def test_a_file_that_cannot_be_made_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the host log .* cannot be written: No such file"):
        HostLog(str(tmp_path / "none" / "host.csv"))
