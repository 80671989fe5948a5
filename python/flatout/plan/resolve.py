"""From what was asked to what the engine is given: names resolved, this host's limits checked."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable

import msgspec

from flatout import units
from flatout.errors import ArgumentError, UsageError
from flatout.host.placement import place
from flatout.host.target import Thread
from flatout.plan import capacity, targets, xdp
from flatout.plan.load_plan import ConnectionPolicy, LoadPlan, Log, PingPong, Portion, Share, Ticks, Tls
from flatout.protocols.base import ReceiverLayout
from flatout.result.machine import Placement, XdpLink
from flatout.scenario import nodes, requirement, streams
from flatout.scenario.exchange import Exchange, exchange_of
from flatout.scenario.model import Scenario, Segment
from flatout.scenario.target import split, split_targets

_LONGEST_TIMEOUT_S = 60.0


class AsTrial(msgspec.Struct, frozen=True, kw_only=True):
    """What a run needs to know as a trial of a search.

    share_cpus: the target is known to need the CPUs of the load threads, so these yield instead of spinning.
    slow_after_ns: an answer later than this after due counts as slow in its subinterval.
    """

    share_cpus: bool = False
    slow_after_ns: int | None = None


class Plan(msgspec.Struct, frozen=True):
    """A scenario resolved: where to, from where, the engine's own arguments; `notes` say what is worth knowing.

    `others`: further addresses of the target, tried when no connection to this one stands. `receivers`: for
    one-way messages the addresses at which to ask what has arrived, else empty; `layout`: what they must agree on.
    `placement`: where the load threads run; `target_threads`: those of the target, where they can be seen. `as_trial`:
    it is a trial of a search. `link`: how frames go by a driver.
    """

    scenario: Scenario
    endpoint: targets.Endpoint
    sources: list[targets.Endpoint]
    engine: LoadPlan
    notes: list[str] = []
    others: list[targets.Endpoint] = []
    receivers: list[targets.Endpoint] = []
    placement: Placement = Placement()
    target_threads: tuple[Thread, ...] = ()
    as_trial: AsTrial | None = None
    layout: ReceiverLayout | None = None
    link: XdpLink | None = None

    @property
    def one_way(self) -> bool:
        """Whether the messages are one-way."""
        return bool(self.receivers)

    @property
    def message_bytes(self) -> int | None:
        """The length of each one-way message."""
        return None if self.layout is None else self.layout.size

    @property
    def places(self) -> int | None:
        """Where one-way messages have the sender's identity (low half) and their number (high half)."""
        return None if self.layout is None else self.layout.places


def make(scenario: Scenario, which: int = 0, as_trial: AsTrial | None = None) -> Plan:
    """Checks and resolves; of several addresses of the target it takes number `which`.

    Errors: UsageError (nothing is sent), TargetError for an unknown name.
    """
    exchange = exchange_of(scenario)
    protocol = exchange.protocol
    streams.check(scenario, protocol)
    xdp.check(scenario)
    exchange.check(scenario, len(split_targets(scenario.target)))
    _check_numbers(scenario)
    _check_file(scenario.queries)
    for expression in scenario.require:
        requirement.check(expression)
    endpoints, beside = _endpoints(scenario, protocol.port_over(scenario.transport))
    endpoint = endpoints[which]
    for each in (endpoint, *beside):
        targets.guard(each, scenario.allow_public)
    room = capacity.room()
    scenario, sources, notes = _sources(scenario, endpoint, room)
    targets.check_sources(sources, (endpoint, *beside))
    tight = _check_room(scenario, sources, endpoint, room)
    shared = _shares_sockets(scenario, len(sources), room)
    tight += _check_shared(scenario, exchange, [source.address for source in sources], beside) if shared else []
    placement, target = place(
        *(endpoint.address, endpoint.port),
        scope=endpoint.scope,
        stream=scenario.streams,
        threads=scenario.threads,
        cpus=capacity.cpus_of(scenario.cpus),
        share=as_trial is not None and as_trial.share_cpus,
        careful=as_trial is not None,
    )
    xdp_plan, link, chosen = xdp.resolve(scenario, [endpoint, *beside], sources)
    engine = _load_plan(
        *(scenario, exchange, [endpoint, *beside], sources),
        xdp_plan=xdp_plan,
        placement=placement,
        as_trial=as_trial,
        target_threads=target.threads,
        shared=shared,
    )
    receivers = [endpoint, *beside] if exchange.one_way else []
    notes += [
        *chosen,
        *tight,
        *_shared_cpus(scenario, exchange),
        *exchange.notes(scenario, loopback=endpoint.address.is_loopback),
    ]
    return Plan(
        *(scenario, endpoint, sources, engine, notes),
        others=endpoints[which + 1 :],
        receivers=receivers,
        placement=placement,
        target_threads=target.threads,
        as_trial=as_trial,
        layout=exchange.receiver_layout,
        link=link,
    )


