"""Hosts for tests of tuning: a tree of files in place of /proc and /sys, and programs that are not run."""

from __future__ import annotations

import array
import errno
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from flatout.host.tuning.system import System
from flatout.host.xdp import XdpInterface

# A host of two CPUs as it is installed.
SYSCTLS = {
    "net.core.rmem_max": "212992",
    "net.core.rmem_default": "212992",
    "net.core.wmem_max": "212992",
    "net.ipv4.udp_mem": "575799\t767734\t1151598",
    "net.ipv4.tcp_mem": "287898\t383867\t575796",
    "net.core.netdev_max_backlog": "1000",
    "net.core.somaxconn": "4096",
    "net.ipv4.tcp_max_syn_backlog": "2048",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv4.tcp_max_tw_buckets": "131072",
    "net.ipv4.ip_local_port_range": "32768\t60999",
    "net.ipv4.tcp_tw_reuse": "2",
    "fs.file-max": "2466170",
    "fs.nr_open": "1048576",
    "net.core.rps_sock_flow_entries": "0",
}
TRACKING = {"net.netfilter.nf_conntrack_max": "262144", "net.netfilter.nf_conntrack_count": "17"}
BOOT = "proc/sys/kernel/random/boot_id"
_OTHERS = {
    BOOT: "09abef47-1495-43db-adc0-9c8025d5043f",
    "proc/meminfo": "MemTotal:       24684084 kB",
    "proc/self/limits": "Limit  Soft  Hard  Units\nMax open files   1024   20000   files",
    "sys/devices/system/cpu/online": "0-1",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil",
    "sys/class/net/lo/type": "772",
    "sys/class/net/lo/carrier": "1",
    "sys/class/net/lo/queues/rx-0/rps_cpus": "0",
    "sys/class/net/eth0/carrier": "1",
    "sys/class/net/eth0/tx_queue_len": "1000",
    "sys/class/net/eth0/device/vendor": "0x1af4",
    "sys/class/net/eth0/queues/rx-0/rps_cpus": "0",
    "sys/class/net/eth0/queues/rx-0/rps_flow_cnt": "0",
    "sys/class/net/eth0/queues/tx-0/xps_cpus": "0",
}


def file_of(name: str) -> str:
    """Where a sysctl is."""
    return "proc/sys/" + name.replace(".", "/")


def tree(root: Path, sysctls: Mapping[str, str] = SYSCTLS, others: Mapping[str, str] | None = None) -> Path:
    """Makes the files of a host."""
    files = {file_of(name): value for name, value in sysctls.items()} | _OTHERS | dict(others or {})
    for name, value in files.items():
        put(root, name, value)
    namespace(root, 1)
    return root


