"""Closes one ledger over several hosts: each host's own places once, the target's once, over all that was sent. Pure.

Counters of a generator's host explain what that host lost, and no more; those of the target's host, by whoever could
read them, explain what all hosts lost. Workers of one network namespace read the same counters: they count once, as do
those of one machine. As for one host each place gets at most what those before it left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from flatout.host.counters import Growth
from flatout.result.ledger import Ledger, LedgerLine, Place, Surroundings
from flatout.result.merge import added, sum_of
from flatout.result.model import LoadResult, Outcomes
from flatout.runner import by_driver, ledger
from flatout.runner.counters import Sampled
from flatout.runner.places import Counted

# So many hosts have a line of their own at a place; the rest is one line.
_NAMED = 3
_UNREAD = "the kernel's counters could not be read at the end"


class Machine(NamedTuple):
    """Which kernel, by its boot id, and which of its network namespaces, by inode."""

    boot: str
    namespace: int


class HostPart(NamedTuple):
    """A host's share of a load; `sampled` around it, None where that could not be read."""

    name: str
    machine: Machine
    result: LoadResult
    sampled: Sampled | None


class _Space(NamedTuple):
    """The workers of one network namespace as one."""

    name: str
    machine: Machine
    result: LoadResult
    sampled: Sampled


class _Lines:
    """Lines with the host that each is of, and what is not explained yet. `charged`: by place."""

    def __init__(self, lost: int | None) -> None:
        self.remaining = lost
        self.charged: dict[Place, int] = {}
        self.found: list[tuple[str, LedgerLine]] = []

    def add(self, host: str, each: Counted, most: int | None = None) -> int:
        """Charges a place, with at most so many; returns how many that are."""
        known = [number for number in (self.remaining, most) if number is not None]
        line, _ = ledger.charged_line(each, min(known, default=None))
        count = line.count or 0
        if self.remaining is not None:
            self.remaining -= count
        self.charged[each.place] = self.charged.get(each.place, 0) + count
        if count or line.blind:
            self.found.append((host, line))
        return count


def close(whole: LoadResult, parts: Sequence[HostPart], observer: Sampled | None = None) -> Ledger:
    """The ledger of the merged result of these hosts.

    observer: what was sampled where the command runs; it is used where no generator's host sees the target's counters.
    """
    spaces, outcomes = _spaces(parts), whole.outcomes
    seen, with_devices = _target(whole, spaces, observer)
    lines = _Lines(None if whole.loss is None and whole.one_way and outcomes.sent else outcomes.lost)
    lost = _own_sockets(lines, parts)
    if seen is not None and not whole.scenario.streams:
        _at_target(lines, whole, seen, with_devices=with_devices)
    if not whole.scenario.streams:
        _at_own_hosts(lines, spaces, lost)
    _by_reasons(lines, spaces)
    for each in _at_end(whole, seen):
        lines.add("", each)
    unsent = [(part.name, line) for part in parts for line in ledger.unsent_lines(part.result)]
    known = [part.result.ledger.longest_wait_ns for part in parts if part.result.ledger]
    return Ledger(
        sent=outcomes.sent,
        lost=lines.remaining if lines.remaining is None else outcomes.lost,
        lines=[*_by_host(unsent), *_by_host(lines.found), *_events(whole, seen, spaces)],
        unexplained=lines.remaining,
        sockets=seen.sockets if seen else [],
        surroundings=seen.surroundings if seen else Surroundings(),
        counters=_counters(seen, spaces),
        target_namespace="other" if seen and seen.target else None,
        longest_wait_ns=max((ns for ns in known if ns is not None), default=None),
    )


# --- Hosts ---


def _spaces(parts: Sequence[HostPart]) -> list[_Space]:
    found: dict[Machine, list[HostPart]] = {}
    for part in parts:
        if part.sampled is not None:
            found.setdefault(part.machine, []).append(part)
    return [_space(machine, members) for machine, members in found.items()]


def _space(machine: Machine, members: Sequence[HostPart]) -> _Space:
    sampled = [part.sampled for part in members if part.sampled is not None]
    own = _greatest([each.own for each in sampled])
    targets = [each.target for each in sampled if each.target is not None]
    drops = max((each.drops or [] for each in sampled), key=lambda drops: sum(one.packets for one in drops))
    together = sampled[0]._replace(
        own=own,
        target=_greatest(targets) if targets else None,
        drops=drops if any(each.drops is not None for each in sampled) else None,
    )
    names = [part.name for part in members]
    name = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more on its host"
    return _Space(name, machine, _together([part.result for part in members]), together)


