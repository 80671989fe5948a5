"""All settings that matter for an aim, in the order in which they are set.

Left out on purpose: what has no measured gain for small messages, what trades throughput for latency unasked, and what
would have to be lowered (docs/host.md lists them).
"""

from __future__ import annotations

import re

from flatout.host.tuning import device_tunables, live_socket, namespaces, netfilter, process_limits, sysctls

TUNABLES = (*sysctls.TUNABLES, *device_tunables.TUNABLES)

_SYSCTLS = {"/proc/sys/" + one.name.replace(".", "/") for one in TUNABLES if one.name.startswith(("net.", "fs."))}
_INTERFACE = r"(?!\.{1,2}[/:])[^/:\s]+"
_OTHERS = re.compile(
    rf"/sys/class/net/{_INTERFACE}/(?:queues/(?:rx|tx)-\d+/(?:rps_cpus|rps_flow_cnt|xps_cpus)|tx_queue_len)"
    r"|/sys/devices/system/cpu/cpufreq/policy\d+/scaling_governor"
    r"|irq:\d+:(?!\.{1,2}$)[^/]+"
    rf"|ethtool:{_INTERFACE}:(?:channels|rx-ring|udp[46]-hash)",
    re.ASCII,
)


def settable(key: str) -> bool:
    """Whether flatout ever sets this key: what undo is given comes from a file."""
    if found := namespaces.KEYS.fullmatch(key):
        key = found[1]
    kinds = (_OTHERS, live_socket.KEYS, process_limits.KEYS)
    return key in _SYSCTLS or key in netfilter.KEYS or any(kind.fullmatch(key) for kind in kinds)


def of_the_host(key: str) -> bool:
    """Whether it can be set from every network namespace: it is of the whole host, or its key says of which one."""
    return key.startswith(("/proc/sys/fs/", "/sys/devices/", "irq:", "socket:", "files:", "netns:"))
