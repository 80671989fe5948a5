"""Closes the ledger of a run: assigns what was lost to the places that counted it. Pure.

The most specific counter comes first: one socket's, then a namespace's, then the host's. Each place gets at most what
those before it left, as the wider counters also have other programs' packets in them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from flatout.host.counters import Growth
from flatout.result.ledger import Ledger, LedgerLine, Place, TargetSocket
from flatout.result.model import LoadResult, Outcomes
from flatout.runner import by_driver, devices, drop_reasons, queues
from flatout.runner.counters import Sampled
from flatout.runner.places import Counted

# Why requests were not sent, by the engine's words.
_UNSENT: dict[str, tuple[Place, str]] = {
    "late": ("schedule", "more than 1 ms late in this generator"),
    "dropped_here": ("own_queue", "this host's queue towards the target (ENOBUFS)"),
    "send_failed": ("own_error", "the system call failed"),
    "no_slot": ("own_slots", "all slots waited for answers"),
    "no_connection": ("no_connection", "no connection was open"),
    "blocked": ("target_blocked", "the target took no more"),
}
ELSEWHERE = "the target is on another host, as far as can be seen"
REPEATED = "over connections the kernel repeats what is lost on the way"
UNSEEN = "the target's network namespace cannot be read"
_EVENTS: dict[Place, tuple[str, ...]] = {
    "accept_queue": ("TcpExt.ListenOverflows",),
    "syn_queue": ("TcpExt.TCPReqQFullDrop",),
    "syn_cookies": ("TcpExt.SyncookiesSent",),
}
# Where a packet that came in may end, beside fragments.
_V4_ENDS = (
    *("Ip.InDelivers", "Ip.InHdrErrors", "Ip.InAddrErrors", "Ip.InUnknownProtos", "Ip.InDiscards", "Ip.ForwDatagrams"),
    *("IpExt.InNoRoutes", "IpExt.InTruncatedPkts", "IpExt.InMcastPkts"),
)
_V6_ENDS = (
    *("Delivers", "HdrErrors", "TooBigErrors", "NoRoutes", "AddrErrors", "UnknownProtos", "TruncatedPkts", "Discards"),
    "McastPkts",
)
# More datagrams than this, for each one sent and in all, are not this run's.
_OTHERS, _FEW = 1.01, 20
# So many targets are named in one line.
_NAMED = 3
# Counters that findings look at, beside those of the lines.
_KEPT = (
    *("Udp.", "Udp6", "TcpExt.Listen", "TcpExt.Syncookies", "TcpExt.TCPReqQ", "TcpExt.TCPMemory", "TcpExt.TCPAbort"),
    *("qdisc.", "ingress.", "link.", "nft."),
    *("TcpExt.TCPTimeWaitOverflow", "TcpExt.IPReversePathFilter", "Tcp.RetransSegs", "Tcp.AttemptFails", "conntrack."),
    *(
        "Ip.OutDiscards",
        "Ip.OutNoRoutes",
        "Ip.In",
        "Ip6In",
        "Ip6OutNoRoutes",
        "IpExt.InNoRoutes",
        "Tcp.ActiveOpens",
        "TcpExt.TCPTimeouts",
    ),
)


def close(result: LoadResult, sampled: Sampled) -> Ledger:
    """The ledger of a finished run, from its result and what was sampled."""
    outcomes = result.outcomes
    if is_another(result, sampled):
        sampled = sampled._replace(target=None, sockets=[])
    lost = None if result.loss is None and result.one_way and outcomes.sent else outcomes.lost
    lines, remaining = _lost(result, sampled, lost)
    waits = result.subintervals.target_waited_ns if result.subintervals else []
    return Ledger(
        sent=outcomes.sent,
        lost=lost,
        lines=[*unsent_lines(result), *lines, *not_looked_at(sampled), *events(result, sampled)],
        unexplained=remaining,
        sockets=sampled.sockets,
        surroundings=sampled.surroundings,
        counters=kept(sampled),
        target_namespace="same" if sampled.here else "other" if sampled.target else None,
        longest_wait_ns=max(waits, default=None),
    )


def not_looked_at(sampled: Sampled) -> list[LedgerLine]:
    """What is lost on the way to further targets may be at places that are not read."""
    others = sampled.not_looked_at
    if not others:
        return []
    named = ", ".join(others[:_NAMED]) + (f" and {len(others) - _NAMED} more" if len(others) > _NAMED else "")
    return [LedgerLine(side="lost", place="device", count=None, blind=f"devices and counters of {named} are not read")]


def _lost(result: LoadResult, sampled: Sampled, lost: int | None) -> tuple[list[LedgerLine], int | None]:
    """The lines of what was lost, and the unexplained rest."""
    lines: list[LedgerLine] = []
    charged: dict[Place, int] = {}
    remaining = lost
    # Drop reasons come when the counters have told theirs: what is added to `charged` is not told again.
    for each in itertools.chain(
        _places(result, sampled), by_reason(result, sampled, charged), _at_end(result, sampled)
    ):
        line, remaining = charged_line(each, remaining)
        charged[each.place] = charged.get(each.place, 0) + (line.count or 0)
        if line.count or line.blind:
            lines.append(line)
    return lines, remaining


def is_another(result: LoadResult, sampled: Sampled) -> bool:
    """Whether the namespace is not the target's but has the same address: it received less than was answered."""
    if sampled.target is None or result.scenario.streams:
        return False
    received = sampled.target_received
    return received is not None and received < (result.outcomes.received or result.outcomes.answered)


