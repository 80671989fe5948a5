"""Reads statistics of devices and of their queues (qdiscs) over rtnetlink, also in another network namespace.

Sources: RTM_GETLINK with IFLA_STATS64, RTM_GETQDISC with TCA_STATS2; pyroute2 speaks netlink. Names are the kernel's:
"link.eth0.rx_missed_errors", "qdisc.eth0.tbf.drops"; "ingress.eth0.clsact.drops" are those of traffic control's
filters. No privilege is needed for this network namespace; to enter another one CAP_SYS_ADMIN is.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from flatout.host.counters import NETLINK, Counters, Values

_CLONE_NEWNET = 0x40000000
# TC_H_ROOT; a device has at most one queue there, which counts what the queues inside it drop too.
_ROOT, _INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
# Words of struct rtnl_link_stats64; older kernels have fewer.
_LINK_FIELDS = {
    4: "rx_errors",
    5: "tx_errors",
    6: "rx_dropped",
    7: "tx_dropped",
    11: "rx_over_errors",
    14: "rx_fifo_errors",
    15: "rx_missed_errors",
    23: "rx_nohandler",
    24: "rx_otherhost_dropped",
}
_INCOMPLETE, _FAILED = 0x01, 0x20
_QUEUE_FIELDS = ("drops", "overlimits", "requeues")
# Of an attribute of netlink.
_HEADER = 4
_WAIT_S = 5.0
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
T = TypeVar("T")


class Statistics(NamedTuple):
    """Counters that only grow, and how many packets wait in the queue of each device now."""

    counters: Counters
    queued: Values


def read(net: Path) -> Statistics:
    """The statistics of the namespace that a directory such as /proc/net or /proc/PID/net belongs to."""
    try:
        links, queues = inside(net, _dump)
    except ImportError:
        return _blind("the Python package pyroute2 is not installed")
    except OSError as error:
        return _blind(f"queues and devices of {net} cannot be read: {error.strerror or error}")
    except Exception as error:  # pyroute2's own errors are of no common kind
        return _blind(f"queues and devices of {net} cannot be read: {type(error).__name__} {error}")
    return parse(links, queues)


def _blind(why: str) -> Statistics:
    return Statistics(Counters({}, {NETLINK: why}), {})


def inside(net: Path, work: Callable[[], T]) -> T:
    """What a function returns that runs in the network namespace of such a directory, in a thread of its own.

    Errors: as for `in_namespace`.
    """
    return in_namespace(None if net.parent.name == "thread-self" else net.parent / "ns" / "net", work)


def in_namespace(namespace: Path | None, work: Callable[[], T]) -> T:
    """What a function returns that runs in the network namespace of a file of nsfs, in a thread; None: in this one.

    A thread, as only that one enters the namespace, and as an event loop may run in the caller's.
    Errors: those of the function; OSError where the namespace cannot be entered.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def enter_and_work() -> None:
        try:
            if namespace is not None:
                _enter(namespace)
            results.append(work())
        except BaseException as error:  # handed to the caller
            errors.append(error)

    thread = threading.Thread(target=enter_and_work, name="flatout-netlink", daemon=True)
    thread.start()
    thread.join(_WAIT_S)
    if thread.is_alive():
        raise TimeoutError(f"no answer within {_WAIT_S:.0f} s")
    if errors:
        raise errors[0]
    return results[0]


def _enter(namespace: Path) -> None:
    """Moves this thread into a network namespace."""
    descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def _dump() -> tuple[list[Any], list[Any]]:
    # Late: it takes 0.1 s.
    from pyroute2 import IPRoute

    kernel: Any
    with IPRoute() as kernel:
        return list(kernel.get_links()), list(kernel.get_qdiscs())


def parse(links: Iterable[Any], queues: Iterable[Any]) -> Statistics:
    """The statistics in messages of the kernel, as pyroute2 decodes them."""
    names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
    values: Values = {}
    for link in links:
        words, name = _words(link), names[link["index"]]
        values |= {f"link.{name}.{field}": words[at] for at, field in _LINK_FIELDS.items() if at < len(words)}
    queued: Values = {}
    for queue in queues:
        side = {_ROOT: "qdisc", _INGRESS: "ingress"}.get(queue["parent"])
        name, statistics = names.get(queue["index"]), queue.get_attr("TCA_STATS2")
        counted = statistics.get_attr("TCA_STATS_QUEUE") if statistics else None
        if side is None or name is None or counted is None:
            continue
        prefix = f"{side}.{name}.{queue.get_attr('TCA_KIND')}"
        values |= {f"{prefix}.{field}": counted[field] for field in _QUEUE_FIELDS}
        if side == "qdisc" and counted["qlen"]:
            queued[name] = counted["qlen"]
    return Statistics(Counters(values, {}), queued)


def _words(link: Any) -> tuple[int, ...]:
    """All of IFLA_STATS64: pyroute2 decodes those of the first kernels that had it."""
    raw = next((value for name, value in link["attrs"] if name == "IFLA_STATS64"), None)
    if raw is None:
        return ()
    return struct.unpack_from(f"={(raw.length - _HEADER) // 8}Q", raw.data, raw.offset + _HEADER)


def unresolved(hop: Address, net: Path) -> bool | None:
    """Whether a neighbour's hardware address is asked for in vain; None where that cannot be told."""
    family = socket.AF_INET if hop.version == 4 else socket.AF_INET6
    try:
        found = inside(net, lambda: _neighbours(family))
    except Exception:  # pyroute2 may be missing, and its own errors are of no common kind
        return None
    states = [each["state"] for each in found if each.get_attr("NDA_DST") == str(hop)]
    return bool(states) and all(state & (_INCOMPLETE | _FAILED) for state in states)


def _neighbours(family: int) -> list[Any]:
    from pyroute2 import IPRoute

    kernel: Any
    with IPRoute() as kernel:
        return list(kernel.get_neighbours(family=family))
