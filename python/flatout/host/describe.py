"""The machine the generator runs on: what results must name, and what it did to the measurement meanwhile."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
from pathlib import Path

from flatout.result.model import Host

VERSION = importlib.metadata.version("flatout")


def describe() -> Host:
    """Kernel, CPUs and versions."""
    affinity = sorted(os.sched_getaffinity(0))
    return Host(
        kernel=platform.release(),
        cpus=os.cpu_count() or len(affinity),
        affinity=affinity,
        flatout=VERSION,
        python=platform.python_version(),
        hostname=platform.node(),
    )


def stolen_s() -> float:
    """CPU time in s, over all CPUs since boot, that the hypervisor gave to others (/proc/stat, field 8)."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
        return int(fields[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def tcp_memory() -> int:
    """What the kernel charges to TCP's buffers now, in bytes, on the whole host (/proc/net/sockstat)."""
    try:
        words = Path("/proc/net/sockstat").read_text(encoding="ascii").partition("\nTCP:")[2].splitlines()[0].split()
        return int(words[words.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def slab() -> int:
    """The kernel's small objects now, sockets among them, in bytes, on the whole host (/proc/meminfo)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Slab:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0


def open_files() -> int:
    """How many descriptors this process holds."""
    try:
        # One of them is for looking.
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return 0


def peak_rss() -> int:
    """The most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
