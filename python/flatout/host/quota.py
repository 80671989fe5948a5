"""The CPU quota of this process's control group: how long its threads were held up by it.

Sources: /proc/self/cgroup for the group; cpu.stat of it and its parents, any of which may have the quota (cgroups(7)).
Versions 1 and 2 differ in paths, fields and units.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROC, SYS = Path("/proc"), Path("/sys")
# The field of each version and its unit in s.
_V2, _V1 = ("throttled_usec", 1e-6), ("throttled_time", 1e-9)


def throttled_s(proc: Path = PROC, sys: Path = SYS) -> float | None:
    """CPU time in s, over all CPUs, that a quota has taken from this group so far; None where that is not counted."""
    found = [seconds for folder, field in _groups(proc, sys / "fs/cgroup") for seconds in _field(folder, *field)]
    return sum(found) if found else None


def _groups(proc: Path, root: Path) -> Iterator[tuple[Path, tuple[str, float]]]:
    """The group and its parents. In a container the path may be the host's, and only the root is there."""
    for line in _read(proc / "self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        at = PurePosixPath(path.lstrip("/"))
        mount = root / controllers if (root / controllers).is_dir() else root / "cpu"
        for group in (at, *at.parents):
            yield (mount / group, _V1) if controllers else (root / group, _V2)


def _field(folder: Path, name: str, unit_s: float) -> list[float]:
    words = (line.split() for line in _read(folder / "cpu.stat").splitlines())
    return [int(word[1]) * unit_s for word in words if len(word) == 2 and word[0] == name and word[1].isdecimal()]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
