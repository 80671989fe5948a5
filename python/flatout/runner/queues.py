"""The places of the ledger that are queues of devices (qdiscs): of this host's requests, of the target's answers. Pure.

A packet that a queue refuses at once is seen twice: by the queue's `drops`, and by who sent it (ENOBUFS here, Udp
SndbufErrors there). What a queue drops after it took the packet, as fq_codel and netem do, only its `drops` have.
"""

from __future__ import annotations

from collections.abc import Iterator

from flatout.host.counters import NETLINK, Growth
from flatout.result.model import LoadResult
from flatout.runner.counters import Sampled
from flatout.runner.places import Counted

_SOURCE = "RTM_GETQDISC, TCA_STATS2 drops"


def dropped(growth: Growth, device: str = "") -> int:
    """What the queues of a namespace dropped, or of one device."""
    return sum(_by_queue(growth, "qdisc", device).values())


def filtered(growth: Growth) -> int:
    """What filters of traffic control dropped as it came in."""
    return sum(_by_queue(growth, "ingress", "").values())


def _by_queue(growth: Growth, side: str, device: str) -> dict[str, int]:
    """Drops by device and kind of queue. A device's name may have dots; a kind has none."""
    found = {}
    for name, number in growth.values.items():
        if name.startswith(f"{side}.") and name.endswith(".drops"):
            of, _, kind = name[len(side) + 1 : -len(".drops")].rpartition(".")
            if device in ("", of):
                found[f"{of} ({kind})"] = number
    return found


def places(result: LoadResult, sampled: Sampled) -> Iterator[Counted]:
    """Both ends' queues: what was dropped unseen by the sender, and what still waited there at the end."""
    device = sampled.surroundings.device
    if not device and not sampled.here:
        return
    # Frames by the driver pass them by. Towards an address of this namespace packets take loopback, answers too.
    if result.link is None:
        yield from _own(result, sampled, device or "lo")
    if sampled.target is not None:
        yield from _of_answers(sampled, sampled.target)


def _own(result: LoadResult, sampled: Sampled, device: str) -> Iterator[Counted]:
    blind = sampled.own.unknown(NETLINK)
    by_queue = _by_queue(sampled.own, "qdisc", device)
    where = ", ".join(by_queue) or device
    seen = result.unsent_because.get("dropped_here", 0)
    number = max(sum(by_queue.values()) - seen, 0)
    source = f"{_SOURCE}, less what sending saw (ENOBUFS)"
    yield Counted("qdisc", None if blind else number, where, source, blind)
    waiting = sampled.surroundings.queued.get(device, 0)
    yield Counted("qdisc", waiting, f"{device}, still waiting at the end", "TCA_STATS2 qlen")


def _of_answers(sampled: Sampled, target: Growth) -> Iterator[Counted]:
    blind = target.unknown(NETLINK)
    by_queue = _by_queue(target, "qdisc", "")
    where = f"{', '.join(by_queue) or 'devices'} in the target's network namespace"
    yield Counted("answer_qdisc", None if blind else sum(by_queue.values()), where, _SOURCE, blind)
    queued = sampled.surroundings.queued.items()
    waiting = sum(number for name, number in queued if name.startswith("target."))
    yield Counted("answer_qdisc", waiting, "the target's network namespace, still waiting at the end", "qlen")
