"""The settings of a host by their keys: files below /proc and /sys, and rules of the packet filter.

All that tuning reads or writes of a host goes through here; tests give it another root and other programs.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from flatout import units
from flatout.errors import UsageError
from flatout.host.tuning import netfilter
from flatout.host.tuning.aim import Machine

_PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_PATIENCE_S = 10.0
_SIOCETHTOOL, _ETHTOOL_GDRVINFO = 0x8946, 3


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


def driver(interface: str) -> str:
    """The driver of a network interface, such as "veth"; empty where it has none (ethtool's GDRVINFO)."""
    # struct ethtool_drvinfo: the command, then the driver's name in 32 bytes, in all 196.
    about = array.array("B", struct.pack("I", _ETHTOOL_GDRVINFO) + bytes(192))
    asked = struct.pack("16sP16x", os.fsencode(interface)[:15], about.buffer_info()[0])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket.fileno(), _SIOCETHTOOL, asked)
    except OSError:
        return ""
    return about.tobytes()[4:36].split(b"\0")[0].decode("ascii", "replace")


class System:
    """A host. A key is an absolute path below /proc or /sys, or one of `netfilter.KEYS`."""

    def __init__(self, root: Path = Path("/"), run: netfilter.Run = run, driver: Callable[[str], str] = driver) -> None:
        """`root`: where /proc and /sys are; `run`: runs nft and iptables; `driver`: names that of an interface."""
        self.root = root
        self.run = run
        self.driver = driver

    def path(self, key: str) -> Path:
        """The file of a key."""
        return self.root / key.lstrip("/")

    def read(self, key: str) -> str:
        """The value now. Errors: OSError."""
        if key in netfilter.KEYS:
            return netfilter.read(key, self.run)
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
        path = self.path(key)
        try:
            if not path.stat().st_mode & 0o222:
                return "read-only here: it belongs to the whole host, and this is another network namespace"
            if os.statvfs(path).f_flag & os.ST_RDONLY:
                return reason(errno.EROFS)
        except OSError as error:
            return reason(error.errno)
        return "" if os.access(path, os.W_OK) else reason(errno.EACCES)

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

    def cpus(self) -> tuple[int, ...]:
        """The CPUs that are online."""
        try:
            return units.cpu_list(self.seen("/sys/devices/system/cpu/online"))
        except UsageError:
            return tuple(range(os.cpu_count() or 1))

    def machine(self) -> Machine:
        """What of the machine decides which settings are wanted."""
        words = self.seen("/proc/meminfo").partition("MemTotal:")[2].split()
        memory = int(words[0]) * 1024 if words and words[0].isdecimal() else 0
        return Machine(self.cpus(), memory, os.sysconf("SC_PAGE_SIZE"), self._tracks())

    def _tracks(self) -> bool:
        """Whether connections are tracked: the module alone costs nothing until a rule needs it."""
        count = self.seen("/proc/sys/net/netfilter/nf_conntrack_count")
        return count not in ("", "0") or (count == "0" and netfilter.tracked_by(self.run))


def reason(number: int | None) -> str:
    """Why a value could not be set, for people, by the error's number."""
    if number == errno.EROFS:
        return "/proc/sys or /sys is mounted read-only, as in a container: set it on the host"
    if number in (errno.EACCES, errno.EPERM):
        if os.geteuid() != 0:
            return "needs root"
        return "not permitted here, as in a container or a user namespace: set it on the host"
    if number == errno.ENOENT:
        return "not in this kernel, or of the whole host, and this is another network namespace"
    if number in (errno.EINVAL, errno.ERANGE):
        return "the kernel refused the value"
    return os.strerror(number) if number else "failed"
