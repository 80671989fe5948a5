"""Which kernel and which network namespace a worker is in: two that share them read the same counters."""

from __future__ import annotations

import contextlib
from pathlib import Path

from flatout.host import drops
from flatout.runner.counters import OWN
from flatout.runner.ledger_of_hosts import Machine

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def machine() -> Machine:
    """Of the process that asks."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = _BOOT.read_text(encoding="ascii").strip()
    return Machine(boot, drops.namespace(OWN))