def put(root: Path, name: str, value: str) -> None:
    """Makes a file."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{value}\n", encoding="ascii")


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for one example."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


class Stopped(System):
    """A host whose process dies at a write: before it, or behind it."""

    def __init__(self, system: System, at: int, behind: bool) -> None:
        super().__init__(system.root, system.run, system.ioctl, system.hardware, system.xdp)
        self._left, self._behind = at, behind

    def write(self, key: str, value: str) -> None:
        if self._left == 0 and not self._behind:
            raise KeyboardInterrupt
        super().write(key, value)
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1


def namespace(root: Path, number: int) -> None:
    """Puts the host into a network namespace."""
    link = root / "proc/self/ns/net"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(f"net:[{number}]")


def contents(root: Path) -> dict[str, str]:
    """All files of it."""
    return {str(path.relative_to(root)): path.read_text("ascii") for path in root.rglob("*") if path.is_file()}


class Programs:
    """nft, or iptables and ip6tables, without a kernel; each call is kept."""

    def __init__(self, *installed: str, ruleset: str = "", saved: str = "") -> None:
        self.installed = installed
        self.ruleset = ruleset
        self.saved = saved
        self.table = ""
        self.raw: dict[str, list[str]] = {"iptables": [], "ip6tables": []}
        self.calls: list[list[str]] = []
        self.refuses = ""

    def __call__(self, command: Sequence[str], given: str) -> tuple[int, str, str]:
        self.calls.append(list(command))
        program, *arguments = command
        if program not in self.installed:
            return 127, "", f"{program} is not installed"
        if arguments == ["--version"]:
            return 0, "1.0", ""
        if self.refuses:
            return 1, "", self.refuses
        if program.endswith("-save"):
            return 0, self.saved, ""
        return self._nft(arguments, given) if program == "nft" else self._iptables(program, arguments)

    def _nft(self, arguments: list[str], given: str) -> tuple[int, str, str]:
        if arguments[0] == "-f":
            head, _, body = given.partition("{")
            assert "delete table" in head
            self.table = f"table inet flatout_notrack {{{body}" if body else ""
            return 0, "", ""
        if arguments == ["list", "ruleset"]:
            return 0, self.ruleset + self.table, ""
        missing = "Error: No such file or directory\nlist table inet flatout_notrack\n                ^^^^"
        return (0, self.table, "") if self.table else (1, "", missing)

    def _iptables(self, program: str, arguments: list[str]) -> tuple[int, str, str]:
        assert arguments[:3] == ["-w", "-t", "raw"]
        flag, rule = arguments[3], " ".join(arguments[4:])
        rules = self.raw[program]
        if flag == "-A":
            rules.append(rule)
        elif flag == "-D":
            rules.remove(rule)
        # As it lists them: comments in quotes or without, NOTRACK by its newer name.
        listed = [f"-A {re.sub('-j NOTRACK', '-j CT --notrack', one)}" for one in rules]
        return 0, "\n".join(["-P PREROUTING ACCEPT", "-P OUTPUT ACCEPT", *listed]), ""


# Of each command that sets: the one that reads the same.
_READS = {0x11: 0x10, 0x3D: 0x3C, 0x2A: 0x29}


class Devices:
    """Network devices as the ioctl SIOCETHTOOL shows them, by name: their driver, and the words of each structure.

    `words`: by number of the command that reads it; a device without one has a driver that does not support it.
    """

    def __init__(self, drivers: Mapping[str, str] | None = None) -> None:
        self.drivers = dict(drivers or {})
        self.words: dict[str, dict[tuple[int, ...], list[int]]] = {name: {} for name in self.drivers}
        # Run with the name of a device when its channels are set.
        self.reset: Callable[[str], None] = lambda _: None

    def __call__(self, name: str, words: array.array[int]) -> None:
        if name not in self.drivers:
            raise OSError(errno.ENODEV, "No such device")
        command = words[0]
        if command == 3:
            text = self.drivers[name].encode().ljust(32, b"\0")
            words[1:9] = array.array("I", text)
            return
        key = (_READS.get(command, command), *((words[1],) if command in (0x29, 0x2A) else ()))
        there = self.words[name].get(key)
        if there is None:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        if command in _READS:
            there[:] = words[1 : len(there) + 1]
            if command == 0x3D:
                self.reset(name)
        words[1 : len(there) + 1] = array.array("I", there)

    def channels(self, name: str, rx: tuple[int, int], tx: tuple[int, int], combined: tuple[int, int]) -> None:
        """Channels of each kind: now, and at most."""
        most, now = (rx[1], tx[1], 1, combined[1]), (rx[0], tx[0], 1, combined[0])
        self.words[name][(0x3C,)] = [*most, *now]

    def ring(self, name: str, now: int, most: int) -> None:
        """Receive and send ring."""
        self.words[name][(0x10,)] = [most, 0, 0, most, now, 0, 0, now]

    def fields(self, name: str, fields: int) -> None:
        """What a flow over UDP is hashed by, over IPv4 and IPv6."""
        for flow in (2, 6):
            self.words[name][(0x29, flow)] = [flow, fields, 0]

    def coalescing(self, name: str, rx_usecs: int, adaptive: int) -> None:
        """How long interrupts wait."""
        self.words[name][(0x0E,)] = [rx_usecs, *[0] * 8, adaptive]


def host(root: Path, programs: Programs | None = None, devices: Devices | None = None) -> System:
    """The host of a tree. What drivers can do for programs is not reported: a test that asks for it sets `xdp`."""
    return System(root, programs or Programs("nft"), devices or Devices({"eth0": "virtio_net"}), dict, _not_reported)


def _not_reported(_: str) -> XdpInterface:
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")