def _greatest(growths: Sequence[Growth]) -> Growth:
    """Of readings of the same counters at nearly the same times."""
    names = dict.fromkeys(name for growth in growths for name in growth.values)
    blind = {name: why for growth in growths for name, why in growth.blind.items()}
    return Growth({name: max(growth[name] for growth in growths) for name in names}, blind)


def _together(results: Sequence[LoadResult]) -> LoadResult:
    """The results of workers in one namespace, as far as a ledger looks at them."""
    backlogs = [run.contention for run in results if run.contention and run.contention.backlog_drops is not None]
    return msgspec.structs.replace(
        results[0],
        outcomes=sum_of(Outcomes, [run.outcomes for run in results]),
        unsent_because=added(run.unsent_because for run in results),
        own_drops=sum(run.own_drops for run in results),
        contention=max(backlogs, key=lambda about: about.backlog_drops or 0) if backlogs else None,
    )


def _own_sockets(lines: _Lines, parts: Sequence[HostPart]) -> dict[Machine, int | None]:
    """What hosts' own sockets dropped; returns what each namespace has lost beside that."""
    lost: dict[Machine, int | None] = {}
    for part in parts:
        own = None if part.result.loss is None else part.result.outcomes.lost
        if part.sampled is None:
            lines.add(part.name, Counted("device", None, "", "", _UNREAD))
        taken = 0 if part.sampled is None else lines.add(part.name, ledger.own_sockets(part.result, part.sampled), own)
        before = lost.get(part.machine, 0)
        lost[part.machine] = None if own is None or before is None else before + own - taken
    return lost


def _at_own_hosts(lines: _Lines, spaces: Sequence[_Space], lost: dict[Machine, int | None]) -> None:
    """Queues, devices and the network layer of each namespace, and the receive backlog of each machine."""
    backlogs: dict[str, tuple[str, Counted]] = {}
    for space in spaces:
        left = lost[space.machine]
        for each in ledger.beside_sockets(space.result, space.sampled._replace(target=None)):
            if each.place != "backlog":
                taken = lines.add(space.name, each, left)
                left = None if left is None else left - taken
            elif space.machine.boot not in backlogs or (each.number or 0) > (
                backlogs[space.machine.boot][1].number or 0
            ):
                backlogs[space.machine.boot] = (space.name, each)
    for boot, (name, each) in backlogs.items():
        of_machine = [number for machine, number in lost.items() if machine.boot == boot]
        lines.add(name, each, None if None in of_machine else sum(number or 0 for number in of_machine))


def _by_reasons(lines: _Lines, spaces: Sequence[_Space]) -> None:
    """Drop reasons are those of a whole machine, whoever reads them."""
    for boot in dict.fromkeys(space.machine.boot for space in spaces):
        of_boot = [space for space in spaces if space.machine.boot == boot]
        most = max(of_boot, key=lambda space: sum(one.packets for one in space.sampled.drops or []))
        together = _together([space.result for space in of_boot])
        for each in ledger.by_reason(together, most.sampled, lines.charged):
            lines.add(most.name, each)


# --- The target's host ---


def _target(whole: LoadResult, spaces: Sequence[_Space], observer: Sampled | None) -> tuple[Sampled | None, bool]:
    """What was sampled of the target's host, as of another namespace, and whether its devices are still to be counted.

    They are not where the target shares its namespace with a generator: they are that one's own places, then.
    """
    for space in spaces:
        if space.sampled.here:
            return _as_another(space.sampled, space.result), False
    beside = [space.sampled for space in spaces if space.sampled.target is not None]
    beside += [_as_another(observer, None) if observer.here else observer] if observer else []
    for sampled in beside:
        if not ledger.is_another(whole, sampled):
            return _only_target(sampled), True
    if not spaces:
        return None, False
    return _only_target(spaces[0].sampled)._replace(target=None, sockets=[]), False


def _only_target(sampled: Sampled) -> Sampled:
    """Without what is the reader's own."""
    around = sampled.surroundings
    queued = {name: number for name, number in around.queued.items() if name.startswith("target.")}
    return sampled._replace(
        own=Growth({}, {}),
        surroundings=msgspec.structs.replace(around, neighbour="", queued=queued, device_up=None),
        here=False,
        drops=None if sampled.drops is None else [one for one in sampled.drops if one.space == "target"],
    )


