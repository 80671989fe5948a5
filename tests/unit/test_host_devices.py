"""Channels, rings, flow hash, interrupts, RPS and XPS of network devices: what is wanted, set and restored.

The words of each structure are as `ethtool` gets them from the kernel, recorded from drivers.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import hosts
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import UsageError
from flatout.host.tuning import device_tunables, ethtool
from flatout.host.tuning.aim import Aim, Role, Transport
from flatout.host.tuning.apply import Change, apply, undo
from flatout.host.tuning.check import HostCheck, Setting, check
from flatout.host.tuning.machine import machine
from flatout.host.tuning.script import script
from flatout.host.tuning.system import System
from flatout.host.tuning.tunables import settable
from flatout.view.terminal import tuning as view

SERVER = Aim(role="server", transport="udp", rate_per_s=500_000.0, interface="eth0")
QUEUES = "sys/class/net/eth0/queues"
# `ethtool -l`, `-g`, `-n … rx-flow-hash udp4` and `-c` of an ixgbe card after its start with one queue.
SOURCE_AND_DESTINATION = 0x30


class Card(NamedTuple):
    """A host of four CPUs with a card of eight queues, of which one is in use."""

    system: System
    devices: hosts.Devices
    journal: Path

    def check(self, aim: Aim = SERVER) -> HostCheck:
        return check(aim, self.system)

    def named(self, name: str, aim: Aim = SERVER) -> list[Setting]:
        return [one for one in self.check(aim).settings if one.name == name]

    def apply(self, aim: Aim = SERVER) -> list[Change]:
        return apply(aim, self.system, self.journal)

    def state(self) -> tuple[dict[str, str], object]:
        """All that there is of it."""
        words = {name: {key: list(row) for key, row in rows.items()} for name, rows in self.devices.words.items()}
        return hosts.contents(self.system.root), words

    def file(self, name: str) -> Path:
        return self.system.root / name


def card(folder: Path) -> Card:
    devices = hosts.Devices({"eth0": "ixgbe"})
    devices.channels("eth0", (0, 0), (0, 0), (1, 8))
    devices.ring("eth0", 512, 4096)
    devices.fields("eth0", SOURCE_AND_DESTINATION)
    devices.coalescing("eth0", 3, 0)
    root = hosts.tree(folder / "root", others={"sys/devices/system/cpu/online": "0-3"})
    interrupt(root, 40, "eth0-TxRx-0", "0-3")
    interrupt(root, 44, "eth0", "0-3")
    devices.reset = lambda _: queues(root, devices.words["eth0"][(0x3C,)][7])
    queues(root, 1)
    return Card(hosts.host(root, None, devices), devices, folder / "state" / "host.json")


def interrupt(root: Path, number: int, name: str, cpus: str) -> None:
    """An interrupt of the card."""
    hosts.put(root, f"sys/class/net/eth0/device/msi_irqs/{number}", "msix")
    hosts.put(root, f"proc/irq/{number}/{name}/empty", "")
    hosts.put(root, f"proc/irq/{number}/smp_affinity_list", cpus)


def queues(root: Path, count: int) -> None:
    """As the driver sets its queues up; with so many each send queue has a CPU of its own."""
    for kind, files in (("rx", ("rps_cpus", "rps_flow_cnt")), ("tx", ("xps_cpus",))):
        for number in range(8):
            folder = root / QUEUES / f"{kind}-{number}"
            for file in files:
                if number < count:
                    there = (folder / file).exists() and file != "xps_cpus"
                    value = (folder / file).read_text("ascii").strip() if there else "0"
                    hosts.put(root, f"{QUEUES}/{kind}-{number}/{file}", value)
                else:
                    (folder / file).unlink(missing_ok=True)
            if folder.exists() and not list(folder.iterdir()):
                folder.rmdir()


@pytest.fixture
def one(tmp_path: Path) -> Card:
    return card(tmp_path)


# --- What is wanted ---


def test_each_cpu_gets_a_queue(one: Card) -> None:
    (channels,) = one.named("channels")
    assert (channels.now, channels.wanted, channels.state) == ("combined 1", "combined 4", "differs")
    assert "down for a second" in channels.risk
    assert one.named("rps_cpus") == [], "there will be a queue for each CPU"


def test_more_queues_than_cpus_stay(one: Card) -> None:
    one.devices.channels("eth0", (0, 0), (0, 0), (8, 8))
    assert one.named("channels")[0].state == "ok"


def test_queues_of_two_kinds_are_somebodys_choice(one: Card) -> None:
    one.devices.channels("eth0", (2, 8), (0, 8), (1, 8))
    assert one.named("channels")[0].state == "ok"
    one.devices.channels("eth0", (1, 8), (1, 2), (0, 8))
    assert one.named("channels")[0].wanted == "rx 4 tx 2"


def test_a_device_of_one_queue_says_so_and_gets_rps(one: Card) -> None:
    one.devices.channels("eth0", (0, 0), (0, 0), (1, 1))
    (channels,) = one.named("channels")
    assert channels.state == "ok"
    assert channels.blocked == "the device has 1 at most, and this host 4 CPUs"
    assert "cannot be changed" not in view.check(one.check()).partition("channels")[2].partition("receive ring")[0]
    assert [rps.wanted for rps in one.named("rps_cpus")] == ["f"]
    client = Aim(role="client", transport="udp", interface="eth0")
    assert one.named("rps_cpus", client) == []
    assert one.named("udp4 flow hash") == [], "one queue has nothing to spread over"


def test_a_ring_holds_two_milliseconds(one: Card) -> None:
    assert one.named("receive ring")[0].wanted == "rx 1024"
    fast = Aim(role="server", transport="udp", rate_per_s=10e6, interface="eth0")
    assert one.named("receive ring", fast)[0].wanted == "rx 4096", "20 million packets a second and 4 queues: 8192"
    one.devices.ring("eth0", 256, 256)
    small = one.named("receive ring")[0]
    assert (small.state, small.blocked) == ("ok", "the device holds 256 at most")


def test_ports_are_hashed_too(one: Card) -> None:
    assert [(four.now, four.wanted) for four in one.named("udp4 flow hash")] == [("sd", "sdfn")]
    one.devices.fields("eth0", SOURCE_AND_DESTINATION | 0xC0 | 4)
    assert one.named("udp6 flow hash")[0].state == "ok", "nothing is taken away"
    assert one.named("udp4 flow hash", Aim(role="server", transport="tcp", interface="eth0")) == []


def test_coalescing_is_advice_and_no_fault(one: Card) -> None:
    (advice,) = one.named("interrupt coalescing")
    assert (advice.now, advice.state) == ("rx-usecs 3 adaptive-rx off", "advice")
    assert "left to you" in view.check(one.check())
    one.devices.coalescing("eth0", 3, 1)
    assert one.named("interrupt coalescing")[0].state == "ok"


def test_interrupts_of_queues_get_a_cpu_each(one: Card) -> None:
    found = one.named("IRQ affinity")
    assert [(irq.key, irq.wanted) for irq in found] == [("irq:40:eth0-TxRx-0", "0")], "not that of the link"
    one.file("proc/irq/40/smp_affinity_list").write_text("2-3", "ascii")
    assert one.named("IRQ affinity")[0].state == "ok", "somebody has chosen"


def test_irqbalance_would_move_them_again(one: Card) -> None:
    hosts.put(one.system.root, "proc/733/comm", "irqbalance")
    assert "stop it first" in one.named("IRQ affinity")[0].blocked
    assert [(found.now, found.state) for found in one.named("irqbalance")] == [("running", "advice")]
    assert "smp_affinity_list" not in script(one.check(), one.system)
    assert "Not set: IRQ affinity: irqbalance" in script(one.check(), one.system)


@pytest.mark.parametrize(
    ("name", "cpu"),
    [
        ("eth0-TxRx-2", "2"),
        ("i40e-eth0-TxRx-5", "1"),
        ("eth0-Tx-Rx-3", "3"),
        ("eth0-rx-1", "1"),
        ("virtio2-input.0", "0"),
        ("virtio2-output.6", "2"),
        ("mlx5_comp3@pci:0000:01:00.0", "3"),
        ("eth0-rxtx-1", "1"),
        ("virtio2-config", None),
        ("mlx5_async0@pci:0000:01:00.0", None),
        ("ena-mgmnt@pci:0000:00:05.0", None),
    ],
)
def test_names_of_interrupts_have_the_queue(one: Card, name: str, cpu: str | None) -> None:
    interrupt(one.system.root, 50, name, "0-3")
    assert [irq.wanted for irq in one.named("IRQ affinity")[1:]] == ([] if cpu is None else [cpu])
    assert settable(f"irq:50:{name}")


def test_what_a_virtual_device_does_not_have_is_absent(one: Card) -> None:
    one.devices.drivers["v0"] = "veth"
    one.devices.words["v0"] = {}
    hosts.put(one.system.root, "sys/class/net/v0/queues/rx-0/rps_cpus", "0")
    aim = Aim(role="server", transport="udp", interface="v0")
    found = {setting.name: setting for setting in one.check(aim).settings}
    assert found["channels"].state == found["receive ring"].state == "absent"
    assert found["channels"].blocked == "v0: its driver has no channels to set"
    assert "IRQ affinity" not in found
    assert found["rps_cpus"].wanted == "f"


# --- Which device ---


def test_the_device_is_that_of_the_default_route(one: Card) -> None:
    hosts.put(one.system.root, "sys/class/net/eth1/device/vendor", "1")
    hosts.put(one.system.root, "sys/class/net/eth1/carrier", "1")
    assert list(machine(one.system, None).devices) == ["eth0", "eth1"]
    head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
    hosts.put(one.system.root, "proc/net/route", head + "eth1 00000000 0102000A 0003 0 0 0 00000000 0 0 0")
    assert list(machine(one.system, None).devices) == ["eth1"]
    assert list(machine(one.system, "eth0").devices) == ["eth0"]


def test_a_device_that_is_not_there_is_named(one: Card) -> None:
    with pytest.raises(UsageError, match=r"no such network device here; there is eth0, lo"):
        check(Aim(role="server", transport="udp", interface="eth9"), one.system)


def test_devices_of_another_namespace_are_let_alone(one: Card) -> None:
    """`nsenter -n` leaves /sys as it was: eth0 there is another device, and often that of the host."""
    hosts.put(one.system.root, "sys/class/net/eth0/address", "02:fc:00:00:00:01")
    hosts.put(one.system.root, "sys/class/net/tunl0/address", "00:00:00:00")
    own = {"eth0": "02:fc:00:00:00:01", "tunl0": "00:00:00:00:00:00", "lo": "00:00:00:00:00:00"}
    here = System(one.system.root, one.system.run, one.devices, lambda: own)
    assert "channels" in {setting.name for setting in check(SERVER, here).settings}
    there = System(one.system.root, one.system.run, one.devices, lambda: own | {"eth0": "fe:00:00:00:00:02"})
    before = one.state()
    failed = {change.name: change.failed for change in apply(SERVER, there, one.journal) if change.failed}
    assert "another network namespace" in failed["network devices"]
    after = one.state()
    assert {key: after[0][key] for key in before[0] if "sys/class" in key or "irq" in key} == {
        key: value for key, value in before[0].items() if "sys/class" in key or "irq" in key
    }
    assert after[1] == before[1]


# --- Apply and undo ---


def test_all_is_set_and_restored(one: Card) -> None:
    before = one.state()
    done = {(change.name, change.key.rpartition("/queues/")[2]): change for change in one.apply()}
    assert not [change for change in done.values() if change.failed]
    assert one.devices.words["eth0"][(0x3C,)][7] == 4
    assert one.devices.words["eth0"][(0x29, 2)] == [2, 0xF0, 0]
    assert one.devices.words["eth0"][(0x10,)] == [4096, 0, 0, 4096, 1024, 0, 0, 512]
    assert [one.file(f"{QUEUES}/tx-{n}/xps_cpus").read_text("ascii").strip() for n in range(4)] == ["1", "2", "4", "8"]
    assert one.file("proc/irq/40/smp_affinity_list").read_text("ascii").strip() == "0"
    assert one.check().passed
    assert {back.how for back in undo(one.system, one.journal)} <= {"restored", "gone"}
    assert one.state() == before


def test_what_a_driver_resets_with_its_channels_is_restored(one: Card) -> None:
    """Masks and the flow hash that somebody has chosen."""
    hosts.put(one.system.root, f"{QUEUES}/rx-0/rps_cpus", "c")
    one.devices.channels("eth0", (0, 0), (0, 0), (2, 8))
    queues(one.system.root, 2)
    own = one.devices.reset

    def reset(name: str) -> None:
        own(name)
        hosts.put(one.system.root, f"{QUEUES}/rx-0/rps_cpus", "0")
        one.devices.fields("eth0", SOURCE_AND_DESTINATION)

    one.devices.reset = reset
    one.devices.fields("eth0", 0x10)
    before = one.state()
    one.apply(Aim(role="server", transport="udp", interface="eth0"))
    assert one.devices.words["eth0"][(0x3C,)][7] == 4
    undo(one.system, one.journal)
    assert one.state() == before


@given(st.integers(0, 12), st.booleans(), st.integers(0, 12))
def test_a_crash_at_any_point_can_be_undone(at: int, behind: bool, again: int) -> None:
    with hosts.folder() as folder:
        one = card(folder)
        before = one.state()
        with suppress(KeyboardInterrupt):
            apply(SERVER, hosts.Stopped(one.system, at, behind), one.journal)
        with suppress(KeyboardInterrupt, UsageError):
            undo(hosts.Stopped(one.system, again, behind), one.journal)
        if one.journal.exists():
            undo(one.system, one.journal)
        assert one.state() == before


def test_an_interrupt_that_became_another_one_is_let_alone(one: Card) -> None:
    one.apply()
    one.file("proc/irq/40/eth0-TxRx-0/empty").unlink()
    one.file("proc/irq/40/eth0-TxRx-0").rmdir()
    hosts.put(one.system.root, "proc/irq/40/nvme0q1/empty", "")
    done = {back.name: back.how for back in undo(one.system, one.journal)}
    assert done["IRQ affinity"] == "gone"
    assert one.file("proc/irq/40/smp_affinity_list").read_text("ascii").strip() == "0"


class Managed(System):
    """A kernel whose driver assigns its interrupts itself, as nvme and some cards do."""

    def write(self, key: str, value: str) -> None:
        if key.startswith("irq:"):
            raise OSError(errno.EIO, "Input/output error")
        super().write(key, value)


def test_an_interrupt_of_the_driver_is_told(one: Card) -> None:
    system = Managed(one.system.root, one.system.run, one.system.ioctl)
    failed = [change for change in apply(SERVER, system, one.journal) if change.failed]
    assert view.changes(failed) == [
        "NOT SET  IRQ affinity (40 eth0-TxRx-0): stays 0-3: the kernel or the driver manages it itself"
    ]


@pytest.mark.parametrize("role", ["server", "client"])
def test_the_script_uses_ethtool(one: Card, role: Role) -> None:
    text = script(one.check(Aim(role=role, transport="udp", rate_per_s=1e6, interface="eth0")), one.system)
    apply_, _, undo_ = text.partition("undo)")
    assert "\n    ethtool -L eth0 combined 4 || failed=1\n" in apply_
    assert "\n    ethtool -G eth0 rx 1024 || failed=1\n" in apply_
    assert "print the script again" in apply_
    assert "\n    ethtool -L eth0 combined 1 || failed=1\n" in undo_
    assert ("ethtool -N eth0 rx-flow-hash udp4 sdfn" in apply_) == (role == "server")
    assert ("tx_queue_len 10000" in apply_) == (role == "client")
    assert f"put {one.file('proc/irq/40/smp_affinity_list')} 0\n" in apply_


# --- The ioctl ---


@pytest.mark.parametrize(
    ("what", "value", "words"),
    [
        (ethtool.CHANNELS, "combined 3", [0x3D, 0, 0, 1, 8, 0, 0, 1, 3]),
        (ethtool.RX_RING, "rx 2048", [0x11, 4096, 0, 0, 4096, 2048, 0, 0, 512]),
        ("udp6-hash", "sdfn", [0x2A, 6, 0xF0, 0]),
    ],
)
def test_the_kernel_gets_the_words_that_ethtool_sends(one: Card, what: str, value: str, words: Sequence[int]) -> None:
    sent: list[list[int]] = []

    def ioctl(name: str, asked: object) -> None:
        sent.append(list(asked))  # type: ignore[call-overload]
        one.devices(name, asked)  # type: ignore[arg-type]

    ethtool.write("eth0", what, value, ioctl)
    assert sent[-1][: len(words)] == list(words)
    assert ethtool.read("eth0", what, ioctl) == value


@pytest.mark.parametrize("value", ["", "rx", "rx -1", "rx 1; reboot", "other 3", "sdxx"])
@pytest.mark.parametrize("what", [ethtool.CHANNELS, ethtool.RX_RING, "udp4-hash"])
def test_a_value_that_is_none_is_refused(one: Card, what: str, value: str) -> None:
    before = one.state()
    with pytest.raises((ValueError, KeyError)):
        ethtool.write("eth0", what, value, one.devices)
    assert one.state() == before


# --- What undo may be told to write ---


@pytest.mark.parametrize(
    "key",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/net/core/../../kernel/core_pattern",
        "/sys/class/net/eth0/queues/../../../../kernel/x",
        "/sys/class/net/../net/queues/rx-0/rps_cpus",
        "/sys/class/net/eth0/address",
        "/sys/devices/system/cpu/cpu1/online",
        "irq:4:..",
        "irq:4:a/../b",
        "ethtool:eth0:coalescing",
        "process:irqbalance",
        "/etc/passwd",
    ],
)
def test_only_what_flatout_sets_is_ever_restored(key: str) -> None:
    assert not settable(key)


@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_all_that_it_sets_can_be_restored(one: Card, role: Role, transport: Transport) -> None:
    aim = Aim(role=role, transport=transport, connections=10**6, rate_per_s=1e6)
    keys = [item.key for item in one.check(aim).settings if item.state == "differs"]
    assert [key for key in keys if not settable(key)] == ["/proc/self/limits"] * (transport == "tcp")
    assert device_tunables.TUNABLES[0].name == "channels"
