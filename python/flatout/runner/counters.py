"""Samples the host's counters before a run and after it: the two network namespaces, the target's sockets."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flatout.host import counters, drops, filter_rules, netlink, route, sock_diag, target_sockets
from flatout.host import target as find_target
from flatout.host.counters import Counters, Growth
from flatout.host.target_sockets import Sockets
from flatout.plan.addresses import Endpoint
from flatout.plan.resolve import Plan
from flatout.protocols import protocol
from flatout.result.ledger import Surroundings, TargetSocket
from flatout.result.machine import Placement
from flatout.runner import drop_reasons
from flatout.runner.peaks import Peaks

# Of this thread, whose namespace the load threads inherit.
OWN = Path("/proc/thread-self/net")
# Reading takes some 4 ms. What is counted too early is more than was lost, and left out for that; what is not read in
# time would stay unexplained.
BEFORE_S = 0.004
_HEADERS = {4: 28, 6: 48}
# These count packets also where several come as one; the counter of all received counts such ones once.
_PREFIX, _BY_ECN = {4: "IpExt.", 6: "Ip6"}, ("InNoECTPkts", "InECT1Pkts", "InECT0Pkts", "InCEPkts")
# The kernel charges up to so many bytes alike, and queries are no longer.
_QUERY = 128
_SETTINGS = {
    "conntrack_count": "net/netfilter/nf_conntrack_count",
    "conntrack_max": "net/netfilter/nf_conntrack_max",
    "rmem_default": "net/core/rmem_default",
    "rmem_max": "net/core/rmem_max",
    "somaxconn": "net/core/somaxconn",
    "netdev_max_backlog": "net/core/netdev_max_backlog",
    "tcp_max_syn_backlog": "net/ipv4/tcp_max_syn_backlog",
    "tcp_max_tw_buckets": "net/ipv4/tcp_max_tw_buckets",
    "tcp_syncookies": "net/ipv4/tcp_syncookies",
}


class Sample(NamedTuple):
    """All counters at one moment; `target`: of the target's network namespace where it is another one of this host."""

    own: Counters
    target: Counters | None
    sockets: Sockets
    drops: drops.Counts | None
    queued: dict[str, int]


class Sampled(NamedTuple):
    """How counters grew during a run, and what was found when it ended.

    here: the target's address is one of this namespace. version: 4 or 6, of that address. drops: packets that the
    kernel dropped, by reason; None where that is not known. drops_blind: why not, or why not all. target_received:
    packets that the target's namespace has received since before the run began, where it is another one. not_looked_at:
    further targets whose namespace and device are not those of the first, which alone are read.
    """

    own: Growth
    target: Growth | None
    sockets: list[TargetSocket]
    surroundings: Surroundings
    placement: Placement
    here: bool
    version: int
    drops: list[drops.Dropped] | None = None
    drops_blind: str = ""
    target_received: int | None = None
    not_looked_at: tuple[str, ...] = ()

    @property
    def at_target(self) -> Growth | None:
        """The counters of the target's namespace; None where it is on another host."""
        return self.own if self.here else self.target