def _as_another(sampled: Sampled, own: LoadResult | None) -> Sampled:
    """The reader's own namespace, which is the target's, without the datagrams of generators in it."""
    values, blind = dict(sampled.own.values), dict(sampled.own.blind)
    names = ("Udp.{}" if sampled.version == 4 else "Udp6{}").format
    if own is not None:
        replies, sent = ledger.replies(own.outcomes), own.outcomes.sent
        for name, number in ((names("InDatagrams"), replies), (names("OutDatagrams"), sent)):
            values[name] = max(values.get(name, 0) - number, 0)
        values[names("RcvbufErrors")] = max(values.get(names("RcvbufErrors"), 0) - own.own_drops, 0)
        # A generator's own full send buffer, and its own missing route, count there too.
        for name in (names("SndbufErrors"), "Ip.OutNoRoutes", "Ip6OutNoRoutes"):
            values.pop(name, None)
        if own.scenario.gso:
            blind[names("OutDatagrams")] = "the kernel counts what --gso sends as fewer datagrams"
    renamed = [one._replace(space="target") if one.space == "own" else one for one in sampled.drops or []]
    return _only_target(sampled._replace(drops=None if sampled.drops is None else renamed))._replace(
        target=Growth(values, blind), target_received=None
    )


def _at_target(lines: _Lines, whole: LoadResult, seen: Sampled, *, with_devices: bool) -> None:
    for each in ledger.at_target_host(whole, seen):
        lines.add("", each)
    for each in ledger.beside_sockets(whole, seen) if with_devices else ():
        # The backlog is a machine's, and counted with the generators' hosts.
        if each.place != "backlog":
            lines.add("", each)


def _at_end(whole: LoadResult, seen: Sampled | None) -> Iterator[Counted]:
    if whole.scenario.streams:
        yield Counted("application", None, "", "", ledger.REPEATED)
    elif seen is not None:
        yield ledger.application(whole, seen)


# --- Lines ---


def _events(whole: LoadResult, seen: Sampled | None, spaces: Sequence[_Space]) -> list[LedgerLine]:
    """What happened beside the sums."""
    own = [(space.name, line) for space in spaces for line in by_driver.refusals(space.result, space.sampled)]
    for space in spaces if whole.scenario.streams else ():
        if number := space.sampled.own["Tcp.RetransSegs"]:
            where, source = "its network namespace", "Tcp.RetransSegs"
            line = LedgerLine(side="beside", place="retransmissions", count=number, where=where, source=source)
            own.append((space.name, line))
    at_target = [] if seen is None else [*ledger.not_looked_at(seen), *ledger.events(whole, seen)]
    return [*at_target, *_by_host(own)]


def _by_host(lines: Sequence[tuple[str, LedgerLine]]) -> list[LedgerLine]:
    """The lines, with the host in `where`; of many hosts at one place the smaller ones added up."""
    found: list[LedgerLine] = []
    groups: dict[tuple[object, ...], list[tuple[str, LedgerLine]]] = {}
    for host, line in lines:
        if not host:
            found.append(line)
            continue
        key = (line.side, line.place, line.source, line.blind)
        groups.setdefault(key, []).append((host, line))
    for group in groups.values():
        found += _blind(group) if group[0][1].blind else _counted(group)
    return found


def _blind(group: Sequence[tuple[str, LedgerLine]]) -> list[LedgerLine]:
    hosts = list(dict.fromkeys(host for host, _ in group))
    more = f" and {len(hosts) - _NAMED} more" if len(hosts) > _NAMED else ""
    line = group[0][1]
    return [msgspec.structs.replace(line, blind=f"{', '.join(hosts[:_NAMED])}{more}: {line.blind}")]


def _counted(group: Sequence[tuple[str, LedgerLine]]) -> list[LedgerLine]:
    most = sorted(group, key=lambda pair: -(pair[1].count or 0))
    named = [msgspec.structs.replace(line, where=f"{host}: {line.where}") for host, line in most[:_NAMED]]
    rest = [line for _, line in most[_NAMED:]]
    if not rest:
        return named
    first, count = rest[0], sum(line.count or 0 for line in rest)
    where = f"{len(rest)} more hosts: {first.where}"
    counted = sum((line.counted if line.counted is not None else line.count) or 0 for line in rest)
    more = counted if counted > count else None
    return [*named, msgspec.structs.replace(first, count=count, where=where, counted=more)]


def _counters(seen: Sampled | None, spaces: Sequence[_Space]) -> dict[str, int]:
    """The counters that findings look at: of all generators' namespaces together, and of the target's."""
    own = Growth(added(space.sampled.own.values for space in spaces), {})
    base = seen or (spaces[0].sampled if spaces else None)
    return {} if base is None else ledger.kept(base._replace(own=own, target=seen.target if seen else None))