def _shares_sockets(scenario: Scenario, sources: int, room: capacity.Room) -> bool:
    """Whether flows share sockets, which neither connections nor frames by a driver do."""
    if scenario.streams or scenario.link == "xdp":
        return False
    return capacity.shares_sockets(streams.connections(scenario), sources, room)


def _shared_cpus(scenario: Scenario, exchange: Exchange) -> list[str]:
    """What to say where threads that spin have to share CPUs."""
    cpus = len(set(scenario.cpus) or os.sched_getaffinity(0))
    sleeps = exchange.may_sleep and scenario.wait == "sleep"
    if scenario.threads <= cpus or sleeps:
        return []
    each = "1 CPU" if cpus == 1 else f"{cpus} CPUs"
    return [f"{scenario.threads} threads that spin share {each}: they hold each other up, and whatever else runs there"]


def _endpoints(scenario: Scenario, port: int) -> tuple[list[targets.Endpoint], list[targets.Endpoint]]:
    """The addresses of the target, and the first of each further one that is loaded in turn with it."""
    first, *texts = split_targets(scenario.target)
    if texts and scenario.streams:
        raise UsageError("several targets are for datagrams: over connections name one")
    endpoints, beside = targets.addresses(first, port), [targets.resolve(text, port) for text in texts]
    if any(each.address.version != endpoints[0].address.version for each in beside):
        raise UsageError("several targets must all be IPv4 or all IPv6")
    if beside and streams.askers(scenario) // scenario.threads <= len(beside):
        raise UsageError(f"each of {1 + len(beside)} targets needs a flow of each thread: ask for more --flows")
    if len({endpoints[0], *beside}) != 1 + len(beside):
        raise UsageError(f"target '{scenario.target}' names one address twice")
    return endpoints, beside


def most_connections(scenario: Scenario) -> int:
    """How many connections a search may try on this host unless told."""
    endpoint = targets.resolve(scenario.target, exchange_of(scenario).protocol.port_over(scenario.transport))
    return capacity.most_connections(scenario, endpoint, capacity.room())


def _check_numbers(scenario: Scenario) -> None:
    if not scenario.profile or scenario.duration_s <= 0:
        raise UsageError("a load must last longer than 0 s")
    if not all(_makes_sense(segment) for segment in scenario.profile):
        raise UsageError("each part of a profile needs a time above 0 s and rates from 0 to 200 M/s")
    if scenario.threads < 1 or scenario.flows < 1:
        raise UsageError(f"{scenario.threads} threads and {scenario.flows} flows: give at least one of each")
    askers = streams.askers(scenario)
    if scenario.threads > askers:
        what = "connection" if scenario.streams else "flow"
        raise UsageError(f"{scenario.threads} threads need at least one {what} each (there are {askers})")
    if not 0 < scenario.timeout_s <= _LONGEST_TIMEOUT_S:
        raise ArgumentError(
            "timeout", f"={scenario.timeout_s:g}: give a time above 0 s and at most {_LONGEST_TIMEOUT_S:.0f} s"
        )
    if not 0 <= scenario.warmup_s < math.inf:
        raise ArgumentError("warmup", f"={scenario.warmup_s:g}: give a time from 0 s on")
    capacity.cpus_of(scenario.cpus)


def _check_file(queries: str | None) -> None:
    """The engine reads it; what is in it is checked there, line by line."""
    if queries is None:
        return
    if not os.access(queries, os.R_OK) or os.path.isdir(queries):
        raise ArgumentError("queries", f" '{queries}' cannot be read (is it there, is it yours?)")


def _makes_sense(segment: Segment) -> bool:
    rates = (segment.from_per_s, segment.to_per_s)
    return 0 < segment.seconds < math.inf and all(0 <= per_s <= units.MOST_PER_S for per_s in rates)


def _sources(
    scenario: Scenario, endpoint: targets.Endpoint, room: capacity.Room
) -> tuple[Scenario, list[targets.Endpoint], list[str]]:
    """Where to send from; on loopback chosen here where one address has too few ports, and then said."""
    wanted = streams.connections(scenario)
    if scenario.sources or not scenario.streams:
        return scenario, targets.sources(scenario.sources, wanted, scenario.node), []
    nodes = scenario.node[1] if scenario.node else 1
    networks = capacity.loopback_sources(wanted, nodes, endpoint, room)
    if not networks:
        return scenario, [], []
    found = targets.sources(networks, wanted, scenario.node)
    note = f"{wanted:,} connections need more ports than one address has: sent from {found[0].host} to {found[-1].host}"
    return msgspec.structs.replace(scenario, sources=networks), found, [note]


def _check_room(
    scenario: Scenario, sources: list[targets.Endpoint], endpoint: targets.Endpoint, room: capacity.Room
) -> list[str]:
    if scenario.sources and not sources:
        raise UsageError("the sources named contain no address")
    wanted, what = streams.connections(scenario), "connections" if scenario.streams else "flows"
    capacity.check_ports(wanted, len(sources), room, what=what)
    if scenario.link != "xdp" and (scenario.streams or not capacity.shares_sockets(wanted, len(sources), room)):
        capacity.check_files(wanted, scenario, room, what=what)
    tight = capacity.check_memory(wanted, endpoint, room) if scenario.streams else None
    return [tight] if tight else []


