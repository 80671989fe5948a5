"""What the kernel's drop reasons report beyond the counters, for the ledger. Pure.

A reason belongs to a place of the ledger, or else to `dropped_by_kernel`. What a counter of that place, or the system
call's error, reported already is not reported again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flatout.host.drops import Dropped
from flatout.result.ledger import Place

SOURCE = "packets dropped for {} (kfree_skb)"
_FILTER, _REVERSE = "NETFILTER_DROP", "IP_RPFILTER"
NEIGHBOUR = ("NEIGH_CREATEFAIL", "NEIGH_FAILED", "NEIGH_QUEUEFULL", "NEIGH_DEAD", "NEIGH_HH_FILLFAIL")
_QUEUE = (
    *("QDISC_DROP", "QDISC_OVERLIMIT", "QDISC_CONGESTED", "CAKE_FLOOD"),
    *("FQ_BAND_LIMIT", "FQ_HORIZON_LIMIT", "FQ_FLOW_LIMIT", "DUALPI2_STEP_DROP"),
)
_DEVICE = ("FULL_RING", "DEV_READY", "DEV_HDR")
PLACES: dict[str, Place] = {
    _FILTER: "firewall",
    _REVERSE: "reverse_path",
    "CPU_BACKLOG": "backlog",
    **dict.fromkeys(NEIGHBOUR, "neighbour"),
    **dict.fromkeys(_QUEUE, "qdisc"),
    **dict.fromkeys(_DEVICE, "device"),
}
# Where sending fails for these reasons: the request was not sent, and is not among the lost.
_SEND_FAILS = {
    **dict.fromkeys((_FILTER, "BPF_CGROUP_EGRESS", "SECURITY_HOOK"), "send_failed"),
    **dict.fromkeys((*_QUEUE, "TC_EGRESS"), "dropped_here"),
}
# Where counters may have the same packets, if not at the reason's own place.
_REPORTED_AT: dict[str, tuple[Place, ...]] = {
    **dict.fromkeys(_QUEUE, ("qdisc", "answer_qdisc", "answer_send_buffer")),
    "IP_OUTNOROUTES": ("answer_no_route",),
    **dict.fromkeys(("SOCKET_FILTER", "XFRM_POLICY"), ("receive_buffer",)),
    "NOT_SPECIFIED": ("device", "device_ring"),
}
_SPACES = {"own": "this host's network namespace", "target": "the target's network namespace"}


def filtered(drops: list[Dropped], space: str, unsent: Mapping[str, int]) -> int:
    """How many packets a packet filter of a namespace dropped, without those whose sending failed for it."""
    allowance = dict(unsent)
    return sum(_lost(one, allowance) for one in drops if one.space == space and one.reason == _FILTER)


def reverse_path(drops: list[Dropped], space: str) -> int:
    """How many packets the reverse path filter of a namespace dropped."""
    return sum(one.packets for one in drops if one.space == space and one.reason == _REVERSE)


def unresolved(drops: list[Dropped]) -> bool:
    """Whether packets waited in vain for the next hop's hardware address."""
    return any(one.space == "own" and one.towards and one.reason in NEIGHBOUR for one in drops)


def neighbours(drops: list[Dropped]) -> Iterator[tuple[Place, int, str, str]]:
    """What was dropped here for want of the next hop's hardware address."""
    for one in drops:
        if one.space == "own" and one.reason in NEIGHBOUR:
            yield "neighbour", one.packets, _where(one, "neighbour"), SOURCE.format(one.reason)


def rest(
    drops: list[Dropped], unsent: Mapping[str, int], charged: Mapping[Place, int]
) -> Iterator[tuple[Place, int, str, str]]:
    """Place, number, where and source of what no counter reported.

    unsent: why requests were not sent, by the engine's words. charged: what the counters of each place reported.
    """
    failed, reported = dict(unsent), {str(place): number for place, number in charged.items()}
    for one in drops:
        if one.reason in (_FILTER, _REVERSE) and one.space != "other":
            continue
        place = PLACES.get(one.reason, "dropped_by_kernel")
        number = _lost(one, failed)
        for counter in _REPORTED_AT.get(one.reason, (place,)):
            number -= _take(reported, counter, number)
        if number > 0:
            yield place, number, _where(one, place), SOURCE.format(one.reason)


def events(drops: list[Dropped]) -> Iterator[tuple[Place, int, str, str]]:
    """The same of packets of connections, which are sent again: all of them."""
    for one in drops:
        place = PLACES.get(one.reason, "dropped_by_kernel")
        yield place, one.packets, _where(one, place), SOURCE.format(one.reason)


def _lost(one: Dropped, failed: dict[str, int]) -> int:
    """How many of them had been sent as far as the program knows."""
    word = _SEND_FAILS.get(one.reason)
    if word is None or one.space != "own" or not one.towards:
        return one.packets
    return one.packets - _take(failed, word, one.packets)


def _take(pool: dict[str, int], name: str, most: int) -> int:
    taken = min(pool.get(name, 0), most)
    pool[name] = pool.get(name, 0) - taken
    return taken


def _where(one: Dropped, place: Place) -> str:
    space = _SPACES.get(one.space, f"network namespace {one.number}" if one.number else "no device")
    words = [one.reason] if place == "dropped_by_kernel" else []
    words += [] if one.towards else ["answers"]
    return ", ".join([*words, f"{one.device} of {space}" if one.device else space])