def unsent_lines(result: LoadResult) -> Iterator[LedgerLine]:
    """Why requests were not sent."""
    for word, number in result.unsent_because.items():
        if number:
            place, where = _UNSENT.get(word, ("own_error", word))
            yield LedgerLine(side="unsent", place=place, count=number, where=where, source="this run's own count")


def charged_line(each: Counted, remaining: int | None) -> tuple[LedgerLine, int | None]:
    """The line of a place, and what it leaves of what was lost."""
    count = each.number
    if count is not None and remaining is not None:
        count = min(count, remaining)
        remaining -= count
    more = each.number if each.number != count else None
    line = LedgerLine(
        side="lost",
        place=each.place,
        count=count,
        where=each.where,
        source=each.source,
        counted=more,
        blind=each.blind,
    )
    return line, remaining


def _places(result: LoadResult, sampled: Sampled) -> Iterator[Counted]:
    """Every place that may have lost something, the most specific first."""
    yield own_sockets(result, sampled)
    if result.scenario.streams:
        return
    yield from at_target_host(result, sampled)
    yield from beside_sockets(result, sampled)


def own_sockets(result: LoadResult, sampled: Sampled) -> Counted:
    """Answers that this generator's sockets had no room for."""
    if result.link is None:
        return Counted("own_receive_buffer", result.own_drops, "this generator's sockets", "SO_MEMINFO")
    return Counted("own_receive_buffer", by_driver.unread(result, sampled), by_driver.SOCKETS, by_driver.SOURCE)


def beside_sockets(result: LoadResult, sampled: Sampled) -> Iterator[Counted]:
    """Queues, devices and the network layer, of this host's namespace and of the target's where that is another."""
    yield from queues.places(result, sampled)
    if result.link is None:
        yield from _neighbour(result, sampled)
    yield from _at_devices(result, sampled)
    yield from _at_network_layer(result, sampled)


def by_reason(result: LoadResult, sampled: Sampled, charged: Mapping[Place, int]) -> Iterator[Counted]:
    """What only the kernel's drop reasons tell."""
    if not result.scenario.streams:
        drops = by_driver.of_run(result, sampled.drops or [])
        for found in drop_reasons.rest(drops, result.unsent_because, charged):
            yield Counted(*found)
    if sampled.drops_blind:
        yield Counted("dropped_by_kernel", None, "", "", f"drop reasons: {sampled.drops_blind}")


def _at_end(result: LoadResult, sampled: Sampled) -> Iterator[Counted]:
    """The program that should have answered."""
    if result.scenario.streams:
        yield Counted("application", None, "", "", REPEATED)
    else:
        yield application(result, sampled)


