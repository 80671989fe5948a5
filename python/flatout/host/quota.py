"""The CPU quota of a process's control group: how long its threads were held up by it.

Sources: /proc/PID/cgroup for the group; cpu.stat of it and its parents, any of which may have the quota (cgroups(7)).
Versions 1 and 2 differ in paths, fields and units.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

PROC, SYS = Path("/proc"), Path("/sys")
_Group = tuple[Path, tuple[str, float]]
# The field of each version and its unit in s.
_V2, _V1 = ("throttled_usec", 1e-6), ("throttled_time", 1e-9)


def throttled_s(proc: Path = PROC, sys: Path = SYS) -> float | None:
    """CPU time in s, over all CPUs, that a quota has taken from this process's group and its parents so far.

    None where that is not counted.
    """
    return _sum(_groups(proc / "self", sys / "fs/cgroup"))


def throttled_apart_s(pids: Iterable[int], proc: Path = PROC, sys: Path = SYS) -> float | None:
    """The same of the groups of other processes, as far as this process is not in them; None where it is in all."""
    root = sys / "fs/cgroup"
    own = set(_groups(proc / "self", root))
    groups = dict.fromkeys(group for pid in pids for group in _groups(proc / str(pid), root))
    return _sum(group for group in groups if group not in own)


def _sum(groups: Iterable[_Group]) -> float | None:
    found = [seconds for folder, field in groups for seconds in _field(folder, *field)]
    return sum(found) if found else None


def _groups(process: Path, root: Path) -> Iterator[_Group]:
    """The group and its parents. In a container the path may be the host's, and only the root is there."""
    for line in _read(process / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        at = PurePosixPath(path.lstrip("/"))
        if ".." in at.parts:
            # A group outside of this process's cgroup namespace.
            continue
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
