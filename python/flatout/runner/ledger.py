"""Closes the ledger of a run: assigns what was lost to the places that counted it. Pure.

The most specific counter comes first: one socket's, then a namespace's, then the host's. Each place gets at most what
those before it left, as the wider counters also have other programs' packets in them.
"""

from __future__ import annotations

from collections.abc import Iterator

from flatout.host.counters import Growth
from flatout.result.ledger import Ledger, LedgerLine, Place, TargetSocket
from flatout.result.model import LoadResult, Outcomes
from flatout.runner import devices, queues
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
_ELSEWHERE = "the target is on another host, as far as can be seen"
_UNSEEN = "the target's network namespace cannot be read"
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
    if _is_another(result, sampled):
        sampled = sampled._replace(target=None, sockets=[])
    lost = None if result.loss is None and result.one_way and outcomes.sent else outcomes.lost
    lines = list(_unsent(result))
    remaining = lost
    for each in _places(result, sampled):
        line, remaining = _charged(each, remaining)
        if line.count or line.blind:
            lines.append(line)
    waits = result.subintervals.target_waited_ns if result.subintervals else []
    return Ledger(
        sent=outcomes.sent,
        lost=lost,
        lines=[*lines, *_events(result, sampled)],
        unexplained=remaining,
        sockets=sampled.sockets,
        surroundings=sampled.surroundings,
        counters=_kept(sampled),
        longest_wait_ns=max(waits, default=None),
    )


def _is_another(result: LoadResult, sampled: Sampled) -> bool:
    """Whether the namespace is not the target's but has the same address: it received less than was answered."""
    if sampled.target is None or result.scenario.streams:
        return False
    received = sampled.target["Ip.InReceives" if sampled.version == 4 else "Ip6InReceives"]
    return received < (result.outcomes.received or result.outcomes.answered)


def _unsent(result: LoadResult) -> Iterator[LedgerLine]:
    for word, number in result.unsent_because.items():
        if number:
            place, where = _UNSENT.get(word, ("own_error", word))
            yield LedgerLine(side="unsent", place=place, count=number, where=where, source="this run's own count")


def _charged(each: Counted, remaining: int | None) -> tuple[LedgerLine, int | None]:
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
    yield Counted("own_receive_buffer", result.own_drops, "this generator's sockets", "SO_MEMINFO")
    if result.scenario.streams:
        yield Counted("application", None, "", "", "over connections the kernel repeats what is lost on the way")
        return
    yield from _at_sockets(result, sampled)
    yield from _at_protocol(sampled)
    yield from queues.places(result, sampled)
    if found := _neighbour(result, sampled):
        yield found
    yield from _at_devices(result, sampled)
    yield from _at_network_layer(sampled)
    yield _application(result, sampled)


def _at_sockets(result: LoadResult, sampled: Sampled) -> Iterator[Counted]:
    """The target's receive buffers, and what lies in them unread."""
    counted = result.receiver
    if counted is not None:
        yield Counted("receive_buffer", counted.lost_in_kernel, "the receiver's sockets", "the receiver's own counters")
        return
    at_target = sampled.at_target
    if at_target is None:
        yield Counted("receive_buffer", None, "", "", _ELSEWHERE if sampled.placement.where == "elsewhere" else _UNSEEN)
        return
    seen = [each for each in sampled.sockets if each.drops is not None]
    for each in seen:
        yield Counted("receive_buffer", each.drops, each.name, "drops of the socket")
    if not seen:
        own = result.own_drops if at_target is sampled.own else 0
        number = max(at_target[_udp(sampled, "RcvbufErrors")] - own, 0)
        where = "sockets of the target's network namespace"
        blind = at_target.unknown("snmp", "Udp.RcvbufErrors")
        yield Counted("receive_buffer", None if blind else number, where, "Udp RcvbufErrors", blind)
    for each in seen:
        yield Counted("unread", _unread(each, sampled), each.name, "bytes in the receive buffer")


def _unread(socket: TargetSocket, sampled: Sampled) -> int:
    """How many datagrams of the run's size lie in a receive buffer."""
    charge = sampled.surroundings.packet_bytes
    return (socket.unread_bytes or 0) // charge if charge else 0


def _at_protocol(sampled: Sampled) -> Iterator[Counted]:
    at_target = sampled.at_target
    if at_target is None:
        return
    where = "the target's network namespace"
    yield Counted("udp_memory", at_target[_udp(sampled, "MemErrors")], where, "Udp MemErrors (net.ipv4.udp_mem)")
    yield Counted("udp_checksum", at_target[_udp(sampled, "InCsumErrors")], where, "Udp InCsumErrors")
    if at_target is sampled.own:
        # The generator's own full send buffer counts there too; it tries again, and how often is not known.
        return
    lost_way = at_target["Ip.OutNoRoutes" if sampled.version == 4 else "Ip6OutNoRoutes"]
    yield Counted("answer_no_route", lost_way, where, f"{'Ip' if sampled.version == 4 else 'Ip6'} OutNoRoutes")
    dropped = max(at_target[_udp(sampled, "SndbufErrors")] - queues.dropped(at_target), 0)
    yield Counted("answer_send_buffer", dropped, where, "Udp SndbufErrors less the queues' drops, which it has too")


