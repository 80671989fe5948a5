"""The settings of a host by their keys: files below /proc and /sys, network devices, rules of the packet filter.

All that tuning reads or writes of a host goes through here; tests give it another root and other programs.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from flatout.host import xdp
from flatout.host.tuning import ethtool, live_socket, namespaces, netfilter, process_limits

_PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_PATIENCE_S = 10.0
_OF_PROCESSES = {"socket": live_socket, "files": process_limits}
_NET_ADMIN, _SYS_RESOURCE = 12, 24
# Six bytes, as text.
_ADDRESS = 17
_DEVICES = "/sys/class/net/"
FOREIGN_DEVICES = (
    "/sys shows the devices of another network namespace: enter with `ip netns exec`, or mount a sysfs of this one"
)
NEEDS_ROOT = "needs root"
# Whether this program runs; read only.
IRQBALANCE = "process:irqbalance"


def run(command: Sequence[str], given: str) -> tuple[int, str, str]:
    """Runs a program with text on its standard input. 127 where it is missing, 124 where it takes too long."""
    program = shutil.which(command[0], path=_PLACES)
    if program is None:
        return 127, "", f"{command[0]} is not installed"
    try:
        done = subprocess.run(
            [program, *command[1:]],
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, "", f"no end within {_PATIENCE_S:.0f} s"
    except OSError as error:
        return 126, "", error.strerror or str(error)
    return done.returncode, done.stdout, done.stderr


class System:
    """A host.

    A key is an absolute path below /proc or /sys, one of `netfilter.KEYS`, of `live_socket`, of `process_limits` or of
    `namespaces`, IRQBALANCE, "ethtool:INTERFACE:SETTING", or "irq:NUMBER:NAME": an interrupt's number may pass to
    another device, so it counts only while its name is the same.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        run: netfilter.Run = run,
        ioctl: ethtool.Ioctl = ethtool.ioctl,
        hardware: Callable[[], dict[str, str]] = ethtool.hardware,
        xdp: Callable[[str], xdp.XdpInterface] = xdp.named,
    ) -> None:
        """`root`: where /proc and /sys are; `run`: runs nft and iptables.

        `ioctl`: asks a network device; `hardware`: the devices of this network namespace, with their addresses; `xdp`:
        what one of them can do for programs in its driver.
        """
        self.root = root
        self.run = run
        self.ioctl = ioctl
        self.hardware = hardware
        self.xdp = xdp

    def path(self, key: str) -> Path:
        """The file of a key; for settings by ethtool, one that the same rights are needed for."""
        kind, _, rest = key.partition(":")
        if kind == "irq":
            key = f"/proc/irq/{rest.partition(':')[0]}/smp_affinity_list"
        elif kind == "ethtool":
            key = f"/sys/class/net/{rest.partition(':')[0]}/tx_queue_len"
        return self.root / key.lstrip("/")

    def read(self, key: str) -> str:
        """The value now. Errors: OSError."""
        if key in netfilter.KEYS:
            return netfilter.read(key, self.run)
        if key == IRQBALANCE:
            return "running" if self._runs("irqbalance") else "not running"
        if key.startswith("ethtool:"):
            _, interface, what = key.split(":")
            return ethtool.read(interface, what, self.ioctl)
        if of_process := _OF_PROCESSES.get(key.partition(":")[0]):
            return str(of_process.read(key, self.root / "proc"))
        if key.startswith("netns:"):
            return namespaces.inside(key, self.root, lambda: self.read(namespaces.file_of(key)))
        self._must_be(key)
        try:
            return self.path(key).read_text(encoding="ascii").strip()
        except UnicodeError as error:
            raise OSError(errno.EIO, "no text") from error

    def seen(self, key: str) -> str:
        """The value now; empty where it cannot be read."""
        try:
            return self.read(key)
        except OSError:
            return ""

    def write(self, key: str, value: str) -> None:
        """Sets a value. Errors: OSError, with the kernel's reason."""
        if key in netfilter.KEYS:
            netfilter.write(key, value, self.run)
            return
        if key.startswith("ethtool:"):
            _, interface, what = key.split(":")
            ethtool.write(interface, what, value, self.ioctl)
            return
        if of_process := _OF_PROCESSES.get(key.partition(":")[0]):
            of_process.write(key, value, self.root / "proc")
            return
        if key.startswith("netns:"):
            namespaces.inside(key, self.root, lambda: self.write(namespaces.file_of(key), value))
            return
        self._must_be(key)
        # One call: the kernel takes each write for a value of its own. The file is not made where it is missing.
        handle = os.open(self.path(key), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(handle, f"{value}\n".encode("ascii"))
        finally:
            os.close(handle)

    def blocked(self, key: str) -> str:
        """Why a setting cannot be changed here, as far as that shows without a try; empty where nothing shows."""
        if key in netfilter.KEYS:
            # Who may list the rules may change them.
            return ""
        if key.startswith("irq:") and self._runs("irqbalance"):
            return "irqbalance runs and would move it again: stop it first (systemctl stop irqbalance)"
        try:
            if key.startswith("netns:"):
                return namespaces.inside(key, self.root, lambda: _unwritable(self.path(namespaces.file_of(key))))
            if key.partition(":")[0] in _OF_PROCESSES:
                # Who may read it may set it.
                self.read(key)
                return ""
            return _unwritable(self.path(key))
        except OSError as error:
            return because(error)

    def keys(self, pattern: str) -> list[str]:
        """The keys whose path matches, in order."""
        return sorted("/" + str(path.relative_to(self.root)) for path in self.root.glob(pattern.lstrip("/")))

    def boot_id(self) -> str:
        """A text that differs from boot to boot."""
        return self.seen("/proc/sys/kernel/random/boot_id")

    def namespace(self) -> str:
        """The network namespace, of which most settings are; empty where it cannot be read."""
        try:
            return os.readlink(self.path("/proc/self/ns/net"))
        except OSError:
            return ""

    def may_exceed_buffers(self) -> bool:
        """Whether this process may set a receive buffer above net.core.rmem_max (CAP_NET_ADMIN)."""
        return self._capable(_NET_ADMIN)

    def may_raise_hard_limits(self) -> bool:
        """Whether this process may raise the hard limits of processes (CAP_SYS_RESOURCE)."""
        return self._capable(_SYS_RESOURCE)

    def _capable(self, number: int) -> bool:
        held = self.seen("/proc/self/status").partition("CapEff:")[2].split()
        return bool(int(held[0], 16) >> number & 1) if held else os.geteuid() == 0

    def interrupts(self, interface: str) -> list[str]:
        """The keys of a device's interrupts, in order; none for a virtual device."""
        device = self.path(f"/sys/class/net/{interface}/device")
        numbers: set[int] = set()
        # Those of virtio belong to the device above it.
        for folder in (device, device / ".."):
            with contextlib.suppress(OSError):
                numbers |= {int(name) for name in os.listdir(folder / "msi_irqs") if name.isdecimal()}
        return [
            f"irq:{number}:{key.rpartition('/')[2]}"
            for number in sorted(numbers)
            for key in self.keys(f"/proc/irq/{number}/*")
            if self.path(key).is_dir()
        ]

    @functools.cached_property
    def foreign_devices(self) -> bool:
        """Whether /sys shows the devices of another network namespace: `nsenter -n` does not mount it anew."""
        folders = self.keys(f"{_DEVICES}*")
        files = {folder.rpartition("/")[2]: self.path(f"{folder}/address") for folder in folders}
        shown = {name: file.read_text("ascii").strip() for name, file in files.items() if file.exists()}
        own = self.hardware() if shown else {}
        # Tunnels have shorter addresses, or longer ones.
        return not all(own.get(name, "-").startswith(address[:_ADDRESS]) for name, address in shown.items())

    def _must_be(self, key: str) -> None:
        """Whether the file is still that of the same interrupt, and of a device of this namespace. Errors: OSError."""
        if key.startswith(_DEVICES) and self.foreign_devices:
            raise OSError(errno.ENXIO, FOREIGN_DEVICES)
        if key.startswith("irq:"):
            _, number, name = key.split(":", 2)
            if not self.path(f"/proc/irq/{number}/{name}").is_dir():
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _runs(self, program: str) -> bool:
        return any(self.seen(key) == program for key in self.keys("/proc/[0-9]*/comm"))


def _unwritable(path: Path) -> str:
    """Why a file cannot be written; empty where nothing shows. Errors: OSError."""
    if not path.stat().st_mode & 0o222:
        return "read-only here: it belongs to the whole host, and this is another network namespace"
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return reason(errno.EROFS)
    return "" if os.access(path, os.W_OK) else reason(errno.EACCES)


def because(error: OSError | ValueError) -> str:
    """Why a value could not be read or set, for people; what programs report is passed on."""
    number = getattr(error, "errno", None)
    text = getattr(error, "strerror", None) or str(error)
    return text if ":" in text else reason(number) if number else text


def reason(number: int | None) -> str:
    """Why a value could not be set, for people, by the error's number."""
    if number in (errno.EACCES, errno.EPERM) and os.geteuid() != 0:
        return NEEDS_ROOT
    return _REASONS.get(number or 0) or (os.strerror(number) if number else "failed")


_NOT_PERMITTED = "not permitted here, as in a container or a user namespace: set it on the host"
_REFUSED = "the kernel refused the value"
_REASONS = {
    errno.EROFS: "/proc/sys or /sys is mounted read-only, as in a container: set it on the host",
    errno.EACCES: _NOT_PERMITTED,
    errno.EPERM: _NOT_PERMITTED,
    errno.EIO: "the kernel or the driver manages it itself",
    errno.EOPNOTSUPP: "the driver does not have it",
    errno.ENOENT: "not in this kernel, or of the whole host, and this is another network namespace",
    errno.EINVAL: _REFUSED,
    errno.ERANGE: _REFUSED,
}
