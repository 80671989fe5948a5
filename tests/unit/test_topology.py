"""Row 72: NUMA nodes, CPUs and receive queues, as the kernel's files tell them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flatout.host import topology

LEFT = bytes.fromhex("fd000099000000000000000000000001")


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    """Two nodes; a card of eleven queues on the second one, and loopback."""
    files = {
        "devices/system/node/node0/cpulist": "0-5,12-17\n",
        "devices/system/node/node1/cpulist": "6-11,18-23\n",
        "class/net/eth2/device/numa_node": "1\n",
        "class/net/eth2/carrier": "1\n",
        "class/net/eth3/carrier": "0\n",
        "class/net/lo/carrier": "1\n",
        "class/net/lo/queues/rx-0/rps_cpus": "0\n",
        **{f"class/net/eth2/queues/rx-{n}/rps_cpus": "0\n" for n in range(11)},
    }
    for name, text in files.items():
        path = tmp_path / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return tmp_path / "sys"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    path = tmp_path / "proc" / "net" / "if_inet6"
    path.parent.mkdir(parents=True)
    path.write_text(f"{LEFT.hex()} 02 40 00 80     eth2\n{'0' * 31}1 01 80 10 80       lo\n", encoding="ascii")
    return tmp_path / "proc"


def test_one_line_tells_it_all(sys: Path) -> None:
    assert topology.sentence("0.0.0.0", sys) == (
        "NUMA node 0 has CPUs 0-5,12-17; NUMA node 1 has CPUs 6-11,18-23; eth2 has 11 RX queues on node 1"
    )
    assert topology.sentence("127.0.0.1", sys).endswith("; lo has 1 RX queue")


def test_a_v6_address_is_looked_up(sys: Path, proc: Path) -> None:
    assert [found.name for found in topology.interfaces("fd00:99::1%eth2", sys, proc)] == ["eth2"]
    assert topology.interfaces("fd00:99::2", sys, proc) == []


def test_pins_on_another_node_than_the_card_are_found(sys: Path) -> None:
    assert topology.far_cpus("0.0.0.0", (0, 6, 12, 99), sys) == [0, 12]
    assert topology.far_cpus("127.0.0.1", (0, 6), sys) == []


def test_what_cannot_be_told_is_left_out(tmp_path: Path) -> None:
    assert topology.sentence("0.0.0.0", tmp_path, tmp_path) == ""
    assert topology.sentence("127.0.0.1", tmp_path, tmp_path) == ""
    assert topology.far_cpus("10.0.0.1", (0,), tmp_path, tmp_path) == []


def test_this_machine_can_be_asked() -> None:
    assert "lo has" in topology.sentence("127.0.0.1")
    assert isinstance(topology.sentence("0.0.0.0"), str)
    assert topology.sentence("203.0.113.7") == "; ".join(
        f"NUMA node {node.number} has CPUs {node.cpus}" for node in topology.nodes()
    )