def at_target_host(result: LoadResult, sampled: Sampled) -> Iterator[Counted]:
    """The target's receive buffers and what lies in them unread, and what UDP itself dropped there."""
    counted, at_target = result.receiver, sampled.at_target
    if counted is not None:
        yield Counted("receive_buffer", counted.lost_in_kernel, "the receiver's sockets", "the receiver's own counters")
    elif at_target is None:
        yield Counted("receive_buffer", None, "", "", ELSEWHERE if sampled.placement.where == "elsewhere" else UNSEEN)
    else:
        yield from _at_sockets(result, sampled, at_target)
    if at_target is not None and at_target is not sampled.own:
        # Where they are one, the generator's own full send buffer counts there too, as often as it tries again.
        where = "the target's network namespace"
        lost_way = "Ip.OutNoRoutes" if sampled.version == 4 else "Ip6OutNoRoutes"
        yield Counted("answer_no_route", at_target[lost_way], where, lost_way)
        # A queue's drops count there too.
        number = max(_not_sent(at_target, sampled) - queues.dropped(at_target), 0)
        blind = at_target.unknown(_udp(sampled, "SndbufErrors"))
        yield Counted("answer_send_buffer", None if blind else number, where, "Udp SndbufErrors", blind)


def _at_sockets(result: LoadResult, sampled: Sampled, at_target: Growth) -> Iterator[Counted]:
    """Drops at the target's sockets. The kernel counts all kinds in one number a socket (sk_drops)."""
    where = "the target's network namespace"
    full = at_target[_udp(sampled, "RcvbufErrors")] - (result.own_drops if at_target is sampled.own else 0)
    memory, checksum = (at_target[_udp(sampled, name)] for name in ("MemErrors", "InCsumErrors"))
    # Of a short datagram the kernel knows that before it looks for a socket.
    all_wrong = checksum
    blind = at_target.unknown(_udp(sampled, "RcvbufErrors"))
    seen = [each for each in sampled.sockets if each.drops is not None]
    if seen:
        other = max(sum(each.drops or 0 for each in seen) - max(full, 0), 0)
        memory = min(memory, other)
        checksum = min(checksum, other - memory)
    yield Counted("udp_memory", None if blind else memory, where, "Udp MemErrors (net.ipv4.udp_mem)", blind)
    yield Counted("udp_checksum", None if blind else checksum, where, "Udp InCsumErrors", blind)
    if not seen:
        where = "sockets of the target's network namespace"
        yield Counted("receive_buffer", None if blind else max(full, 0), where, "Udp RcvbufErrors", blind)
    other = memory + checksum
    for each in seen:
        taken = min(each.drops or 0, other)
        other -= taken
        yield Counted("receive_buffer", (each.drops or 0) - taken, each.name, "drops of the socket")
    for each in seen:
        yield Counted("unread", _unread(each, sampled), each.name, "bytes in the receive buffer")
    yield Counted("udp_checksum", None if blind else all_wrong - checksum, where, "Udp InCsumErrors before any socket")


def _unread(socket: TargetSocket, sampled: Sampled) -> int:
    """How many datagrams of the run's size lie in a receive buffer."""
    charge = sampled.surroundings.packet_bytes
    return (socket.unread_bytes or 0) // charge if charge else 0


def _not_sent(at_target: Growth, sampled: Sampled) -> int:
    """Answers that were not sent for want of a buffer. A program that tries again counts as often as it tries."""
    read, sent, errors = (at_target[_udp(sampled, name)] for name in ("InDatagrams", "OutDatagrams", "SndbufErrors"))
    return errors if at_target.unknown(_udp(sampled, "InDatagrams")) else min(errors, max(read - sent, 0))


def _neighbour(result: LoadResult, sampled: Sampled) -> Iterator[Counted]:
    """What an unresolved next hop swallowed: what the kernel dropped for it, and what still waits for it."""
    for found in drop_reasons.neighbours(sampled.drops or []):
        yield Counted(*found)
    hop, outcomes = sampled.surroundings.neighbour, result.outcomes
    if hop and not outcomes.answered and not outcomes.received:
        source = "/proc/net/arp" if sampled.version == 4 else "waiting for its hardware address"
        yield Counted("neighbour", outcomes.lost, f"{hop}, by {sampled.surroundings.device}", source)