def _check_shared(
    scenario: Scenario, exchange: Exchange, sources: list[targets.Address], beside: list[targets.Endpoint]
) -> list[str]:
    """What to say where flows share sockets. Errors: UsageError for what needs a socket for each flow."""
    flows = streams.connections(scenario)
    needs = [
        ("one-way messages need", exchange.one_way),
        ("several targets need", bool(beside)),
        ("--gso needs", scenario.gso),
        ("--busy-poll needs", scenario.busy_poll_us > 0),
    ]
    for what, asked in needs:
        if asked:
            raise UsageError(f"{what} a socket for each flow, and {flows:,} are more than this process may hold")
    # The kernel lets a shared socket send from any IPv6 address: others' addresses are refused here.
    foreign = next((at for at in sources if at.version == 6 and at.is_global and not scenario.allow_public), None)
    if foreign is not None:
        raise UsageError(f"sources: {foreign} is a public address; if it is yours, add --allow-public")
    sockets = capacity.shared_sockets(flows, len(sources), scenario.threads)
    named = f"{flows:,} flows from {len(sources):,} addresses share {sockets:,} socket{'s'[: sockets > 1]}"
    return [f"{named}: this process may not hold as many descriptors as flows"]


def _load_plan(
    scenario: Scenario,
    exchange: Exchange,
    endpoints: list[targets.Endpoint],
    sources: list[targets.Endpoint],
    *,
    xdp_plan: xdp.XdpPlan | None,
    placement: Placement,
    as_trial: AsTrial | None,
    target_threads: Iterable[Thread],
    shared: bool,
) -> LoadPlan:
    index, of = scenario.node or (1, 1)
    return LoadPlan(
        protocol=exchange.protocol.name,
        options=exchange.protocol.for_engine(exchange.options),
        lines=_lines(scenario, exchange),
        queries=scenario.queries,
        targets=endpoints,
        sources=sources,
        link=scenario.transport,
        xdp=xdp_plan,
        flows=streams.askers(scenario),
        shared_sockets=shared,
        policy=_connection_policy(scenario),
        ticks=Ticks(senders=scenario.senders, spread=scenario.spread),
        node=Share(index=index - 1, of=of),
        portion=None if scenario.share is None else Portion(*scenario.share),
        start_at_unix_ns=None if scenario.start_at is None else streams.unix_ns(scenario.start_at),
        profile=scenario.profile,
        warmup_ns=round(scenario.warmup_s * 1e9),
        timeout_ns=round(scenario.timeout_s * 1e9),
        arrivals="poisson" if scenario.arrivals == "poisson" else "constant",
        ping_pong=PingPong(wait=scenario.wait, busy_poll_us=scenario.busy_poll_us) if scenario.ping_pong else None,
        seed=scenario.seed % 2**64,
        workers=scenario.threads,
        cpus=tuple(placement.cpus),
        shares_cpus=bool(placement.shared_cpus),
        slow_after_ns=as_trial.slow_after_ns if as_trial else None,
        # Over connections an answer may follow a retransmission, after 200 ms.
        brief_drain=as_trial is not None and not scenario.streams,
        target_schedstats=[_schedstat(thread) for thread in target_threads],
        stamps=scenario.stamps == "kernel",
        segmented=scenario.gso,
        log=None if scenario.log is None else Log(path=scenario.log, tcpscaler=scenario.log_format == "tcpscaler"),
    )


def _schedstat(thread: Thread) -> str:
    return f"/proc/{thread.pid}/task/{thread.tid}/schedstat"


def _connection_policy(scenario: Scenario) -> ConnectionPolicy:
    tls = Tls()
    if scenario.transport == "tls":
        # A zone means something on this host only (RFC 6874, section 4).
        host = split(split_targets(scenario.target)[0], 1)[0].partition("%")[0]
        asked = scenario.tls
        tls = Tls(name=asked.server_name or host, verify=asked.verify, authorities=asked.ca, resume=asked.resume)
    return ConnectionPolicy(
        # The rate, like the schedule's, is that of all nodes together.
        connect_per_s=scenario.connect_rate_per_s * nodes.fraction(scenario.node, scenario.share),
        connect_timeout_ns=round(scenario.connect_timeout_s * 1e9),
        churn=scenario.churn,
        hold=nodes.part(scenario.hold, scenario.node, scenario.share),
        reconnect=scenario.reconnect,
        io=scenario.io,
        tls=tls,
    )


def _lines(scenario: Scenario, exchange: Exchange) -> list[str]:
    """What messages are made of, where no query file says it."""
    if scenario.queries is not None:
        return []
    protocol = exchange.protocol
    return protocol.lines_of(exchange.options) if protocol.lines_of else list(protocol.default_lines)
