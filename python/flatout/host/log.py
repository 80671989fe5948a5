"""A log of the host while something is measured: CPUs, network devices, memory, sockets and open files, as CSV.

Sources: /proc/stat, /proc/net/dev, /proc/meminfo, /proc/net/sockstat, /proc/sys/fs/file-nr. One row an interval, on an
absolute schedule, so that the rows of several hosts can be laid side by side by `unix_ns`. /proc/stat counts in ticks
(10 ms for most kernels), so the shares of a row of 100 ms are in steps of 10 %.
"""

from __future__ import annotations

import contextlib
import csv
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TextIO

from flatout.errors import OutputError

INTERVAL_S = 0.1
PROC = Path("/proc")
# Fields of a line of /proc/stat (proc_stat(5)).
_CPU = {"user": (0, 1), "system": (2,), "idle": (3, 4), "irq": (5,), "softirq": (6,), "steal": (7,)}
# Fields of a line of /proc/net/dev.
_NIC = {"rx_bytes": 0, "rx_packets": 1, "rx_drops": 3, "tx_bytes": 8, "tx_packets": 9, "tx_drops": 11}
_MEMORY = {"memory_free_bytes": "MemFree:", "memory_available_bytes": "MemAvailable:", "slab_bytes": "Slab:"}
_SOCKETS = {
    "tcp_in_use": ("TCP:", "inuse"),
    "tcp_time_wait": ("TCP:", "tw"),
    "tcp_mem_pages": ("TCP:", "mem"),
    "udp_in_use": ("UDP:", "inuse"),
    "udp_mem_pages": ("UDP:", "mem"),
}


class Reading(NamedTuple):
    """The counters at one moment: of each CPU and device by name, and what is a number of now."""

    monotonic_s: float
    cpus: Mapping[str, Mapping[str, int]]
    devices: Mapping[str, Mapping[str, int]]
    now: Mapping[str, int]


def read(proc: Path = PROC) -> Reading:
    """Reads all sources; what is missing or not as expected is left out."""
    now = _memory(_text(proc / "meminfo")) | _sockets(_text(proc / "net/sockstat"))
    files = _text(proc / "sys/fs/file-nr").split()
    if files and files[0].isdecimal():
        now["open_files"] = int(files[0])
    cpus, devices = _cpus(_text(proc / "stat")), _devices(_text(proc / "net/dev"))
    return Reading(time.monotonic(), cpus, devices, now)


def columns(first: Reading) -> list[str]:
    """The names of a log's columns, by the CPUs and devices that are there when it begins."""
    return [
        "unix_ns",
        "elapsed_s",
        *(f"{cpu}_{field}_percent" for cpu in first.cpus for field in _CPU),
        *(f"{device}_{field}_per_s" for device in first.devices for field in _NIC),
        *_MEMORY,
        *_SOCKETS,
        "open_files",
    ]


def row(before: Reading, after: Reading, unix_ns: int, first: Reading) -> list[str]:
    """The row of an interval; empty where something is not known, such as a device that is gone."""
    seconds = max(after.monotonic_s - before.monotonic_s, 1e-9)
    found = [str(unix_ns), f"{seconds:.4f}"]
    for cpu in first.cpus:
        grown = _grown(before.cpus.get(cpu), after.cpus.get(cpu), _CPU)
        whole = sum(value for value in grown if value is not None)
        found += ["" if value is None or not whole else f"{100 * value / whole:.1f}" for value in grown]
    for device in first.devices:
        grown = _grown(before.devices.get(device), after.devices.get(device), _NIC)
        found += ["" if value is None else f"{value / seconds:.0f}" for value in grown]
    return found + [str(after.now.get(name, "")) for name in (*_MEMORY, *_SOCKETS, "open_files")]


class HostLog:
    """Logs while the block runs, in a thread of its own.

    to: a file by name, or an open one, which stays open. every_s: the interval. `failed` has why a row could not be
    written. Errors: OutputError where the file cannot be made, before anything is measured.
    """

    def __init__(self, to: str | TextIO, every_s: float = INTERVAL_S, proc: Path = PROC) -> None:
        self._proc, self._every_s = proc, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="host-log", daemon=True)
        self.failed = ""
        self.rows = 0
        self._file = _open(to) if isinstance(to, str) else to
        self._opened = isinstance(to, str)

    def __enter__(self) -> HostLog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self, seconds: float | None) -> None:
        """Waits so long, or until a row cannot be written; null: until then."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            with self._file if self._opened else contextlib.nullcontext():
                self._log()
        except OSError as error:
            self.failed = error.strerror or str(error)

    def _log(self) -> None:
        writer = csv.writer(self._file, lineterminator="\n")
        first = before = read(self._proc)
        writer.writerow(columns(first))
        for pause_s in _pauses(self._every_s):
            if self._stop.wait(pause_s):
                return
            after = read(self._proc)
            writer.writerow(row(before, after, time.time_ns(), first))
            # What a crash leaves has whole rows.
            self._file.flush()
            self.rows += 1
            before = after


def _open(path: str) -> TextIO:
    """The file of a log. Errors: OutputError."""
    try:
        return open(path, "w", encoding="ascii", errors="replace", newline="")
    except OSError as error:
        raise OutputError(f"the host log '{path}' cannot be written: {error.strerror}") from error


def _pauses(every_s: float) -> Iterator[float]:
    """How long to wait each time, by an absolute schedule; rows whose time has passed are left out."""
    due = time.monotonic()
    while True:
        now = time.monotonic()
        due += every_s * max(int((now - due) / every_s) + 1, 1)
        yield max(due - now, 0.0)


def _grown(
    before: Mapping[str, int] | None, after: Mapping[str, int] | None, fields: Mapping[str, object]
) -> list[int | None]:
    """By how much each field grew; None where the counter is gone, or was set back."""
    if before is None or after is None:
        return [None for _ in fields]
    grown = [after[field] - before[field] for field in fields]
    # Idle time of /proc/stat may go back by a tick.
    return [value if value >= 0 else 0 if "idle" in fields else None for value in grown]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _cpus(text: str) -> dict[str, dict[str, int]]:
    found = {}
    for line in text.splitlines():
        name, *words = line.split() or [""]
        if name.startswith("cpu") and name != "cpu" and len(words) > 7:
            found[name] = {field: sum(int(words[at]) for at in places) for field, places in _CPU.items()}
    return found


def _devices(text: str) -> dict[str, dict[str, int]]:
    found = {}
    for line in text.splitlines()[2:]:
        name, colon, rest = line.rpartition(":")
        words = rest.split()
        if colon and len(words) > 11:
            found[name.strip()] = {field: int(words[at]) for field, at in _NIC.items()}
    return found


def _memory(text: str) -> dict[str, int]:
    words = {line.split()[0]: line.split()[1] for line in text.splitlines() if len(line.split()) > 1}
    return {name: int(words[field]) * 1024 for name, field in _MEMORY.items() if field in words}


def _sockets(text: str) -> dict[str, int]:
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.split()}
    found = {}
    for name, (table, field) in _SOCKETS.items():
        words = lines.get(table, [])
        if field in words:
            found[name] = int(words[words.index(field) + 1])
    return found