class CounterSampler:
    """Reads counters when it is made, when counting begins (until then it `waits`) and when the run has ended.

    `close` ends what it started in the kernel. `on_sampled` takes what `end` returns.
    """

    def __init__(self, plan: Plan, on_sampled: Callable[[Sampled], None] = lambda _sampled: None) -> None:
        self._plan, self._on_sampled = plan, on_sampled
        self._net = self._target_net()
        self._drops = drops.DropReader(self._targets(), stream=plan.scenario.streams)
        self._first = self._before = self._sample()
        # Counters of rules are read before the warm-up only, as that starts a program.
        self._rules = {net: filter_rules.read(net) for net in self._namespaces()}
        # Connections are opened before the schedule starts, and a receiver counts all that arrives.
        scenario = plan.scenario
        about = plan.placement.target
        self._peaks = Peaks(about.pids if about else [], self._sockets) if scenario.streams else None
        self.waits = scenario.warmup_s > 0 and not scenario.streams and not plan.one_way

    @property
    def sees_target(self) -> bool:
        """Whether the counters of the target's host are among those that it reads."""
        return self._net is not None

    def tick(self, t_s: float) -> None:
        """Reads them once more just before counting begins. `t_s`: time since then, negative before."""
        if self.waits and t_s >= -BEFORE_S:
            self.waits = False
            # So late the first sample is nearer to the beginning.
            if t_s < self._plan.scenario.warmup_s:
                self._before = self._sample()

    def watch(self) -> None:
        """Looks at what is gone when the run has ended, also while connections are opened."""
        if self._peaks is not None:
            self._peaks.look()

    def end(self, placement: Placement) -> Sampled:
        """What happened since counting began."""
        self.watch()
        after, about = self._sample(), placement.target
        if self._peaks is not None:
            after = after._replace(sockets=self._peaks.added_to(after.sockets))
        own = self._with_rules(OWN, counters.growth(self._before.own, after.own))
        target = None
        if self._before.target and after.target and self._net:
            target = self._with_rules(self._net, counters.growth(self._before.target, after.target))
        pids = about.pids if about else []
        sockets = target_sockets.changed(self._before.sockets, after.sockets, pids, about.command if about else "")
        dropped = self._dropped(after.drops)
        self.close()
        sampled = Sampled(
            own=own,
            target=target,
            sockets=sockets,
            surroundings=self._surroundings(own, target, pids, dropped or [], after.queued),
            placement=placement,
            here=self._net == OWN,
            version=self._plan.endpoint.address.version,
            drops=dropped,
            drops_blind=self._drops.blind,
            target_received=self._received(after),
            not_looked_at=tuple(str(each) for each in self._plan.engine.targets if not self._is_with_first(each)),
        )
        self._on_sampled(sampled)
        return sampled

    def close(self) -> None:
        """Takes the program that counts drops out of the kernel, also after a run that failed."""
        self._drops.stop()

    def _dropped(self, after: drops.Counts | None) -> list[drops.Dropped] | None:
        if self._before.drops is None or after is None:
            return None
        target = None if self._net is None else drops.namespace(self._net)
        return drops.grown(self._before.drops, after, drops.namespace(OWN), target)

    def _targets(self) -> list[tuple[route.Address, int]]:
        return [(endpoint.address, endpoint.port) for endpoint in self._plan.engine.targets]

    def _is_with_first(self, endpoint: Endpoint) -> bool:
        """Whether a target is reached as the first one is: in the same namespace, or elsewhere by the same device."""
        first = self._plan.endpoint
        if endpoint.address == first.address:
            return True
        here = find_target.is_local(endpoint.address, endpoint.scope)
        if here or self._net == OWN:
            return here and self._net == OWN
        if self._net is not None:
            return find_target.has_address(self._net, endpoint.address)
        ways = [route.towards(each.address, each.scope) for each in (first, endpoint)]
        return len({way and way.device for way in ways}) == 1

    def _target_net(self) -> Path | None:
        """Where the target's namespace can be read; None where it is on another host."""
        placement, endpoint = self._plan.placement, self._plan.endpoint
        if find_target.is_local(endpoint.address, endpoint.scope):
            return OWN
        if placement.where == "namespace" and placement.target:
            return Path(f"/proc/{placement.target.pids[0]}/net")
        return None

    def _sample(self) -> Sample:
        # First what is of this run only: each microsecond after the moment leaves some of it unexplained.
        dropped, sockets = self._drops.read(), self._sockets()
        own, queued = _read(OWN)
        if self._net is None or self._net == OWN:
            return Sample(own, None, sockets, dropped, queued)
        at_target, queued_there = _read(self._net)
        queued |= {f"target.{name}": number for name, number in queued_there.items()}
        return Sample(own, at_target, sockets, dropped, queued)

    def _namespaces(self) -> list[Path]:
        return [OWN] if self._net is None or self._net == OWN else [OWN, self._net]

    def _with_rules(self, net: Path, growth: Growth) -> Growth:
        """With the packets that rules dropped; those of a rule that is gone or new are not known."""
        before = self._rules.get(net)
        if not before:
            return growth
        after = filter_rules.read(net)
        grown = {name: after[name] - number for name, number in before.items() if after.get(name, 0) > number}
        return Growth({**growth.values, **grown}, growth.blind)

    def _sockets(self) -> Sockets:
        if self._net is None:
            return {}
        stream, same = self._plan.scenario.streams, self._net == OWN
        return target_sockets.read(self._targets(), stream=stream, net=self._net, same_namespace=same)

    def _surroundings(
        self,
        own: Growth,
        at_target: Growth | None,
        pids: list[int],
        dropped: list[drops.Dropped],
        queued: dict[str, int],
    ) -> Surroundings:
        endpoint, link = self._plan.endpoint, self._plan.link
        towards = None if self._net == OWN else route.towards(endpoint.address, endpoint.scope)
        device = link.interface if link else towards.device if towards else ""
        # Frames by the driver have their hardware address already.
        hop = None if link or towards is None else towards.next_hop
        unresolved = hop and (drop_reasons.unresolved(dropped) or _unresolved(hop))
        files = self._peaks.files if self._peaks else None
        stopped = [pid for pid in pids if target_sockets.is_stopped(pid)]
        return Surroundings(
            device=device,
            device_up=route.is_up(device) if device else None,
            neighbour=str(hop) if unresolved else "",
            target_stopped=bool(stopped),
            stopped_pids=stopped,
            target_files=files[0] if files else None,
            target_files_limit=files[1] if files else None,
            packet_bytes=sock_diag.charge(self._payload(own if at_target is None else at_target)),
            limits=self._limits(),
            queued=queued,
        )

    def _received(self, after: Sample) -> int | None:
        """None where it is not known, or where the target has no namespace of its own."""
        if self._first.target is None or after.target is None:
            return None
        grown, version = counters.growth(self._first.target, after.target), self._plan.endpoint.address.version
        name = f"{_PREFIX[version]}{_BY_ECN[0]}"
        return None if grown.unknown(name) or name not in after.target.values else _packets(grown, version)

    def _payload(self, grown: Growth) -> int:
        """The mean length of the payload of a request, by what came in where the target is."""
        if self._plan.message_bytes is not None:
            return self._plan.message_bytes
        version = self._plan.endpoint.address.version
        octets = grown["IpExt.InOctets" if version == 4 else "Ip6InOctets"]
        packets = _packets(grown, version)
        mean = max(octets // packets - _HEADERS[version], 1) if packets else 1
        # In one namespace answers come in, too, and those to queries of names are longer.
        return min(mean, _QUERY) if protocol(self._plan.scenario.protocol).default_lines else mean

    def _limits(self) -> dict[str, int]:
        found = {}
        for name, path in _SETTINGS.items():
            with contextlib.suppress(OSError, ValueError):
                found[name] = int(Path("/proc/sys", path).read_text(encoding="ascii"))
        with contextlib.suppress(OSError, ValueError):
            low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split())
            found["ports"] = (high - low + 1) * max(len(self._plan.sources), 1)
        entries = None if self._net in (None, OWN) else counters.conntrack_entries(self._net)
        if entries is not None:
            found["target_conntrack_count"] = entries
        return found | {"files": resource.getrlimit(resource.RLIMIT_NOFILE)[0], "tcp_in_use": counters.tcp_in_use(OWN)}


def _unresolved(hop: route.Address) -> bool | None:
    """By netlink for IPv6, for which the kernel has no file that says it."""
    found = route.unresolved(hop)
    return netlink.unresolved(hop, OWN) if found is None else found


def _read(net: Path) -> tuple[Counters, dict[str, int]]:
    """A namespace's counters, by /proc and by netlink, and what waits in its devices' queues."""
    files, (linked, queued) = counters.read(net), netlink.read(net)
    return Counters({**files.values, **linked.values}, {**files.blind, **linked.blind}), queued


def _packets(growth: Growth, version: int) -> int:
    """Packets that came in, each one of those that came as one (GRO)."""
    return sum(growth[f"{_PREFIX[version]}{name}"] for name in _BY_ECN)