def _neighbour(result: LoadResult, sampled: Sampled) -> Counted | None:
    """An unresolved next hop swallows everything, and no counter says so."""
    hop, outcomes = sampled.surroundings.neighbour, result.outcomes
    if not hop or outcomes.answered or outcomes.received:
        return None
    return Counted("neighbour", outcomes.lost, f"{hop}, by {sampled.surroundings.device}", "the table of neighbours")


def _at_devices(result: LoadResult, sampled: Sampled) -> Iterator[Counted]:
    """The devices' own drops, without those of the backlog, which some devices count too."""
    backlog = result.contention.backlog_drops if result.contention else None
    if sampled.surroundings.device:
        yield from devices.places(sampled.own, [sampled.surroundings.device], _device_name(sampled))
    if sampled.target is not None:
        names = devices.names(sampled.target)
        where = "devices of the target's network namespace"
        yield from devices.places(sampled.target, names, where, elsewhere=backlog or 0)
    blind = "" if backlog is not None else "/proc/net/softnet_stat cannot be read"
    yield Counted("backlog", backlog, "this host, all programs", "/proc/net/softnet_stat, column 2", blind)


def _device_name(sampled: Sampled) -> str:
    up = sampled.surroundings.device_up
    return f"{sampled.surroundings.device}{'' if up or up is None else ' (down, or without a carrier)'}"


def _at_network_layer(sampled: Sampled) -> Iterator[Counted]:
    """Connection tracking, reverse path filter and firewall, of the target's namespace and of this one."""
    spaces = [(sampled.own, "this host's network namespace")]
    if sampled.target is not None:
        spaces.insert(0, (sampled.target, "the target's network namespace"))
    for growth, where in spaces:
        conntrack = growth["conntrack.drop"]
        yield Counted("conntrack", conntrack, where, "/proc/net/stat/nf_conntrack drop")
        reverse = growth["TcpExt.IPReversePathFilter"]
        yield Counted("reverse_path", reverse, where, "TcpExt IPReversePathFilter")
        blind = growth.unknown("snmp", "netstat", "Ip.InReceives", "Ip.InDelivers")
        vanished = None if blind else max(_vanished(growth, sampled.version) - conntrack - reverse, 0)
        yield Counted(
            "firewall", vanished, where, "packets received but neither delivered nor counted as errors", blind
        )
        yield Counted("firewall", queues.filtered(growth), f"tc filters of {where}", "TCA_STATS2 drops of ingress")


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


def _application(result: LoadResult, sampled: Sampled) -> Counted:
    """Datagrams that programs of the target's namespace read, less the answers that left it."""
    at_target = sampled.at_target
    if result.one_way:
        return Counted("application", None, "", "", "one-way messages have no answers that could be counted")
    if at_target is None:
        return Counted("application", None, "", "", _ELSEWHERE if sampled.placement.where == "elsewhere" else _UNSEEN)
    blind = at_target.unknown("snmp", "Udp.InDatagrams", "Udp.OutDatagrams")
    read, answers = at_target[_udp(sampled, "InDatagrams")], at_target[_udp(sampled, "OutDatagrams")]
    if at_target is sampled.own:
        read, answers = read - _replies(result.outcomes), answers - result.outcomes.sent
    if read > _OTHERS * result.outcomes.sent + _FEW:
        blind = blind or "other programs of its network namespace exchange datagrams too"
    about = sampled.placement.target
    where = about.name if about else "programs of the target's network namespace"
    number = None if blind else max(read - answers, 0)
    return Counted("application", number, where, "Udp InDatagrams less OutDatagrams: read and not answered", blind)


def _replies(outcomes: Outcomes) -> int:
    """All datagrams that this generator read."""
    return outcomes.answered + outcomes.late + outcomes.duplicate + outcomes.invalid


def _udp(sampled: Sampled, name: str) -> str:
    """A UDP counter of the target's IP version. A socket of both counts by the packet's version."""
    return f"Udp.{name}" if sampled.version == 4 else f"Udp6{name}"


def _events(result: LoadResult, sampled: Sampled) -> Iterator[LedgerLine]:
    """What happened beside the sums."""
    at_target = sampled.at_target
    where = "the target's network namespace"
    found: list[tuple[Place, int, str]] = []
    if result.scenario.streams:
        if at_target is None:
            yield LedgerLine(side="beside", place="accept_queue", count=None, blind=_ELSEWHERE)
        else:
            found += [(place, sum(at_target[name] for name in names), names[0]) for place, names in _EVENTS.items()]
            other = at_target["TcpExt.ListenDrops"] - at_target["TcpExt.ListenOverflows"]
            found.append(("listen_drops", other, "TcpExt.ListenDrops"))
        number = sampled.own["Tcp.RetransSegs"]
        if number:
            own = "this host's network namespace"
            yield LedgerLine(side="beside", place="retransmissions", count=number, where=own, source="Tcp.RetransSegs")
    elif at_target is not None:
        found.append(("port_closed", at_target[_udp(sampled, "NoPorts")], "Udp.NoPorts"))
    for place, number, source in found:
        if number > 0:
            yield LedgerLine(side="beside", place=place, count=number, where=where, source=source)


def _kept(sampled: Sampled) -> dict[str, int]:
    """The counters that findings look at."""
    found = {name: number for name, number in sampled.own.values.items() if name.startswith(_KEPT)}
    if sampled.target is not None:
        found |= {f"target.{name}": n for name, n in sampled.target.values.items() if name.startswith(_KEPT)}
    return found