def _at_devices(result: LoadResult, sampled: Sampled) -> Iterator[Counted]:
    """The backlog, and the devices' own drops without it: both ends of a veth pair count what the backlog dropped."""
    backlog = result.contention.backlog_drops if result.contention else None
    # Of one-way messages to another host nothing comes in here.
    away = result.one_way and sampled.at_target is None
    if away:
        backlog = 0
    else:
        blind = "" if backlog is not None else "/proc/net/softnet_stat cannot be read"
        yield Counted("backlog", backlog, "this host, all programs", "/proc/net/softnet_stat, column 2", blind)
    known = backlog or 0
    if sampled.surroundings.device:
        one = [sampled.surroundings.device]
        own = known + by_driver.unread(result, sampled)
        yield from devices.places(sampled.own, one, _device_name(sampled), elsewhere=own, only_sending=away)
    if sampled.target is not None:
        where = "devices of the target's network namespace"
        known += by_driver.unsent(result, sampled)
        yield from devices.places(sampled.target, devices.names(sampled.target), where, elsewhere=known)


def _device_name(sampled: Sampled) -> str:
    up = sampled.surroundings.device_up
    return f"{sampled.surroundings.device}{'' if up or up is None else ' (down, or without a carrier)'}"


def _at_network_layer(result: LoadResult, sampled: Sampled) -> Iterator[Counted]:
    """Connection tracking, reverse path filter and firewall, of the target's namespace and of this one."""
    # Frames by the driver pass this host's own network layer, both ways.
    spaces = [(sampled.own, "own", "this host's network namespace")] if result.link is None else []
    if result.one_way and sampled.at_target is None and sampled.drops is None:
        # Of one-way messages to another host nothing comes in here, and these counters are of what comes in.
        return
    if sampled.target is not None:
        spaces.insert(0, (sampled.target, "target", "the target's network namespace"))
    for growth, space, where in spaces:
        conntrack = growth["conntrack.drop"]
        reverse, source = growth["TcpExt.IPReversePathFilter"], "TcpExt IPReversePathFilter"
        filtered: int | None = None
        if sampled.drops is not None:
            # These are of this run's packets only. Connection tracking drops for the same reason.
            filtered = drop_reasons.filtered(sampled.drops, space, result.unsent_because)
            conntrack = min(conntrack, filtered)
            reverse, source = drop_reasons.reverse_path(sampled.drops, space), drop_reasons.SOURCE.format("IP_RPFILTER")
        blind = growth.unknown("conntrack.drop")
        yield Counted("conntrack", None if blind else conntrack, where, "/proc/net/stat/nf_conntrack drop", blind)
        yield Counted("reverse_path", reverse, where, source)
        if filtered is not None:
            number, source = filtered - conntrack, drop_reasons.SOURCE.format("NETFILTER_DROP")
            yield Counted("firewall", number, where, source)
        else:
            yield _inferred_filter(growth, sampled.version, conntrack + reverse, where)
            source = "TCA_STATS2 drops of ingress"
            yield Counted("dropped_by_kernel", queues.filtered(growth), f"TC_INGRESS, {where}", source)


def _inferred_filter(growth: Growth, version: int, known: int, where: str) -> Counted:
    """Without drop reasons: what came in and ended nowhere, less what is known to have ended before."""
    received, delivered = ("Ip.InReceives", "Ip.InDelivers") if version == 4 else ("Ip6InReceives", "Ip6InDelivers")
    blind = growth.unknown("netstat", received, delivered)
    vanished = None if blind else max(_vanished(growth, version) - known, 0)
    return Counted("firewall", vanished, where, "packets received but neither delivered nor counted as errors", blind)


def _vanished(growth: Growth, version: int) -> int:
    """Packets that came in and that nothing counts after that: only a packet filter drops like this."""
    if version == 6:
        gone = sum(growth[f"Ip6In{name}"] for name in _V6_ENDS)
        return growth["Ip6InReceives"] - gone - growth["Ip6OutForwDatagrams"] - _joined(growth, "Ip6Reasm")
    gone = sum(growth[name] for name in _V4_ENDS)
    return growth["Ip.InReceives"] - gone - _joined(growth, "Ip.Reasm")


def _joined(growth: Growth, prefix: str) -> int:
    """Fragments that became part of another packet."""
    return growth[f"{prefix}Reqds"] - growth[f"{prefix}OKs"]


def application(result: LoadResult, sampled: Sampled) -> Counted:
    """Datagrams that programs of the target's namespace read, less the answers that left it."""
    at_target = sampled.at_target
    if result.one_way:
        return Counted("application", None, "", "", "one-way messages have no answers that could be counted")
    if at_target is None:
        return Counted("application", None, "", "", ELSEWHERE if sampled.placement.where == "elsewhere" else UNSEEN)
    blind = at_target.unknown(*(_udp(sampled, name) for name in ("InDatagrams", "OutDatagrams")))
    read, answers = at_target[_udp(sampled, "InDatagrams")], at_target[_udp(sampled, "OutDatagrams")]
    if at_target is sampled.own:
        if result.scenario.gso:
            blind = blind or "one namespace has both ends, and the kernel counts what --gso sends as fewer datagrams"
        read, answers = read - replies(result.outcomes), answers - result.outcomes.sent
    else:
        answers += _not_sent(at_target, sampled)
    if read > _OTHERS * result.outcomes.sent + _FEW:
        blind = blind or "other programs of its network namespace exchange datagrams too"
    about = sampled.placement.target
    where = about.name if about else "programs of the target's network namespace"
    # What is more than the run sent is others'.
    number = None if blind else max(min(read, result.outcomes.sent) - answers, 0)
    return Counted("application", number, where, "Udp InDatagrams less OutDatagrams: read and not answered", blind)


def replies(outcomes: Outcomes) -> int:
    """All datagrams that this generator read."""
    return outcomes.answered + outcomes.late + outcomes.duplicate + outcomes.invalid


def _udp(sampled: Sampled, name: str) -> str:
    """A UDP counter of the target's IP version. A socket of both counts by the packet's version."""
    return f"Udp.{name}" if sampled.version == 4 else f"Udp6{name}"


def events(result: LoadResult, sampled: Sampled) -> Iterator[LedgerLine]:
    """What happened beside the sums."""
    at_target = sampled.at_target
    where = "the target's network namespace"
    found: list[tuple[Place, int, str]] = []
    if result.scenario.streams:
        if at_target is None:
            yield LedgerLine(side="beside", place="accept_queue", count=None, blind=ELSEWHERE)
        else:
            found += [(place, sum(at_target[name] for name in names), names[0]) for place, names in _EVENTS.items()]
            other = at_target["TcpExt.ListenDrops"] - at_target["TcpExt.ListenOverflows"]
            found.append(("listen_drops", other, "TcpExt.ListenDrops"))
        for place, number, where_, source in drop_reasons.events(sampled.drops or []):
            yield LedgerLine(side="beside", place=place, count=number, where=where_, source=source)
        number = sampled.own["Tcp.RetransSegs"]
        if number:
            own = "this host's network namespace"
            yield LedgerLine(side="beside", place="retransmissions", count=number, where=own, source="Tcp.RetransSegs")
    elif at_target is not None:
        found.append(("port_closed", at_target[_udp(sampled, "NoPorts")], "Udp.NoPorts"))
    yield from by_driver.refusals(result, sampled)
    for place, number, source in found:
        if number > 0:
            yield LedgerLine(side="beside", place=place, count=number, where=where, source=source)


def kept(sampled: Sampled) -> dict[str, int]:
    """The counters that findings look at."""
    found = {name: number for name, number in sampled.own.values.items() if name.startswith(_KEPT)}
    if sampled.target is not None:
        found |= {f"target.{name}": n for name, n in sampled.target.values.items() if name.startswith(_KEPT)}
    return found
